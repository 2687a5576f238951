"""The Detector: scores, decisions, p-values, and the records it refuses."""

import dataclasses

import numpy as np
import pytest

from detector_jax import Calibration, HealthError, Standardizer, conformal_threshold


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
  with pytest.raises(ValueError, match="at least 19 calibration records, got 18"):
    uncalibrated.calibrate(records[:18], 0.05)


def test_constant_calibration_scores_are_refused(uncalibrated, records):
  with pytest.raises(HealthError, match="All 30 scores are"):
    uncalibrated.calibrate(np.repeat(records[:1], 30, axis=0), 0.05)


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


def test_large_records_are_scored_in_smaller_batches(uncalibrated):
  x = np.random.default_rng(0).normal(size=(4, 2**17))
  create = type(uncalibrated).create
  detector = create(lambda _, z: z[:, 0], {}, Standardizer.fit(x), (2**17,))
  assert detector.batch_size == 16
  np.testing.assert_allclose(
    detector.score(x), Standardizer.fit(x[:, :1])(x[:, :1])[:, 0], rtol=1e-4
  )
