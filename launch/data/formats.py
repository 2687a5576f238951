"""One reader per file format: from a file to columns of float64, not yet checked.

Places in a .csv are lines, counted from 1 as editors do; in other files rows, from 0 as NumPy does.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
import contextlib
import csv
import dataclasses
import logging
import os
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet
import scipy.io

from detector_jax import table
from detector_jax.table import is_number, listed, reason_of
from launch.data import columns
from launch.data.columns import Chosen, Columns, DataError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """The records of one file.

  Attributes:
    x: float64 ``[n, ...]``; from ``files.read_table`` finite and not empty.
    labels: ``[n]`` or None; from ``files.read_table`` int64, 1 = anomalous and 0 = typical.
    names: names of the columns of ``x``; columns without a name have their number in the file.
      None for records of more axes than one.
    named: whether the file names its columns.
    groups: ``[n]`` labels of what each record belongs to, or None.
  """

  x: np.ndarray
  labels: np.ndarray | None
  names: tuple[str, ...] | None
  named: bool
  groups: np.ndarray | None = None


def place(path: pathlib.Path, table: Table, row: int) -> str:
  """Where a record is, for a message: "line 3" of a .csv, "row 1" of other files."""
  if path.suffix.lower() != ".csv":
    return f"row {row}"
  for number, (line, _) in enumerate(_lines(path)):
    if number == row + table.named:
      return f"line {line}"
  raise IndexError(f"{path} has no record {row}.")


def checked_path(path: str | os.PathLike[str], endings: Collection[str]) -> pathlib.Path:
  """The path of a file that is there and not empty, and has one of the lower-case ``endings``.

  Raises:
    DataError: it is not.
  """
  path = pathlib.Path(path).expanduser()
  if path.suffix.lower() not in endings:
    raise DataError(
      f"{path} has an unknown ending {path.suffix!r}; known ones are {', '.join(endings)}."
    )
  if not path.is_file():
    raise DataError(f"There is no file {path}; check the name.")
  if not path.stat().st_size:
    raise DataError(f"{path} is empty; write it again.")
  return path


@contextlib.contextmanager
def damage_named(name: object, ending: str) -> Iterator[None]:
  """Makes whatever a parser raises over a damaged file a DataError.

  Args:
    name: of the file.
    ending: of the format, e.g. ".csv".
  """
  try:
    yield
  except DataError:
    raise
  except Exception as error:  # a damaged file makes its parser raise anything
    if "Object arrays cannot be loaded" in str(error):
      raise DataError(
        f"{name} holds Python objects, which are refused since loading them can run code; save an "
        "array of numbers."
      ) from error
    reason = reason_of(error)
    raise DataError(
      f"{name} cannot be read, it is damaged or not a {ending} file ({reason}); write it again."
    ) from error


def header(
  name: object,
  first: Sequence[str],
  choice: str = "auto",
  trained: Sequence[str] | None = None,
) -> tuple[list[str], bool]:
  """``detector_jax.table.header``, whose refusals become a ``DataError``."""
  try:
    return table.header(name, first, choice, trained)
  except ValueError as error:
    raise DataError(str(error)) from error


def read_csv(path: pathlib.Path, columns: Columns) -> Table:
  """Reads comma-separated UTF-8 text; see ``header`` for what its first line is taken for."""
  line, first = next(_lines(path), (0, []))
  names, named = header(path, first, columns.header)
  chosen = columns.of(path, names, named)
  types = dict.fromkeys(names, pa.string()) | {names[i]: pa.float64() for i in chosen.numeric}
  try:
    table = arrow_csv.read_csv(
      path,
      arrow_csv.ReadOptions(column_names=names, skip_rows=line if named else line - 1),
      convert_options=arrow_csv.ConvertOptions(column_types=types),
    )
  except pa.ArrowInvalid:
    _explain(path, names, named, chosen.numeric)
    raise
  return _from_columns(table, names, named, chosen)


def read_parquet(path: pathlib.Path, columns: Columns) -> Table:
  """Reads numeric columns; those that pandas stored as an index are left out."""
  with parquet.ParquetFile(path) as file:
    table = file.read()
  names = parquet_names(path, table.schema, [columns.label, columns.group])
  chosen = columns.of(path, names, True)
  check_numeric(path, table.schema, [names[i] for i in sorted(chosen.numeric)])
  return _from_columns(table.select(names), names, True, chosen)


def _from_columns(table: pa.Table, names: list[str], named: bool, chosen: Chosen) -> Table:
  """Features, labels and groups of the columns of a table."""
  kept, label, group = chosen

  def numbers(i: int) -> np.ndarray:
    return table.column(i).cast(pa.float64(), safe=False).to_numpy()

  x = np.stack([numbers(i) for i in kept], axis=1) if kept else np.zeros((len(table), 0))
  labels = None if label is None else numbers(label)
  groups = None
  if group is not None:  # an empty cell names no group
    labels_of = (None if each == "" else each for each in table.column(group).to_pylist())
    groups = np.array(list(labels_of), object)
  return Table(x, labels, tuple(names[i] for i in kept), named, groups)


def parquet_names(
  path: pathlib.Path, schema: pa.Schema, asked: Sequence[str | None] = ()
) -> list[str]:
  """Names of the columns of a .parquet file, without those that pandas stored as an index.

  An index that is ``asked`` for by name, as label or group, is one of them.

  Raises:
    DataError: there are none, or two are the same.
  """
  columns.check_unique(path, schema.names)
  index = {name for name in schema.names if name.startswith("__index_level_")}
  stored = schema.pandas_metadata or {}
  index |= {name for name in stored.get("index_columns", []) if isinstance(name, str)}
  names = [name for name in schema.names if name not in index or name in asked]
  if not names:
    raise DataError(f"{path} has no columns; write it again.")
  return names


def check_numeric(path: pathlib.Path, schema: pa.Schema, names: Sequence[str]) -> None:
  """Raises a DataError for the first of the named columns that does not hold numbers."""
  checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
  for name in names:
    kind = schema.field(name).type
    if not any(check(kind) for check in checks):
      raise DataError(
        f"Column {name!r} of {path} holds {kind}; encode it as numbers (labels as 0 typical, 1 "
        "anomalous) or remove it, or give --config.data.columns=auto."
      )


def read_npy(path: pathlib.Path, columns: Columns) -> Table:
  """Reads one array, without unpickling; ``[n, d]`` may hold columns of labels and groups."""
  with open(path, "rb") as file:
    values = _numeric(f"{path} holds", np.lib.format.read_array(file, allow_pickle=False))
  if values.ndim == 2:
    names = [str(i) for i in range(values.shape[1])]
    kept, label, group = columns.of(path, names, False)
    labels, groups = (None if i is None else values[:, i] for i in (label, group))
    x = values if len(kept) == len(names) else values[:, kept]
    return Table(x, labels, tuple(names[i] for i in kept), False, groups)
  if (columns.label and columns.required) or columns.group:
    raise DataError(
      f"{path} has shape {list(values.shape)}, and only [n, d] can hold a label column; save "
      "records x and labels y as .npz."
    )
  return Table(values, None, None, False)


def read_npz(path: pathlib.Path, columns: Columns) -> Table:
  """Reads the arrays x or X, y or ``label``, and ``group``, without unpickling."""
  with open(path, "rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
    return _from_arrays(path, archive, archive.files, columns)


def read_mat(path: pathlib.Path, columns: Columns) -> Table:
  """Reads the arrays x or X, y or ``label``, and ``group``, of a MATLAB file up to version 7."""
  try:
    arrays = scipy.io.loadmat(path)
  except NotImplementedError as error:
    raise DataError(f"{path} is a MATLAB 7.3 file; save it with the option -v7.") from error
  names = [name for name in arrays if not name.startswith("__")]
  return _from_arrays(path, arrays, names, columns)


READERS = {
  ".csv": read_csv,
  ".parquet": read_parquet,
  ".npy": read_npy,
  ".npz": read_npz,
  ".mat": read_mat,
}


def _lines(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
  """Line number and fields of every line that is not blank."""
  with open(path, newline="", encoding="utf-8-sig") as file:
    reader = csv.reader(file)
    for fields in reader:
      if fields:
        yield reader.line_num, fields


def _explain(path: pathlib.Path, names: list[str], named: bool, numeric: list[int]) -> None:
  """Raises a DataError for the first line that cannot be a record, if there is one."""
  number = -1
  for number, (line, fields) in enumerate(_lines(path)):
    if named and number == 0:
      continue
    if len(fields) != len(names):
      raise DataError(
        f"Line {line} of {path} has {len(fields)} fields where the first has {len(names)}; repair "
        "the line."
      )
    for i, (name, field) in enumerate(zip(names, fields, strict=True)):
      if i in numeric and not is_number(field):
        raise DataError(
          f"Column {name!r} of {path} holds text, {field[:40]!r} in line {line}; encode it as "
          "numbers (labels as 0 typical, 1 anomalous) or remove it, or give "
          "--config.data.columns=auto."
        )
  if number < named:
    raise DataError(f"{path} holds no records.")


def _from_arrays(
  path: pathlib.Path, arrays: Mapping[str, Any], names: list[str], columns: Columns
) -> Table:
  key = records_array(path, names, columns.label if columns.required else None)
  label, group = columns.label or "y", columns.group
  x = _numeric(f"Array {key!r} of {path} holds", arrays[key])
  labels = groups = None
  if label in names:
    labels = _numeric(f"Array {label!r} of {path} holds", arrays[label]).reshape(-1)
  if group:
    if group not in names:
      raise DataError(f"{path} has no array {group!r} of groups; it has {listed(names)}.")
    groups = np.asarray(arrays[group]).reshape(-1)
  of_columns = tuple(str(i) for i in range(x.shape[1])) if x.ndim == 2 else None
  return Table(x, labels, of_columns, False, groups)


def records_array(path: pathlib.Path, names: Sequence[str], label: str | None) -> str:
  """Name of the array of records among ``names``.

  Raises:
    DataError: there is none, or no array ``label`` although one is given.
  """
  key = next((name for name in ("x", "X") if name in names), None)
  if key is None:
    raise DataError(f"{path} has no array 'x' or 'X' of records; it has {listed(names)}.")
  if label and label not in names:
    raise DataError(f"{path} has no array {label!r} of labels; it has {listed(names)}.")
  return key


def _numeric(what: str, values: Any) -> np.ndarray:
  values = np.asarray(values)
  check_real(what, values.dtype)
  return values.astype(np.float64, copy=False)


def check_real(what: str, dtype: np.dtype) -> None:
  """Raises a DataError, which begins with ``what``, for values that are not real numbers."""
  if dtype.kind not in "buif":
    raise DataError(f"{what} {dtype}; save real numbers.")
