"""The schema of a table: what kind of thing each column is, and how its cells become numbers.

Learned from typical records, readable and editable as JSON, stored with the detector, so that every
process that scores encodes as training did. How kinds are guessed:

- "number": numbers, or text of which all cells are numbers. "log", which is never guessed, is a
  number whose size counts, not its distance from others: it becomes ``asinh(x / unit)``, the
  logarithm of large numbers with their sign, and next to ``x / unit`` where they are small.
- "boolean": true and false in one of the spellings of ``cells.BOOLEANS``.
- "time": datetimes, or text that is ISO 8601 in every cell.
- Text of which all cells write numbers or times in one other way, such as 1.234,50 € or 24.12.2026,
  is numbers or times, too, see ``notation``.
- "category": text of at most 100 different values, each twice in the mean or more.
- "drop": what no boundary can be learned from: whole numbers that count the rows (an identifier),
  other text, and columns without any value. They are named in a warning.

Text of which most cells, but not all, are numbers or times is refused: it is a column with errors.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import logging
from typing import Any

import numpy as np

from detector_jax import cells, imputation, notation, table
from detector_jax.column import DAY, KINDS, NUMBERS, Column, encoded, learned

__all__ = ("DAY", "KINDS", "NUMBERS", "Column", "Schema", "checked_kinds", "columns_of", "learn")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Schema:
  """The columns of a table, in the order of training.

  Attributes:
    columns: what is known of each, those that are left out among them.
    imputer: what fills missing numbers from the other cells of a record; None where none were
      missing in training.
  """

  columns: tuple[Column, ...]
  imputer: imputation.FactorModel | None = dataclasses.field(default=None, compare=False)

  def __str__(self) -> str:
    """One line for each column."""
    return "\n".join(f"{column.name}: {column.describe()}" for column in self.columns)

  @property
  def features(self) -> tuple[str, ...]:
    """Names of all coordinates of an encoded record."""
    return tuple(feature for column in self.columns for feature in column.features)

  @functools.cached_property
  def groups(self) -> tuple[tuple[Column, tuple[int, ...]], ...]:
    """Columns that are not left out, each with the numbers of its coordinates."""
    kept = [column for column in self.columns if column.kind != "drop"]
    ends = np.cumsum([len(column.features) for column in kept]).tolist()
    return tuple(
      (column, tuple(range(end - len(column.features), end)))
      for column, end in zip(kept, ends, strict=True)
    )

  @functools.cached_property
  def owners(self) -> tuple[str, ...]:
    """Name of the column of each coordinate."""
    return tuple(column.name for column, places in self.groups for _ in places)

  @property
  def wanted(self) -> tuple[str, ...]:
    """Names of the columns that scoring needs."""
    return tuple(column.name for column in self.columns if column.kind != "drop")

  def encode(self, x: Any, *, strict: bool = True) -> np.ndarray:
    """Records as numbers.

    A missing cell is filled where some were missing in training, by what the other cells of the
    record lead one to expect (see ``imputation``), and marked where few were; else it is NaN, which
    whoever scores refuses by its place. A category that training did not have is one of its own,
    see ``Column.is_unknown``.

    Args:
      x: ``[n]`` records with named columns, see ``table.names_of``; or columns by name.
      strict: whether a cell that is not of its column's kind is an error; else it is NaN.

    Returns:
      float64 ``[n, len(features)]``.

    Raises:
      ValueError: a column is missing, or a cell is not of its column's kind; it is named.
    """
    coordinates, gaps = self.encode_gaps(x if isinstance(x, Mapping) else columns_of(x), strict)
    return coordinates if self.imputer is None else self.imputer.fill(coordinates, gaps)

  def encode_gaps(
    self, columns: Mapping[str, Any], strict: bool = True
  ) -> tuple[np.ndarray, np.ndarray]:
    """As ``encode``, with columns' own ``fill`` in gaps, and bool of the same shape: the gaps."""
    table.match(list(columns), self.wanted, extra=False)
    kept = [column for column in self.columns if column.kind != "drop"]
    parts = [encoded(column, cells.read(columns[column.name]), strict) for column in kept]
    coordinates, gaps = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
    return coordinates, gaps

  def to_json(self) -> Any:
    """The columns as JSON has them, settings at their defaults left out, beside the imputation."""
    defaults = {f.name: f.default for f in dataclasses.fields(Column)}
    columns = [
      {k: v for k, v in dataclasses.asdict(column).items() if v != defaults[k]}
      for column in self.columns
    ]
    if self.imputer is None:
      return columns
    return {"columns": columns, "imputation": self.imputer.to_json()}

  @classmethod
  def from_json(cls, values: Any) -> "Schema":
    """The schema that ``to_json`` wrote.

    Raises:
      ValueError: it is none.
    """
    filling = values.get("imputation") if isinstance(values, Mapping) else None
    try:
      columns = tuple(
        Column(**value | {k: tuple(value.get(k, ())) for k in ("categories", "counts", "rare")})
        for value in (values if filling is None else values["columns"])
      )
    except (TypeError, AttributeError, KeyError) as error:
      raise ValueError(f"the schema is not a list of columns: {error}") from error
    for column in columns:
      numbers = (column.missing, column.fill, column.unit, column.low or 0.0, column.high or 0.0)
      fine = all(isinstance(n, (int, float)) for n in numbers) and column.unit > 0
      if column.kind not in KINDS or not fine:
        raise ValueError(f"column {column.name!r} of the schema is of no known kind")
      if not all(isinstance(each, str) for each in (column.name, *column.categories, *column.rare)):
        raise ValueError(f"column {column.name!r} of the schema has names that are no text")
      if column.notation != "":
        notation.check(column.name, column.kind, column.notation)
    plain = cls(columns)
    if filling is None:
      return plain
    model = imputation.FactorModel.from_json(filling, len(plain.features))
    return dataclasses.replace(plain, imputer=model)


def columns_of(x: Any) -> dict[str, Any]:
  """The columns of a table by name; see ``table.names_of``.

  Raises:
    ValueError: it has no names, or a record lacks a column.
  """
  names = table.names_of(x)
  if names is None:
    raise ValueError("The records have no names; a schema is of named columns.")
  if isinstance(x, Sequence):
    for row, record in enumerate(x):
      if lacking := [name for name in names if name not in record]:
        raise ValueError(f"Record {row} lacks {table.listed(lacking)}; give every record a value.")
    return {name: [record[name] for record in x] for name in names}
  return {name: x[name] for name in names}


def learn(x: Any, kinds: Mapping[str, str] | None = None) -> Schema:
  """Learns the schema of a table of typical records.

  Args:
    x: ``[n]`` records with named columns, see ``table.names_of``; or columns by name.
    kinds: column -> one of ``KINDS``, where the guess is to be another; of numbers and times it
      may say how they are written, see ``notation``: "time %d/%m/%Y", "number 1.000,0 €".

  Raises:
    ValueError: columns that are not there or kinds that do not suit, all of them in one message; or
      nothing is left to learn from.
  """
  columns, chosen = (x if isinstance(x, Mapping) else columns_of(x)), dict(kinds or {})
  problems = [f"there is no column {name!r}" for name in chosen if name not in columns]
  problems += [
    f"column {name!r} cannot be {kind!r}, one of {', '.join(KINDS)}"
    for name, kind in chosen.items()
    if kind.partition(" ")[0] not in KINDS
  ]
  found = []
  for name, values in columns.items():
    try:
      found.append(learned(name, cells.read(values), chosen.get(name, "auto")))
    except ValueError as error:
      problems.append(str(error).rstrip("."))
  if problems:
    raise ValueError("; ".join(problems)[:1].upper() + "; ".join(problems)[1:] + ".")
  dropped = [column for column in found if column.kind == "drop" and column.reason]
  if dropped:
    told = ", ".join(f"{column.name!r} ({column.reason})" for column in dropped)
    logger.warning("Left out %s; set the kind of a column that is to count.", told)
  schema = Schema(tuple(found))
  if len(set(schema.features)) < len(schema.features):
    twice = next(name for name in schema.features if schema.features.count(name) > 1)
    raise ValueError(f"Two coordinates would be named {twice!r}; rename a column.")
  if not schema.features:
    raise ValueError("No column is left to learn from; set the kinds of those that are to count.")
  if any(column.filled for column in found):
    return dataclasses.replace(schema, imputer=imputation.fit(*schema.encode_gaps(columns)))
  return schema


def checked_kinds(kinds: Any) -> dict[str, str]:
  """The kinds that a user sets, "auto" none; a ValueError where it is neither."""
  if isinstance(kinds, Mapping) or (isinstance(kinds, str) and kinds == "auto"):
    return {} if isinstance(kinds, str) else dict(kinds)
  raise ValueError(f'columns must be "auto" or say the kind of columns by name, got {kinds!r}.')
