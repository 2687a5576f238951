"""Scores an input of any length, in chunks whose size changes no bit of what is written."""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import functools
import math
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa

import detector_jax
from detector_jax import scorer
from detector_jax.calibration import fdr_rank, fdr_shortage
from detector_jax.table import unfit
from detector_jax.unseen import Unseen
from launch.data.formats import STANDARD_INPUT, DataError, pictures
from launch.data.formats.reader import Piece
from launch.data.mixed import read_mixed_pieces
from launch.data.scoring import ScoreWriter, read_pieces
from launch.data.windows import whole_pieces, window_pieces
from launch.reporting import progress, reasons
from launch.steps import StepWriter

ON_BAD_ROW = scorer.ON_BAD_ROW
CHUNK_VALUES = 2**22
WRITTEN = ("row", "first", "last", "score", "p_value", "decision", "layer", "side", "reason")


@dataclasses.dataclass
class Tally:
  """What was met in an input.

  Attributes:
    rows: number of rows.
    steps: number of steps of a series, whose windows are the rows.
    anomalous: rows whose score is above the threshold.
    bad: rows that cannot be scored.
    first_bad: what is wrong with the first of them, and where.
    done: share of the input that is read, None where nobody knows.
    unseen: what its rows hold that training never had.
    drawn: the picture of the most anomalous records, "" where there is none.
    seconds: from the first byte read to the last written.
  """

  rows: int = 0
  steps: int = 0
  anomalous: int = 0
  bad: int = 0
  first_bad: str = ""
  done: float | None = None
  unseen: Unseen = dataclasses.field(default_factory=Unseen)
  drawn: str = ""
  seconds: float = 0.0


def score_input(
  detector: detector_jax.Detector,
  source: str,
  output: str | os.PathLike[str],
  *,
  label: str | None = None,
  on_bad_row: str = "fail",
  chunk_size: int = 0,
  header: str = "auto",
  stride: int = 0,
  explain: bool = False,
  keep: Sequence[str] = (),
  fdr: float | None = None,
  encoding: str = "utf-8",
  dialect: str = "auto",
  steps: bool = False,
) -> Tally:
  """Scores records and writes what ``columns_of`` says of them, whole or not at all.

  Args:
    detector: the detector.
    source: a file, a folder of pictures, whose names the output then begins with, or "-" for CSV on
      standard input; see ``read_pieces``.
    output: .csv or .parquet.
    label: a column to leave out.
    on_bad_row: what becomes of a row with a value that is missing, no number or infinite, or, in a
      CSV input, of another number of fields. "fail" raises; "skip" leaves it out, and the output
      begins with a column ``row``, the number of the record in the input, from 0; "nan" leaves all
      its values empty.
    chunk_size: rows scored at a time, rounded up to whole batches of the detector; 0: about
      4 million values.
    header: whether a CSV input has one: "auto", "yes" or "no".
    stride: > 0 scores windows of a series ``[time, channels]``, so many steps apart, and the output
      begins with ``first`` and ``last`` step of each.
    explain: whether the output ends with ``reason``, why a record is flagged, empty for others.
    keep: columns of a CSV or .parquet input that the output begins with, as they are.
    fdr: in (0, 1): decisions are those of ``calibration.fdr_rank`` over all rows, which are read
      twice; None takes the detector's threshold.
    encoding: of a CSV input.
    dialect: likewise, see ``detector_jax.dialect``.
    steps: with a stride, writes a row for each time step in the place of windows, see ``steps``.

  Raises:
    DataError: an input or output that cannot be used, or a bad row; nothing is written then.
    ValueError: records that the detector was not trained on.
  """
  _check_apart(source, output)
  if explain:
    reasons.check(detector)
  if set(keep) & set(WRITTEN) or len(set(keep)) < len(keep):
    raise DataError(f"--keep={','.join(keep)} would write two columns of one name.")
  size, text = rows_per_chunk(detector, chunk_size), (encoding, dialect)
  pieces = functools.partial(_pieces, detector, source, label, size, header, stride, keep, text)
  if fdr is not None:
    if source == STANDARD_INPUT:
      raise DataError("A false discovery rate is of a whole file, which is read twice; name one.")
    read = _good(pieces(Tally()), on_bad_row, Tally())
    detector = for_batch(detector, (x for _, x in _chunks(read, size)), fdr)
  files, start = _names(source), time.perf_counter()
  tally, written, columns = Tally(), 0, {}
  if stride and keep:
    raise DataError("Windows are of several rows each: leave --keep out where there is a stride.")
  if steps and (explain or not stride):
    raise DataError("Time steps are of windows: give --steps with --stride, and --explain without.")
  kept = _Kept()
  writing = StepWriter(output, detector.threshold) if steps else ScoreWriter(output)
  drawing = _drawing(detector) if explain else None
  with writing as writer, progress.bar("score", 100) as advance:
    shown = 0
    read = _good(kept.passing(pieces(tally)), on_bad_row, tally)
    for rows, x in _chunks(read, size):
      columns = _columns(detector, rows, x, explain)
      tally.unseen += detector.unseen(x)
      if drawing is not None:
        names = [files[row] if files else f"row {row}" for row in rows.tolist()]
        drawing.add(names, x, columns["score"], columns["decision"] == 1)
      tally.anomalous += int(columns["decision"].sum())
      end = int(rows[-1]) + 1
      arranged = _arranged(columns, rows, written, end, on_bad_row)
      here = rows if on_bad_row == "skip" else np.arange(written, end)
      arranged = {**_places(detector, files, stride, here), **arranged}
      cells = kept.take(end - written)
      if on_bad_row == "skip":
        cells = {name: values.take(rows - written) for name, values in cells.items()}
      writer.write({**cells, **arranged})
      written, share = end, int(100 * (tally.done or 0.0))
      advance(share - shown, f"{end:,} rows")
      shown = share
    if not columns:
      raise DataError(f"No row can be scored: {tally.first_bad}.")
    if on_bad_row == "nan" and written < tally.rows:
      none = {name: values[:0] for name, values in columns.items()}
      empty = _arranged(none, np.zeros(0, np.int64), written, tally.rows, on_bad_row)
      rest = _places(detector, files, stride, np.arange(written, tally.rows))
      writer.write({**kept.take(tally.rows - written), **rest, **empty})
    if isinstance(writer, StepWriter):
      writer.finish(tally.steps)
    advance(100 - shown, f"{tally.rows:,} rows")
  if drawing is not None:
    path = pathlib.Path(output).expanduser().with_name(f"{pathlib.Path(output).stem}_reasons.png")
    tally.drawn = str(path) if drawing.write(path) else ""
  tally.seconds = time.perf_counter() - start
  return tally


def _places(
  detector: detector_jax.Detector, files: list[str], stride: int, rows: np.ndarray
) -> dict[str, np.ndarray]:
  """File names of records with these numbers, or first and last steps ``[n]`` of windows."""
  if not stride:
    return {"file": np.array([files[row] for row in rows])} if files else {}
  first = stride * rows
  return {"first": first, "last": first + detector.input_shape[0] - 1}


def _drawing(detector: detector_jax.Detector) -> Any:
  """What draws where pictures and series are unusual, or None."""
  if len(detector.input_shape) == 1:
    return None
  from launch.reporting.reason_maps import Drawing  # figures, slow to import

  return Drawing(detector) if Drawing.suits(detector) else None


def _pieces(
  detector: detector_jax.Detector,
  source: str,
  label: str | None,
  size: int,
  header: str,
  stride: int,
  keep: Sequence[str],
  written: tuple[str, str],
  tally: Tally,
) -> Iterator[Piece]:
  """The input in pieces, as the detector was trained on; counts the steps of a series."""
  schema, clock = detector.schema, _time_column(detector) if stride else None
  if schema is None:
    names, shape = detector.feature_names, detector.input_shape
    pieces = read_pieces(source, label, names, size, header, clock, shape, keep, *written)
  elif header == "no":
    raise DataError(f"{source} must name its columns: the detector was trained on a table.")
  else:
    pieces = read_mixed_pieces(source, schema, size, keep, *written)
  if not stride:
    return whole_pieces(pieces, detector.input_shape, source)
  if len(detector.input_shape) != 2:
    raise ValueError(f"A stride is for windows of series; records are {detector.input_shape}.")
  counted = _counted(pieces, tally)
  return window_pieces(counted, detector.input_shape[0], stride, source, clock or "")


def _counted(pieces: Iterable[Piece], tally: Tally) -> Iterator[Piece]:
  """The same pieces."""
  for piece in pieces:
    tally.steps += len(piece.x)
    yield piece


def for_batch(
  detector: detector_jax.Detector, chunks: Iterable[np.ndarray], fdr: float
) -> detector_jax.Detector:
  """The detector with the threshold of a batch, see ``calibration.fdr_rank``.

  Args:
    detector: calibrated.
    chunks: records ``[n, ...]`` of the whole batch.
    fdr: in (0, 1).

  Raises:
    ValueError: ``fdr`` is out of its range, or the detector is not calibrated.
  """
  calibration = detector.calibration
  size = calibration.scores.size + 1
  counts = np.zeros(size, np.int64)
  fdr_rank(counts, fdr)  # refuses another rate before anything is read
  for x in chunks:
    ranks = calibration.ranks(detector.score(x, warn=False))
    counts += np.bincount(ranks - 1, minlength=size)
  rank = fdr_rank(counts, fdr)
  if rank:
    return detector.calibrate_scores(calibration.scores, rank / size)
  if counts.any():
    print(fdr_shortage(counts, fdr), file=sys.stderr)
  return dataclasses.replace(detector, threshold=math.inf)


def rows_per_chunk(detector: detector_jax.Detector, chunk_size: int = 0) -> int:
  """Rows that are scored at a time: whole batches, so that a row's place in its batch is its own.

  Args:
    detector: gives the batch and the size of a record.
    chunk_size: rows asked for; 0: about 4 million values.
  """
  values = math.prod(detector.input_shape)
  rows = chunk_size or max(1, CHUNK_VALUES // max(1, values))
  return -(-rows // detector.batch_size) * detector.batch_size


class _Kept:
  """The kept cells of the pieces that pass through, to be taken some rows at a time."""

  def __init__(self) -> None:
    self._held: list[pa.Table] = []

  def passing(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same pieces."""
    for piece in pieces:
      if piece.kept:
        self._held.append(pa.table(dict(piece.kept)))
      yield piece

  def take(self, rows: int) -> dict[str, Any]:
    """The next rows: name -> pyarrow array ``[rows]``; {} where nothing is kept."""
    if not self._held:
      return {}
    whole = pa.concat_tables(self._held)
    self._held = [whole.slice(rows)]
    return {name: whole[name][:rows].combine_chunks() for name in whole.column_names}


def _names(source: str) -> list[str]:
  """Names of the records of an input: the files of a folder."""
  folder = pathlib.Path(source).expanduser()
  if source == STANDARD_INPUT or not folder.is_dir():
    return []
  return [path.relative_to(folder).as_posix() for path in pictures.files(folder, "**/*")]


def _time_column(detector: detector_jax.Detector) -> str | None:
  """The column of times of the series that a detector of windows was trained on."""
  config = detector.metadata.get("config") or {}
  return config.get("data", {}).get("time") or None


def _check_apart(source: str, output: str | os.PathLike[str]) -> None:
  """Raises a DataError where the scores would replace the records."""
  path, target = pathlib.Path(source).expanduser(), pathlib.Path(output).expanduser()
  if source != STANDARD_INPUT and path.exists() and target.exists() and path.samefile(target):
    raise DataError(f"{output} is the input; give the scores a file of their own.")


def _good(
  pieces: Iterable[Piece], on_bad_row: str, tally: Tally
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Numbers ``[n]`` and records ``[n, ...]`` of the rows that can be scored."""
  for piece in pieces:
    wrong: np.ndarray = np.any(unfit(piece.x).reshape(len(piece.x), -1), axis=1)
    if wrong.any() and not tally.bad:
      row = int(wrong.argmax())
      tally.first_bad = piece.explain(row)
      if on_bad_row == "fail":
        raise piece.refuse(row, "repair it, or give --on_bad_row=skip or --on_bad_row=nan")
    tally.rows += len(wrong)
    tally.bad += int(wrong.sum())
    tally.done = piece.done
    kept = np.flatnonzero(~wrong)
    x = piece.x if len(kept) == len(wrong) else piece.x[kept]
    yield piece.start + kept, np.asarray(x)


def _chunks(
  parts: Iterable[tuple[np.ndarray, np.ndarray]], size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """The same rows, ``size`` at a time; fewer in the last chunk."""
  held: list[tuple[np.ndarray, np.ndarray]] = []
  count = 0
  for part in parts:
    held.append(part)
    count += len(part[0])
    if count >= size:
      rows, x = map(np.concatenate, zip(*held, strict=True))
      whole = count - count % size
      for start in range(0, whole, size):
        yield rows[start : start + size], x[start : start + size]
      held, count = [(rows[whole:], x[whole:])], count - whole
  if count:
    rows, x = map(np.concatenate, zip(*held, strict=True))
    yield rows, x


def _columns(
  detector: detector_jax.Detector, rows: np.ndarray, x: np.ndarray, explain: bool
) -> dict[str, np.ndarray]:
  try:
    return columns_of(detector, x, explain)
  except detector_jax.HealthError as error:
    raise detector_jax.HealthError(
      f"In the {len(rows):,} rows from row {rows[0]:,} of the input on, counted from 0: {error}"
    ) from error


def columns_of(
  detector: detector_jax.Detector, x: np.ndarray, explain: bool = False
) -> dict[str, np.ndarray]:
  """What is said of records ``[n, ...]``: name -> ``[n]``."""
  columns = scorer.verdicts(detector, x)
  if detector.metadata.get("layers") or detector.metadata.get("groups"):
    from launch.reporting import layers  # figures and the report, slow to import

    groups, named = layers.names_of(detector, "groups"), layers.names_of(detector)
    wanted = ("group",) * bool(groups) + ("layer", "side") * bool(named)
    told = layers.reported(detector, x, *wanted)
    if groups:
      columns["group"] = np.array(groups)[told["group"].astype(np.int64)]
    if named:
      columns["layer"] = np.array(named)[told["layer"].astype(np.int64)]
      columns["side"] = np.where(told["side"] > 0, "high", "low")
  if explain:
    flagged = columns["decision"] == 1
    told_of = np.full(len(x), "", object)
    told_of[flagged] = reasons.texts(detector, x[flagged])
    columns["reason"] = np.ma.masked_array(told_of.astype(str), ~flagged)
  return columns


def _arranged(
  columns: dict[str, np.ndarray], rows: np.ndarray, first: int, end: int, on_bad_row: str
) -> dict[str, np.ndarray]:
  """Columns as they are written, for the rows from ``first`` to ``end - 1`` of the input."""
  if on_bad_row == "skip":
    return {"row": rows, **columns}
  return scorer.with_gaps(columns, rows - first, end - first)


def print_summary(
  detector: detector_jax.Detector, tally: Tally, output: str, on_bad_row: str
) -> None:
  """Prints what was found; what was left out and how fast it went on standard error."""
  print(f"{tally.anomalous} of {tally.rows - tally.bad} records are anomalous: {output}")
  if tally.drawn:
    print(f"Where the most anomalous ones are unusual: {tally.drawn}")
  if tally.bad:
    verb = "left out" if on_bad_row == "skip" else "left empty"
    print(f"{tally.bad:,} bad rows were {verb}; the first: {tally.first_bad}.", file=sys.stderr)
  detector_jax.health.warn(tally.unseen.findings())
  rate = tally.rows / tally.seconds
  print(
    f"{tally.rows:,} rows in {tally.seconds:.1f} s, {rate:,.0f} rows per second.", file=sys.stderr
  )
