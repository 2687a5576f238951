"""One reader per file format: from a file to columns of float64, not yet checked.

Places in a .csv are lines, counted from 1 as editors do; in other files rows, from 0 as NumPy does.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
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


def read_csv(path: pathlib.Path, label: str | None, required: bool) -> Table:
  """Reads comma-separated UTF-8 text, with a header unless every first field is a number."""
  line, first = next(_lines(path), (0, []))
  if not first:
    raise DataError(f"{path} is empty; write it again.")
  named = not all(_is_number(field) for field in first)
  names = [field.strip() if named else str(i) for i, field in enumerate(first)]
  if "" in names:
    raise DataError(
      f"Column {names.index('')} of {path} has no name in the header; name it, or remove it if it "
      "is a row number."
    )
  _check_unique(path, names)
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
  _check_unique(path, table.column_names)
  names = [name for name in table.column_names if not name.startswith("__index_level_")]
  if not names:
    raise DataError(f"{path} has no columns; write it again.")
  checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
  for name in names:
    kind = table.schema.field(name).type
    if not any(check(kind) for check in checks):
      raise DataError(
        f"Column {name!r} of {path} holds {kind}; encode it as numbers (labels as 0 typical, 1 "
        "anomalous) or remove it."
      )
  columns = [table[name].cast(pa.float64(), safe=False).to_numpy() for name in names]
  return _split_label(path, np.stack(columns, axis=1), names, True, label, required)


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
  key = next((name for name in ("x", "X") if name in names), None)
  if key is None:
    raise DataError(f"{path} has no array 'x' or 'X' of records; it has {listed(names)}.")
  if label and label not in names and required:
    raise DataError(f"{path} has no array {label!r} of labels; it has {listed(names)}.")
  label = label or "y"
  x = _numeric(f"Array {key!r} of {path} holds", arrays[key])
  labels = None
  if label in names:
    labels = _numeric(f"Array {label!r} of {path} holds", arrays[label]).reshape(-1)
  columns = tuple(str(i) for i in range(x.shape[1])) if x.ndim == 2 else None
  return Table(x, labels, columns, False)


def _numeric(what: str, values: Any) -> np.ndarray:
  values = np.asarray(values)
  if values.dtype.kind not in "buif":
    raise DataError(f"{what} {values.dtype}; save real numbers.")
  return values.astype(np.float64, copy=False)


def _split_label(
  path: pathlib.Path,
  values: np.ndarray,
  names: list[str],
  named: bool,
  label: str | None,
  required: bool,
) -> Table:
  column = None if label is None else _column(names, label)
  if column is None:
    if label and required:
      raise DataError(f"{path} has no label column {label!r}; it has {listed(names)}.")
    return Table(values, None, tuple(names), named)
  kept = tuple(names[:column] + names[column + 1 :])
  return Table(np.delete(values, column, axis=1), values[:, column], kept, named)


def _column(names: list[str], label: str) -> int | None:
  if label in names:
    return names.index(label)
  try:
    number = int(label)
  except ValueError:
    return None
  return number % len(names) if -len(names) <= number < len(names) else None


def _check_unique(path: pathlib.Path, names: list[str]) -> None:
  if len(set(names)) < len(names):
    twice = next(name for name in names if names.count(name) > 1)
    raise DataError(f"{path} has two columns named {twice!r}; rename one.")
