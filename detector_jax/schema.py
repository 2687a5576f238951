"""The schema of a table: what kind of thing each column is, and how its cells become numbers.

Learned from typical records, readable and editable as JSON, stored with the detector, so that every
process that scores encodes as training did. How kinds are guessed:

- "number": numbers, or text of which all cells are numbers.
- "boolean": true and false in one of the spellings of ``cells.BOOLEANS``.
- "time": datetimes, or text that is ISO 8601 in every cell.
- "category": text of at most ``MOST_CATEGORIES`` different values, each twice in the mean or more.
- "drop": what no boundary can be learned from: whole numbers that count the rows (an identifier),
  other text, and columns without any value. They are named in a warning.

Text of which most cells, but not all, are numbers or times is refused: it is a column with errors.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import logging
from typing import Any

import numpy as np

from detector_jax import cells, imputation, table

logger = logging.getLogger(__name__)

KINDS = ("number", "category", "boolean", "time", "elapsed", "drop")
MOST_CATEGORIES, ONE_HOT, MARKED = 100, 20, 0.05
DAY = 86_400.0


@dataclasses.dataclass(frozen=True)
class Column:
  """What is known of one column.

  Attributes:
    name: its name.
    kind: one of ``KINDS``. "elapsed", which is never guessed, is a time as seconds since the
      earliest training record, beside what "time" gives: every later record then lies beyond all
      training records.
    missing: share of the training cells that are missing.
    fill: stands for a missing number, boolean or time: the median, or the more frequent one.
    low: smallest training value (of a time: seconds since 1970).
    high: largest training value.
    categories: those with a coordinate of their own, most frequent first.
    counts: how many training records have each.
    others: training records of categories beyond the ``ONE_HOT`` most frequent.
    reason: of "drop": why.
  """

  name: str
  kind: str
  missing: float = 0.0
  fill: float = 0.0
  low: float | None = None
  high: float | None = None
  categories: tuple[str, ...] = ()
  counts: tuple[int, ...] = ()
  others: int = 0
  reason: str = ""

  @property
  def features(self) -> tuple[str, ...]:
    """Names of the coordinates that the column becomes."""
    name = self.name
    if self.kind == "drop":
      return ()
    if self.kind == "category":
      return (*(f"{name}={each}" for each in self.categories), f"{name}=other")
    circles = tuple(f"{name} {part}" for part in ("day sin", "day cos", "week sin", "week cos"))
    found = {"time": circles, "elapsed": (*circles, f"{name} elapsed")}.get(self.kind, (name,))
    return (*found, f"{name} missing") if self.marked else found

  @property
  def filled(self) -> bool:
    """Whether a missing cell stands for a number that the others of its record foretell."""
    return self.missing > 0.0 and self.kind not in ("category", "drop")

  @property
  def marked(self) -> bool:
    """Whether missing cells have a coordinate: where many are, it would be noise."""
    return 0.0 < self.missing <= MARKED

  def describe(self) -> str:
    """What is known of it in words."""
    if self.kind == "drop":
      return f"left out{f', {self.reason}' if self.reason else ''}"
    if self.kind == "category":
      known = ", ".join(self.categories[:5]) + (", ..." if len(self.categories) > 5 else "")
      others = " and others" if self.others else ""
      words = f"category of {len(self.categories)}{others} ({known})"
    elif self.kind == "boolean":
      often = "always" if self.low == self.high else "mostly"
      words = f"boolean, {often} {'true' if self.fill else 'false'}"
    elif self.kind in ("time", "elapsed"):
      span = (self.low or 0.0, self.high or 0.0)
      ends = [datetime.datetime.fromtimestamp(seconds, datetime.UTC) for seconds in span]
      words = f"{self.kind} from {ends[0]:%Y-%m-%d %H:%M} to {ends[1]:%Y-%m-%d %H:%M}"
    else:
      low, high = (cells.number(end or 0.0) for end in (self.low, self.high))
      words = f"{self.kind} from {low} to {high}"
    return words + (f", {self.missing:.1%} missing" if self.missing else "")


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

  @property
  def wanted(self) -> tuple[str, ...]:
    """Names of the columns that scoring needs."""
    return tuple(column.name for column in self.columns if column.kind != "drop")

  def encode(self, x: Any, *, strict: bool = True) -> np.ndarray:
    """Records as numbers.

    A missing cell is filled where some were missing in training, by what the other cells of the
    record lead one to expect (see ``imputation``), and marked where few were; else it is NaN, which
    whoever scores refuses by its place. A category that training had not is "other".

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
    parts = [_encoded(column, cells.read(columns[column.name]), strict) for column in kept]
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
        Column(**value | {k: tuple(value.get(k, ())) for k in ("categories", "counts")})
        for value in (values if filling is None else values["columns"])
      )
    except (TypeError, AttributeError, KeyError) as error:
      raise ValueError(f"the schema is not a list of columns: {error}") from error
    for column in columns:
      numbers = (column.missing, column.fill, column.low or 0.0, column.high or 0.0)
      if column.kind not in KINDS or not all(isinstance(n, (int, float)) for n in numbers):
        raise ValueError(f"column {column.name!r} of the schema is of no known kind")
      if not all(isinstance(each, str) for each in (column.name, *column.categories)):
        raise ValueError(f"column {column.name!r} of the schema has names that are no text")
    learned = cls(columns)
    if filling is None:
      return learned
    model = imputation.FactorModel.from_json(filling, len(learned.features))
    return dataclasses.replace(learned, imputer=model)


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
    kinds: column -> one of ``KINDS``, where the guess is to be another.

  Raises:
    ValueError: columns that are not there or kinds that do not suit, all of them in one message; or
      nothing is left to learn from.
  """
  columns, chosen = (x if isinstance(x, Mapping) else columns_of(x)), dict(kinds or {})
  problems = [f"there is no column {name!r}" for name in chosen if name not in columns]
  problems += [
    f"column {name!r} cannot be {kind!r}, one of {', '.join(KINDS)}"
    for name, kind in chosen.items()
    if kind not in KINDS
  ]
  learned = []
  for name, values in columns.items():
    try:
      learned.append(_learned(name, cells.read(values), chosen.get(name, "auto")))
    except ValueError as error:
      problems.append(str(error).rstrip("."))
  if problems:
    raise ValueError("; ".join(problems)[:1].upper() + "; ".join(problems)[1:] + ".")
  dropped = [column for column in learned if column.kind == "drop" and column.reason]
  if dropped:
    told = ", ".join(f"{column.name!r} ({column.reason})" for column in dropped)
    logger.warning("Left out %s; set the kind of a column that is to count.", told)
  schema = Schema(tuple(learned))
  if len(set(schema.features)) < len(schema.features):
    twice = next(name for name in schema.features if schema.features.count(name) > 1)
    raise ValueError(f"Two coordinates would be named {twice!r}; rename a column.")
  if not schema.features:
    raise ValueError("No column is left to learn from; set the kinds of those that are to count.")
  if any(column.filled for column in learned):
    return dataclasses.replace(schema, imputer=imputation.fit(*schema.encode_gaps(columns)))
  return schema


def checked_kinds(kinds: Any) -> dict[str, str]:
  """The kinds that a user sets, "auto" none; a ValueError where it is neither."""
  if isinstance(kinds, Mapping) or (isinstance(kinds, str) and kinds == "auto"):
    return {} if isinstance(kinds, str) else dict(kinds)
  raise ValueError(f'columns must be "auto" or say the kind of columns by name, got {kinds!r}.')


def _learned(name: str, values: np.ndarray, kind: str) -> Column:
  """One column's part of the schema."""
  if kind == "drop":
    return Column(name, "drop")
  guessed, reason = (kind, "") if kind != "auto" else _guess(name, values)
  missing = cells.missing_in(values)
  share = float(missing.mean())
  if guessed == "drop":
    return Column(name, "drop", share, reason=reason)
  if missing.all():
    raise ValueError(f"column {name!r} has no value at all: it cannot be a {guessed}")
  if guessed == "category":
    named = [
      "missing" if gone else cells.text_of(v) for v, gone in zip(values, missing, strict=True)
    ]
    texts, counts = np.unique(named, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    order = order[texts[order] != "other"]  # what a category may be called, too
    kept = order[:ONE_HOT]
    return Column(
      name,
      "category",
      share,
      categories=tuple(texts[kept].tolist()),
      counts=tuple(counts[kept].tolist()),
      others=int(counts.sum() - counts[kept].sum()),
    )
  numbers = cells.numbers_in(name, guessed, values)
  known = numbers[~missing]
  fill = float(np.median(known))
  if guessed == "boolean":
    fill = float(np.round(known.mean()))
  return Column(name, guessed, share, fill, float(known.min()), float(known.max()))


def _guess(name: str, values: np.ndarray) -> tuple[str, str]:
  """The kind of a column, and why it is left out where it is.

  Raises:
    ValueError: most cells, but not all, are of one kind.
  """
  missing = cells.missing_in(values)
  known = values[~missing]
  if not len(known):
    return "drop", "without any value"
  if values.dtype != object:
    counts = len(known) >= 20 and bool((np.diff(known) == 1.0).all())
    return ("drop", "counts the rows") if counts else ("number", "")
  if all(isinstance(each, (bool, np.bool_)) for each in known):
    return "boolean", ""
  texts = [cells.text_of(each) for each in known]
  if all(text.strip().lower() in cells.BOOLEANS for text in texts):
    return "boolean", ""
  for kind, parse in (("number", table.number), ("time", cells.seconds_of)):
    fine = [not np.isnan(parse(each if kind == "time" else cells.text_of(each))) for each in known]
    if all(fine):
      if kind == "number":
        return _guess(name, cells.numbers_in(name, kind, values))
      return kind, ""
    if sum(fine) >= 0.9 * len(known):
      row = int(np.flatnonzero(~missing)[fine.index(False)])
      raise ValueError(
        f"column {name!r} holds {cells.text_of(values[row])[:40]!r} in record {row} where nearly "
        f"all others are {kind}s: repair it, or set its kind"
      )
  different = len(set(texts))
  if different <= MOST_CATEGORIES and 2 * different <= len(texts):
    return "category", ""
  return "drop", f"text, {different:,} different values"


def _encoded(
  column: Column, values: np.ndarray, strict: bool = True
) -> tuple[np.ndarray, np.ndarray]:
  """The coordinates ``[n, len(features)]`` of one column, and which of them are to be filled."""
  missing = cells.missing_in(values)
  if column.kind == "category":
    places = {name: place for place, name in enumerate(column.categories)}
    texts = [
      "missing" if gone else cells.text_of(v) for v, gone in zip(values, missing, strict=True)
    ]
    result = np.zeros((len(values), len(places) + 1))
    rows = np.arange(len(values))
    result[rows, [places.get(text, len(places)) for text in texts]] = 1.0
    if not column.missing:
      result[missing] = np.nan
    return result, np.zeros(result.shape, bool)
  numbers = cells.numbers_in(column.name, column.kind, values, strict)
  if column.missing:
    numbers = np.where(missing, column.fill, numbers)
  parts = [numbers]
  if column.kind in ("time", "elapsed"):
    # 1970 began on a Thursday: four days on, weeks begin with a Monday.
    day, week = numbers / DAY, (numbers / DAY - 4.0) / 7.0
    parts = [turn(2.0 * np.pi * angle) for angle in (day, week) for turn in (np.sin, np.cos)]
    parts += [numbers - (column.low or 0.0)] if column.kind == "elapsed" else []
  gaps = [missing & column.filled] * len(parts)
  if column.marked:
    parts.append(missing.astype(np.float64))
    gaps.append(np.zeros(len(missing), bool))
  return np.stack(parts, axis=1), np.stack(gaps, axis=1)
