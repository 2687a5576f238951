"""Each check of a trained DROCC, provoked; and left alone by healthy numbers."""

import numpy as np
import pytest

from detector_jax.health import HealthError
from drocc_jax import DROCC, health, networks


def test_inverted_scores_are_refused(rng):
  with pytest.raises(HealthError, match=r"upside down.*AUROC 0\.00"):
    health.check_not_inverted(rng.normal(size=50), rng.normal(-20.0, 1.0, size=50))
  health.check_not_inverted(rng.normal(size=50), rng.normal(20.0, 1.0, size=50))


def test_the_share_of_right_pairs_counts_ties_half():
  # One pair of two is right, or tied for both: 0.5 passes. One tie of two: 0.25 does not.
  health.check_not_inverted(np.array([1.0, 3.0]), np.array([2.0]))
  health.check_not_inverted(np.array([1.0, 1.0]), np.array([1.0]))
  with pytest.raises(HealthError, match=r"AUROC 0\.25"):
    health.check_not_inverted(np.array([1.0, 3.0]), np.array([1.0]))


def test_a_search_that_stays_where_it_starts_is_told():
  finding = health.search_moved(np.array([1e-6, 3e-6]), 2.0)
  assert finding.value == pytest.approx(1e-6)
  assert "did not move: its negatives end 2e-06" in finding.message
  assert "raise step_size" in finding.message
  assert health.search_moved(np.array([0.0, 0.1]), 2.0).passed


def test_negatives_off_their_shell_are_counted():
  finding = health.on_shell(np.array([1.0, 2.0, 2.01, 0.5]), 1.0, 2.0)
  assert not finding.passed
  assert finding.value == 0.5
  assert "50 % of the negatives are off their shell, 1 to 2 from" in finding.message
  assert health.on_shell(np.array([1.0 - 1e-5, 2.0 + 1e-5]), 1.0, 2.0).passed
  assert not health.on_shell(np.array([np.nan]), 1.0, 2.0).passed


def test_a_network_that_cannot_tell_its_negatives_is_told(rng):
  same = health.separated(rng.normal(size=400), rng.normal(-0.2, 1.0, size=400))
  assert not same.passed
  assert "cannot tell its own negatives" in same.message
  apart = health.separated(np.zeros(3), np.ones(3))
  assert (apart.passed, apart.value, apart.message) == (True, 1.0, "")


@pytest.mark.parametrize(
  ("network", "passed"),
  [("auto", True), (networks.MLP((16,), input_gain=2.0, bias_range=2.0, squares=True), False)],
  ids=["prototypes", "blank"],
)
def test_one_that_starts_from_the_records_need_not_tell_them(rng, network, passed):
  """The radius is far below the spread of the data, so that negatives lie among them."""
  x = rng.normal(size=(200, 6, 1)).astype(np.float32)
  settings = {"radius": 0.3, "gamma": 1.0, "epochs": 60, "num_steps": 10}
  model = DROCC(network=network, features=None, random_state=0, **settings).fit(x)
  findings = {finding["check"]: finding for finding in model.detector_.metadata["health"]}
  finding = findings["AUROC of typical records against their own negatives"]
  assert finding["value"] < health.LEAST_SEPARATION
  assert finding["passed"] is passed


def test_few_steps_are_told():
  assert "took 7 steps, fewer than 100" in health.enough_steps(7).message
  assert health.enough_steps(100).passed


def test_far_points_that_look_typical_are_told_before_they_are_refused():
  typical = np.arange(10.0)
  finding = health.check_not_inverted(typical, np.array([20.0, 20.0, 4.5, 4.5]))
  assert finding.value == 0.75
  assert "does not fall off everywhere" in finding.message
