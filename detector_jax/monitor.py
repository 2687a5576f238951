r"""Drift: whether a stream still looks like the records that a detector was calibrated with.

p-values of a fixed calibration set are uniform on average over such sets, but given one set they
are neither uniform nor independent: a bet against them wins, slowly, although nothing has changed.
So a monitor ranks every score among the calibration scores *and* those that came before it. With
ties broken at random these online p-values are independent and uniform on [0, 1] exactly, if
calibration records and stream are exchangeable (Vovk, Nouretdinov and Gammerman, Testing
Exchangeability On-Line, ICML 2003).

Against them plays the Simple Jumper of Vovk, Petej, Nouretdinov, Ahlberg, Carlsson and Gammerman,
Retrain or Not Retrain: Conformal Test Martingales for Change-Point Detection, COPA 2021 (PMLR 152,
Algorithm 1), as the mean over the jumping rates 1e-4, 1e-3, 1e-2, 1e-1 and 1: a small rate loses
little in a long quiet stream, and a rate of 1 nothing. Under exchangeability the capital M of such
a player is a martingale that starts at 1, so that by Ville's inequality

.. math:: P(\exists t: M_t \ge 1 / a) \le a

for the whole stream, however long. An alarm says that records are not exchangeable: drift, but
also records that depend on their neighbours.
"""

import array
import bisect
from collections.abc import Sequence
import dataclasses
import json
import math
from typing import Any, NamedTuple

import numpy as np

FORMAT = "detector_jax.monitor"
VERSION = 1
RATES = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
BETS = np.array([-1.0, 0.0, 1.0])


class State(NamedTuple):
  """What a monitor carries on.

  Attributes:
    scores: float64 ``[k]`` ascending, those that the next score is ranked among.
    shares: ``[5, 3]``, share of each bet in the capital of each jumping rate.
    log_capital: ``[5]``, natural logarithm of the capital of each jumping rate.
    highest: natural logarithm of the highest capital so far, >= 0.
    seen: number of records seen.
  """

  scores: np.ndarray
  shares: np.ndarray
  log_capital: np.ndarray
  highest: float
  seen: int


class Reading(NamedTuple):
  """What a monitor says of records ``[m]``.

  Attributes:
    p_value: float64 ``[m]`` online p-values; small where a score is high among those before it.
    log10_martingale: float64 ``[m]``, decimal logarithm of the capital after each record.
    alarm: bool ``[m]``, whether the capital has reached ``1 / false_alarm_rate`` by then. It stays
      raised: a monitor that is to go on after an alarm is started anew.
  """

  p_value: np.ndarray
  log10_martingale: np.ndarray
  alarm: np.ndarray


@dataclasses.dataclass(frozen=True)
class Monitor:
  """A test for drift with a stated rate of false alarms, as pure functions.

  Scores that become too high or too low are both noticed. Blind to changes that leave the mean
  rank where it was, such as a wider spread on both sides; and to a drift so slow that it takes
  many times ``capacity`` records, since by then the monitor has come to rank among drifted ones.

  Attributes:
    false_alarm_rate: in (0, 1): probability of ever raising an alarm in a stream that is
      exchangeable with the calibration records.
    capacity: scores that are kept, 8 bytes each. A full monitor drops one at random, the new one
      or an old one, all with the same chance; that leaves the p-values independent and uniform,
      while dropping the oldest, or the newest more often, would not.
    seed: of the random numbers for ties and drops, >= 0. Those of the t-th record are a function
      of the seed and t, so that results do not depend on how a stream is cut into updates.

  Raises:
    ValueError: a setting out of its range.
  """

  false_alarm_rate: float = 0.01
  capacity: int = 10_000
  seed: int = 0

  def __post_init__(self) -> None:
    if not 0.0 < self.false_alarm_rate < 1.0:
      raise ValueError(f"false_alarm_rate must be in (0, 1), got {self.false_alarm_rate!r}.")
    if self.capacity < 1 or self.seed < 0:
      raise ValueError(
        f"capacity must be >= 1 and seed >= 0, got {self.capacity!r} and {self.seed!r}."
      )

  def init(self, calibration_scores: np.ndarray) -> State:
    """The state before the stream.

    Args:
      calibration_scores: ``[n]``, n >= 1, in any order, of typical records that the detector was
        not trained on, e.g. ``detector.calibration.scores``. Of more than ``capacity`` a random
        part is kept.

    Raises:
      ValueError: no scores, or one that is not finite.
    """
    scores = _checked(calibration_scores)
    if not len(scores):
      raise ValueError(
        "There are no calibration scores to compare a stream with: call "
        "detector.calibrate(X_typical, fpr) with held-out typical records."
      )
    if len(scores) > self.capacity:
      scores = np.random.default_rng(self.seed).choice(scores, self.capacity, replace=False)
    shares = np.full((len(RATES), len(BETS)), 1.0 / len(BETS))
    return State(np.sort(scores), shares, np.zeros(len(RATES)), 0.0, 0)

  def update(self, state: State, scores: np.ndarray) -> tuple[State, Reading]:
    """Takes in the next records of a stream.

    Args:
      state: from ``init`` or the update before; it is left as it is.
      scores: ``[m]`` in the order of the stream.

    Returns:
      The next state, and what there is to say of each record.

    Raises:
      ValueError: a score is not finite.
    """
    scores = _checked(scores)
    p_value, kept = self._ranked(state, scores)
    shares, growth = bets(state.shares, p_value)
    steps = np.concatenate([state.log_capital[None], np.log(growth)])
    log_capital = np.cumsum(steps, axis=0)
    log_martingale = np.logaddexp.reduce(log_capital[1:], axis=1) - math.log(len(RATES))
    highest = np.maximum.accumulate(np.concatenate([[state.highest], log_martingale]))
    alarm = highest[1:] >= -math.log(self.false_alarm_rate)
    state = State(kept, shares, log_capital[-1], float(highest[-1]), state.seen + len(scores))
    return state, Reading(p_value, log_martingale / math.log(10.0), alarm)

  def _ranked(self, state: State, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Online p-values ``[m]`` and the scores that are kept after them."""
    p_value, kept = np.empty(len(scores)), array.array("d", state.scores.tobytes())
    draws = _uniform(self.seed, state.seen, len(scores))
    for i, (score, (tie, drop)) in enumerate(zip(scores.tolist(), draws.tolist(), strict=True)):
      low, size = bisect.bisect_left(kept, score), len(kept)
      high = bisect.bisect_right(kept, score, low)
      p_value[i] = (size - high + tie * (high - low + 1)) / (size + 1)
      kept.insert(low, score)
      if size == self.capacity:
        del kept[int(drop * (size + 1))]
    return p_value, np.array(kept)

  def dumps(self, state: State) -> str:
    """The monitor and a state of it as JSON; ``loads`` gives back the same numbers."""
    values = {name: np.asarray(value).tolist() for name, value in state._asdict().items()}
    return json.dumps(
      {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self), "state": values}
    )

  @classmethod
  def loads(cls, text: str) -> tuple["Monitor", State]:
    """Reads what ``dumps`` wrote.

    Raises:
      ValueError: the text is something else, damaged, or of a newer version.
    """
    try:
      content = json.loads(text)
    except ValueError as error:
      raise ValueError("The state of the monitor is damaged: it is not JSON.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
      raise ValueError("This is no state of a monitor.")
    if content.get("version") != VERSION:
      raise ValueError(
        f"The state of the monitor has version {content.get('version')}; this release reads "
        f"{VERSION}. Update the package."
      )
    try:
      settings = {field.name: content[field.name] for field in dataclasses.fields(cls)}
      return cls(**settings), _state(content["state"])
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(f"The state of the monitor is damaged: {error}.") from error


def bets(shares: np.ndarray, p_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  r"""Steps of the Simple Jumper, for every jumping rate by itself.

  In each, first a share :math:`J` of the capital is spread evenly over the bets, then each bet
  :math:`\epsilon \in \{-1, 0, 1\}` is multiplied by :math:`1 + \epsilon (p - 1/2)`, whose mean
  over a uniform :math:`p` is 1.

  Args:
    shares: ``[5, 3]``, see ``State``; rows sum to 1.
    p_values: ``[m]`` in [0, 1].

  Returns:
    The last shares, and ``[m, 5]`` factors of the capital.
  """
  growth = np.empty((len(p_values), len(RATES)))
  after = []
  for column, (rate, (down, still, up)) in enumerate(
    zip(RATES.tolist(), shares.tolist(), strict=True)
  ):
    stays, jumps, factors = 1.0 - rate, rate / len(BETS), []
    for p in p_values.tolist():
      bet = p - 0.5
      down = (stays * down + jumps) * (1.0 - bet)
      still = stays * still + jumps
      up = (stays * up + jumps) * (1.0 + bet)
      factor = down + still + up
      down, still, up = down / factor, still / factor, up / factor
      factors.append(factor)
    growth[:, column] = factors
    after.append([down, still, up])
  return np.array(after), growth


def _uniform(seed: int, start: int, count: int) -> np.ndarray:
  """``[count, 2]`` in [0, 1), a row for each of the records from number ``start`` on."""
  raw = np.random.Philox(key=seed, counter=start).random_raw(4 * count).reshape(count, 4)
  return (raw[:, :2] >> np.uint64(11)) * 2.0**-53


def _checked(scores: np.ndarray) -> np.ndarray:
  scores = np.asarray(scores, np.float64)
  if scores.ndim != 1 or not np.isfinite(scores).all():
    raise ValueError("Scores must be finite numbers [n].")
  return scores


def _state(values: dict[str, Sequence[Any]]) -> State:
  scores = _checked(np.asarray(values["scores"]))
  shares = np.asarray(values["shares"], np.float64)
  log_capital = _checked(np.asarray(values["log_capital"]))
  if shares.shape != (len(RATES), len(BETS)) or log_capital.shape != RATES.shape:
    raise ValueError("its capital has another shape")
  if not len(scores) or (np.diff(scores) < 0).any():
    raise ValueError("its scores are not in order")
  highest: Any = values["highest"]
  seen: Any = values["seen"]
  return State(scores, shares, log_capital, float(highest), int(seen))
