"""What values each column of typical records takes: a small summary that a detector keeps.

A column of a table may be several coordinates of a record (a category, a time, a number and its
mark of a missing cell); they are a group, which moves as a whole. Of each group a few typical
values are kept: quantiles of a number, the most frequent categories, times round the clock. No
record is kept, only values of single columns; of 100 numbers they are 2 kB.

Pictures and series have cells in the place of columns: blocks of a picture, stretches of a channel.
Their typical values are three quantiles, place by place: three records' worth.
"""

from collections.abc import Sequence
import dataclasses
import datetime
import functools
import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from detector_jax import batching, notation
from detector_jax.cells import number
from detector_jax.preprocessing import QUANTILE_ROWS, shifted
from detector_jax.program import flatten
from detector_jax.schema import DAY, NUMBERS, Column, Schema

QUANTILES = (0.01, 0.2, 0.5, 0.8, 0.99)
MIDDLE = 1.683  # from the 20 % to the 80 % quantile of a normal, in standard deviations
CELL_QUANTILES = (0.2, 0.5, 0.8)
BLOCKS, STRETCHES, CHANNELS = 8, 16, 16  # along each side, along the time; beyond them all in one
CELL_ROWS, CELL_VALUES = 2000, 2**18  # records that are looked at; values that are kept
FEW, MOST = 10, 21  # numbers of so few values are discrete; values kept of a group
DAMAGED = "The typical values of this detector are damaged; train it again."
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclasses.dataclass(frozen=True)
class Group:
  """The coordinates of one column.

  Attributes:
    name: of the column.
    places: numbers of its coordinates.
    column: what the schema knows of it, None without a schema.
  """

  name: str
  places: tuple[int, ...]
  column: Column | None = None

  @property
  def is_number(self) -> bool:
    """Whether it is a number, and not a category, a time or a boolean."""
    return self.column is None or self.column.kind in NUMBERS

  def number(self, coordinate: float) -> str:
    """A coordinate of a number as a reader of the table knows it."""
    value = np.array(coordinate, np.float64)
    if self.column is None:
      return number(float(value))
    beside = notation.unit(self.column.notation)
    return number(float(self.column.value(value))) + (f" {beside}" if beside else "")

  def words(self, values: np.ndarray) -> str:
    """Its values ``[len(places)]`` as a reader of the table knows them."""
    column = self.column
    if column is None:
      return self.number(values[0])
    if column.kind == "category":
      unknown = column.is_unknown(values[None])[0]
      return "unknown" if unknown else (*column.categories, "other")[int(np.argmax(values))]
    if column.marked and values[-1] > 0.5:
      return "missing"
    if column.kind == "elapsed":
      seconds = float(values[4]) + (column.low or 0.0)
      return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M}"
    if column.kind == "time":
      day, week = (np.arctan2(values[i], values[i + 1]) / (2.0 * np.pi) % 1.0 for i in (0, 2))
      minutes = round(float(day) * DAY / 60.0) % 1440
      return f"{DAYS[int(float(week) * 7.0 + 1e-4) % 7]} {minutes // 60:02d}:{minutes % 60:02d}"
    return self.number(values[0]) if self.is_number else str(values[0] > 0.5).lower()


def groups_of(schema: Schema | None, names: Sequence[str] | None, width: int) -> tuple[Group, ...]:
  """The columns of a record of ``width`` coordinates."""
  if schema is None:
    return tuple(Group(names[i] if names else f"column {i}", (i,)) for i in range(width))
  return tuple(Group(column.name, places, column) for column, places in schema.groups)


def cells_of(shape: tuple[int, ...]) -> tuple[Group, ...]:
  """The cells of records ``[height, width, channels]`` or ``[time, channels]``.

  Examples:
    >>> [(cell.name, cell.places) for cell in cells_of((17, 1))][:2]
    [('steps 0 to 0', (0,)), ('steps 1 to 1', (1,))]
    >>> len(cells_of((28, 28, 1))), cells_of((28, 28, 1))[9].name
    (64, 'rows 3 to 6, columns 3 to 6')
  """
  numbers, found = np.arange(int(np.prod(shape))).reshape(shape), []
  first = _parts(shape[0], BLOCKS if len(shape) == 3 else STRETCHES)
  second = _parts(shape[1], BLOCKS) if len(shape) == 3 else _channels(shape[1])
  for a in first:
    for b in second:
      if len(shape) == 3:
        name = f"rows {a.start} to {a.stop - 1}, columns {b.start} to {b.stop - 1}"
      else:
        one = f" of channel {b.start}" if len(second) > 1 else ""
        name = f"steps {a.start} to {a.stop - 1}{one}"
      found.append(Group(name, tuple(numbers[a, b].ravel().tolist())))
  return tuple(found)


def _parts(size: int, most: int) -> list[slice]:
  ends = np.linspace(0, size, min(size, most) + 1).astype(int).tolist()
  return [slice(*pair) for pair in itertools.pairwise(ends)]


def _channels(count: int) -> list[slice]:
  return _parts(count, count) if count <= CHANNELS else [slice(0, count)]


@dataclasses.dataclass(frozen=True)
class Typical:
  """Typical values, as the program of a detector takes them.

  Attributes:
    groups: the columns.
    values: float32 ``[levels, width]``: ``values[i, group.places]`` is the i-th typical value of a
      column, NaN where it has fewer.
    continuous: bool ``[width]``: coordinates that may take any value between.
    whole: bool ``[width]``: coordinates of numbers that were whole in all records.
    offset: float64 ``[width]``, see ``Detector.input_offset``.
  """

  groups: tuple[Group, ...]
  values: np.ndarray
  continuous: np.ndarray
  whole: np.ndarray
  offset: np.ndarray

  @classmethod
  def from_detector(cls, detector: Any) -> "Typical":
    """What a detector keeps.

    Raises:
      ValueError: it keeps none, or something else.
    """
    arrays, shape = flatten(detector.arrays), tuple(detector.input_shape)
    if "typical/values" not in arrays:
      raise ValueError(
        "This detector keeps no typical values to explain records with: an earlier release trained "
        "it, or its records are too large."
      )
    values, continuous = arrays["typical/values"], arrays.get("typical/continuous")
    if len(shape) > 1:
      if values.shape[1:] != shape or not np.isfinite(values).all():
        raise ValueError(DAMAGED)
      flat, none = values.reshape(len(values), -1), np.zeros(values[0].size)
      return cls(cells_of(shape), flat, none == 0.0, none != 0.0, none)
    fine = values.ndim == 2 and values.shape[1:] == shape and np.isfinite(values[0]).all()
    if not fine or continuous is None or continuous.shape != shape:
      raise ValueError(DAMAGED)
    whole = arrays.get("typical/whole", np.zeros(shape, bool))  # an earlier release wrote none
    if whole.shape != shape:
      raise ValueError(DAMAGED)
    groups = groups_of(detector.schema, detector.feature_names, shape[0])
    offset = np.broadcast_to(np.asarray(detector.input_offset or 0.0, np.float64), shape)
    return cls(groups, values, continuous.astype(bool), whole.astype(bool), offset)

  def numbers(self, x: np.ndarray) -> np.ndarray:
    """Coordinates ``[n, width]`` as the program takes them in the user's units, float64."""
    found = np.asarray(x, np.float64) + self.offset
    for group in self.groups:
      if group.column is not None and group.is_number:
        found[:, group.places[0]] = group.column.value(found[:, group.places[0]])
    return found

  def coordinates(self, numbers: np.ndarray) -> np.ndarray:
    """The reverse of ``numbers``, float32."""
    found = np.array(numbers, np.float64)
    for group in self.groups:
      if group.column is not None and group.is_number:
        found[:, group.places[0]] = group.column.coordinate(found[:, group.places[0]])
    return (found - self.offset).astype(np.float32)

  @functools.cached_property
  def candidates(self) -> tuple[np.ndarray, np.ndarray]:
    """Group and level of every typical value of every column, int64 ``[candidates]``, in order."""
    firsts = self.values[:, [group.places[0] for group in self.groups]]
    group, level = np.nonzero(np.isfinite(firsts).T)
    return group, level

  @functools.cached_property
  def member(self) -> np.ndarray:
    """Which coordinates a column is, bool ``[groups, width]``."""
    member = np.zeros((len(self.groups), self.values.shape[1]), bool)
    for place, group in enumerate(self.groups):
      member[place, list(group.places)] = True
    return member

  @functools.cached_property
  def low(self) -> np.ndarray:
    """float32 ``[width]``: the smallest value kept of each coordinate."""
    return np.nanmin(self.values, axis=0)

  @functools.cached_property
  def high(self) -> np.ndarray:
    """float32 ``[width]``: the largest."""
    return np.nanmax(self.values, axis=0)

  @functools.cached_property
  def scale(self) -> np.ndarray:
    """float64 ``[width]``: standard deviations of a normal with the same inner quantiles.

    The whole range over 4.65 where these are equal, as in a column that is nearly always 0.
    """
    levels = self.values[: len(QUANTILES)].astype(np.float64)
    inner = (levels[-2] - levels[1]) / MIDDLE if len(levels) == len(QUANTILES) else 0.0
    whole = (self.high.astype(np.float64) - self.low) / 4.65
    usable = self.continuous & (np.nan_to_num(inner) > 1e-3 * whole)
    return np.where(usable, inner, np.where(whole > 0, whole, 1.0))


def with_typical(detector: Any, x: batching.Records) -> Any:
  """A copy of a detector that keeps typical values of its training records ``[n, ...]``.

  Of more than 100,000 records, 2,000 of pictures and series, as many, evenly spread, are looked at.
  Nothing is kept of records of more than 87,000 values.
  """
  if x.ndim != 2:
    return _with_cells(detector, x)
  x = np.asarray(x)
  groups = groups_of(detector.schema, detector.feature_names, x.shape[1])
  x = x[:: max(1, -(-len(x) // QUANTILE_ROWS))]
  whole = np.zeros(x.shape[1], bool)
  for group in groups:
    known = x[:, group.places[0]]
    counts = (known == np.round(known)).all() if group.column is None else group.column.whole
    whole[group.places[0]] = group.is_number and counts
  x = shifted(x, detector.input_offset)
  parts = [_levels(x[:, group.places], group.column) for group in groups]
  values = np.full((max(len(rows) for rows, _ in parts), x.shape[1]), np.nan, np.float32)
  continuous = np.zeros(x.shape[1], bool)
  for group, (rows, smooth) in zip(groups, parts, strict=True):
    values[: len(rows), list(group.places)] = rows
    continuous[group.places[0]] = smooth
  offset = np.broadcast_to(np.asarray(detector.input_offset or 0.0, np.float64), x.shape[1:])
  typical = Typical(groups, values, continuous, whole, offset)
  numbers = typical.numbers(values)
  values = np.where(whole, typical.coordinates(np.round(numbers)), values)
  kept = {"values": values, "continuous": continuous, "whole": whole}
  arrays = {name: jnp.asarray(value) for name, value in kept.items()}
  return dataclasses.replace(detector, arrays={**detector.arrays, "typical": arrays})


def _with_cells(detector: Any, x: batching.Records) -> Any:
  """As ``with_typical``, of pictures and series ``[n, ...]``; other records have no cells."""
  if x.ndim not in (3, 4) or len(CELL_QUANTILES) * np.prod(x.shape[1:]) > CELL_VALUES:
    return detector
  rows = shifted(np.asarray(x[:: -(-len(x) // CELL_ROWS)]), detector.input_offset)
  values = jnp.asarray(np.quantile(rows, CELL_QUANTILES, axis=0), jnp.float32)
  return dataclasses.replace(detector, arrays={**detector.arrays, "typical": {"values": values}})


def _levels(x: np.ndarray, column: Column | None) -> tuple[np.ndarray, bool]:
  """Typical values of one column ``[n, places]``, and whether its first coordinate is a number."""
  kind = "number" if column is None else column.kind
  if kind == "category":
    rows, counts = np.unique(x, axis=0, return_counts=True)
    return rows[np.argsort(-counts, kind="stable")][:MOST], False
  if column is not None and column.marked and (x[:, -1] < 0.5).any():
    x = x[x[:, -1] < 0.5]
  if kind in ("time", "elapsed"):
    order = np.argsort(np.arctan2(x[:, 0], x[:, 1]), kind="stable")
    return x[order[np.linspace(0, len(x) - 1, min(MOST, len(x))).round().astype(int)]], False
  known = np.unique(x[:, 0])
  smooth = kind in NUMBERS and len(known) > FEW
  levels = np.quantile(x[:, 0], QUANTILES) if smooth else known
  rows = np.zeros((len(levels), x.shape[1]), np.float32)
  rows[:, 0] = levels
  return rows, smooth
