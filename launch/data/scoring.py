"""Records for scoring, read a piece at a time, and scores, written whole or not at all.

Every problem with an input is a ``DataError`` of one sentence.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import os
import pathlib
import sys
from types import TracebackType
from typing import Any, Self
import zipfile

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from detector_jax import atomic
from launch.data import formats
from launch.data.csv_pieces import csv_pieces
from launch.data.formats import DataError
from launch.data.pieces import Piece, problem, selected, unfit

STANDARD_INPUT = "-"
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
) -> Iterator[Piece]:
  """Reads the records of an input in pieces; memory does not grow with its length.

  - .csv, and "-" for standard input: as ``formats.read_csv`` reads it. A column that is not needed
    may hold anything, line ends in quotes too.
  - .parquet: as ``formats.read_parquet``, batch by batch.
  - .npy: memory-mapped, each piece anew. .npz: unpacked as it is read. Only arrays in Fortran order
    in an .npz, and .mat, are read whole.

  Args:
    source: a file, or "-".
    label: a column to leave out, by name or number; .npz and .mat: an array that must be there.
    trained: names of the columns that a detector was trained on: a file that names its columns is
      searched for them, in any order, see ``detector_jax.table.match``. None: all but the label.
    rows: rows per piece; a CSV input has pieces of about 8 MiB.
    header: whether a CSV input has one, see ``formats.header``.

  Raises:
    DataError: the input is missing, empty, damaged, of an unknown ending, or lacks a column.
  """
  if source == STANDARD_INPUT:
    name = "standard input"
    with formats.damage_named(name, ".csv"):
      yield from csv_pieces(sys.stdin.buffer, name, 0, label, trained, header)
    return
  path = formats.checked_path(source, READERS)
  ending = path.suffix.lower()
  with formats.damage_named(path, ending):
    if ending == ".csv":
      with open(path, "rb") as file:
        yield from csv_pieces(file, str(path), path.stat().st_size, label, trained, header)
    else:
      yield from ARRAYS[ending](path, label, trained, rows)


def _piece(
  path: pathlib.Path, x: np.ndarray, start: int, total: int, names: Sequence[str]
) -> Piece:
  """A piece of rows that are numbered; ``names`` of its columns, or none."""

  def explain(row: int) -> str:
    place = np.argwhere(unfit(x[row]))[0].tolist()
    where = f"column {names[place[0]]!r}" if names else f"place {place}"
    return f"row {start + row} of {path} holds {problem(x[row][tuple(place)])} in {where}"

  return Piece(x, start, (start + len(x)) / total, explain)


def _parquet(
  path: pathlib.Path, label: str | None, trained: Sequence[str] | None, rows: int
) -> Iterator[Piece]:
  with parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
    names = formats.parquet_names(path, file.schema_arrow)
    wanted = [names[i] for i in selected(path, names, True, label, trained)]
    formats.check_numeric(path, file.schema_arrow, wanted)
    total = file.metadata.num_rows
    if not total:
      raise DataError(f"{path} holds no records.")
    start = 0
    for batch in file.iter_batches(rows, columns=wanted):
      columns = [batch[name].cast(pa.float64(), safe=False) for name in wanted]
      x = np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)
      yield _piece(path, x, start, total, wanted)
      start += len(x)


def _npy(
  path: pathlib.Path, label: str | None, trained: Sequence[str] | None, rows: int
) -> Iterator[Piece]:
  whole = _mapped(path)
  if label and whole.ndim != 2:
    raise DataError(
      f"{path} has shape {list(whole.shape)}, and only [n, d] can hold a label column; save "
      "records x and labels y as .npz."
    )
  # Mapped anew for every piece: pages that were read stay in memory as long as their map does.
  parts = (np.array(_mapped(path)[i : i + rows]) for i in range(0, len(whole), rows))
  yield from _array_pieces(path, whole.shape, parts, label)


def _mapped(path: pathlib.Path) -> np.ndarray:
  """The array of a .npy file, memory-mapped, with at least one axis."""
  with open(path, "rb") as file:
    _, _, dtype = _array_header(file)
  formats.check_real(f"{path} holds", dtype)
  array = np.lib.format.open_memmap(path, mode="r")
  if array.ndim < 2:
    raise DataError(f"{path} has shape {list(array.shape)}; save records as [n, d].")
  return array


def _npz(
  path: pathlib.Path, label: str | None, trained: Sequence[str] | None, rows: int
) -> Iterator[Piece]:
  with zipfile.ZipFile(path) as archive:
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    key = formats.records_array(path, names, label)
    with archive.open(f"{key}.npy") as member:
      shape, fortran, dtype = _array_header(member)
      formats.check_real(f"Array {key!r} of {path} holds", dtype)
      if fortran:
        whole = np.frombuffer(member.read(), dtype).reshape(shape, order="F")
        parts = iter([whole])
      else:
        parts = _members(member, shape, dtype, rows)
      yield from _array_pieces(path, shape, parts, None)


def _array_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Shape, whether in Fortran order, and type of the array that a .npy stream begins."""
  version = np.lib.format.read_magic(file)
  if version == (1, 0):
    header = np.lib.format.read_array_header_1_0(file)
  else:
    header = np.lib.format.read_array_header_2_0(file)
  if header[2].hasobject:
    raise ValueError("Object arrays cannot be loaded")
  return header


def _members(
  member: Any, shape: tuple[int, ...], dtype: np.dtype, rows: int
) -> Iterator[np.ndarray]:
  row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
  for start in range(0, shape[0], rows):
    count = min(rows, shape[0] - start)
    data = member.read(count * row_bytes)
    yield np.frombuffer(data, dtype).reshape(count, *shape[1:])


def _mat(
  path: pathlib.Path, label: str | None, trained: Sequence[str] | None, rows: int
) -> Iterator[Piece]:
  del trained, rows
  x = formats.read_mat(path, formats.Columns(label)).x
  yield from _array_pieces(path, x.shape, iter([x]), None)


def _array_pieces(
  path: pathlib.Path, shape: tuple[int, ...], parts: Iterator[np.ndarray], label: str | None
) -> Iterator[Piece]:
  """Pieces of an array of that shape, of which ``parts`` gives some rows at a time."""
  if len(shape) < 2:
    raise DataError(f"{path} has shape {list(shape)}; save records as [n, d].")
  if not shape[0]:
    raise DataError(f"{path} holds no records.")
  names: list[str] = []
  columns: list[int] = []
  if len(shape) == 2:
    every = [str(i) for i in range(shape[1])]
    columns = selected(path, every, False, label, None)
    names = [every[i] for i in columns]
  start = 0
  for part in parts:
    x = part if len(columns) in (0, shape[1]) else part[:, columns]
    yield _piece(path, x, start, shape[0], names)
    start += len(x)


ARRAYS = {".parquet": _parquet, ".npy": _npy, ".npz": _npz, ".mat": _mat}
READERS = (".csv", *ARRAYS)


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
