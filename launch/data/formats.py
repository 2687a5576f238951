"""One reader per file format: from a file to columns of float64, not yet checked.

Places in a .csv are lines, counted from 1 as editors do; in other files rows, from 0 as NumPy does.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
import contextlib
import csv
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet
import scipy.io

MISSING = frozenset(arrow_csv.ConvertOptions().null_values)
LISTED = 20


class DataError(ValueError):
  """Data that cannot be used; the message says why and what to do, in one sentence."""


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """The records of one file.

  Attributes:
    x: float64 ``[n, ...]``; from ``files.read_table`` finite and not empty.
    labels: ``[n]`` or None; from ``files.read_table`` int64, 1 = anomalous and 0 = typical.
    names: names of the columns of ``x``; columns without a name have their number in the file.
      None for records of more axes than one.
    named: whether the file names its columns.
  """

  x: np.ndarray
  labels: np.ndarray | None
  names: tuple[str, ...] | None
  named: bool


def listed(names: Sequence[str]) -> str:
  """Names for a message, the first 20 of them."""
  if not names:
    return "nothing"
  more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
  return ", ".join(map(repr, names[:LISTED])) + more


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
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    raise DataError(
      f"{name} cannot be read, it is damaged or not a {ending} file ({reason}); write it again."
    ) from error


def header(name: object, first: Sequence[str]) -> tuple[list[str], bool]:
  """Names of the columns of a CSV input, and whether it names them itself.

  Args:
    name: of the input, for messages.
    first: fields of its first record; a header unless every one is a number or missing.

  Raises:
    DataError: there are no fields, or a column has no name or that of another.
  """
  if not first:
    raise DataError(f"{name} is empty; write it again.")
  named = not all(_is_number(field) for field in first)
  names = [field.strip() if named else str(i) for i, field in enumerate(first)]
  if "" in names:
    raise DataError(
      f"Column {names.index('')} of {name} has no name in the header; name it, or remove it if it "
      "is a row number."
    )
  _check_unique(name, names)
  return names, named


def read_csv(path: pathlib.Path, label: str | None, required: bool) -> Table:
  """Reads comma-separated UTF-8 text, with a header unless every first field is a number."""
  line, first = next(_lines(path), (0, []))
  names, named = header(path, first)
  try:
    table = arrow_csv.read_csv(
      path,
      arrow_csv.ReadOptions(column_names=names, skip_rows=line if named else line - 1),
      convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64())),
    )
  except pa.ArrowInvalid:
    _explain(path, names, named)
    raise
  values = np.stack([column.to_numpy() for column in table.columns], axis=1)
  return _split_label(path, values, names, named, label, required)


def read_parquet(path: pathlib.Path, label: str | None, required: bool) -> Table:
  """Reads numeric columns; an index that pandas stored without a name is left out."""
  with parquet.ParquetFile(path) as file:
    table = file.read()
  names = parquet_names(path, table.schema)
  check_numeric(path, table.schema, names)
  columns = [table[name].cast(pa.float64(), safe=False).to_numpy() for name in names]
  return _split_label(path, np.stack(columns, axis=1), names, True, label, required)


def parquet_names(path: pathlib.Path, schema: pa.Schema) -> list[str]:
  """Names of the columns of a .parquet file, without an index that pandas stored.

  Raises:
    DataError: there are none, or two are the same.
  """
  _check_unique(path, schema.names)
  names = [name for name in schema.names if not name.startswith("__index_level_")]
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
        "anomalous) or remove it."
      )


def read_npy(path: pathlib.Path, label: str | None, required: bool) -> Table:
  """Reads one array, without unpickling; ``[n, d]`` may hold a label column."""
  with open(path, "rb") as file:
    values = _numeric(f"{path} holds", np.lib.format.read_array(file, allow_pickle=False))
  if values.ndim == 2:
    names = [str(i) for i in range(values.shape[1])]
    return _split_label(path, values, names, False, label, required)
  if label and required:
    raise DataError(
      f"{path} has shape {list(values.shape)}, and only [n, d] can hold a label column; save "
      "records x and labels y as .npz."
    )
  return Table(values, None, None, False)


def read_npz(path: pathlib.Path, label: str | None, required: bool) -> Table:
  """Reads the arrays x or X, and y or ``label``, without unpickling."""
  with open(path, "rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
    return _from_arrays(path, archive, archive.files, label, required)


def read_mat(path: pathlib.Path, label: str | None, required: bool) -> Table:
  """Reads the arrays x or X, and y or ``label``, of a MATLAB file up to version 7."""
  try:
    arrays = scipy.io.loadmat(path)
  except NotImplementedError as error:
    raise DataError(f"{path} is a MATLAB 7.3 file; save it with the option -v7.") from error
  names = [name for name in arrays if not name.startswith("__")]
  return _from_arrays(path, arrays, names, label, required)


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


def _is_number(field: str) -> bool:
  """Whether a field is a number or stands for a missing one."""
  try:
    float(field)
  except ValueError:
    return field.strip() in MISSING
  return True


def _explain(path: pathlib.Path, names: list[str], named: bool) -> None:
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
    for name, field in zip(names, fields, strict=True):
      if not _is_number(field):
        raise DataError(
          f"Column {name!r} of {path} holds text, {field[:40]!r} in line {line}; encode it as "
          "numbers (labels as 0 typical, 1 anomalous) or remove it."
        )
  if number < named:
    raise DataError(f"{path} holds no records.")


def _from_arrays(
  path: pathlib.Path,
  arrays: Mapping[str, Any],
  names: list[str],
  label: str | None,
  required: bool,
) -> Table:
  key = records_array(path, names, label if required else None)
  label = label or "y"
  x = _numeric(f"Array {key!r} of {path} holds", arrays[key])
  labels = None
  if label in names:
    labels = _numeric(f"Array {label!r} of {path} holds", arrays[label]).reshape(-1)
  columns = tuple(str(i) for i in range(x.shape[1])) if x.ndim == 2 else None
  return Table(x, labels, columns, False)


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


def _split_label(
  path: pathlib.Path,
  values: np.ndarray,
  names: list[str],
  named: bool,
  label: str | None,
  required: bool,
) -> Table:
  column = label_column(path, names, label, required)
  if column is None:
    return Table(values, None, tuple(names), named)
  kept = tuple(names[:column] + names[column + 1 :])
  return Table(np.delete(values, column, axis=1), values[:, column], kept, named)


def label_column(
  path: object, names: Sequence[str], label: str | None, required: bool = True
) -> int | None:
  """Number of the column that ``label`` names, by name or by number; None where there is none.

  Raises:
    DataError: there is none although ``label`` is given and ``required``.
  """
  if not label:
    return None
  if label in names:
    return list(names).index(label)
  number = int(label) if label.removeprefix("-").isdecimal() else len(names)
  if -len(names) <= number < len(names):
    return number % len(names)
  if required:
    raise DataError(f"{path} has no label column {label!r}; it has {listed(names)}.")
  return None


def _check_unique(path: object, names: Sequence[str]) -> None:
  if len(set(names)) < len(names):
    twice = next(name for name in names if list(names).count(name) > 1)
    raise DataError(f"{path} has two columns named {twice!r}; rename one.")
