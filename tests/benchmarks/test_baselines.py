"""Every baseline learns something, and its sign is the project's."""

import numpy as np
import pytest

from benchmarks.baselines import BASELINES
from detector_jax import metrics


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_finds_what_is_far_away(name, rng):
  train, typical = rng.normal(size=(200, 4)), rng.normal(size=(100, 4))
  far = rng.normal(size=(100, 4)) + 6.0
  scores = BASELINES[name](0).fit(train).score(np.concatenate([typical, far]))
  assert scores.shape == (200,)
  assert len(np.unique(scores)) > 100
  assert metrics.auroc(np.repeat([0, 1], 100), scores) > 0.99


def test_nearest_neighbour_is_the_distance_to_the_nearest_record():
  model = BASELINES["nearest neighbour"](0).fit(np.array([[0.0, 0.0], [10.0, 0.0]]))
  np.testing.assert_allclose(model.score(np.array([[3.0, 4.0], [10.0, 1.0]])), [5.0, 1.0])


def test_seed_decides_the_isolation_forest(rng):
  x = rng.normal(size=(100, 3))
  make = BASELINES["isolation forest"]
  np.testing.assert_array_equal(make(1).fit(x).score(x), make(1).fit(x).score(x))
  assert not np.array_equal(make(1).fit(x).score(x), make(2).fit(x).score(x))
