"""Adaptation: rates that hold as they are stated, and a stream that may be cut anywhere."""

import dataclasses
import json

import numpy as np
import pytest

from detector_jax import adaptation
from detector_jax.adaptation import BLOCK, LEARN_FROM, Adaptation
from tests.helpers import linear_detector

FPR = 0.05


def calibrated(learn_from="unflagged", n=300, seed=1, **settings):
  return Adaptation(np.random.default_rng(seed).normal(size=n), FPR, learn_from, **settings)


def realised(rules, scores):
  """Share of alarms in the second half of a stream."""
  _, reading = rules.update(rules.init(), scores)
  return reading.flagged[len(scores) // 2 :].mean()


def test_a_threshold_of_hand_counted_quartiles():
  rules = Adaptation(np.arange(1.0, 101.0), 0.1, "all", window=BLOCK)
  state, reading = rules.update(rules.init(), np.linspace(150.0, 346.0, BLOCK))  # by 4 each
  assert rules.init().threshold == 91.0  # of 100 scores the 91st
  assert reading.threshold.tolist() == [91.0] * BLOCK
  # Median 248 and quartiles 199, 297; of the calibration scores 50.5, and 25.75, 75.25.
  assert (state.place, state.spread) == (197.5, 98.0 / 49.5)
  assert state.level == pytest.approx(0.1 + 0.1 * 0.1 * (0.1 - 1.0) * BLOCK)
  assert state.threshold == np.inf
  state, reading = rules.update(state._replace(level=0.595), np.linspace(150.0, 346.0, BLOCK))
  assert not reading.flagged.any()
  # The level is 0.645, the 36th score 36; it lies 14.5 below the median.
  assert state.threshold == pytest.approx(248.0 - 14.5 * 98.0 / 49.5)


@pytest.mark.parametrize("learn_from", LEARN_FROM)
def test_no_bit_depends_on_how_a_stream_is_cut(learn_from, rng):
  rules = calibrated(learn_from, window=120)
  scores = rng.normal(size=400) + np.linspace(0.0, 2.0, 400)
  whole, reading = rules.update(rules.init(), scores)
  state, flagged, thresholds = rules.init(), [], []
  for part in np.split(scores, [0, 1, 49, 50, 51, 173, 300]):
    state = rules.loads(json.loads(json.dumps(rules.dumps(state))))
    state, one = rules.update(state, part)
    flagged.extend(one.flagged)
    thresholds.extend(one.threshold)
  for name, value in whole._asdict().items():
    np.testing.assert_array_equal(getattr(state, name), value, err_msg=name)
  assert (flagged, thresholds) == (reading.flagged.tolist(), reading.threshold.tolist())
  assert len(set(thresholds)) == 8
  assert len(whole.window) == 120


def test_a_flagged_record_leaves_no_trace(rng):
  rules, scores = calibrated(), rng.normal(size=2 * BLOCK)
  _, reading = rules.update(rules.init(), scores)
  flagged = np.flatnonzero(reading.flagged)
  assert len(flagged) > 1
  states = []
  for value in (5.0, 1e9):
    scores[flagged] = value
    states.append(rules.update(rules.init(), scores)[0])
  np.testing.assert_array_equal(states[0].window, states[1].window)
  assert states[0][1:] == states[1][1:]
  assert states[0].level == FPR


def test_p_values_are_those_of_the_calibration_scores_until_the_stream_has_moved(rng):
  rules = calibrated("all", window=500)
  scores = rng.normal(size=2000)
  _, reading = rules.update(rules.init(), scores + 7.0)
  _, unmoved = rules.update(rules.init(), scores)
  assert (reading.p_value[:BLOCK] < 0.01).all()
  np.testing.assert_allclose(reading.p_value[-500:], unmoved.p_value[-500:], atol=1e-9)
  assert abs(unmoved.p_value[-500:].mean() - 0.5) < 0.05


def adversaries(rng):
  """Streams that no rate could be promised for: jumps, growth without end, and the worst reply."""
  yield rng.normal(size=3000) * 100.0
  yield np.exp(np.linspace(0.0, 50.0, 3000))
  yield np.where(np.arange(3000) // 150 % 2, 50.0, -50.0)
  yield np.cumsum(rng.standard_cauchy(size=3000))


@pytest.mark.parametrize("step", [0.1, 1.0])
def test_whatever_comes_alarms_are_a_bounded_number_above_their_share(rng, step):
  rules = calibrated("all", step=step)
  for scores in adversaries(rng):
    _, reading = rules.update(rules.init(), scores)
    above = np.cumsum(reading.flagged) - FPR * np.arange(1, len(scores) + 1)
    assert above.max() <= 1.0 / step + BLOCK
    assert above.min() >= -(1.0 - FPR) / (step * FPR) - BLOCK


def test_of_records_judged_typical_alarms_are_a_bounded_number_above_their_share(rng):
  rules = calibrated("judged")
  for scores in adversaries(rng):
    state, judged, alarms = rules.init(), 0, 0
    for part in np.split(scores, len(scores) // 20):
      state, reading = rules.update(state, part)
      typical = part[reading.flagged][::2]  # every other alarm was a false one
      state = rules.told(state, typical)
      judged += len(typical) + int((~reading.flagged).sum())
      alarms += len(typical)
      assert alarms - FPR * judged <= 1.0 / rules.step + BLOCK + 20  # on their way back


def naive(calibration, scores, window=1000):
  """Flags by the quantile of a window of unflagged scores: what must not be done."""
  kept, flagged = np.asarray(calibration), []
  for part in np.split(scores, len(scores) // BLOCK):
    threshold = np.sort(kept)[int(np.ceil((len(kept) + 1) * (1.0 - FPR))) - 1]
    flagged.extend(part > threshold)
    kept = np.concatenate([kept, part[part <= threshold]])[-window:]
  return np.mean(flagged[len(scores) // 2 :])


def test_unflagged_records_do_not_draw_the_threshold_down(rng):
  scores = rng.normal(size=10_000)
  rules = calibrated(n=2000)
  assert naive(rules.calibration, scores) > 0.3
  assert abs(realised(rules, scores) - FPR) < 0.02


@pytest.mark.parametrize("learn_from", LEARN_FROM)
def test_a_slow_change_of_place_and_spread_is_followed(learn_from, rng):
  rules, time = calibrated(learn_from, n=2000), np.linspace(0.0, 1.0, 10_000)
  scores = 2.0 * time + (1.0 + time) * rng.normal(size=len(time))
  assert np.mean(scores[5000:] > rules.init().threshold) > 0.4
  if learn_from == "judged":
    state, alarms = rules.init(), 0
    for place, part in enumerate(np.split(scores, len(scores) // BLOCK)):
      state, reading = rules.update(state, part)
      state = rules.told(state, part[reading.flagged])
      alarms += reading.flagged.sum() * (place >= 100)
    assert abs(alarms / 5000 - FPR) < 0.02
  else:
    assert abs(realised(rules, scores) - FPR) < 0.02


def test_anomalies_among_the_records_move_an_unflagged_threshold_little(rng):
  scores, anomalous = rng.normal(size=10_000), rng.uniform(size=10_000) < 0.05
  scores[anomalous] += 5.0
  rules = calibrated(n=2000)
  _, reading = rules.update(rules.init(), scores)
  assert 0.02 < reading.flagged[5000:][~anomalous[5000:]].mean() <= FPR + 0.01
  assert reading.flagged[5000:][anomalous[5000:]].mean() > 0.97


def test_where_scores_end_in_an_edge_their_spread_is_not_followed(rng):
  uniform = Adaptation(np.linspace(0.0, 1.0, 1001), FPR)
  assert not uniform.follows_spread
  assert uniform.update(uniform.init(), rng.uniform(size=1000))[0].spread == 1.0
  assert Adaptation(np.linspace(0.0, 1.0, 1001), FPR, "all").follows_spread
  assert calibrated(n=1000).follows_spread
  assert Adaptation(rng.exponential(size=1000), FPR).follows_spread


def test_more_calibration_scores_than_the_window_holds_leave_its_threshold():
  rules = calibrated(n=5000, window=200)
  state = rules.init()
  assert len(state.window) == 200
  next_state, _ = rules.update(state._replace(window=np.tile(state.window, 1)), np.zeros(0))
  assert next_state.threshold == state.threshold
  place, spread = adaptation._moved(
    adaptation._quartiles(state.window), adaptation._quartiles(rules.reference), True
  )
  assert abs(place) < 0.02
  assert abs(spread - 1.0) < 0.02


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"learn_from": "some"}, "learn_from must be one of"),
    ({"window": BLOCK - 1}, "window must be >= 50 and step"),
    ({"window": 100.5}, r"window must be a whole number, got 100\.5"),
    ({"step": 0.0}, r"step in \(0, 1\], got 1000 and 0.0"),
    ({"n": 10}, "needs at least 19 different calibration records, got 10"),
  ],
)
def test_bad_settings_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    calibrated(**settings)


def test_bad_states_and_scores_are_refused():
  rules = calibrated()
  with pytest.raises(ValueError, match="Scores must be finite"):
    rules.update(rules.init(), np.array([np.nan]))
  with pytest.raises(ValueError, match="judged where learn_from is 'judged', not 'unflagged'"):
    rules.told(rules.init(), np.zeros(1))
  saved = rules.dumps(rules.init())
  with pytest.raises(ValueError, match="has learn_from 'unflagged', not 'all'"):
    calibrated("all").loads(saved)
  for state in (
    {},
    {**saved["state"], "window": []},
    {**saved["state"], "spread": 0},
    {**saved["state"], "seen": -1},
    {**saved["state"], "seen": np.inf},
    {**saved["state"], "level": np.inf},
    {**saved["state"], "place": np.nan},
    {**saved["state"], "threshold": np.nan},
  ):
    with pytest.raises(ValueError, match="The state of the adaptation is damaged"):
      rules.loads({**saved, "state": state})
  with pytest.raises(ValueError, match="no state of an adaptation"):
    rules.loads([])


def test_update_recalibrates_a_copy_at_the_same_rate(rng):
  detector = linear_detector()
  x = rng.normal(size=(80, 2)) + 10.0
  before = detector.calibration.scores.copy()
  new = detector.update(np.concatenate([x, np.repeat(x[:1], 5, axis=0)]), window=80)
  np.testing.assert_array_equal(detector.calibration.scores, before)
  np.testing.assert_array_equal(new.calibration.scores, np.sort(detector.score(x)))
  assert new.threshold == detector.calibrate(x, 0.1).threshold
  assert (new.fpr, new.confidence) == (0.1, None)


def test_records_of_cross_validation_are_called_so_until_the_last_is_replaced(rng):
  crossed = linear_detector().with_metadata(cross_conformal=True)
  number = crossed.calibration.scores.size
  x = rng.normal(size=(number, *crossed.input_shape))
  assert crossed.update(x[:3]).rate.endswith(", by cross-validation")
  assert not crossed.update(x).rate.endswith(", by cross-validation")


def test_update_keeps_as_many_of_the_old_as_there_is_room_for(rng):
  detector = linear_detector()
  x = rng.normal(size=(20, 2)) + 10.0
  new, fresh = detector.update(x), detector.score(x)
  scores = new.calibration.scores
  assert len(set(scores.tolist())) == len(scores) == 50
  assert set(fresh.tolist()) <= set(scores.tolist())
  assert set(scores.tolist()) - set(fresh.tolist()) < set(detector.calibration.scores.tolist())
  assert len(detector.update(x, window=30).calibration.scores) == 30
  np.testing.assert_array_equal(
    detector.update(x, window=9).calibration.scores, np.sort(fresh[-9:])
  )
  with pytest.raises(ValueError, match="window must be >= 1, got 0"):
    detector.update(x, window=0)
  with pytest.raises(ValueError, match="needs at least 9 different calibration records, got 8"):
    detector.update(x, window=8)
  with pytest.raises(ValueError, match="There are no records to score"):
    detector.update(x[:0])
  with pytest.raises(ValueError, match=r"must be an array \[n, \.\.\.\], got 'today.csv'"):
    detector.update("today.csv")


def test_update_of_a_detector_without_a_rate_is_refused():
  bare = dataclasses.replace(linear_detector(), fpr=None)
  with pytest.raises(ValueError, match="There is no rate to keep: call calibrate"):
    bare.update(np.zeros((3, 2)))


def test_the_rate_of_an_updated_detector_holds(rng):
  rates = []
  for _ in range(400):
    old, new, fresh = np.split(rng.normal(size=400), [60, 100])
    slid = adaptation.slid(old, new)
    assert len(slid) == 60
    threshold = np.sort(slid)[int(np.ceil(61 * 0.9)) - 1]
    rates.append(np.mean(fresh > threshold))
  assert abs(np.mean(rates) - 6 / 61) < 4.0 * np.std(rates) / 20.0
