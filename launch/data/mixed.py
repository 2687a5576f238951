"""Tables with columns of text, dates, booleans or missing cells: .csv and .parquet with names.

See ``detector_jax.schema`` for what becomes of them. Cells of a .csv are text until its schema, or
the first guess of one, says what they are: "007" stays a category where it is set to be one.
"""

from collections.abc import Iterator, Mapping
import os
import pathlib
import sys
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet
from pyarrow import csv as arrow_csv

from detector_jax import schema as schema_lib
from detector_jax import table
from detector_jax.schema import Schema
from launch.data import formats
from launch.data.columns import DataError, find_column
from launch.data.pieces import Piece, unfit
from launch.data.splits import Splits

ENDINGS = (".csv", ".parquet")
Path = str | os.PathLike[str]


def kinds_of(setting: str) -> dict[str, str]:
  """The kinds of columns that "auto" or "zip:category,id:drop" sets.

  Raises:
    DataError: a part that is no NAME:KIND.
  """
  if setting == "auto":
    return {}
  pairs = [part.strip().rpartition(":") for part in setting.split(",")]
  for name, _, kind in pairs:
    if not name or kind not in schema_lib.KINDS:
      raise DataError(
        f"data.columns must be auto, or NAME:KIND,... with a kind of "
        f"{', '.join(schema_lib.KINDS)}; got {setting!r}."
      )
  return {name: kind for name, _, kind in pairs}


def load_mixed(train: Path, test: Path | None, label: str, group: str, columns: str) -> Splits:
  """Training and, if given, test records of tables, encoded by the schema of the former.

  Args:
    train: .csv or .parquet of typical records; those whose label is 1 become ``negatives``.
    test: of records to test on; None or "": none.
    label: name of the label column, 1 = anomalous; "": none.
    group: name of the column that says what records belong to; "": none.
    columns: "auto", or kinds that are set: "zip:category,id:drop".

  Raises:
    DataError: a file or cell that cannot be used; all problems of the training file are told.
  """
  kinds = kinds_of(columns)
  read, labels, groups = _read(train, label, group, kinds, required=not test)
  typical = np.ones(_length(read), bool) if labels is None else labels == 0
  if not typical.any():
    raise DataError(f"All {len(typical)} records of {train} are labelled 1; give typical ones (0).")
  kept = {name: values.filter(pa.array(typical)) for name, values in read.items()}
  try:
    schema = schema_lib.learn(kept, kinds)
  except ValueError as error:
    raise DataError(f"{train}: {error}") from error
  x = _encoded(schema, read, train)
  name = f"{pathlib.Path(train).name}, {int(typical.sum())} typical records"
  splits: dict[str, Any] = {
    "feature_names": schema.features,
    "negatives": None if typical.all() else x[~typical],
    "groups": None if groups is None else groups[typical],
    "schema": schema,
  }
  if not test:
    return Splits(x[typical], description=name, **splits)
  kinds = {column.name: column.kind for column in schema.columns}
  tested, y_test, _ = _read(test, label, "", kinds, required=labels is None)
  x_test = _encoded(schema, tested, test)
  described = f"{name}; tested on {pathlib.Path(test).name}, {len(x_test)} records"
  return Splits(x[typical], x_test, y_test, description=described, **splits)


def read_mixed_pieces(source: str, schema: Schema, rows: int = 2**16) -> Iterator[Piece]:
  """The records of an input, encoded, in pieces; memory does not grow with its length.

  A cell that is not of its column's kind leaves its row without a score, as a missing one does
  where training had none.

  Args:
    source: .csv or .parquet with names, or "-" for CSV on standard input.
    schema: of the detector.
    rows: rows per piece of a .parquet; a CSV input has pieces of about 8 MiB.

  Raises:
    DataError: the input is missing, damaged, of another ending, or lacks a column.
  """
  if source == "-":
    with formats.damage_named("standard input", ".csv"):
      yield from _pieces("standard input", schema, _csv_batches(sys.stdin.buffer, schema), 0)
    return
  path = formats.checked_path(source, ENDINGS)
  ending = path.suffix.lower()
  with formats.damage_named(path, ending):
    if ending == ".csv":
      yield from _pieces(path, schema, _csv_batches(path, schema), path.stat().st_size)
      return
    with parquet.ParquetFile(path) as file:
      _check_there(path, file.schema_arrow.names, schema)
      batches = file.iter_batches(rows, columns=list(schema.wanted))
      total, done = file.metadata.num_rows, 0
      for batch in batches:
        yield _piece(path, schema, batch, done, (done + len(batch)) / total)
        done += len(batch)


def _csv_batches(source: Any, schema: Schema) -> Iterator[Any]:
  convert = _as_text(schema.wanted)
  reader = arrow_csv.open_csv(
    source,
    arrow_csv.ReadOptions(block_size=2**23),
    arrow_csv.ParseOptions(newlines_in_values=True),
    convert_options=convert,
  )
  _check_there(source, reader.schema.names, schema)
  yield from reader


def _as_text(names: Any) -> arrow_csv.ConvertOptions:
  return arrow_csv.ConvertOptions(
    column_types=dict.fromkeys(names, pa.string()),
    null_values=sorted(table.MISSING),
    strings_can_be_null=True,
    quoted_strings_can_be_null=True,
  )


def _check_there(source: Any, names: list[str], schema: Schema) -> None:
  what = str(source) if isinstance(source, (str, pathlib.Path)) else "standard input"
  try:
    table.match(names, schema.wanted, what, extra=False)
  except ValueError as error:
    raise DataError(str(error)) from error


def _pieces(name: Any, schema: Schema, batches: Iterator[Any], size: int) -> Iterator[Piece]:
  start = read = 0
  for batch in batches:
    read += batch.nbytes
    yield _piece(name, schema, batch, start, min(read / size, 1.0) if size else None)
    start += len(batch)
  if not start:
    raise DataError(f"{name} holds no records.")


def _piece(name: Any, schema: Schema, batch: Any, start: int, done: float | None) -> Piece:
  columns = {column: batch.column(column) for column in schema.wanted}
  x = schema.encode(_typed(columns, schema), strict=False)

  def explain(row: int) -> str:
    place = int(unfit(x[row]).argmax())
    column = next(c for c in schema.columns if schema.features[place] in c.features)
    found = columns[column.name][row].as_py()
    held = "nothing" if found is None else f"{str(found)[:40]!r}"
    return (
      f"row {start + row} of {name} holds {held} in column {column.name!r}, which training had "
      f"never: it is a {column.kind}"
    )

  return Piece(x, start, done, explain)


def _typed(columns: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
  """Columns of text as numbers, where the schema says so and every cell is one."""
  numbers = {column.name for column in schema.columns if column.kind == "number"}
  return {n: _as_numbers(values) if n in numbers else values for n, values in columns.items()}


def _as_numbers(values: Any) -> Any:
  """A column of text as float64, where every cell is a number; else as it is."""
  if not pa.types.is_string(values.type):
    return values
  try:
    return compute.cast(compute.utf8_trim_whitespace(values), pa.float64())
  except pa.ArrowInvalid:
    return values


def _read(
  path: Path, label: str, group: str, kinds: Mapping[str, str], required: bool = True
) -> tuple[dict[str, Any], np.ndarray | None, np.ndarray | None]:
  """Columns of a file by name, its labels and its groups."""
  path = formats.checked_path(path, ENDINGS)
  with formats.damage_named(path, path.suffix.lower()):
    if path.suffix.lower() == ".csv":
      names = arrow_csv.open_csv(path).schema.names
      parse = arrow_csv.ParseOptions(newlines_in_values=True)
      whole = arrow_csv.read_csv(path, parse_options=parse, convert_options=_as_text(names))
    else:
      with parquet.ParquetFile(path) as file:
        whole = file.read()
        names = formats.parquet_names(path, whole.schema, [label, group])
  try:
    table.check_unique(path, names)
  except ValueError as error:
    raise DataError(str(error)) from error
  if not len(whole):
    raise DataError(f"{path} holds no records.")
  place = find_column(path, names, label, "label", required)
  of = find_column(path, names, group, "group")
  columns = {name: whole.column(name) for i, name in enumerate(names) if i not in (place, of)}
  typed = {
    name: values if kinds.get(name, "number") not in ("number", "auto") else _as_numbers(values)
    for name, values in columns.items()
  }
  labels = None if place is None else _labels(path, names[place], whole.column(names[place]))
  groups = None if of is None else np.array(whole.column(names[of]).to_pylist(), object)
  return typed, labels, groups


def _labels(path: Path, name: str, values: Any) -> np.ndarray:
  """Labels as 0 and 1, in any spelling of a boolean.

  Raises:
    DataError: another value.
  """
  result = np.zeros(len(values), np.int64)
  for row, value in enumerate(values.to_pylist()):
    text = str(value).strip().lower().removesuffix(".0")
    known = {"0": 0, "1": 1} | {k: int(v) for k, v in schema_lib.BOOLEANS.items()}
    if text not in known:
      raise DataError(
        f"Label {name!r} of {path} is {str(value)[:40]!r} in record {row}; write 0 for typical and "
        "1 for anomalous records."
      )
    result[row] = known[text]
  return result


def _encoded(schema: Schema, columns: Mapping[str, Any], path: Path) -> np.ndarray:
  try:
    x = schema.encode(columns)
    table.check_finite(x, schema.features)
  except ValueError as error:
    raise DataError(f"{path}: {error}") from error
  return x


def _length(columns: Mapping[str, Any]) -> int:
  return len(next(iter(columns.values()), ()))
