"""The schema of a table: what kind of thing each column is, and how its cells become numbers.

Learned from typical records, readable and editable as JSON, stored with the detector, so that every
process that scores encodes as training did. How kinds are guessed:

- "number": numbers, or text of which all cells are numbers.
- "boolean": true and false in one of the spellings of ``BOOLEANS``.
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
import re
from typing import Any

import numpy as np

from detector_jax import table

logger = logging.getLogger(__name__)

KINDS = ("number", "category", "boolean", "time", "elapsed", "drop")
MOST_CATEGORIES, ONE_HOT, MARKED = 100, 20, 0.05
TRUE, FALSE = ("true", "yes", "y", "t", "on"), ("false", "no", "n", "f", "off")
BOOLEANS = dict.fromkeys(TRUE, 1.0) | dict.fromkeys(FALSE, 0.0)
DAY = 86_400.0
_WHOLE = re.compile(r"-?\d+\.0+")


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
  def marked(self) -> bool:
    """Whether missing cells have a coordinate: where many are, it would be noise."""
    return 0.0 < self.missing <= MARKED


@dataclasses.dataclass(frozen=True)
class Schema:
  """The columns of a table, in the order of training.

  Attributes:
    columns: what is known of each, those that are left out among them.
  """

  columns: tuple[Column, ...]

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

    A missing cell is filled where some were missing in training, and marked where few were; else it
    is NaN, which whoever scores refuses by its place. A category that training had not is "other".

    Args:
      x: ``[n]`` records with named columns, see ``table.names_of``; or columns by name.
      strict: whether a cell that is not of its column's kind is an error; else it is NaN.

    Returns:
      float64 ``[n, len(features)]``.

    Raises:
      ValueError: a column is missing, or a cell is not of its column's kind; it is named.
    """
    columns = x if isinstance(x, Mapping) else columns_of(x)
    table.match(list(columns), self.wanted, extra=False)
    kept = [column for column in self.columns if column.kind != "drop"]
    parts = [_encoded(column, cells(columns[column.name]), strict) for column in kept]
    return np.concatenate(parts, axis=1)

  def to_json(self) -> list[dict[str, Any]]:
    """The columns as JSON has them, settings at their defaults left out."""
    defaults = {f.name: f.default for f in dataclasses.fields(Column)}
    return [
      {k: v for k, v in dataclasses.asdict(column).items() if v != defaults[k]}
      for column in self.columns
    ]

  @classmethod
  def from_json(cls, values: Any) -> "Schema":
    """The schema that ``to_json`` wrote.

    Raises:
      ValueError: it is none.
    """
    try:
      columns = tuple(
        Column(**value | {k: tuple(value.get(k, ())) for k in ("categories", "counts")})
        for value in values
      )
    except (TypeError, AttributeError) as error:
      raise ValueError(f"the schema is not a list of columns: {error}") from error
    for column in columns:
      numbers = (column.missing, column.fill, column.low or 0.0, column.high or 0.0)
      if column.kind not in KINDS or not all(isinstance(n, (int, float)) for n in numbers):
        raise ValueError(f"column {column.name!r} of the schema is of no known kind")
      if not all(isinstance(each, str) for each in (column.name, *column.categories)):
        raise ValueError(f"column {column.name!r} of the schema has names that are no text")
    return cls(columns)


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


def cells(values: Any) -> np.ndarray:
  """One column ``[n]``: float64 with NaN where it holds numbers alone, else objects with None."""
  if hasattr(values, "to_pylist"):  # pyarrow
    numeric = str(values.type).startswith(("int", "uint", "float", "double", "halffloat"))
    values = values.to_numpy(zero_copy_only=False) if numeric else values.to_pylist()
  elif hasattr(values, "isna") and not _is_plain(getattr(values, "dtype", None)):
    missing = np.asarray(values.isna())
    values = np.array(values, object)
    values[missing] = None
  found = values if isinstance(values, np.ndarray) else np.asarray(values, object)
  if _is_plain(found.dtype):
    return found.astype(np.float64)
  if found.dtype.kind == "M":
    found = found.astype("datetime64[us]")  # nanoseconds would become whole numbers
  result = np.empty(len(found), object)
  result[:] = [None if _is_missing(value) else value for value in found.tolist()]
  return result


def _is_plain(dtype: Any) -> bool:
  return isinstance(dtype, np.dtype) and dtype.kind in "uif"


def _is_missing(value: Any) -> bool:
  text = value.strip() if isinstance(value, str) else None
  return text in table.MISSING if text is not None else str(value) in ("None", "nan", "NaT", "<NA>")


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
      learned.append(_learned(name, cells(values), chosen.get(name, "auto")))
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
  missing = _missing(values)
  share = float(missing.mean())
  if guessed == "drop":
    return Column(name, "drop", share, reason=reason)
  if missing.all():
    raise ValueError(f"column {name!r} has no value at all: it cannot be a {guessed}")
  if guessed == "category":
    named = ["missing" if gone else _text(v) for v, gone in zip(values, missing, strict=True)]
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
  numbers = _numbers(name, guessed, values)
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
  missing = _missing(values)
  known = values[~missing]
  if not len(known):
    return "drop", "without any value"
  if values.dtype != object:
    counts = len(known) >= 20 and bool((np.diff(known) == 1.0).all())
    return ("drop", "counts the rows") if counts else ("number", "")
  if all(isinstance(each, (bool, np.bool_)) for each in known):
    return "boolean", ""
  texts = [_text(each) for each in known]
  if all(text.strip().lower() in BOOLEANS for text in texts):
    return "boolean", ""
  for kind, parse in (("number", table.number), ("time", seconds)):
    fine = [not np.isnan(parse(each if kind == "time" else _text(each))) for each in known]
    if all(fine):
      if kind == "number":
        return _guess(name, _numbers(name, kind, values))
      return kind, ""
    if sum(fine) >= 0.9 * len(known):
      row = int(np.flatnonzero(~missing)[fine.index(False)])
      raise ValueError(
        f"column {name!r} holds {_text(values[row])[:40]!r} in record {row} where nearly all "
        f"others are {kind}s: repair it, or set its kind"
      )
  different = len(set(texts))
  if different <= MOST_CATEGORIES and 2 * different <= len(texts):
    return "category", ""
  return "drop", f"text, {different:,} different values"


def _missing(values: np.ndarray) -> np.ndarray:
  if values.dtype != object:
    return np.isnan(values)
  return np.array([each is None for each in values], bool)


def _text(value: Any) -> str:
  """A category's name: whole numbers are the same text whatever type they have, 3.0 like 3."""
  text = str(value)
  return text[: text.index(".")] if _WHOLE.fullmatch(text) else text


def seconds(value: Any) -> float:
  """Seconds since 1970 of a datetime, date or ISO 8601 text, in UTC where it names no zone."""
  try:
    if isinstance(value, str):
      value = datetime.datetime.fromisoformat(value.strip())
    if isinstance(value, np.datetime64):
      return float(value.astype("datetime64[us]").astype(np.int64)) / 1e6
    if not isinstance(value, datetime.datetime):
      if not isinstance(value, datetime.date):
        return np.nan
      value = datetime.datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
      value = value.replace(tzinfo=datetime.UTC)
    return value.timestamp()
  except (ValueError, OverflowError):
    return np.nan


def _numbers(name: str, kind: str, values: np.ndarray, strict: bool = True) -> np.ndarray:
  """Cells as float64, NaN where they are missing.

  Raises:
    ValueError: a cell is not of that kind.
  """
  if values.dtype != object and kind == "number":
    return values
  missing = _missing(values)
  result = np.full(len(values), np.nan)
  for row in np.flatnonzero(~missing).tolist():
    value = values[row]
    if kind in ("time", "elapsed"):
      result[row] = seconds(value)
    elif kind == "boolean":
      flag = _text(value).strip().lower() if not isinstance(value, (bool, np.bool_)) else ""
      known = {"": float(value) if not flag else np.nan, "1": 1.0, "0": 0.0} | BOOLEANS
      result[row] = known.get(flag, np.nan)
    else:
      result[row] = table.number(_text(value)) if isinstance(value, str) else float(value)
  wrong = np.isnan(result) & ~missing
  if strict and wrong.any():
    row = int(wrong.argmax())
    raise ValueError(
      f"column {name!r} holds {_text(values[row])[:40]!r} in record {row}, no {kind}"
    )
  return result


def _encoded(column: Column, values: np.ndarray, strict: bool = True) -> np.ndarray:
  """The coordinates ``[n, len(features)]`` of one column."""
  missing = _missing(values)
  if column.kind == "category":
    places = {name: place for place, name in enumerate(column.categories)}
    texts = ["missing" if gone else _text(v) for v, gone in zip(values, missing, strict=True)]
    result = np.zeros((len(values), len(places) + 1))
    rows = np.arange(len(values))
    result[rows, [places.get(text, len(places)) for text in texts]] = 1.0
    if not column.missing:
      result[missing] = np.nan
    return result
  numbers = _numbers(column.name, column.kind, values, strict)
  if column.missing:
    numbers = np.where(missing, column.fill, numbers)
  parts = [numbers]
  if column.kind in ("time", "elapsed"):
    # 1970 began on a Thursday: four days on, weeks begin with a Monday.
    day, week = numbers / DAY, (numbers / DAY - 4.0) / 7.0
    parts = [turn(2.0 * np.pi * angle) for angle in (day, week) for turn in (np.sin, np.cos)]
    parts += [numbers - (column.low or 0.0)] if column.kind == "elapsed" else []
  if column.marked:
    parts.append(missing.astype(np.float64))
  return np.stack(parts, axis=1)
