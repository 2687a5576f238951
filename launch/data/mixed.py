"""Tables with columns of text, dates, booleans or missing cells: .csv and .parquet with names.

See ``detector_jax.schema`` for what becomes of them. Cells of a .csv are text until its schema, or
the first guess of one, says what they are: "007" stays a category where it is set to be one.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
import pathlib
import re
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from detector_jax import cells, notation
from detector_jax import schema as schema_lib
from detector_jax.dialect import Dialect
from detector_jax.schema import Schema
from detector_jax.table import unfit
from launch.data.formats import Columns, DataError, opened
from launch.data.formats.csv_text import plain_cells
from launch.data.formats.reader import Fault, Piece, joined
from launch.data.splits import Splits

Path = str | os.PathLike[str]
ROWS = 2**16  # per piece
_KINDS = "|".join(schema_lib.KINDS)
PAIR = re.compile(f"(.+):((?:{_KINDS})(?: .+)?)")  # a notation may have colons and commas, too
NEXT = re.compile(f",(?=[^,]+:(?:{_KINDS})(?:[ ,]|$))")


def kinds_of(setting: str) -> dict[str, str]:
  """The kinds of columns that "auto" or "zip:category,id:drop" sets.

  Raises:
    DataError: a part that is no NAME:KIND.
  """
  if setting == "auto":
    return {}
  parts = [PAIR.fullmatch(part.strip()) for part in re.split(NEXT, setting)]
  if None in parts:
    raise DataError(
      f"data.columns must be auto, or NAME:KIND,... with a kind of "
      f"{', '.join(schema_lib.KINDS)}; got {setting!r}."
    )
  return {part[1]: part[2] for part in parts if part is not None}


def load_mixed(
  train: Path,
  test: Path | None,
  label: str,
  group: str,
  columns: str,
  encoding: str = "utf-8",
  dialect: str = "auto",
) -> Splits:
  """Training and, if given, test records of tables, encoded by the schema of the former.

  Args:
    train: .csv or .parquet of typical records; those whose label is 1 become ``negatives``.
    test: of records to test on; None or "": none.
    label: name of the label column, 1 = anomalous; "": none.
    group: name of the column that says what records belong to; "": none.
    columns: "auto", or kinds that are set: "zip:category,id:drop".
    encoding: of a .csv.
    dialect: likewise, see ``detector_jax.dialect``.

  Raises:
    DataError: a file or cell that cannot be used; all problems of the training file are told.
  """
  kinds = kinds_of(columns)
  required = ("group",) if test else ("label", "group")
  wanted = Columns(label, group, raw=True, required=required, encoding=encoding, dialect=dialect)
  schema = _learned(train, wanted, kinds)
  x, labels, groups = _encoded(train, wanted, schema)
  typical = np.ones(len(x), bool) if labels is None else labels == 0
  name = f"{pathlib.Path(train).name}, {int(typical.sum())} typical records"
  splits: dict[str, Any] = {
    "feature_names": schema.features,
    "negatives": None if typical.all() else x[~typical],
    "groups": None if groups is None else groups[typical],
    "schema": schema,
  }
  if not test:
    return Splits(x[typical], description=name, **splits)
  wanted = Columns(
    label,
    raw=True,
    required=("label",) if labels is None else (),
    encoding=encoding,
    dialect=dialect,
  )
  x_test, y_test, _ = _encoded(test, wanted, schema)
  described = f"{name}; tested on {pathlib.Path(test).name}, {len(x_test)} records"
  return Splits(x[typical], x_test, y_test, description=described, **splits)


def read_mixed_pieces(
  source: str,
  schema: Schema,
  rows: int = ROWS,
  keep: Sequence[str] = (),
  encoding: str = "utf-8",
  dialect: str = "auto",
) -> Iterator[Piece]:
  """The records of an input, encoded, in pieces; memory does not grow with its length.

  A cell that is not of its column's kind leaves its record without a score, as a missing one does
  where training had none, and as a line of another number of fields does.

  Args:
    source: .csv or .parquet with names, or "-" for CSV on standard input.
    schema: of the detector.
    rows: rows per piece of a .parquet; a CSV input has pieces of about 8 MiB.
    keep: see ``Columns``.
    encoding: of a .csv.
    dialect: likewise, see ``detector_jax.dialect``.

  Raises:
    DataError: the input is missing, damaged, of another ending, or lacks a column.
  """
  wanted = Columns(raw=True, trained=schema.wanted, keep=keep, encoding=encoding, dialect=dialect)
  with opened(source, wanted) as reader:
    for piece in reader.pieces(rows):
      yield _encoded_piece(piece, schema, reader.decimal)


def _encoded_piece(piece: Piece, schema: Schema, decimal: str) -> Piece:
  """A piece of raw columns, which are those that ``schema`` wants, as numbers."""
  columns = dict(zip(schema.wanted, piece.raw, strict=True))
  plain = [column for column in schema.columns if not column.notation and column.name in columns]
  columns |= {column.name: _with_points(columns[column.name], decimal) for column in plain}
  numbers = {column.name for column in plain if column.kind in schema_lib.NUMBERS}
  typed = {n: _as_numbers(values) if n in numbers else values for n, values in columns.items()}
  x = schema.encode(typed, strict=False)
  refused = np.zeros(len(x), bool) if piece.refused is None else piece.refused
  x[refused] = np.nan

  def fault(row: int) -> Fault:
    if refused[row] or not (wrong := unfit(x[row])).any():
      return piece.fault(row)
    feature = schema.features[int(wrong.argmax())]
    column = next(c for c in schema.columns if feature in c.features)
    found = columns[column.name][row].as_py()
    held = "nothing" if found is None else f"{str(found)[:40]!r}"
    never = f"column {column.name!r}, which training had never: it is a {column.kind}"
    return Fault(piece.fault(row).place, held, never)

  return dataclasses.replace(piece, x=x, fault=fault)


def _learned(path: Path, wanted: Columns, kinds: Mapping[str, str]) -> Schema:
  """The schema of the typical records of a file.

  Raises:
    DataError: a record that is none, no typical ones, or a column of which no schema can be.
  """
  with opened(path, wanted) as reader:
    pieces = list(reader.pieces(ROWS))
    names, decimal = reader.names or (), reader.decimal
  for piece in pieces:
    piece.check()
  labels = [_labels(piece, wanted.label) for piece in pieces]
  typical = pa.chunked_array([pa.array(y == 0) for y in labels])
  if not compute.any(typical).as_py():
    raise DataError(f"All {len(typical)} records of {path} are labelled 1; give typical ones (0).")
  columns, kinds = {}, dict(kinds)
  for i, name in enumerate(names):
    values, kind = pa.chunked_array([piece.raw[i] for piece in pieces]), kinds.get(name, "auto")
    guessed = kind in ("auto", *schema_lib.NUMBERS)
    if guessed and (written := _notation(values.filter(typical), decimal)):
      kinds[name] = f"{kind.replace('auto', 'number')} {written}"
    elif " " not in kind:
      values = _with_points(values, decimal)
      values = _as_numbers(values) if guessed else values
    columns[name] = values.filter(typical)
  try:
    return schema_lib.learn(columns, kinds)
  except ValueError as error:
    raise DataError(f"{path}: {error}") from error


def _encoded(
  path: Path, wanted: Columns, schema: Schema
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
  """Records of a file as numbers, all of them finite, their labels and their groups."""
  wanted = dataclasses.replace(wanted, trained=schema.wanted)
  parts = []
  with opened(path, wanted) as reader:
    for raw in reader.pieces(ROWS):
      piece = _encoded_piece(raw, schema, reader.decimal)
      wrong = unfit(piece.x).any(axis=1)
      if wrong.any():
        raise piece.refuse(int(wrong.argmax()))
      labels = None if piece.labels is None else _labels(piece, wanted.label)
      parts.append((piece.x, labels, piece.groups))
  return tuple(joined(values) for values in zip(*parts, strict=True))


def _labels(piece: Piece, name: str | None) -> np.ndarray:
  """Labels as 0 and 1, in any spelling of a boolean; 0 where there are none.

  Raises:
    DataError: another value.
  """
  known = {"0": 0, "1": 1} | {k: int(v) for k, v in cells.BOOLEANS.items()}
  if piece.labels is None:
    return np.zeros(len(piece.raw[0]), np.int64)
  result = np.zeros(len(piece.labels), np.int64)
  for row, value in enumerate(piece.labels.to_pylist()):
    text = str(value).strip().lower().removesuffix(".0")
    if text not in known:
      raise DataError(
        f"Label {name!r} of {piece.name} is {str(value)[:40]!r} in {piece.fault(row).place}; write "
        "0 for typical and 1 for anomalous records."
      )
    result[row] = known[text]
  return result


def _with_points(values: Any, decimal: str) -> Any:
  """A column whose numbers, where it is of text, have points."""
  text = pa.types.is_string(values.type)
  return plain_cells(values, Dialect(decimal=decimal)) if text else values


def _notation(values: Any, decimal: str) -> str:
  """How a column of text in a file of decimal commas writes numbers that have more than these."""
  if decimal == "." or not pa.types.is_string(values.type):
    return ""
  texts = compute.unique(values).drop_null().to_pylist()
  if not any(set(".()") & set(text) or text.endswith("-") for text in texts):
    return ""
  if not np.isnan(notation.numbers_in(texts, "1.000,0")).any():
    return "1.000,0"
  try:
    return notation.of_numbers(texts)
  except ValueError:
    return ""


def _as_numbers(values: Any) -> Any:
  """A column of text as float64, where every cell is a number; else as it is."""
  if not pa.types.is_string(values.type):
    return values
  try:
    return compute.cast(compute.utf8_trim_whitespace(values), pa.float64())
  except pa.ArrowInvalid:
    return values
