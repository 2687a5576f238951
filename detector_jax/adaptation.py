r"""A threshold that follows a stream whose typical records change.

It is a quantile of the calibration scores, moved as the scores of a sliding window have moved:

.. math:: m + b \, (Q(1 - \alpha_t) - m_0)

where ``Q`` is the conformal quantile of the calibration scores, :math:`m` and :math:`m_0` are the
medians of the window and of the calibration scores, and :math:`b` is the ratio of their
interquartile ranges. What enters the window, and how the level :math:`\alpha_t` goes on, depends
on who looks at the alarms.

"unflagged"
  Nobody does. A record that is flagged leaves no trace, and the level stays at the stated rate.
  Unflagged scores lack the upper tail: a quantile of theirs would sink below the threshold that cut
  them off, again and again, and false alarms would rise without end. So their middle half is
  compared with that of the calibration scores that are not flagged either, and the tail is that of
  the calibration scores. The rate is right where typical scores keep their distribution but for
  place and spread. Nothing promises it otherwise, since what is flagged may be drift or anomaly.
"judged"
  Somebody looks at each of them, and gives back those that were false (``Adaptation.told``). The
  level makes the step of adaptive conformal inference, :math:`\alpha_{t+1} = \alpha_t + \gamma
  (\alpha - e_t)`, over the records judged typical: those unflagged, with :math:`e_t = 0`, and those
  given back, with :math:`e_t = 1`.
"all"
  Every record counts as typical, and so does its alarm, with the same step: a budget of alarms.

With the last two the share of alarms among records judged typical tends to the stated rate for
*every* sequence of scores, whatever its distribution: of N such records at most :math:`\alpha N + 1
/ \mathtt{step} + B` are alarms, where the level is looked at once in B records, and of false alarms
that are given back late as many more as were on their way. That is a frequency in the long run: no
probability for one record, nor a rate just after a jump. What is not flagged although it is an
anomaly is judged typical, too.

References:
  Gibbs and Candes, Adaptive Conformal Inference Under Distribution Shift, NeurIPS 2021: equation 2
  and Proposition 4.1. There ``Q`` is of the latest scores; here the calibration scores keep their
  tail, since a window that is to be short holds few records of a small rate.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import numpy as np

from detector_jax import batching
from detector_jax.calibration import check_rate, check_records, p_values

LEARN_FROM = ("unflagged", "judged", "all")
BLOCK = 50
EDGE = 0.8
FORMAT = "detector_jax.adaptation"


class State(NamedTuple):
  """What an adaptation carries on.

  Attributes:
    window: float64 ``[k]`` scores learned from, the oldest first.
    level: of the quantile; at 0 or below nothing is flagged, at 1 or above everything.
    threshold: of the next record, infinite where nothing or everything is flagged.
    place: ``m - m_0``.
    spread: ``b``.
    seen: records so far.
    judged: of those since the threshold was set, how many were judged typical.
    alarms: of these, how many had been flagged.
  """

  window: np.ndarray
  level: float
  threshold: float
  place: float
  spread: float
  seen: int
  judged: int
  alarms: int


class Reading(NamedTuple):
  """What an adaptation says of records ``[m]``.

  Attributes:
    flagged: bool ``[m]``, score above the threshold.
    threshold: float64 ``[m]``, that of each record.
    p_value: float64 ``[m]``, conformal p-values of the scores moved back to where the calibration
      scores are.
  """

  flagged: np.ndarray
  threshold: np.ndarray
  p_value: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Adaptation:
  """The rules, as pure functions of a state.

  Attributes:
    calibration: ``[n]`` scores of held-out typical records, in any order.
    fpr: in (0, 1), the stated rate of false alarms.
    learn_from: "unflagged", "judged" or "all"; see above.
    window: scores that are kept, >= ``BLOCK``. A long one is late, a short one noisy.
    step: of the level, in (0, 1]: ``gamma / fpr``.

  Raises:
    ValueError: a setting out of its range, or too few calibration scores for that rate.
  """

  calibration: np.ndarray
  fpr: float
  learn_from: str = "unflagged"
  window: int = 1000
  step: float = 0.1

  def __post_init__(self) -> None:
    if self.learn_from not in LEARN_FROM:
      raise ValueError(f"learn_from must be one of {LEARN_FROM}, got {self.learn_from!r}.")
    batching.whole("window", self.window)
    if self.window < BLOCK or not 0.0 < self.step <= 1.0:
      raise ValueError(
        f"window must be >= {BLOCK} and step in (0, 1], got {self.window!r} and {self.step!r}."
      )
    check_rate(self.fpr)
    scores = np.sort(_checked(self.calibration))
    check_records(len(scores), self.fpr)
    object.__setattr__(self, "calibration", scores)

  @functools.cached_property
  def reference(self) -> np.ndarray:
    """Ascending calibration scores that the window is compared with."""
    if self.learn_from != "unflagged":
      return self.calibration
    return self.calibration[self.calibration <= self._quantile(self.fpr)]

  @functools.cached_property
  def follows_spread(self) -> bool:
    """Whether ``b`` is followed; it is 1 where unflagged scores do not tell the spread.

    Scores that end in an edge, as uniform ones do, look the same wherever they are cut off, so that
    an error of ``b`` would never be mended. Told from the calibration scores: if the threshold lay
    so low that it flagged a fifth, or four times the rate, the next one must mend at least a fifth
    of that.
    """
    if self.learn_from != "unflagged":
      return True
    target = self._quantile(self.fpr)
    low = self._quantile(min(max(0.2, 4.0 * self.fpr), 0.5))
    cut = self.calibration[self.calibration <= low]
    place, spread = _moved(_quartiles(cut), self._quartiles, True)
    reached = target + place + (spread - 1.0) * (target - self._quartiles[1])
    return bool(target - reached <= EDGE * (target - low))

  def init(self) -> State:
    """The state before the stream, with the threshold of the calibration scores."""
    scores = self.reference
    if len(scores) > self.window:  # with the same quartiles
      scores = scores[np.linspace(0, len(scores) - 1, self.window).round().astype(int)]
    scores = np.random.default_rng(0).permutation(scores)
    return State(scores, float(self.fpr), self._quantile(self.fpr), 0.0, 1.0, 0, 0, 0)

  def update(self, state: State, scores: np.ndarray) -> tuple[State, Reading]:
    """Decides on the next records of a stream, and learns from them.

    Args:
      state: from ``init`` or the call before; it is left as it is.
      scores: ``[m]`` in the order of the stream. How they are cut into calls changes no bit.

    Raises:
      ValueError: a score is not finite.
    """
    scores, middle = _checked(scores), self._quartiles[1]
    reading = Reading(np.empty(len(scores), bool), np.empty(len(scores)), np.empty(len(scores)))
    start = 0
    while start < len(scores):
      rows = slice(start, start + BLOCK - state.seen % BLOCK)
      part = scores[rows]
      above = part > state.threshold
      reading.flagged[rows], reading.threshold[rows] = above, state.threshold
      reading.p_value[rows] = middle + (part - middle - state.place) / state.spread
      learned = part if self.learn_from == "all" else part[~above]
      alarms = int(above.sum()) if self.learn_from == "all" else 0
      state = self._learned(state, learned, alarms)._replace(seen=state.seen + len(part))
      if state.seen % BLOCK == 0:
        state = self._set(state)
      start = rows.stop
    return state, reading._replace(p_value=p_values(self.calibration, reading.p_value))

  def told(self, state: State, scores: np.ndarray) -> State:
    """Learns from records ``[m]`` that were flagged and that somebody found typical.

    Raises:
      ValueError: ``learn_from`` is not "judged", or a score is not finite.
    """
    if self.learn_from != "judged":
      raise ValueError(f"Alarms are judged where learn_from is 'judged', not {self.learn_from!r}.")
    return self._learned(state, _checked(scores), len(scores))

  def dumps(self, state: State) -> dict[str, Any]:
    """Settings and a state for JSON; ``loads`` gives back the same numbers."""
    values = {name: np.asarray(value).tolist() for name, value in state._asdict().items()}
    return {"format": FORMAT, **self._settings(), "state": values}

  def loads(self, content: dict[str, Any]) -> State:
    """Reads what ``dumps`` gave.

    Raises:
      ValueError: it is something else, damaged, or has other settings.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
      raise ValueError("This is no state of an adaptation.")
    for name, value in self._settings().items():
      if content.get(name) != value:
        raise ValueError(f"The adaptation has {name} {content.get(name)!r}, not {value!r}.")
    try:
      window, *numbers = (content["state"][name] for name in State._fields)
      level, threshold, place, spread, seen, judged, alarms = map(float, numbers)
      finite = np.isfinite([level, place, spread, seen, judged, alarms]).all()
      if not len(window) or not finite or spread <= 0.0 or min(seen, judged, alarms) < 0.0:
        raise ValueError("its window, level, spread or counts are out of their range")
      if math.isnan(threshold):  # nothing lies above
        raise ValueError("its threshold is no number")
      counts = map(int, (seen, judged, alarms))
      return State(_checked(window), level, threshold, place, spread, *counts)
    except (KeyError, TypeError, ValueError) as error:
      told = str(error).rstrip(".")
      raise ValueError(f"The state of the adaptation is damaged: {told}.") from error

  def _settings(self) -> dict[str, Any]:
    return {name: getattr(self, name) for name in ("fpr", "learn_from", "window", "step")}

  @functools.cached_property
  def _quartiles(self) -> list[float]:
    return _quartiles(self.reference)

  def _quantile(self, level: float) -> float:
    """Conformal threshold of the calibration scores at any level."""
    n = len(self.calibration)
    rank = math.ceil((n + 1) * (1.0 - level) - 1e-9)
    if rank < 1:
      return -math.inf
    return math.inf if rank > n else float(self.calibration[rank - 1])

  def _learned(self, state: State, scores: np.ndarray, alarms: int) -> State:
    return state._replace(
      window=np.concatenate([state.window, scores])[-self.window :],
      judged=state.judged + len(scores),
      alarms=state.alarms + alarms,
    )

  def _set(self, state: State) -> State:
    """The state with its next level and threshold."""
    level = state.level
    if self.learn_from != "unflagged":
      level += self.step * self.fpr * (self.fpr * state.judged - state.alarms)
    place, spread = _moved(_quartiles(state.window), self._quartiles, self.follows_spread)
    threshold = quantile = self._quantile(level)
    if math.isfinite(quantile):
      threshold = quantile + place + (spread - 1.0) * (quantile - self._quartiles[1])
    state = state._replace(level=level, threshold=threshold, place=place, spread=spread)
    return state._replace(judged=0, alarms=0)


def slid(calibration: np.ndarray, scores: np.ndarray, window: int | None = None) -> np.ndarray:
  """Calibration scores of a window that has gone on.

  If calibration records, new ones and fresh ones are exchangeable, the rate of a threshold of the
  result holds as that of any calibration, and after a change it does as soon as the window holds
  new records alone; ``window=len(scores)`` makes it so at once.

  Args:
    calibration: ``[n]``, in any order: their age is not known.
    scores: ``[m]`` of new records, that no call before had, in the order of the stream.
    window: how many there are to be, or as many as there is; None: ``n``.

  Returns:
    The last ``window`` of the new ones, and as many of the old ones, at random, as there is room
    for.

  Raises:
    ValueError: ``window`` is no whole number, or below 1.

  Examples:
    >>> slid([1.0, 2.0, 3.0], scores=[7.0, 8.0, 9.0, 6.0]).tolist()
    [8.0, 9.0, 6.0]
  """
  size = len(calibration) if window is None else batching.whole("window", window)
  new = np.asarray(scores)[-size:]
  kept = min(size - len(new), len(calibration))
  old = np.random.default_rng(len(new)).choice(np.asarray(calibration), kept, replace=False)
  return np.concatenate([old, new])


def _moved(quartiles: list[float], reference: list[float], spread: bool) -> tuple[float, float]:
  """By how much the median lies above that of a reference, and the ratio of interquartile ranges.

  The ratio is 1 where it is not asked for, or where either range is 0.
  """
  low, middle, high = quartiles
  low_before, before, high_before = reference
  known = spread and high > low and high_before > low_before
  return middle - before, (high - low) / (high_before - low_before) if known else 1.0


def _quartiles(scores: np.ndarray) -> list[float]:
  places = np.array([0.25, 0.5, 0.75]) * (len(scores) - 1)
  ordered, floor = np.sort(scores), places.astype(int)
  after = ordered[np.minimum(floor + 1, len(scores) - 1)]
  quartiles: list[float] = (ordered[floor] + (places - floor) * (after - ordered[floor])).tolist()
  return quartiles


def _checked(scores: np.ndarray) -> np.ndarray:
  scores = np.asarray(scores, np.float64)
  if scores.ndim != 1 or not np.isfinite(scores).all():
    raise ValueError("Scores must be finite numbers [n].")
  return scores
