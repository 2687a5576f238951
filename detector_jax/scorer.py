"""A saved detector for an engine that hands out a table in batches, on many processes."""

from collections.abc import Mapping, Sequence
import functools
import logging
import os
import pathlib
import threading
from typing import Any, NamedTuple

import numpy as np

from detector_jax import artifact, health, table
from detector_jax.detector import Detector
from detector_jax.schema import columns_of

logger = logging.getLogger(__name__)

ON_BAD_ROW = ("fail", "skip", "nan")
_LOADING = threading.Lock()


def verdicts(detector: Detector, x: np.ndarray) -> dict[str, np.ndarray]:
  """What is said of records ``[n, ...]`` that have no gap, n >= 1.

  Returns:
    ``score`` float64 ``[n]``, ``p_value`` where the detector is calibrated, ``decision`` int64: 1
    for anomalous records, else 0.
  """
  scores = detector.score(x, warn=False)
  columns = {"score": scores.astype(np.float64)}
  if detector.calibration.scores.size:
    columns["p_value"] = detector.calibration.p_value(scores)
  columns["decision"] = (scores > np.float32(detector.threshold)).astype(np.int64)
  return columns


def with_gaps(columns: Mapping[str, np.ndarray], rows: np.ndarray, n: int) -> dict[str, Any]:
  """Columns of some rows as columns of all ``n``, masked where there is no row.

  Args:
    columns: name -> ``[k]``.
    rows: ``[k]`` numbers of the rows, ascending, from 0.
    n: rows in all.
  """
  if len(rows) == n:
    return dict(columns)
  arranged = {}
  for name, values in columns.items():
    arranged[name] = np.ma.masked_all(n, values.dtype)
    arranged[name][rows] = values
  return arranged


class Prepared(NamedTuple):
  """A batch whose records are numbers.

  Attributes:
    batch: as it came.
    x: ``[k, ...]``, the records that can be scored.
    rows: ``[k]`` their numbers in the batch, ascending, from 0.
    size: of the batch.
    kept: names of the columns that its scores begin with.
  """

  batch: Any
  x: np.ndarray
  rows: np.ndarray
  size: int
  kept: tuple[str, ...]


class Scorer:
  """Scores batches of a table with a detector that is loaded once in each process.

  A Scorer is made anywhere, pickles as the folder's name and its settings, and reads the detector
  when it scores for the first time: a process may hold as many as it likes, and several threads may
  share one. Processes that are forked must not come from one that has used JAX.

  Args:
    folder: of a detector, at the same place on every machine.
    keep: columns of a batch that its scores begin with, as they are; such as an identifier.
    on_bad_row: what becomes of a row with a value that is missing, no number or infinite. "fail"
      raises; "skip" leaves it out, and needs a column to keep; "nan" leaves its scores empty: of
      NumPy, which has no empty whole number, the decision is -1.

  Attributes:
    columns: names of what a batch becomes, in their order.

  Raises:
    ArtifactError: the folder holds no detector.
    ValueError: a setting out of its range, or two columns of one name.

  Examples:
    >>> import tempfile
    >>> from detector_jax.preprocessing import Identity
    >>> folder = tempfile.mkdtemp()
    >>> detector = Detector.create(lambda _, x: x.sum(axis=1), {}, Identity(), (2,), threshold=5)
    >>> detector.with_metadata(feature_names=["a", "b"]).save(folder)
    >>> Scorer(folder, keep=["id"])([{"id": 7, "b": 3, "a": 1}, {"id": 8, "b": 4, "a": 2}])
    [{'id': 7, 'score': 4.0, 'decision': 0}, {'id': 8, 'score': 6.0, 'decision': 1}]
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    keep: Sequence[str] = (),
    on_bad_row: str = "fail",
  ):
    self._folder, self._keep = pathlib.Path(folder).resolve(), tuple(keep)
    self._on_bad_row, self._told = on_bad_row, set[str]()
    if isinstance(keep, str):
      raise ValueError(f"keep must be a list of columns, got {keep!r}.")
    if on_bad_row not in ON_BAD_ROW:
      raise ValueError(f"on_bad_row must be one of {', '.join(ON_BAD_ROW)}; got {on_bad_row!r}.")
    if on_bad_row == "skip" and not keep:
      raise ValueError(
        'on_bad_row="skip" leaves rows out, and nothing would say which are left: keep a column '
        'that identifies them, or take "nan".'
      )
    described = artifact.read_description(self._folder)
    calibrated = ("p_value",) * bool(described.get("calibration_records"))
    self.columns = (*self._keep, "score", *calibrated, "decision")
    table.check_unique("A scored batch", self.columns)
    self._checksum = described["sha256"]["detector.json"]

  @property
  def detector(self) -> Detector:
    """The detector, the same object for every Scorer of this process.

    Raises:
      ArtifactError: the folder is damaged, or was replaced since this Scorer was made.
    """
    with _LOADING:
      return _loaded(self._folder, self._checksum)

  def __call__(self, batch: Any) -> Any:
    """Scores one batch.

    Args:
      batch: a RecordBatch or Table of pyarrow, a frame of pandas or polars, columns by name, a list
        of dicts, or an array of NumPy, ``[n, ...]`` or structured; also of no rows. Columns with
        names are matched to those of training by name, and others left out.

    Returns:
      The same kind of thing, with ``columns``: an array becomes a structured one.

    Raises:
      ValueError: a column that is missing or holds something other than numbers; a bad row where
        ``on_bad_row`` is "fail".
      HealthError: a score that is not finite although its record is.
    """
    prepared = self.prepare(batch)
    return self.answer(prepared, self.verdicts(prepared.x))

  def prepare(self, batch: Any) -> Prepared:
    """The first part of a call: the records of a batch, checked and encoded.

    Several batches can then be scored together: ``verdicts`` of all their records, and ``answer``
    of each with its share of them.

    Raises:
      ValueError: as a call.
    """
    detector, named = self.detector, columns_of(batch) if table.names_of(batch) else None
    n = len(next(iter(named.values()))) if named else len(batch)
    if self._keep and (named or n):
      if named is None:
        raise ValueError(f"The batch has no names, and is to keep {table.listed(self._keep)}.")
      self._check_kept(named)
    x, rows = self._good(detector, batch, named) if n else (np.zeros(0), np.arange(0))
    return Prepared(batch, x, rows, n, self._keep if named else ())

  def verdicts(self, x: np.ndarray, batch_size: int | None = None) -> dict[str, Any]:
    """The second part of a call: what is said of records, by name ``[k]``.

    Args:
      x: ``[k, ...]`` of ``prepare``, k >= 0.
      batch_size: rows scored at a time; None takes the detector's.

    Raises:
      ValueError: records that the detector cannot score; and as a call.
    """
    if not len(x):
      new = self.columns[len(self._keep) :]
      return {name: np.zeros(0, np.int64 if name == "decision" else np.float64) for name in new}
    detector = self.detector
    told = verdicts(detector if batch_size is None else detector.with_batch_size(batch_size), x)
    self._warn_of_unseen(detector, x)
    return told

  def answer(self, prepared: Prepared, told: Mapping[str, Any]) -> Any:
    """The last part of a call: the scores as the kind of thing that the batch is.

    Args:
      prepared: the batch.
      told: of its records that can be scored, by name ``[k]``.
    """
    rows, empties = prepared.rows, self._on_bad_row == "nan"
    if empties:
      told, rows = with_gaps(told, rows, prepared.size), np.arange(prepared.size)
    return _like(prepared.batch, prepared.kept, rows, told, empties)

  def _check_kept(self, named: Mapping[str, Any]) -> None:
    if lacking := [name for name in self._keep if name not in named]:
      raise ValueError(
        f"The batch has no column {table.listed(lacking)} to keep; it has "
        f"{table.listed(list(named))}."
      )

  def _good(
    self, detector: Detector, batch: Any, named: Mapping[str, Any] | None
  ) -> tuple[np.ndarray, np.ndarray]:
    """Records that can be scored ``[k, ...]``, and their numbers ``[k]`` in the batch.

    Raises:
      ValueError: there are others, and ``on_bad_row`` is "fail".
    """
    fail = self._on_bad_row == "fail"
    x = detector.records(batch if named is None else self._own(detector, named), strict=fail)
    if x.dtype.kind not in "buif":
      return x, np.arange(len(x))  # which scoring refuses
    wrong = table.unfit(x).reshape(len(x), -1).any(axis=1)
    if not wrong.any():
      return x, np.arange(len(x))
    if fail:
      cells = [
        f"{name} = {_cell(named[name], int(wrong.argmax()))}" for name in self._keep if named
      ]
      try:
        table.check_finite(x, detector.column_names)
      except ValueError as error:
        where = f" The first such record has {', '.join(cells)}." if cells else ""
        raise ValueError(f"{error}{where}") from None
    return x[~wrong], np.flatnonzero(~wrong)

  def _own(self, detector: Detector, named: Mapping[str, Any]) -> Mapping[str, Any]:
    """The columns that the detector was trained on, or may have been; the others are told once."""
    schema, trained = detector.schema, set(detector.feature_names or ())
    known = trained | set(schema.wanted if schema is not None else ())
    own = {name: values for name, values in named.items() if name in known}
    if not own:  # training had no names
      own = {name: values for name, values in named.items() if name not in self._keep}
    if not own:
      raise ValueError(f"The batch has no column to score beside {table.listed(self._keep)}.")
    ignored = [name for name in named if name not in own and name not in self._keep]
    if ignored and "columns" not in self._told:
      self._told.add("columns")
      logger.warning("Left out %s: the detector was not trained on it.", table.listed(ignored))
    return own

  def _warn_of_unseen(self, detector: Detector, x: np.ndarray) -> None:
    """Tells once what records hold that training never had."""
    if "unseen" not in self._told and (found := detector.unseen(x)):
      self._told.add("unseen")
      health.warn(found.findings())


@functools.lru_cache(maxsize=8)
def _loaded(folder: pathlib.Path, checksum: str) -> Detector:
  """The detector of a folder whose description has this checksum, read once in a process."""
  if artifact.read_description(folder)["sha256"]["detector.json"] != checksum:
    raise artifact.ArtifactError(
      f"{folder} holds another detector than when its Scorer was made; make a new Scorer."
    )
  return Detector.load(folder)


def _like(
  batch: Any, keep: Sequence[str], rows: np.ndarray, told: Mapping[str, Any], empties: bool
) -> Any:
  """Scores as the kind of thing that a batch is, behind the columns of it that are kept.

  Args:
    batch: see ``Scorer``.
    keep: names of its columns that are kept.
    rows: ``[k]`` numbers of the rows that are told of.
    told: name -> ``[k]``, masked where there is nothing to tell.
    empties: whether there may be such rows.
  """
  if hasattr(batch, "iloc"):  # pandas
    frame = batch[list(keep)].iloc[rows].assign(**{n: _filled(v) for n, v in told.items()})
    if empties:
      decision = frame["decision"].astype("Int64")
      frame["decision"] = decision.mask(decision < 0)
    return frame
  if hasattr(batch, "hstack"):  # polars, which takes types of Python
    kinds = {name: int if name == "decision" else float for name in told}
    new = type(batch)({name: values.tolist() for name, values in told.items()}, schema=kinds)
    return batch[list(keep)][rows].hstack(new.get_columns())
  if isinstance(batch, Sequence):
    lists = {name: [batch[row][name] for row in rows] for name in keep}
    lists |= {name: values.tolist() for name, values in told.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
  kept = {name: _taken(batch[name], rows) for name in keep}
  if hasattr(batch, "from_pydict"):  # pyarrow
    return type(batch).from_pydict({**kept, **told})
  columns: dict[str, Any] = {**kept, **{name: _filled(values) for name, values in told.items()}}
  if isinstance(batch, Mapping):
    return columns
  result = np.empty(len(rows), [(name, values.dtype) for name, values in columns.items()])
  for name, values in columns.items():
    result[name] = values
  return result


def _filled(values: Any) -> np.ndarray:
  """Values with NaN, or -1 of whole numbers, in their gaps."""
  return np.ma.filled(values, np.nan if values.dtype.kind == "f" else -1)


def _taken(values: Any, rows: np.ndarray) -> Any:
  """The values of some rows of a column."""
  if len(rows) == len(values):
    return values
  return values.take(rows) if hasattr(values, "take") else [values[row] for row in rows]


def _cell(values: Any, row: int) -> str:
  """One cell of a column as text."""
  value = values.iloc[row] if hasattr(values, "iloc") else values[row]
  return str(value)
