"""Each guard, provoked; and left alone by healthy numbers."""

import numpy as np
import pytest

from detector_jax import health


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_named(value):
  with pytest.raises(health.HealthError, match=rf"negative_loss is {value} at step 7"):
    health.check_loss({"positive_loss": 0.5, "negative_loss": value}, 7)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_counted(value):
  with pytest.raises(health.HealthError, match="2 of 3 scores are not finite"):
    health.check_scores(np.array([1.0, value, value]))


def test_constant_scores_are_refused():
  with pytest.raises(health.HealthError, match=r"All 4 scores are 0\.25"):
    health.check_scores(np.full(4, 0.25, np.float32))


def test_healthy_numbers_pass(rng):
  health.check_loss({"positive_loss": 0.5}, 7)
  health.check_scores(rng.normal(size=5))
  health.check_scores(np.array([0.5]))


def test_only_failed_checks_are_logged(caplog):
  failed = health.Finding.from_check("this", 0.0, False, "It failed.")
  health.warn([failed, health.Finding.from_check("that", 1.0, True, "It did not.")])
  assert [record.message for record in caplog.records] == ["It failed."]
