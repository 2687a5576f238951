"""The released F1 against its own bounds."""

import numpy as np
import pytest

from drocc_jax import metrics


def test_f1_released_is_confined_on_a_balanced_set(rng):
  # 93 + 93 records, the released split of Thyroid.
  labels, perfect = np.repeat([0, 1], 93), np.arange(186.0)
  assert metrics.f1_released(labels, perfect) == pytest.approx(0.769, abs=5e-4)
  assert metrics.f1_released(labels, -perfect) == pytest.approx(0.463, abs=5e-4)
  random = [metrics.f1_released(labels, rng.normal(size=186)) for _ in range(100)]
  assert min(random) >= 0.463 - 5e-4
  assert max(random) <= 0.769 + 5e-4
  assert np.mean(random) == pytest.approx(0.615, abs=0.005)


def test_a_nan_score_is_refused():
  with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
    metrics.f1_released(np.array([0, 1]), np.array([np.nan, 1.0]))
