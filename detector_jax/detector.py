"""The Detector: what every method of this project becomes after training.

preprocess -> score -> p-value -> decision, as one pytree that knows nothing of the method.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import (
  adaptation,
  artifact,
  batching,
  explain,
  explain_map,
  health,
  processes,
  splits,
  table,
  unseen,
)
from detector_jax.calibration import Calibration, stated
from detector_jax.preprocessing import shifted
from detector_jax.program import Program, report_of, scores_of
from detector_jax.schema import Schema
from detector_jax.unseen import Unseen


@functools.lru_cache(maxsize=64)
def _read_facts(metadata_json: str) -> dict[str, Any]:
  """The metadata, read once; nobody may change them."""
  return json.loads(metadata_json)


@functools.lru_cache(maxsize=64)
def _read_schema(metadata_json: str) -> Schema | None:
  """The schema in the metadata, read once."""
  columns = _read_facts(metadata_json).get("schema")
  return Schema.from_json(columns) if columns else None


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["arrays"],
  meta_fields=[
    "program",
    "fpr",
    "threshold",
    "input_shape",
    "metadata_json",
    "batch_size",
    "input_range",
    "input_offset",
    "confidence",
  ],
)
@dataclasses.dataclass(frozen=True)
class Detector:
  """A trained anomaly detector.

  Attributes:
    arrays: ``{"preprocessing", "variables", "calibration", "threshold"}``; the calibration is the
      float32 ``[n]`` ascending scores of held-out typical records, empty when there were none. And
      "features", a map that stands before the preprocessing, where there is one; see ``features``;
      "typical", values of the columns of ``[n, features]``, see ``explain``.
    program: ``(arrays, x) -> {"score": [batch], "p_value": [batch], ...}``.
    fpr: stated false-positive rate of the threshold, or None.
    threshold: a record is anomalous when its score is strictly above.
    input_shape: shape of one raw record.
    metadata_json: JSON object: method, configuration, data counts.
    batch_size: rows scored at a time, padded to this one shape.
    input_range: smallest and largest value of the training records where records of quite another
      range are to be refused (bytes where a network was trained on [0, 1]), or None.
    input_offset: of each raw column or channel, subtracted in float64 before the program sees the
      record in float32; None where nothing is.
    confidence: see ``Calibration``.
  """

  arrays: dict[str, Any]
  program: Callable[..., dict[str, jax.Array]]
  fpr: float | None
  threshold: float
  input_shape: tuple[int, ...]
  metadata_json: str = "{}"
  batch_size: int = 1024
  input_range: tuple[float, float] | None = None
  input_offset: tuple[float, ...] | None = None
  confidence: float | None = None

  @classmethod
  def create(
    cls,
    score_fn: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    preprocessing: Callable[[jax.Array], jax.Array],
    input_shape: tuple[int, ...],
    *,
    threshold: float = 0.0,
    metadata: dict[str, Any] | None = None,
    report_fn: Callable[[Any, jax.Array, jax.Array], dict[str, jax.Array]] | None = None,
    input_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
  ) -> "Detector":
    """An uncalibrated detector.

    Args:
      score_fn: ``(variables, x [batch, ...]) -> [batch]``, higher = more anomalous, x
        preprocessed; hashable.
      variables: pytree of arrays.
      preprocessing: a pytree of arrays that can be called on raw inputs, e.g. ``Standardizer``; its
        ``offset``, where it has one, is subtracted on the host.
      input_shape: shape of one raw record.
      threshold: the method's own boundary.
      metadata: JSON-serialisable facts that travel with the detector.
      report_fn: see ``Program``; hashable.
      input_range: see ``Detector``.
      batch_size: rows scored at a time; None takes up to 1,024, fewer of large records.
    """
    processes.claim()
    arrays = {
      "variables": variables,
      "preprocessing": preprocessing,
      "calibration": jnp.zeros((0,), jnp.float32),
      "threshold": jnp.asarray(threshold, jnp.float32),
    }
    size = int(np.prod(input_shape, dtype=np.int64))
    return cls(
      arrays,
      Program(score_fn, report_fn),
      None,
      float(threshold),
      tuple(input_shape),
      json.dumps(metadata or {}, sort_keys=True),
      batch_size=batch_size or int(np.clip(2**21 // size, 16, 1024)),
      input_range=input_range,
      input_offset=getattr(preprocessing, "offset", None),
    )

  def __setstate__(self, state: dict[str, Any]) -> None:
    """Unpickling puts arrays on the device, which is a use of JAX."""
    processes.note()
    self.__dict__.update(state)

  @property
  def metadata(self) -> dict[str, Any]:
    """Method, configuration and data counts."""
    return json.loads(self.metadata_json)

  def with_metadata(self, **facts: Any) -> "Detector":
    """The same detector with further JSON-serialisable facts."""
    told = json.dumps({**self.metadata, **facts}, sort_keys=True)
    return dataclasses.replace(self, metadata_json=told)

  def behind(self, features: Any, input_shape: tuple[int, ...]) -> "Detector":
    """A copy of a detector of features that scores the records which they are computed from.

    Args:
      features: a fitted feature map, see ``features``: a pytree of arrays that can be called, with
        ``rows``, how many records it is best given at a time.
      input_shape: shape of one raw record.

    Raises:
      ValueError: there are features already, or their values lie so far from 0 that the detector
        subtracts an offset in float64, which the program cannot.
    """
    if "features" in self.arrays:
      raise ValueError("The detector has a feature map already.")
    if self.input_offset is not None:
      raise ValueError(
        "Features whose mean is more than 1,000 times their deviation lose their digits in float32."
      )
    facts = {name: fact for name, fact in self.metadata.items() if name != "constants"}
    arrays, described = {**self.arrays, "features": features}, json.dumps(facts, sort_keys=True)
    arrays.pop("typical", None)
    found = dataclasses.replace(self, arrays=arrays, metadata_json=described, input_range=None)
    return dataclasses.replace(found, input_shape=tuple(input_shape), batch_size=features.rows)

  @property
  def feature_names(self) -> tuple[str, ...] | None:
    """Names of the columns that the detector was trained on, None where they had none."""
    names = _read_facts(self.metadata_json).get("feature_names")
    return tuple(names) if names else None

  @property
  def schema(self) -> Schema | None:
    """How a table of raw columns becomes records, None where training had numbers alone."""
    return _read_schema(self.metadata_json)

  @property
  def column_names(self) -> tuple[str, ...] | None:
    """The user's name of the column that each coordinate of a record is of, or None."""
    return self.feature_names if self.schema is None else self.schema.owners

  @property
  def calibration(self) -> Calibration:
    """Held-out scores, stated rate and threshold."""
    scores = np.asarray(self.arrays["calibration"])
    return Calibration(scores, self.fpr, self.threshold, self.confidence)

  @property
  def rate(self) -> str:
    """The stated false-alarm rate in words, and over what it holds."""
    crossed = _read_facts(self.metadata_json).get("cross_conformal")
    return stated(self.fpr, self.confidence) + (", by cross-validation" if crossed else "")

  def score(self, x: Any, *, warn: bool = True) -> np.ndarray:
    """Scores records; higher = more anomalous.

    Args:
      x: ``[n, ...]`` raw records with n >= 1: an array, a frame of pandas or polars, a table of
        pyarrow, columns by name or dicts. Columns with names are matched to those of training.
      warn: whether to log what ``unseen`` finds.

    Returns:
      float32 ``[n]``. The score of a record does not depend on which others came with it.

    Raises:
      ValueError: a shape or range that the detector was not trained on, a column that is missing,
        or values that are not finite.
      HealthError: a score that is not finite although the record is.
      RuntimeError: this process was forked from one that had used JAX.
    """
    raw = self.records(x)
    x = self._checked(raw)
    if warn:
      health.warn(unseen.counted(self, raw).findings())
    scores = batching.in_batches(
      lambda rows: scores_of(self.program, self.arrays, rows), x, self.batch_size
    )
    self._check_scores(x, scores)
    return scores

  def records(self, x: Any, *, strict: bool = True) -> np.ndarray:
    """Records ``[n, ...]`` as numbers with columns in the order of training; see ``score``.

    A table is encoded, see ``Schema.encode`` for ``strict``, unless it names encoded columns.
    """
    schema, names = self.schema, table.names_of(x)
    if schema is not None and names is not None:
      raw = set(schema.wanted) <= set(names) or not set(schema.features) <= set(names)
      if raw:
        return schema.encode(x, strict=strict)
    return table.records(x, self.feature_names)

  def unseen(self, x: Any) -> Unseen:
    """How many records, as for ``score``, hold what training never had, by column.

    Values of columns that were constant in training, and therefore dropped, so that no score shows
    the change; and categories that training did not have.
    """
    return unseen.counted(self, self.records(x))

  def report(self, x: Any) -> dict[str, np.ndarray]:
    """All that the detector's program says of records ``[n, ...]``.

    Returns:
      ``score`` and ``p_value`` ``[n]``, and what the method adds, by name ``[n, ...]``; for
      NeuralFP see ``Fingerprint.report``.

    Raises:
      ValueError: as ``score``.
    """
    x = self._checked(self.records(x))
    return batching.in_batches(
      lambda rows: report_of(self.program, self.arrays, rows), x, self.batch_size
    )

  def explain(self, x: Any) -> Any:
    """Says of records ``[n, ...]`` what is unusual, and with what they would pass.

    Returns:
      An ``explain.Explanation`` by column of records ``[n, features]``; of pictures and series an
      ``explain_map.MapExplanation`` by place.

    Raises:
      ValueError: as ``score``; or the detector keeps no typical values.
    """
    checked = self._checked(self.records(x))
    by_place = len(self.input_shape) > 1
    found = (explain_map.explain_map if by_place else explain.explain)(self, checked)
    self._check_scores(checked, found.score)
    return found

  def _check_scores(self, x: np.ndarray, scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
      row = int(np.argmin(np.isfinite(scores)))
      named = self.metadata.get("report_names", {})
      report = self.report(x[row : row + 1]) if named else {}
      raise health.bad_score(row, float(scores[row]), named, report)

  def p_value(self, x: Any) -> np.ndarray:
    """Conformal p-values ``[n]`` of records ``[n, ...]``; small means anomalous.

    Raises:
      ValueError: as ``score``; or the detector has not been calibrated.
    """
    return self.calibration.p_value(self.score(x))

  def predict(self, x: Any) -> np.ndarray:
    """int64 ``[n]``: 1 for records whose score is above the threshold (anomalous), else 0."""
    return (self.score(x) > np.float32(self.threshold)).astype(np.int64)

  def with_batch_size(self, batch_size: int) -> "Detector":
    """A copy that scores so many rows at a time, e.g. 1 for a stream on an edge device.

    Scores of one record in batches of different sizes agree to float32 rounding.

    Raises:
      ValueError: ``batch_size`` is out of its range.
    """
    rows = batching.whole("batch_size", batch_size)
    if rows > artifact.MOST_ROWS:
      raise ValueError(f"batch_size must be <= {artifact.MOST_ROWS}, got {batch_size!r}.")
    return dataclasses.replace(self, batch_size=rows)

  def with_health(self, findings: Sequence[health.Finding]) -> "Detector":
    """A copy whose metadata holds what its checks found; warns of those that failed."""
    health.warn(findings)
    return self.with_metadata(health=[dataclasses.asdict(finding) for finding in findings])

  def calibrate(
    self, x_typical: Any, fpr: float | None, confidence: float | None = None
  ) -> "Detector":
    """A copy with its threshold at a stated false-positive rate.

    Args:
      x_typical: ``[n, ...]`` raw typical records that training did not see. Equal records count
        once: copies tell nothing more of how fresh records score.
      fpr: in (0, 1); holds in expectation over draws of these records. None takes
        ``splits.attainable_fpr``.
      confidence: in (0, 1): the share of such draws in which ``fpr`` is to hold, or None.

    Raises:
      ValueError: too few records for that rate (the message says how many are needed).
      HealthError: scores that are not finite or all the same.
    """
    x = self.records(x_typical)
    return self.calibrate_scores(self.score(x[splits.distinct(x)]), fpr, confidence)

  def calibrate_scores(
    self, scores: np.ndarray, fpr: float | None, confidence: float | None = None
  ) -> "Detector":
    """As ``calibrate``, from scores ``[n]`` of different records, which need not be in memory."""
    health.check_scores(scores)
    fpr = splits.attainable_fpr(len(scores), confidence) if fpr is None else fpr
    calibration = Calibration.from_scores(scores, fpr, confidence)
    arrays = {**self.arrays, "calibration": jnp.asarray(calibration.scores)}
    if "threshold" in arrays:  # not in a folder that an earlier release wrote
      arrays["threshold"] = jnp.asarray(calibration.threshold, jnp.float32)
    rate = {name: getattr(calibration, name) for name in ("fpr", "threshold", "confidence")}
    found = dataclasses.replace(self, arrays=arrays, **rate)
    crossed = self.metadata.get("cross_conformal")
    return found.with_metadata(cross_conformal=False) if crossed else found

  def update(self, x_typical: Any, window: int | None = None) -> "Detector":
    """A copy at its rate, recalibrated with records ``[n, ...]`` that are typical today.

    See ``adaptation.slid``. Raises what ``calibrate`` does, and a ValueError without a rate.
    """
    if self.fpr is None:
      raise ValueError("There is no rate to keep: call calibrate(X_typical, fpr) first.")
    new = self.score((x := self.records(x_typical))[splits.distinct(x)])
    scores = adaptation.slid(self.calibration.scores, new, window)
    found, crossed = self.calibrate_scores(scores, self.fpr, self.confidence), "cross_conformal"
    old = self.metadata.get(crossed) and len(new) < len(scores)  # some scores still are
    return found.with_metadata(cross_conformal=True) if old else found

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes the detector as one folder, see ``artifact``; replaces a detector that is there."""
    artifact.save(self, folder)

  @classmethod
  def load(cls, folder: str | os.PathLike[str]) -> "Detector":
    """Reads back what any estimator or run saved; see ``artifact.read``."""
    return cls(**artifact.read(folder))

  def _checked(self, x: np.ndarray) -> np.ndarray:
    """Records as the program takes them: less the offset, float32."""
    processes.claim()
    if x.dtype == object or x.dtype.kind not in "buif":
      raise ValueError(f"Records must be numbers, got an array of {x.dtype}.")
    if x.shape[1:] != self.input_shape or x.ndim == 0:
      wanted = ", ".join(map(str, ("n", *self.input_shape)))
      raise ValueError(f"The detector was trained on [{wanted}], got {list(x.shape)}.")
    if not len(x):
      raise ValueError("There are no records to score.")
    table.check_finite(x, self.column_names)
    if self.input_range is not None:
      table.check_range(x, *self.input_range)
    return shifted(x, self.input_offset)


load = Detector.load
