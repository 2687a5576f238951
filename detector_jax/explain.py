"""Why a record is flagged: the fewest columns whose typical values make it pass.

The search of a boundary run backwards, from the record towards what is typical. It asks the score
alone, so that it explains any detector of rows of columns, live or read from its folder:

1. One column after the other is set to the typical value that lowers the score most, each of its
   typical values being tried (``typical.Typical``), until the detector calls the record typical.
2. Columns without which it still does are put back.
3. The numbers among the others move back towards the record as far as the threshold lets them, and
   then along it, against the gradient of the distance projected onto it, to the nearest point.

4. Columns that training had as whole numbers become whole ones.

Gradients of the score do not choose the columns: they are 0 where a value is clipped, that is where
a record is most anomalous, they are 0 of scores that are ranks, and they say nothing of categories.
Every move is checked by scoring.
"""

import abc
import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import batching
from detector_jax.program import scores_of
from detector_jax.typical import Group, Typical

MOST_COLUMNS = 8  # of one move
LIKELY = 16  # cells of a picture or series that are tried again once one has been set
CANDIDATES = 2048  # rows scored at a time while columns are tried
SLIDES = (1.0, 0.5, 0.2), (1.0, 1.03, 1.1)  # shares of a step taken back, and stretches after it
OUTWARD = (0, 1, 2, 5)  # whole numbers beyond the nearest that are tried
SHOWN = 3


class Described(abc.ABC):
  """What explanations of records ``x`` have in common: their words."""

  x: np.ndarray

  def describe(self) -> list[str]:
    """One text for each record: what is unusual, and with what it would pass."""
    return [self._words(row) for row in range(len(self.x))]

  def __str__(self) -> str:
    """One line for each record."""
    return "\n".join(f"record {row}: {text}" for row, text in enumerate(self.describe()))

  @abc.abstractmethod
  def _words(self, row: int) -> str:
    """The text of one record."""


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation(Described):
  """Why records are flagged, column by column.

  Attributes:
    groups: the columns, with the coordinates of each.
    x: float64 ``[n, width]``, the records as numbers.
    moved: float64 ``[n, width]``, each after the shortest move that was found: fewest columns
      first, then least distance. A record that is not flagged is not moved.
    changed: bool ``[n, columns]``, which columns the move changes.
    distance: ``[n]`` its length: the square root of the sum of squares over columns, numbers in
      standard deviations of typical values, any other change as 1.
    score: ``[n]`` before the move.
    moved_score: ``[n]`` after it.
    p_value: ``[n]`` after it, NaN of a detector that is not calibrated.
    flagged: bool ``[n]``, whether the detector calls the record anomalous.
    passes: bool ``[n]``, whether it calls the moved record typical.
    contribution: ``[n, columns]``, by how much the score falls when this column alone takes the
      best of its typical values (exact occlusion); below 0 where each of them raises it.
    order: int64 ``[n, columns]``, columns from the most to the least telling: those of the move as
      they were found, then the others by how much their typical values lower the score yet.
    low: ``[width]``, 1 % quantile of typical records, by coordinate.
    high: ``[width]``, their 99 % quantile.
  """

  groups: tuple[Group, ...]
  x: np.ndarray
  moved: np.ndarray
  changed: np.ndarray
  distance: np.ndarray
  score: np.ndarray
  moved_score: np.ndarray
  p_value: np.ndarray
  flagged: np.ndarray
  passes: np.ndarray
  contribution: np.ndarray
  order: np.ndarray
  low: np.ndarray
  high: np.ndarray

  @property
  def columns(self) -> tuple[str, ...]:
    """Names of the columns."""
    return tuple(group.name for group in self.groups)

  def _words(self, row: int) -> str:
    sure = "" if np.isnan(self.p_value[row]) else f" (p {self.p_value[row]:.2g})"
    if not self.flagged[row]:
      return f"typical{sure}"
    telling = [place for place in self.order[row].tolist() if self.changed[row, place]]
    if not telling:
      return "no typical value of any single column lowers its score"
    told = ", ".join(self._value(row, place) for place in telling[:SHOWN])
    if not self.passes[row]:
      return f"{told}; with typical values of {len(telling)} columns it would not pass yet"
    with_ = ", ".join(
      f"{self.groups[place].name} {self._words_of(self.moved, row, place)}" for place in telling
    )
    told += f", and {len(telling) - SHOWN} more columns" if len(telling) > SHOWN else ""
    return f"{told}; with {with_} it would pass{sure}"

  def _words_of(self, x: np.ndarray, row: int, place: int) -> str:
    group = self.groups[place]
    return group.words(x[row, list(group.places)])

  def _value(self, row: int, place: int) -> str:
    """A column's value and, of a number, what is typical."""
    group = self.groups[place]
    told = f"{group.name} {self._words_of(self.x, row, place)}"
    if not group.is_number:
      return told
    value, low, high = (each[group.places[0]] for each in (self.x[row], self.low, self.high))
    if value > high:
      return f"{told} (typical up to {group.number(high)})"
    if value < low:
      return f"{told} (typical from {group.number(low)})"
    span = f"{group.number(low)} to {group.number(high)}"
    return f"{told} (typical {span}, unusual beside the others)"


def explain(detector: Any, x: np.ndarray) -> Explanation:
  """Explains records; see ``Explanation``.

  The columns of a move are the fewest that a search which adds one at a time and takes back those
  that are not needed has found: at most 8, and no proof that fewer would not do. About five times
  the number of columns times one more than their number records are scored for each. Memory grows
  with the number of records: give a few thousand at a time.

  Args:
    detector: a ``Detector`` of rows of columns.
    x: float32 ``[n, width]``, as its program takes them.

  Raises:
    ValueError: the detector keeps no typical values.
  """
  typical = Typical.from_detector(detector)
  search = Search(detector, typical)
  score = search.score(x)
  flagged = score > np.float32(detector.threshold)
  moved, rank, rest, contribution = search.grow(x, score)
  needed = search.prune(x, moved, rank)
  nearer = search.slide(x, search.pull(x, moved, needed), needed)
  moved = search.settle(x, moved, nearer, needed)
  unneeded = np.isfinite(rank) & ~needed
  place = np.where(unneeded, rank + MOST_COLUMNS, np.where(needed, rank, np.inf))
  order = np.lexsort((-rest, place))
  offset = np.asarray(detector.input_offset or 0.0, np.float64)
  moved_score = search.score(moved)
  calibration = detector.calibration
  calibrated = calibration.scores.size > 0
  return Explanation(
    groups=typical.groups,
    x=x.astype(np.float64) + offset,
    moved=moved.astype(np.float64) + offset,
    changed=needed,
    distance=np.sqrt(np.sum(search.lengths(moved - x, needed) ** 2, axis=1)),
    score=score,
    moved_score=moved_score,
    p_value=calibration.p_value(moved_score) if calibrated else np.full(len(x), np.nan),
    flagged=flagged,
    passes=moved_score <= np.float32(detector.threshold),
    contribution=contribution,
    order=order,
    low=typical.low + offset,
    high=typical.high + offset,
  )


@functools.partial(jax.jit, static_argnums=0)
def _scan(
  program: Any, arrays: Any, member: jax.Array, values: jax.Array, x: jax.Array
) -> jax.Array:
  """Scores ``[batch, candidates]`` of ``x`` ``[batch, width]``, a column of each replaced."""
  rows = jnp.where(member[None], values[None], x[:, None])
  return program(arrays, rows.reshape(-1, x.shape[1]))["score"].reshape(x.shape[0], -1)


class Search:
  """The steps of the search, each for all records at once.

  Args:
    detector: whose score is asked.
    typical: what it keeps.
  """

  def __init__(self, detector: Any, typical: Typical):
    self._detector, self._typical = detector, typical
    group, level = typical.candidates
    self._level, self._starts = level, np.searchsorted(group, np.arange(len(typical.groups)))
    self._member = typical.member[group]
    self._values = np.where(self._member, typical.values[level], 0.0).astype(np.float32)
    # A hair below the threshold: the score of a record changes in its last digit with its batch.
    threshold = float(np.float32(detector.threshold))
    self._target = threshold - 1e-5 * abs(threshold)

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n]`` of ``x`` ``[n, width]``."""
    detector, records = self._detector, x.reshape(-1, *self._detector.input_shape)
    return batching.in_batches(
      lambda rows: scores_of(detector.program, detector.arrays, rows), records, detector.batch_size
    )

  def _scores_of(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, k]`` of ``x`` ``[n, k, width]``."""
    return self.score(x.reshape(-1, x.shape[-1])).reshape(x.shape[:2])

  def _best(self, x: np.ndarray, before: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Least score ``[n, columns]`` over the typical values of a column, and which gives it.

    Of pictures and series only the ``LIKELY`` cells with the least score ``before`` a move are
    tried again, and others are infinite: what a cell takes off a score seldom grows with a move.
    """
    detector, at_once = self._detector, max(1, CANDIDATES // len(self._level))
    if len(detector.input_shape) > 1:  # no more of them at once than are scored
      scores = np.full((len(x), len(self._level)), np.inf)
      for i, row in enumerate(x):
        likely = np.ones(len(self._level), bool)
        if before is not None:
          likely = np.isin(self._typical.candidates[0], np.argsort(before[i])[:LIKELY])
        rows = np.where(self._member[likely], self._values[likely], row)
        scores[i, likely] = self.score(rows)
    else:
      fixed = detector.program, detector.arrays, self._member, self._values
      scores = batching.in_batches(lambda rows: _scan(*fixed, rows), x, at_once)
    scores = np.where(np.isnan(scores), np.inf, scores)  # of a network that overflows there
    least = np.minimum.reduceat(scores, self._starts, axis=1)
    ends = np.append(self._starts[1:], scores.shape[1])
    spread = np.repeat(least, ends - self._starts, axis=1) == scores
    first = np.where(spread, np.arange(scores.shape[1]), scores.shape[1])
    return least, np.minimum.reduceat(first, self._starts, axis=1)

  def grow(
    self, x: np.ndarray, score: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sets columns to typical values until a record passes.

    Returns:
      The moved records; float ``[n, columns]``, when a column was set, infinite where it was not;
      by how much other typical values lower the score yet; and what they did at the start.
    """
    moved, now = x.copy(), score.astype(np.float64)
    least, which = self._best(x)
    contribution = score[:, None] - least
    rest, rank = contribution.copy(), np.full(least.shape, np.inf)
    rows = np.flatnonzero(score > np.float32(self._detector.threshold))
    least, which = least[rows], which[rows]
    for step in range(MOST_COLUMNS):
      free = np.where(np.isinf(rank[rows]), least, np.inf)
      column = free.argmin(axis=1)
      lower = free.min(axis=1, initial=np.inf) < now[rows]
      rows, column, chosen = rows[lower], column[lower], which[lower]
      if not len(rows):
        break
      each = np.arange(len(rows))
      candidate = chosen[each, column]
      moved[rows] = np.where(self._member[candidate], self._values[candidate], moved[rows])
      rank[rows, column] = step
      least, which = self._best(moved[rows], least[lower])
      # At its own value: what the scan says of it is the score of the record as it stands.
      now[rows] = free[lower].min(axis=1)
      rest[rows] = now[rows, None] - least
      going = now[rows] > self._target
      rows, least, which = rows[going], least[going], which[going]
    return moved, rank, rest, contribution

  def prune(self, x: np.ndarray, moved: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Puts back, in ``moved``, columns without which a record still passes; returns the others."""
    needed = np.isfinite(rank)
    count = needed.sum(axis=1)
    first = np.argsort(rank, axis=1, kind="stable")[:, :MOST_COLUMNS]
    for step in range(min(int(count.max(initial=0)), rank.shape[1])):
      rows = np.flatnonzero((step < count) & (needed.sum(axis=1) > 1))
      if not len(rows):
        continue
      column = first[rows, step]
      tried = np.where(self._typical.member[column], x[rows], moved[rows])
      fine = self.score(tried) <= self._target
      moved[rows[fine]] = tried[fine]
      needed[rows[fine], column[fine]] = False
    return needed

  def _free(self, needed: np.ndarray) -> np.ndarray:
    """Which coordinates ``[n, width]`` a move may take to any value."""
    member = self._typical.member.astype(np.float32)
    return (needed.astype(np.float32) @ member > 0) & self._typical.continuous

  def lengths(self, step: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """``[n, columns]``: how far moves ``step`` ``[n, width]`` take each column."""
    groups = self._typical.groups
    firsts = [group.places[0] for group in groups]
    numbers = np.array([group.is_number for group in groups])
    return np.where(numbers, np.abs(step[:, firsts]) / self._typical.scale[firsts], needed)

  def pull(self, x: np.ndarray, moved: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Takes the numbers of each move straight back, as far as the record passes."""
    rows = np.flatnonzero(self._free(needed).any(axis=1) & (self.score(moved) <= self._target))
    if not len(rows):
      return moved
    free = self._free(needed[rows])[:, None]
    start, end = x[rows][:, None], moved[rows][:, None]
    low, high = np.zeros(len(rows)), np.ones(len(rows))
    for _ in range(3):
      share = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, 9)
      tried = np.where(free, start + share[..., None] * (end - start), end).astype(np.float32)
      fine = self._scores_of(tried) <= self._target
      fine[:, -1] = True  # it passed before
      least = fine.argmax(axis=1)
      each = np.arange(len(rows))
      low, high = share[each, np.maximum(least - 1, 0)], share[each, least]
      best = tried[each, least]
    moved = moved.copy()
    moved[rows] = best
    return moved

  def slide(self, x: np.ndarray, moved: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Moves along the threshold to where a record that passes is nearest to what it was.

    The gradient of the score, by differences in the coordinates of the move, says which part of
    the move lowers the score; the other part is taken back.
    """
    free = self._free(needed)
    moved, scale = moved.copy(), self._typical.scale
    low = np.minimum(x, self._typical.low)
    high = np.maximum(x, self._typical.high)
    rows = np.flatnonzero((free.sum(axis=1) > 1) & (self.score(moved) <= self._target))
    for _ in range(6):
      if not len(rows):
        break
      slope = self._slope(moved[rows], free[rows])
      step = np.where(free[rows], (moved[rows] - x[rows]) / scale, 0.0)
      steep = np.sum(slope * step, axis=1) / np.maximum(np.sum(slope**2, axis=1), 1e-30)
      across = step - slope * steep[:, None]
      tried = np.stack([c * (step - s * across) for s, c in itertools.product(*SLIDES)], axis=1)
      at = np.clip(x[rows][:, None] + scale * tried, low[rows][:, None], high[rows][:, None])
      at = np.where(free[rows][:, None], at, moved[rows][:, None]).astype(np.float32)
      length = np.sum(((at - x[rows][:, None]) / scale) ** 2 * free[rows][:, None], axis=2)
      length = np.where(self._scores_of(at) <= self._target, length, np.inf)
      least = length.argmin(axis=1)
      better = length.min(axis=1) < 0.999 * np.sum(step**2, axis=1)
      moved[rows[better]] = at[better, least[better]]
      rows = rows[better]
    return moved

  def settle(
    self, x: np.ndarray, far: np.ndarray, moved: np.ndarray, needed: np.ndarray
  ) -> np.ndarray:
    """Gives whole numbers to columns of such: the nearest ones with which a record passes.

    They are the nearest, or up to ``OUTWARD`` farther from the record; where it passes with none of
    these, it is moved as far as in ``far``, whose numbers are typical values, and whole.
    """
    whole = self._free(needed) & self._typical.whole
    rows = np.flatnonzero(whole.any(axis=1) & (self.score(moved) <= self._target))
    if not len(rows):
      return moved
    own, found = self._typical.numbers(x[rows]), self._typical.numbers(moved[rows])
    sign, nearest = np.sign(found - own), np.round(found)
    outward = np.where(sign > 0, np.ceil(found), np.floor(found))
    nearest = np.where(sign * (nearest - own) > 0, nearest, outward)
    tries = [nearest, *(outward + more * sign for more in OUTWARD)]
    tried = [np.where(whole[rows], self._typical.coordinates(each), moved[rows]) for each in tries]
    at = np.stack([*tried, far[rows]], axis=1)
    fine = self._scores_of(at) <= self._target
    fine[:, -1] = True  # it passed before
    moved = moved.copy()
    moved[rows] = at[np.arange(len(rows)), fine.argmax(axis=1)]
    return moved

  def _slope(self, x: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Gradient ``[n, width]`` of the score in the free coordinates, per standard deviation."""
    slope = np.zeros(x.shape)
    places = np.argsort(~free, axis=1, kind="stable")
    each = np.arange(len(x))
    for i in range(int(free.sum(axis=1).max())):
      place = places[:, i]
      step = 0.05 * self._typical.scale[place]
      pair = np.stack([x, x], axis=1)
      pair[each, 0, place] += step
      pair[each, 1, place] -= step
      above, below = self._scores_of(pair).T
      slope[each, place] = np.where(free[each, place], (above - below) / 0.1, 0.0)
    return slope
