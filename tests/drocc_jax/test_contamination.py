"""Anomalies among the training records: who is left out, and what the threshold then promises."""

import numpy as np
import pytest

from detector_jax.calibration import conformal_threshold
from drocc_jax import DROCC, contamination

SMALL = {"epochs": 20, "batch_size": 64, "num_steps": 1, "trim": 0.0, "random_state": 0}


def mixed(rng, typical: int, anomalous: int, far: float = 6.0) -> np.ndarray:
  """Standard normal records ``[n, 4]``, then a narrow cluster of anomalies."""
  cluster = far / 2.0 + 0.3 * rng.normal(size=(anomalous, 4))
  return np.concatenate([rng.normal(size=(typical, 4)), cluster])


@pytest.mark.parametrize("value", [0.0, 0.5, -0.1, float("nan"), True, "much", (0.1,)])
def test_a_share_out_of_its_range_is_named(value):
  with pytest.raises(ValueError, match=r'contamination must be a share in \(0, 0.5\), "auto", or'):
    contamination.share_of(value)


def test_a_share_is_a_number_or_its_text():
  assert contamination.share_of(None) is None
  assert contamination.share_of(0.03) == contamination.share_of("0.03") == 0.03
  with pytest.raises(ValueError, match="state a share instead"):
    contamination.share_of("auto")


def test_anomalies_of_one_kind_are_left_out_whatever_the_units(rng):
  x = mixed(rng, 450, 50)
  kept = contamination.typical_rows(x * [1.0, 1e-9, 1e200, 3.0] + [1e6, 0.0, 0.0, -7.0], 0.1)
  assert len(kept) == 300  # four times the share of 500 are left out
  assert kept.max() < 450
  np.testing.assert_array_equal(np.unique(kept), kept)


@pytest.mark.parametrize(("share", "left"), [(0.0, 200), (0.01, 192), (0.2, 120), (0.45, 110)])
def test_how_many_are_left_out(rng, share, left):
  assert len(contamination.typical_rows(rng.normal(size=(200, 2)), share)) == left


def test_half_of_the_share_is_left_out_of_the_scores():
  scores = np.arange(40.0)[::-1]
  np.testing.assert_array_equal(contamination.clean_scores(scores, 0.2), np.arange(36.0))
  np.testing.assert_array_equal(contamination.clean_scores(scores, 0.0), np.arange(40.0))


@pytest.mark.parametrize(
  ("found", "rate", "plain"), [(1.0, 0.0, 0.0), (0.5, 0.05, 0.005), (0.0, 0.095, 0.05)]
)
def test_the_rate_holds_where_half_of_the_anomalies_are_found(rng, found, rate, plain):
  # 20 of 200 held-out records are anomalous; a share of them scores above all typical records, the
  # others as typical records do, so that a share ``a`` of them is above a threshold of that rate.
  high = round(20 * found)
  scores = np.concatenate([rng.normal(size=(4000, 200 - high)), np.full((4000, high), 1e6)], axis=1)
  fresh = np.sort(rng.normal(size=100_000))

  def realised(share: float) -> float:
    cut = [conformal_threshold(contamination.clean_scores(row, share), 0.05) for row in scores]
    return float(np.mean(1.0 - np.searchsorted(fresh, cut, side="right") / len(fresh)))

  assert realised(0.1) == pytest.approx(rate, abs=0.004)
  assert realised(0.0) == pytest.approx(plain, abs=0.006)


def test_a_detached_tail_is_seen_and_measured(rng):
  x = mixed(rng, 485, 15, far=12.0)
  assert contamination.detached(x) == 0.03
  assert contamination.detached(mixed(rng, 57, 3, far=60.0)) == 0.05
  assert contamination.share_of("auto", x) == 0.06
  assert contamination.share_of("auto", mixed(rng, 450, 50, far=12.0)) == 0.1
  finding = contamination.tail_finding(x)
  assert not finding.passed
  assert "3 % of the training records lie apart from all others" in finding.message


def test_who_asks_for_the_tail_is_not_warned_of_it(rng, caplog):
  def fit(**settings) -> dict:
    x = rng.normal(size=(250, 2))
    return (
      DROCC(**SMALL | {"epochs": 1, "calibration_size": 0.0, **settings}).fit(x).detector_.metadata
    )

  checks = [
    [finding["check"] for finding in fit(contamination=c)["health"]] for c in (None, "auto")
  ]
  assert [contamination.DETACHED in names for names in checks] == [True, False]


def test_plain_and_heavy_tails_are_not_detached(rng):
  draws = [rng.normal(size=(300, 4)) for _ in range(5)]
  draws += [rng.standard_t(4.0, size=(300, 4)) for _ in range(5)]
  draws += [np.exp(rng.normal(size=(300, 2))), np.ones((300, 2)), rng.normal(size=(20, 3))]
  kinds = np.random.default_rng(8).choice(8, 100, p=[0.8] + [0.2 / 7] * 7)
  draws += [np.eye(8)[kinds]]  # most records are alike: their distances are next to the same
  draws += [rng.normal(size=(40, 3)), rng.uniform(size=(60, 3)), np.exp(rng.normal(size=(60, 2)))]
  assert [contamination.detached(x) for x in draws] == [0.0] * len(draws)


def test_what_is_left_out_neither_trains_nor_sets_scale_and_threshold(rng):
  x = mixed(rng, 450, 50)
  as_it_is = DROCC(**SMALL).fit(x).detector_
  cured = DROCC(contamination=0.1, **SMALL).fit(x).detector_
  assert as_it_is.metadata["training_records"] == 400
  assert cured.metadata["training_records"] == 240
  assert cured.metadata["contamination"] == 0.1
  assert "contamination" not in as_it_is.metadata
  assert len(as_it_is.calibration.scores) == 100
  assert len(cured.calibration.scores) == 95
  assert np.abs(np.asarray(cured.arrays["preprocessing"].center)).max() < 0.2
  assert np.abs(np.asarray(as_it_is.arrays["preprocessing"].center)).min() > 0.2
  anomalies = mixed(rng, 0, 200)
  assert cured.predict(anomalies).mean() > 0.9
  assert as_it_is.predict(anomalies).mean() < 0.1


def test_a_rate_that_the_others_cannot_defend_is_refused_before_training(rng):
  x = rng.normal(size=(200, 2))
  DROCC(fpr=0.01, **SMALL | {"epochs": 1}).fit(x)
  with pytest.raises(ValueError, match="needs 110 held-out records"):
    DROCC(fpr=0.01, contamination=0.2, **SMALL).fit(x)


def test_a_share_and_a_joined_score_are_refused_together(rng):
  settings = DROCC(contamination=0.1)
  with pytest.raises(ValueError, match="contamination is for the score of the network alone"):
    contamination.divide(rng.normal(size=(50, 3)), settings, 0, parts=2)
