"""Records for scoring, read a piece at a time, and scores, written whole or not at all.

Every problem with an input is a ``DataError`` of one sentence.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import os
import pathlib
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from detector_jax import atomic
from launch.data.formats import Columns, DataError, opened
from launch.data.formats.reader import Piece

WRITERS: dict[str, Callable[[pathlib.Path, pa.Schema], Any]] = {
  ".csv": arrow_csv.CSVWriter,
  ".parquet": parquet.ParquetWriter,
}


def read_pieces(
  source: str | os.PathLike[str],
  label: str | None = None,
  trained: Sequence[str] | None = None,
  rows: int = 2**16,
  header: str = "auto",
  time: str | None = None,
  shape: tuple[int, ...] | None = None,
  keep: Sequence[str] = (),
  encoding: str = "utf-8",
  dialect: str = "auto",
) -> Iterator[Piece]:
  """Reads the records of an input in pieces; memory does not grow with its length.

  Args:
    source: a file, a folder of pictures, or "-" for CSV on standard input.
    label: a column to leave out, by name or number; .npz and .mat: an array that must be there.
    trained: names of the columns that a detector was trained on: a file that names its columns is
      searched for them, in any order, and the others may hold anything. None: all but the label.
    rows: rows per piece; a CSV input has pieces of about 8 MiB.
    header: whether a CSV input has one, see ``detector_jax.table.header``.
    time: a column of times, the ``groups`` of pieces; it need not be there.
    shape: of a record, to which pictures are resized.
    keep: names of columns of a CSV or .parquet input that pieces carry as they are.
    encoding: of a CSV input.
    dialect: likewise, see ``detector_jax.dialect``.

  Raises:
    DataError: the input is missing, empty, damaged, of an unknown ending, or lacks a column.
  """
  columns = Columns(
    label,
    time,
    "time",
    ("label",),
    labelled=False,
    header=header,
    trained=trained,
    shape=shape,
    keep=keep,
    encoding=encoding,
    dialect=dialect,
  )
  with opened(source, columns) as reader:
    yield from reader.pieces(rows)


def check_writable(path: str | os.PathLike[str]) -> None:
  """Checks, before any work is done, that ``ScoreWriter`` can write such a file.

  Raises:
    DataError: an unknown ending, or ``path`` is a folder.
  """
  path = pathlib.Path(path).expanduser()
  if path.suffix.lower() not in WRITERS:
    raise DataError(
      f"{path} has an unknown ending {path.suffix!r}; scores are written as {' or '.join(WRITERS)}."
    )
  if path.is_dir():
    raise DataError(f"{path} is a folder; name a file for the scores.")


class ScoreWriter:
  """Writes columns to a .csv or .parquet file, some rows at a time, whole or not at all.

  As a context manager: the file is written beside its place and moved there at the end of the
  ``with``, unless that ends with an exception or nothing was written. Its folder is made if need
  be, at the first write.

  Args:
    path: the file, replaced if it exists.

  Raises:
    DataError: as ``check_writable``.
    OSError: the place cannot be written; what was there is as it was.
  """

  def __init__(self, path: str | os.PathLike[str]):
    check_writable(path)
    self._path = pathlib.Path(path).expanduser()
    self._temporary = atomic.beside(self._path)
    self._writer: Any = None

  def __enter__(self) -> Self:
    return self

  def write(self, columns: Mapping[str, Any]) -> None:
    """Appends rows: name -> ``[n]`` values, the same names and kinds every time.

    They are arrays of NumPy or pyarrow. Masked values of a masked array are left empty.

    Raises:
      DataError: columns that are not one-dimensional and of one length.
    """
    shapes = {np.shape(values) for values in columns.values()}
    if len(shapes) != 1 or len(min(shapes)) != 1:
      raise DataError(
        f"Columns of {self._path} must have one axis and one length, got {sorted(shapes)}."
      )
    table = pa.table({name: _array(values) for name, values in columns.items()})
    with self._failure_named():
      if self._writer is None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        atomic.remove_leftovers(self._path)
        self._writer = WRITERS[self._path.suffix.lower()](self._temporary, table.schema)
      self._writer.write_table(table)

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    try:
      if self._writer is not None and kind is None:
        with self._failure_named():
          self._writer.close()
          os.replace(self._temporary, self._path)
      elif self._writer is not None:
        with contextlib.suppress(OSError):  # what is under way says more
          self._writer.close()
    finally:
      with contextlib.suppress(OSError):  # its folder may be no folder
        self._temporary.unlink(missing_ok=True)

  @contextlib.contextmanager
  def _failure_named(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      reason = os.strerror(error.errno) if error.errno else str(error)
      raise OSError(
        f"The scores cannot be written to {self._path}: {reason}; what was there is as it was."
      ) from error


def _array(values: Any) -> pa.Array:
  return values if isinstance(values, pa.Array) else pa.array(values)
