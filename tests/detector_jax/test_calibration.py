"""Conformal thresholds: hand values, the promised rate by simulation, and refusals."""

import numpy as np
import pytest

from detector_jax.calibration import (
  Calibration,
  alarm_rate,
  conformal_threshold,
  fdr_rank,
  p_values,
  records_needed,
  stated,
)


@pytest.mark.parametrize(
  ("n", "fpr", "k"), [(100, 0.05, 96), (19, 0.05, 19), (20, 0.05, 20), (99, 0.1, 90), (9, 0.1, 9)]
)
def test_threshold_is_the_kth_smallest(rng, n, fpr, k):
  scores = rng.permutation(np.arange(1.0, n + 1))
  assert conformal_threshold(scores, fpr) == k


def test_expected_false_positive_rate_of_100_records_at_5_percent(rng):
  # Uniform scores: the false-positive rate of a threshold t is 1 - t. One rate has a standard
  # deviation of 0.0215, the mean of 2,000 one of 0.0005; four of those are the tolerance. The
  # plain 95 % quantile is at 0.0588.
  rates = [1.0 - conformal_threshold(rng.uniform(size=100), 0.05) for _ in range(2000)]
  assert np.mean(rates) == pytest.approx(0.0495, abs=0.002)


@pytest.mark.parametrize(("fpr", "needed"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.03, 33)])
def test_too_few_records_are_refused_with_the_number_needed(fpr, needed):
  assert records_needed(fpr) == needed
  wanted = f"at least {needed} different calibration records, got {needed - 1}"
  with pytest.raises(ValueError, match=wanted):
    conformal_threshold(np.arange(needed - 1.0), fpr)
  assert conformal_threshold(np.arange(float(needed)), fpr) == needed - 1


@pytest.mark.parametrize("n", range(1, 60))
def test_the_rate_that_a_refusal_suggests_is_accepted(n):
  with pytest.raises(ValueError, match=rf"ask for 1/{n + 1}\.$"):
    conformal_threshold(np.arange(float(n)), 0.99 / (n + 1))
  assert conformal_threshold(np.arange(float(n)), 1 / (n + 1)) == n - 1


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_fpr_out_of_range_is_refused(fpr):
  with pytest.raises(ValueError, match=r"must be in \(0, 1\)"):
    conformal_threshold(np.arange(50.0), fpr)


def test_nan_scores_are_refused():
  with pytest.raises(ValueError, match="hold NaN"):
    conformal_threshold(np.array([1.0, np.nan] * 20), 0.1)


def test_p_values_by_hand():
  calibration = np.array([3.0, 1.0, 2.0, 2.0])
  got = p_values(calibration, np.array([0.0, 2.0, 2.5, 3.0, 4.0]))
  np.testing.assert_allclose(got, np.array([5, 4, 2, 2, 1]) / 5)


@pytest.mark.parametrize("values", [3, 10, 10**6])
def test_an_alarm_has_a_p_value_of_at_most_fpr(rng, values):
  # With 3 and 10 distinct values nearly all scores are tied.
  alarms = 0
  for n in (19, 20, 57, 100):
    for fpr in (0.05, 0.1, 0.3, 0.5):
      calibration = Calibration.from_scores(rng.integers(values, size=n), fpr)
      scores = rng.integers(values + 2, size=200)
      alarm = scores > calibration.threshold
      alarms += alarm.sum()
      assert (calibration.p_value(scores)[alarm] <= fpr).all()
  assert alarms > 0


def test_p_values_of_typical_records_are_uniform(rng):
  draws = rng.normal(size=(4000, 100))
  p = np.concatenate([p_values(draw[:99], draw[99:]) for draw in draws])
  for level in (0.01, 0.05, 0.1, 0.25, 0.5, 0.9):
    # P(p <= a) = a exactly on multiples of 1/100; the tolerance is four standard errors.
    error = 4.0 * np.sqrt(level * (1.0 - level) / len(p))
    assert np.mean(p <= level + 1e-12) == pytest.approx(level, abs=error)


def test_without_records_there_are_no_p_values():
  with pytest.raises(ValueError, match="not calibrated"):
    Calibration.none(1.5).p_value(np.zeros(3))


@pytest.mark.parametrize(("fpr", "confidence", "needed"), [(0.05, 0.95, 59), (0.01, 0.95, 299)])
def test_a_confidence_needs_more_records(fpr, confidence, needed):
  assert records_needed(fpr, confidence) == needed
  scores = np.arange(float(needed))
  assert conformal_threshold(scores, fpr, confidence) == needed - 1  # the largest of all
  with pytest.raises(ValueError, match=f"with 95 % confidence needs at least {needed} different"):
    conformal_threshold(scores[1:], fpr, confidence)


def test_with_confidence_the_rate_holds_in_that_share_of_draws():
  """Uniform scores, whose realised rate is 1 - threshold; 4,000 draws of 500 records."""
  rng = np.random.default_rng(0)
  scores = rng.uniform(size=(4000, 500))
  rates = {c: np.array([1 - conformal_threshold(s, 0.05, c) for s in scores]) for c in (None, 0.9)}
  assert rates[None].mean() == pytest.approx(0.05, abs=0.002)
  assert (rates[None] <= 0.05).mean() < 0.6  # half of the draws realise more
  assert 0.9 <= (rates[0.9] <= 0.05).mean() < 0.94


@pytest.mark.parametrize("confidence", [0.0, 1.0, float("nan")])
def test_a_confidence_out_of_its_range_is_refused(confidence):
  with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\)"):
    conformal_threshold(np.arange(500.0), 0.05, confidence)


def test_a_rate_is_put_in_words():
  assert stated(None, None) == "no stated rate"
  assert stated(0.005, None) == ("at most 0.5 % false alarms in expectation over calibration draws")
  assert stated(0.05, 0.95) == "at most 5 % false alarms with 95 % confidence"


def test_benjamini_and_hochberg_by_hand():
  # p-values 1, 1, 2 and 9 tenths: k = 3 takes 4 * 3 <= fdr * 10 * 3, k = 1 4 * 1 <= fdr * 10 * 2.
  counts = np.bincount([0, 0, 1, 8], minlength=10)
  assert [fdr_rank(counts, fdr) for fdr in (0.1, 0.2, 0.4)] == [0, 1, 3]
  calibration = Calibration(np.arange(9, dtype=np.float32), 0.1, 8.0)
  got = calibration.discoveries(np.array([9.0, 10.0, 7.5, 0.5]), 0.4)
  assert got.tolist() == [True, True, True, False]
  with pytest.raises(ValueError, match="must be in"):
    fdr_rank(counts, 1.0)


def test_it_is_said_why_nothing_can_be_flagged_and_what_it_would_take(caplog):
  calibration = Calibration(np.arange(9, dtype=np.float32), 0.1, 8.0)
  scores = np.append(np.full(2, 20.0), np.zeros(98))
  assert not calibration.discoveries(scores, 0.1).any()
  assert not calibration.discoveries(np.zeros(50), 0.1).any()
  assert caplog.messages == [
    "No record can be flagged at a false discovery rate of 0.1, since 2 of 100 records score above "
    "all 9 calibration records: it takes at least 499 of these.",
    "No record can be flagged at a false discovery rate of 0.1, since none of 50 records scores "
    "above all 9 calibration records: for a single one it takes at least 499 of these.",
  ]
  for held, can in ((498, False), (499, True)):
    enough = Calibration(np.linspace(-1.0, 8.0, held, dtype=np.float32), 0.1, 8.0)
    assert enough.discoveries(scores, 0.1).sum() == 2 * can


def test_a_false_discovery_rate_holds_over_2000_batches():
  rng = np.random.default_rng(0)
  shares, found = [], []
  for _ in range(2000):
    calibration = Calibration(np.sort(rng.normal(size=999)), 0.1, 0.0)
    scores = np.append(rng.normal(size=90), rng.normal(3.0, 1.0, size=10))
    flagged = calibration.discoveries(scores, 0.1)
    shares.append(flagged[:90].sum() / max(1, flagged.sum()))
    found.append(flagged[90:].mean())
  # 0.1 times the share of typical records in expectation: 0.1 * 1000 / 100 is a whole number.
  assert np.mean(shares) == pytest.approx(0.09, abs=0.01)
  assert np.mean(found) > 0.5


def test_alarms_become_a_rate():
  assert alarm_rate(5, 20_000) == 0.00025
  with pytest.raises(ValueError, match="fewer than the records, got 5 of 5"):
    alarm_rate(5, 5)
