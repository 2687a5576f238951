"""One column of a schema: its kind, guessed or set, what is known of it, its cells as numbers."""

import dataclasses
import datetime
import itertools
import math
from typing import Any

import numpy as np

from detector_jax import cells, notation, table

KINDS = ("number", "log", "category", "boolean", "time", "elapsed", "drop")
NUMBERS = ("number", "log")
MOST_CATEGORIES, ONE_HOT, MARKED, MOST_RARE = 100, 20, 0.05, 1000
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
    whole: of a number: whether training had whole ones alone.
    unit: of "log": the median size of the training values that are not 0.
    fill: stands for a missing number, boolean or time: the median, or the more frequent one.
    low: smallest training value (of a time: seconds since 1970).
    high: largest training value.
    categories: those with a coordinate of their own, most frequent first.
    counts: how many training records have each.
    others: training records of categories beyond the ``ONE_HOT`` most frequent.
    rare: names of these, at most ``MOST_RARE``; where there are more of them, none: nobody can
      tell them from a category that training did not have then.
    reason: of "drop": why.
    notation: how its cells write numbers or times, see ``notation``; "" is as Python reads them.
  """

  name: str
  kind: str
  missing: float = 0.0
  whole: bool = False
  unit: float = 1.0
  fill: float = 0.0
  low: float | None = None
  high: float | None = None
  categories: tuple[str, ...] = ()
  counts: tuple[int, ...] = ()
  others: int = 0
  rare: tuple[str, ...] = ()
  reason: str = ""
  notation: str = ""

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

  def coordinate(self, values: np.ndarray) -> np.ndarray:
    """What numbers become."""
    return np.arcsinh(values / self.unit) if self.kind == "log" else values

  def value(self, coordinates: np.ndarray) -> np.ndarray:
    """The numbers that became these."""
    return self.unit * np.sinh(coordinates) if self.kind == "log" else coordinates

  def is_unknown(self, x: np.ndarray) -> np.ndarray:
    """Which of the cells of a category ``[n, len(features)]`` training did not have, bool ``[n]``.

    Such a cell is "other" where training had no others, and no category at all where it had some.
    """
    return x[:, -1] == 1.0 if not self.others else (x == 0.0).all(axis=1)

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
      beside = f" {unit}" if (unit := notation.unit(self.notation)) else ""
      scale = ", on a log scale" if self.kind == "log" else ""
      words = f"number from {low} to {high}{beside}{scale}"
    return words + (f", {self.missing:.1%} missing" if self.missing else "")


def learned(name: str, values: np.ndarray, kind: str) -> Column:
  """One column's part of the schema; a kind may be followed by a space and its notation."""
  kind, _, written = kind.partition(" ")
  if kind == "drop":
    return Column(name, "drop")
  guessed, reason = kind, ""
  if written:
    notation.check(name, kind, written)
  elif kind == "auto":
    guessed, reason, written = _guess(name, values)
  elif kind not in ("category", "boolean"):
    written = _notation(name, kind, values)
  missing = cells.missing_in(values)
  share = float(missing.mean())
  if guessed == "drop":
    return Column(name, "drop", share, reason=reason)
  if missing.all():
    raise ValueError(f"column {name!r} has no value at all: it cannot be a {guessed}")
  if guessed == "category":
    texts, counts = np.unique(cells.categories_in(values), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    kept = order[texts[order] != "other"][:ONE_HOT]  # what a category may be called, too
    rare = np.delete(texts, kept).tolist()
    return Column(
      name,
      "category",
      share,
      categories=tuple(texts[kept].tolist()),
      counts=tuple(counts[kept].tolist()),
      others=int(counts.sum() - counts[kept].sum()),
      rare=tuple(rare) if len(rare) <= MOST_RARE else (),
    )
  numbers = cells.numbers_in(name, guessed, values, written=written)
  known = numbers[~missing]
  fill = float(np.median(known))
  if guessed == "boolean":
    fill = float(np.round(known.mean()))
  low, high = float(known.min()), float(known.max())
  if guessed not in NUMBERS:
    return Column(name, guessed, share, fill=fill, low=low, high=high, notation=written)
  sizes = np.abs(known[known != 0.0])
  unit = float(np.median(sizes)) if guessed == "log" and len(sizes) else 1.0
  whole = bool((known == np.round(known)).all())
  return Column(name, guessed, share, whole, unit, fill, low, high, notation=written)


def _guess(name: str, values: np.ndarray) -> tuple[str, str, str]:
  """The kind of a column, why it is left out where it is, and its notation.

  Raises:
    ValueError: most cells, but not all, are of one kind.
  """
  missing = cells.missing_in(values)
  known = values[~missing]
  if not len(known):
    return "drop", "without any value", ""
  if values.dtype != object:
    counts = len(known) >= 20 and bool((np.diff(known) == 1.0).all())
    return ("drop", "counts the rows", "") if counts else ("number", "", "")
  if all(isinstance(each, (bool, np.bool_)) for each in known):
    return "boolean", "", ""
  if all(cells.text_of(each).strip().lower() in cells.BOOLEANS for each in known):
    return "boolean", "", ""
  few = len(known) - math.ceil(0.9 * len(known))
  for kind, parse in (("number", _as_number), ("time", cells.seconds_of)):
    wrong = (row for row, each in enumerate(known) if math.isnan(parse(each)))
    others = list(itertools.islice(wrong, few + 1))
    written = _notation(name, kind, values) if others else ""
    if (written or not others) and kind == "time":
      return kind, "", written
    if written or not others:
      guessed, reason, _ = _guess(name, cells.numbers_in(name, kind, values, written=written))
      return guessed, reason, written
    if len(others) <= few:
      row = int(np.flatnonzero(~missing)[others[0]])
      raise ValueError(
        f"column {name!r} holds {cells.text_of(values[row])[:40]!r} in record {row} where nearly "
        f"all others are {kind}s: repair it, or set its kind"
      )
  different = len({cells.text_of(each) for each in known})
  if different <= MOST_CATEGORIES and 2 * different <= len(known):
    return "category", "", ""
  return "drop", f"text, {different:,} different values", ""


def _as_number(value: Any) -> float:
  return table.number(value if isinstance(value, str) else str(value))


def _notation(name: str, kind: str, values: np.ndarray) -> str:
  """How a column of text writes numbers or times, "" where it does not, or as Python reads them.

  Raises:
    ValueError: nobody can tell which of two ways.
  """
  known = values[~cells.missing_in(values)]
  if values.dtype != object or not all(isinstance(each, str) for each in known):
    return ""
  guess = notation.of_numbers if kind in NUMBERS else notation.of_times
  try:
    return guess(list(dict.fromkeys(known)))
  except ValueError as error:
    raise ValueError(f"column {name!r} holds {known[0][:40]!r}, which {error}") from error


def encoded(
  column: Column, values: np.ndarray, strict: bool = True
) -> tuple[np.ndarray, np.ndarray]:
  """The coordinates ``[n, len(features)]`` of one column, and which of them are to be filled."""
  missing = cells.missing_in(values)
  if column.kind == "category":
    other = len(column.categories)
    places = dict.fromkeys(column.rare, other)
    places |= {name: place for place, name in enumerate(column.categories)}
    unknown = other + 1 if column.rare else other  # beyond the last: no category at all
    texts = cells.categories_in(values)
    result = np.zeros((len(values), other + 2))
    result[np.arange(len(values)), [places.get(text, unknown) for text in texts]] = 1.0
    if not column.missing:
      result[missing] = np.nan
    return result[:, :-1], np.zeros((len(values), other + 1), bool)
  numbers = cells.numbers_in(column.name, column.kind, values, strict, column.notation)
  if column.missing:
    numbers = np.where(missing, column.fill, numbers)
  parts = [column.coordinate(numbers)]
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
