"""The Detector: what every method of this project becomes after training.

preprocess -> score -> p-value -> decision, as one pytree that knows nothing of the method.
"""

from collections.abc import Callable
import dataclasses
import functools
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import artifact, batching, health
from detector_jax.calibration import Calibration


@dataclasses.dataclass(frozen=True)
class Program:
  """``(arrays, x) -> {"score", "p_value", ...}``, pure, comparable and hashable.

  Attributes:
    score_fn: ``(variables, x) -> [batch]`` on preprocessed inputs; higher = more anomalous. A
      frozen dataclass with ``__call__`` serves best: equal ones share their compilation.
    report_fn: ``(variables, x, threshold) -> {name: [batch, ...]}``, what else the method has to
      say of a record, or None.
  """

  score_fn: Callable[[Any, jax.Array], jax.Array]
  report_fn: Callable[[Any, jax.Array, jax.Array], dict[str, jax.Array]] | None = None

  def __call__(self, arrays: dict[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    """Scores raw ``x`` ``[batch, ...]``; ``arrays`` as in ``Detector``."""
    variables, z = arrays["variables"], arrays["preprocessing"](x)
    score = self.score_fn(variables, z)
    calibration = arrays["calibration"]
    above = jnp.sum(calibration[None, :] >= score[:, None], axis=1, dtype=jnp.float32)
    result = {"score": score, "p_value": (1.0 + above) / (1.0 + calibration.shape[0])}
    if self.report_fn is not None:
      result |= self.report_fn(variables, z, arrays["threshold"])
    return result


@functools.partial(jax.jit, static_argnums=0)
def _score(program: Callable[..., Any], arrays: Any, x: jax.Array) -> jax.Array:
  return program(arrays, x)["score"]


@functools.partial(jax.jit, static_argnums=0)
def _report(program: Callable[..., Any], arrays: Any, x: jax.Array) -> dict[str, jax.Array]:
  return program(arrays, x)


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
  ],
)
@dataclasses.dataclass(frozen=True)
class Detector:
  """A trained anomaly detector.

  Attributes:
    arrays: ``{"preprocessing", "variables", "calibration", "threshold"}``; the calibration is the
      float32 ``[n]`` ascending scores of held-out typical records, empty when there were none.
    program: ``(arrays, x) -> {"score": [batch], "p_value": [batch], ...}``.
    fpr: stated false-positive rate of the threshold, or None.
    threshold: a record is anomalous when its score is strictly above.
    input_shape: shape of one raw record.
    metadata_json: JSON object: method, configuration, data counts.
    batch_size: rows scored at a time, padded to this one shape.
    input_range: smallest and largest value of the training records where records of quite another
      range are to be refused (bytes where a network was trained on [0, 1]), or None.
  """

  arrays: dict[str, Any]
  program: Callable[..., dict[str, jax.Array]]
  fpr: float | None
  threshold: float
  input_shape: tuple[int, ...]
  metadata_json: str = "{}"
  batch_size: int = 1024
  input_range: tuple[float, float] | None = None

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
      preprocessing: a pytree of arrays that can be called on raw inputs, e.g. ``Standardizer``.
      input_shape: shape of one raw record.
      threshold: the method's own boundary.
      metadata: JSON-serialisable facts that travel with the detector.
      report_fn: see ``Program``; hashable.
      input_range: see ``Detector``.
      batch_size: rows scored at a time; None takes up to 1,024, fewer of large records.
    """
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
    )

  @property
  def metadata(self) -> dict[str, Any]:
    """Method, configuration and data counts."""
    return json.loads(self.metadata_json)

  def with_metadata(self, **facts: Any) -> "Detector":
    """The same detector with further JSON-serialisable facts."""
    told = json.dumps({**self.metadata, **facts}, sort_keys=True)
    return dataclasses.replace(self, metadata_json=told)

  @property
  def calibration(self) -> Calibration:
    """Held-out scores, stated rate and threshold."""
    return Calibration(np.asarray(self.arrays["calibration"]), self.fpr, self.threshold)

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores records; higher = more anomalous.

    Args:
      x: ``[n, ...]`` raw records with n >= 1.

    Returns:
      float32 ``[n]``. The score of a record does not depend on which others came with it.

    Raises:
      ValueError: a shape or range that the detector was not trained on, or values that are not
        finite.
      HealthError: a score that is not finite although the record is.
    """
    x = self._checked(x)
    scores = batching.in_batches(
      lambda rows: _score(self.program, self.arrays, rows), x, self.batch_size
    )
    self._check_scores(x, scores)
    return scores

  def report(self, x: np.ndarray) -> dict[str, np.ndarray]:
    """All that the detector's program says of records ``[n, ...]``.

    Returns:
      ``score`` and ``p_value`` ``[n]``, and what the method adds, by name ``[n, ...]``; for
      NeuralFP see ``Fingerprint.report``.

    Raises:
      ValueError: as ``score``.
    """
    x = self._checked(x)
    return batching.in_batches(
      lambda rows: _report(self.program, self.arrays, rows), x, self.batch_size
    )

  def _check_scores(self, x: np.ndarray, scores: np.ndarray) -> None:
    if np.isfinite(scores).all():
      return
    row = int(np.flatnonzero(~np.isfinite(scores))[0])
    where = ""
    layers = self.metadata.get("layers")
    if layers:
      errors = self.report(x[row : row + 1])["layer_error"][0]
      bad = [name for name, error in zip(layers, errors, strict=True) if not np.isfinite(error)]
      where = f": layer {bad[0]!r} has activations that are not finite" if bad else ""
    raise health.HealthError(
      f"The score of row {row} is {scores[row]}{where}; look at the network and at the record."
    )

  def p_value(self, x: np.ndarray) -> np.ndarray:
    """Conformal p-values ``[n]`` of records ``[n, ...]``; small means anomalous.

    Raises:
      ValueError: as ``score``; or the detector has not been calibrated.
    """
    return self.calibration.p_value(self.score(x))

  def predict(self, x: np.ndarray) -> np.ndarray:
    """int64 ``[n]``: 1 for records whose score is above the threshold (anomalous), else 0."""
    return (self.score(x) > np.float32(self.threshold)).astype(np.int64)

  def with_batch_size(self, batch_size: int) -> "Detector":
    """A copy that scores so many rows at a time, e.g. 1 for a stream on an edge device.

    Scores of one record in batches of different sizes agree to float32 rounding.

    Raises:
      ValueError: ``batch_size`` is below 1.
    """
    if batch_size < 1:
      raise ValueError(f"batch_size must be >= 1, got {batch_size!r}.")
    return dataclasses.replace(self, batch_size=int(batch_size))

  def calibrate(self, x_typical: np.ndarray, fpr: float) -> "Detector":
    """A copy with its threshold at a stated false-positive rate.

    Args:
      x_typical: ``[n, ...]`` raw typical records that training did not see.
      fpr: in (0, 1).

    Raises:
      ValueError: too few records for that rate (the message says how many are needed).
      HealthError: scores that are not finite or all the same.
    """
    return self.calibrate_scores(self.score(x_typical), fpr)

  def calibrate_scores(self, scores: np.ndarray, fpr: float) -> "Detector":
    """As ``calibrate``, from the scores ``[n]`` of the records, which need not be in memory."""
    health.check_scores(scores)
    calibration = Calibration.of(scores, fpr)
    arrays = {**self.arrays, "calibration": jnp.asarray(calibration.scores)}
    if "threshold" in arrays:  # not in a folder that an earlier release wrote
      arrays["threshold"] = jnp.asarray(calibration.threshold, jnp.float32)
    return dataclasses.replace(
      self, arrays=arrays, fpr=calibration.fpr, threshold=calibration.threshold
    )

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes the detector as one folder, see ``artifact``; replaces a detector that is there."""
    artifact.save(self, folder)

  def _checked(self, x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if x.dtype == object or x.dtype.kind not in "buif":
      raise ValueError(f"Records must be numbers, got an array of {x.dtype}.")
    if x.shape[1:] != self.input_shape or x.ndim == 0:
      wanted = ", ".join(map(str, ("n", *self.input_shape)))
      raise ValueError(f"The detector was trained on [{wanted}], got {list(x.shape)}.")
    if not len(x):
      raise ValueError("There are no records to score.")
    check_finite(x)
    if self.input_range is not None:
      _check_range(x, *self.input_range)
    return np.asarray(x, np.float32)


def _check_range(x: np.ndarray, low: float, high: float) -> None:
  """Refuses records ten times beyond the span of the training records."""
  margin = 10.0 * max(high - low, 1e-12)
  smallest, largest = float(x.min()), float(x.max())
  if smallest < low - margin or largest > high + margin:
    raise ValueError(
      f"Records range from {smallest:g} to {largest:g}, training records from {low:g} to {high:g}: "
      "give them in the units of training (divide bytes by 255)."
    )


def check_finite(x: np.ndarray) -> None:
  """Raises a ValueError naming row and column of the first NaN or infinity in ``x`` ``[n, ...]``.

  Values that float32 cannot hold count as infinite.
  """
  if x.dtype.kind != "f":
    return
  with np.errstate(over="ignore"):
    finite = np.isfinite(np.asarray(x, np.float32))
  if not finite.all():
    place = np.argwhere(~finite)[0]
    value = x[tuple(place)]
    name = "NaN" if np.isnan(value) else "infinity" if np.isinf(value) else f"{value:g}"
    where = f"row {place[0]}" + (f", column {place[-1]}" if x.ndim > 1 else "")
    raise ValueError(
      f"Input contains {name} at {where} ({int((~finite).sum())} such values in all); impute or "
      "remove them."
    )
