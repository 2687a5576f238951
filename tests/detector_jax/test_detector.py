"""The Detector: scores, decisions, p-values, and the records it refuses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import (
  Calibration,
  Detector,
  HealthError,
  Standardizer,
  conformal_threshold,
)
from detector_jax.preprocessing import Identity


def test_scores_are_those_of_the_method(uncalibrated, records):
  z = (records - records.mean(axis=0)) / records.std(axis=0)
  want = np.sum([1.0, 2.0, 0.5] * (z - [0.1, -0.2, 0.3]) ** 2, axis=1)
  np.testing.assert_allclose(uncalibrated.score(records), want, rtol=1e-4)
  assert uncalibrated.score(records).dtype == np.float32


def test_the_score_of_a_record_does_not_depend_on_the_others(uncalibrated, rng):
  x = rng.normal(size=(1500, 3))
  assert uncalibrated.batch_size < 1500
  together = uncalibrated.score(x)
  np.testing.assert_array_equal(together[[0, 700, 1499]], uncalibrated.score(x[[0, 700, 1499]]))
  np.testing.assert_array_equal(together[::-1], uncalibrated.score(x[::-1]))
  np.testing.assert_array_equal(together[-1:], uncalibrated.score(x[-1:]))


def test_the_decision_is_strict(detector, records):
  score = detector.score(records[:1])
  at = dataclasses.replace(detector, threshold=float(score[0]))
  below = dataclasses.replace(detector, threshold=float(np.nextafter(score[0], np.float32(0))))
  assert at.predict(records[:1]) == 0
  assert below.predict(records[:1]) == 1


def test_calibrate_sets_the_conformal_threshold_and_leaves_the_original(uncalibrated, records):
  calibrated = uncalibrated.calibrate(records, 0.05)
  scores = uncalibrated.score(records)
  assert calibrated.threshold == conformal_threshold(scores, 0.05)
  assert calibrated.fpr == 0.05
  np.testing.assert_array_equal(calibrated.calibration.scores, np.sort(scores))
  np.testing.assert_array_equal(calibrated.score(records), scores)
  assert uncalibrated.fpr is None
  assert uncalibrated.threshold == 2.5
  assert uncalibrated.calibration.scores.size == 0


def test_an_alarm_has_a_p_value_of_at_most_fpr(detector, rng):
  x = rng.normal(2.0, 6.0, size=(300, 3))
  alarm, p = detector.predict(x) == 1, detector.p_value(x)
  assert 0 < alarm.sum() < 300
  assert (p[alarm] <= 0.1).all()
  assert (p >= 1 / 51).all()
  assert (p <= 1).all()
  want = Calibration(detector.calibration.scores, None, 0.0).p_value(detector.score(x))
  np.testing.assert_array_equal(p, want)


def test_uncalibrated_p_values_are_refused(uncalibrated, records):
  with pytest.raises(ValueError, match=r"not calibrated.*call calibrate"):
    uncalibrated.p_value(records)


def test_too_few_calibration_records_are_refused(uncalibrated, records):
  with pytest.raises(ValueError, match="at least 19 different calibration records, got 18"):
    uncalibrated.calibrate(records[:18], 0.05)


def test_constant_calibration_scores_are_refused(uncalibrated, records):
  with pytest.raises(HealthError, match="All 30 scores are"):
    uncalibrated.calibrate_scores(np.repeat(uncalibrated.score(records[:1]), 30), 0.05)


def test_equal_records_calibrate_once(uncalibrated, records):
  with pytest.raises(ValueError, match="at least 19 different calibration records, got 18"):
    uncalibrated.calibrate(np.repeat(records[:18], 8, axis=0), 0.05)
  repeated = uncalibrated.calibrate(np.repeat(records[:30], 8, axis=0), 0.05)
  assert repeated.calibration.scores.size == 30
  assert repeated.threshold == uncalibrated.calibrate(records[:30], 0.05).threshold


def test_another_width_is_refused(detector, rng):
  with pytest.raises(ValueError, match=r"trained on \[n, 3\], got \[5, 4\]"):
    detector.score(rng.normal(size=(5, 4)))
  with pytest.raises(ValueError, match=r"trained on \[n, 3\], got \[3\]"):
    detector.score(rng.normal(size=3))


@pytest.mark.parametrize("kind", [str, object, complex])
def test_what_is_not_a_number_is_refused(detector, kind):
  with pytest.raises(ValueError, match="Records must be numbers, got an array of"):
    detector.score(np.ones((2, 3)).astype(kind))


def test_no_records_are_refused(detector):
  with pytest.raises(ValueError, match="no records"):
    detector.score(np.zeros((0, 3)))


@pytest.mark.parametrize(
  ("value", "name"),
  [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity"), (1e39, "1e\\+39")],
)
def test_a_value_that_is_not_finite_is_named_by_row_and_column(detector, records, value, name):
  x = records.copy()
  x[4, 1] = x[7, 0] = value
  with pytest.raises(ValueError, match=rf"{name} at row 4, column 1 \(2 such values"):
    detector.score(x)


def test_integers_and_booleans_are_numbers(detector):
  np.testing.assert_array_equal(
    detector.score(np.array([[1, 0, 1]])), detector.score(np.array([[True, False, True]]))
  )


def test_equal_programs_are_equal(make_detector):
  assert make_detector().program == make_detector().program
  assert hash(make_detector().program) == hash(make_detector().program)


def report_of(variables, x, threshold):
  """What the toy method has to say: its standardised record and the threshold."""
  del variables
  return {"moved": 2.0 * x, "margin": threshold - x[:, 0]}


@pytest.fixture(scope="module")
def reporting(records):
  """Scores the first feature of records as they are."""
  return Detector.create(
    first_feature, {}, Identity(), (3,), threshold=2.5, report_fn=report_of, batch_size=50
  ).calibrate(records, 0.1)


def first_feature(_, x):
  return jnp.sqrt(x[:, 0] + 100.0)


def test_a_report_holds_what_the_method_says(reporting, uncalibrated, records):
  got = reporting.report(records)
  assert set(got) == {"score", "p_value", "moved", "margin"}
  np.testing.assert_allclose(got["score"], reporting.score(records), rtol=1e-6)
  np.testing.assert_allclose(got["p_value"], reporting.p_value(records), rtol=1e-6)
  np.testing.assert_allclose(got["moved"], 2.0 * records, rtol=1e-6)
  margin = reporting.threshold - records[:, 0]
  np.testing.assert_allclose(got["margin"], margin, rtol=1e-5, atol=1e-6)
  # A new threshold reaches the report, and nothing but scores comes of a method without one.
  other = reporting.calibrate(records, 0.3)
  assert other.threshold < reporting.threshold
  moved = other.report(records)["margin"] - got["margin"]
  np.testing.assert_allclose(moved, other.threshold - reporting.threshold, rtol=1e-3)
  assert set(uncalibrated.report(records[:1])) == {"score", "p_value"}


def test_batches_of_another_size_give_the_same_scores(reporting, records):
  for size in (1, 7, 300):
    other = reporting.with_batch_size(size)
    assert other.batch_size == size
    np.testing.assert_allclose(other.score(records), reporting.score(records), rtol=1e-6)
    assert other.report(records)["moved"].shape == (120, 3)
  assert reporting.batch_size == 50
  with pytest.raises(ValueError, match=r"^batch_size must be >= 1, got 0"):
    reporting.with_batch_size(0)


def test_records_of_quite_another_range_are_refused_where_a_range_is_known(reporting, records):
  ranged = dataclasses.replace(reporting, input_range=(0.0, 1.0))
  edge = np.array([[11.0, -10.0, 0.5]])
  np.testing.assert_array_equal(ranged.score(edge), reporting.score(edge))
  for value in (11.5, -10.5, 255):
    for method in (ranged.score, ranged.report, ranged.predict, ranged.p_value):
      with pytest.raises(ValueError, match="training records from 0 to 1: give them in the units"):
        method(np.where(edge == 0.5, value, edge))
  assert np.isfinite(reporting.score(np.full((1, 3), 255.0))).all()


def test_a_score_that_is_not_finite_is_refused_by_its_row(reporting, records):
  x = records.copy()
  x[[41, 70], 0] = -200.0
  for method in (reporting.score, reporting.predict, reporting.p_value):
    with pytest.raises(HealthError, match="score of row 41 is nan; look at the network"):
      method(x)
  with pytest.raises(HealthError, match="score of row 41 is nan"):
    reporting.calibrate(x, 0.1)


def test_records_that_are_ready_are_passed_through(records):
  assert Identity()(records) is records
  assert Identity() == Identity()


def test_large_records_are_scored_in_smaller_batches(uncalibrated):
  x = np.random.default_rng(0).normal(size=(4, 2**17))
  create = type(uncalibrated).create
  detector = create(lambda _, z: z[:, 0], {}, Standardizer.fit(x), (2**17,))
  assert detector.batch_size == 16
  np.testing.assert_allclose(
    detector.score(x), Standardizer.fit(x[:, :1])(x[:, :1])[:, 0], rtol=1e-4
  )
