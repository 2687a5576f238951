"""The monitor: exact p-values, a rate of false alarms that holds, and drift that is found."""

import json
import math

import jax
import numpy as np
import pytest
from scipy import stats

from detector_jax import monitor
from detector_jax.monitor import Monitor

STREAMS, RATE = 1000, 0.1
AT_MOST = RATE + 3.0 * math.sqrt(RATE * (1.0 - RATE) / STREAMS)


def test_p_value_of_a_hand_counted_rank(monkeypatch):
  monkeypatch.setattr(monitor, "_uniform", lambda seed, start, count: np.full((count, 2), 0.25))
  watcher = Monitor()
  state, reading = watcher.update(watcher.init(np.array([3.0, 1.0, 2.0])), np.array([2.5, 2.5, 0]))
  # 2.5 of {1, 2, 2.5, 3}: one above, itself at a quarter; then one above, two equal, of five.
  np.testing.assert_allclose(reading.p_value, [1.25 / 4, 1.5 / 5, 5.25 / 6])
  assert state.scores.tolist() == [0.0, 1.0, 2.0, 2.5, 2.5, 3.0]
  assert state.seen == 3


def simple_jumper(p_values, rate):
  """The paper's algorithm as it is written there."""
  capital = {-1: 1 / 3, 0: 1 / 3, 1: 1 / 3}
  total, path = 1.0, []
  for p in p_values:
    for bet in capital:
      capital[bet] = (1.0 - rate) * capital[bet] + rate / 3.0 * total
    for bet in capital:
      capital[bet] *= 1.0 + bet * (p - 0.5)
    total = sum(capital.values())
    path.append(total)
  return path


def test_the_capital_is_the_mean_of_the_papers_players(rng):
  watcher = Monitor()
  scores = rng.normal(size=60) + np.linspace(0.0, 3.0, 60)
  _, reading = watcher.update(watcher.init(rng.normal(size=40)), scores)
  rates = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
  mean = np.mean([simple_jumper(reading.p_value, rate) for rate in rates], axis=0)
  np.testing.assert_allclose(reading.log10_martingale, np.log10(mean), rtol=1e-9, atol=1e-12)
  assert mean[-1] > 10.0


def exchangeable(rng, calibration, length):
  """Scores of one stream; every other one has many ties."""
  scores = rng.normal(size=calibration + length) * rng.uniform(0.1, 10.0)
  return np.round(scores) if rng.uniform() < 0.5 else scores


@pytest.mark.parametrize("capacity", [10_000, 25])
def test_false_alarms_are_no_more_than_stated(rng, capacity):
  alarms, p_values = 0, []
  for seed in range(STREAMS):
    scores = exchangeable(rng, 20, 150)
    watcher = Monitor(RATE, capacity, seed)
    state, reading = watcher.update(watcher.init(scores[:20]), scores[20:])
    assert len(state.scores) == min(170, capacity)
    assert (np.diff(state.scores) >= 0).all()
    alarms += bool(reading.alarm[-1])
    p_values.append(reading.p_value)
  assert 0 < alarms <= AT_MOST * STREAMS
  values = np.array(p_values)
  assert stats.kstest(values.ravel(), "uniform").pvalue > 1e-3
  # independent: neighbours, and the means of whole streams, vary as those of uniform numbers
  assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 0.01
  spread = values.mean(axis=1).var() * 12.0 * values.shape[1]
  assert abs(spread - 1.0) < 4.0 * math.sqrt(2.0 / STREAMS)


def test_p_values_of_a_fixed_calibration_set_would_raise_more(rng):
  """Why the monitor ranks among the records before: see the module."""
  alarms = 0
  for _ in range(200):
    scores = exchangeable(rng, 20, 150)
    above = scores[20:, None] < scores[None, :20]
    equal = scores[20:, None] == scores[None, :20]
    ties = rng.uniform(size=150)
    p_values = (above.sum(axis=1) + ties * (1 + equal.sum(axis=1))) / 21.0
    capital = np.mean([simple_jumper(p_values, rate) for rate in monitor.RATES], axis=0)
    alarms += capital.max() >= 1.0 / RATE
  assert alarms > 2 * AT_MOST * 200


@pytest.mark.parametrize("shift", [2.0, -2.0])
@pytest.mark.parametrize("capacity", [10_000, 200])
def test_a_switch_is_found_whichever_way(rng, shift, capacity, record_property):
  delays = []
  for seed in range(50):
    watcher = Monitor(0.01, capacity, seed)
    state = watcher.init(rng.normal(size=200))
    state, before = watcher.update(state, rng.normal(size=100))
    state, after = watcher.update(state, rng.normal(size=200) + shift)
    if before.alarm[-1]:
      continue
    assert after.alarm[-1]
    first = int(after.alarm.argmax())
    assert after.log10_martingale[first] >= 2.0
    assert (after.log10_martingale[:first] < 2.0).all()
    delays.append(first + 1)
  record_property("median_delay", float(np.median(delays)))
  assert len(delays) >= 45
  assert np.median(delays) <= 40
  assert max(delays) <= 100


def test_a_quiet_stream_costs_little_capital(rng):
  watcher = Monitor(capacity=500)
  _, reading = watcher.update(watcher.init(rng.normal(size=200)), rng.normal(size=20_000))
  assert reading.log10_martingale.min() > -1.0


def test_an_alarm_stays_raised(rng):
  watcher = Monitor(0.05)
  state, first = watcher.update(watcher.init(rng.normal(size=2000)), np.full(15, 9.0))
  assert first.alarm[-1]
  state, second = watcher.update(state, rng.normal(size=1000))
  assert second.log10_martingale[-1] < math.log10(20.0)
  assert second.alarm.all()


def test_nothing_depends_on_how_a_stream_is_cut(rng):
  watcher = Monitor(capacity=40, seed=7)
  start = watcher.init(rng.normal(size=30))
  scores = np.round(rng.normal(size=50), 1)
  whole, reading = watcher.update(start, scores)
  assert len(start.scores) == 30
  state, parts = start, []
  for part in np.split(scores, [0, 1, 5, 30]):
    before = jax.tree.map(np.copy, state)
    following, told = watcher.update(state, part)
    jax.tree.map(np.testing.assert_array_equal, state, before)
    state = following
    parts.append(told)
  jax.tree.map(np.testing.assert_array_equal, state, whole)
  for name in reading._fields:
    joined = np.concatenate([getattr(part, name) for part in parts])
    np.testing.assert_array_equal(joined, getattr(reading, name))


def test_a_saved_monitor_goes_on_with_the_same_numbers(rng):
  watcher = Monitor(0.02, capacity=60, seed=3)
  state, _ = watcher.update(watcher.init(rng.normal(size=50)), rng.normal(size=40))
  again, resumed = Monitor.loads(watcher.dumps(state))
  assert again == watcher
  jax.tree.map(np.testing.assert_array_equal, resumed, state)
  scores = np.float32(rng.normal(size=30))
  for mine, theirs in zip(
    watcher.update(state, scores), again.update(resumed, scores), strict=True
  ):
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)


def test_another_seed_breaks_ties_otherwise(rng):
  told = []
  for seed in (0, 1):
    watcher = Monitor(seed=seed)
    told.append(watcher.update(watcher.init(np.zeros(9)), np.zeros(5))[1].p_value)
  assert (told[0] != told[1]).all()


def test_more_calibration_scores_than_fit_are_drawn_from(rng):
  state = Monitor(capacity=100).init(np.arange(1000.0))
  assert len(state.scores) == len(set(state.scores.tolist())) == 100
  assert stats.kstest(state.scores / 1000.0, "uniform").pvalue > 1e-3


def test_a_full_monitor_drops_every_place_alike():
  watcher = Monitor(capacity=4)
  state = watcher.init(np.arange(4.0))
  dropped = []
  for seed in range(1000):
    after, _ = Monitor(capacity=4, seed=seed).update(state, np.array([1.5]))
    (gone,) = {0.0, 1.0, 1.5, 2.0, 3.0} - set(after.scores.tolist())
    dropped.append(gone)
  _, counts = np.unique(dropped, return_counts=True)
  assert len(counts) == 5
  assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"false_alarm_rate": 0.0}, r"false_alarm_rate must be in \(0, 1\), got 0.0"),
    ({"false_alarm_rate": 1.0}, r"false_alarm_rate must be in \(0, 1\), got 1.0"),
    ({"capacity": 0}, "capacity must be >= 1"),
    ({"seed": -1}, "seed must be >= 0|seed >= 0"),
  ],
)
def test_settings_that_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    Monitor(**settings)


def test_scores_that_are_refused():
  watcher = Monitor()
  with pytest.raises(ValueError, match="There are no calibration scores"):
    watcher.init(np.zeros(0))
  for scores in (np.array([np.nan]), np.array([np.inf]), np.zeros((2, 2))):
    with pytest.raises(ValueError, match="Scores must be finite numbers"):
      watcher.init(scores)
    with pytest.raises(ValueError, match="Scores must be finite numbers"):
      watcher.update(watcher.init(np.zeros(3)), scores)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda c: c.update(format="other"), "no state of a monitor"),
    (lambda c: c.update(version=2), "has version 2; this release reads 1"),
    (lambda c: c.pop("seed"), "damaged: 'seed'"),
    (lambda c: c["state"].pop("seen"), "damaged: 'seen'"),
    (lambda c: c["state"].update(scores=[2.0, 1.0]), "its scores are not in order"),
    (lambda c: c["state"].update(shares=[[1.0]]), "another shape"),
    (lambda c: c["state"].update(log_capital=[None] * 5), "damaged"),
    (lambda c: c.update(false_alarm_rate=2.0), "damaged: false_alarm_rate must be"),
  ],
)
def test_a_state_that_cannot_be_used_is_refused(change, message):
  watcher = Monitor()
  content = json.loads(watcher.dumps(watcher.init(np.zeros(3))))
  change(content)
  with pytest.raises(ValueError, match=message):
    Monitor.loads(json.dumps(content))
  with pytest.raises(ValueError, match="damaged: it is not JSON"):
    Monitor.loads("{")
