"""Every baseline learns something, and its sign is the project's."""

import numpy as np
import pytest

from benchmarks.baselines import BASELINES, diffusion_time, pyod_detectors
from detector_jax import HealthError, metrics


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


def test_diffusion_time_is_the_mean_squared_distance():
  x = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 90.0])[:, None]
  np.testing.assert_allclose(diffusion_time.make(0).fit(x).score(np.array([[0.0]])), [6.0])


@pytest.mark.parametrize("name", pyod_detectors.NAMES)
def test_detectors_of_pyod_find_what_is_far_away(name, rng):
  pytest.importorskip("pyod")
  if name == "LUNAR":
    pytest.importorskip("torch")
  train, typical = rng.normal(size=(200, 4)), rng.normal(size=(100, 4))
  far = rng.normal(size=(100, 4)) + 6.0
  scores = pyod_detectors.make(0, name).fit(train).score(np.concatenate([typical, far]))
  assert metrics.auroc(np.repeat([0, 1], 100), scores) > 0.98


def test_what_is_not_installed_is_left_out_and_named(monkeypatch, caplog):
  find = pyod_detectors.importlib.util.find_spec
  monkeypatch.setattr(
    pyod_detectors.importlib.util,
    "find_spec",
    lambda name, *rest: name == "pyod" or (None if name == "torch" else find(name, *rest)),
  )
  assert pyod_detectors.installed() == ("KDE", "GMM", "CBLOF", "INNE")
  assert "Left out LUNAR" in caplog.text


def test_a_detector_that_cannot_learn_stops():
  class Refusing:
    def fit(self, x):
      raise ValueError("no large cluster")

  with pytest.raises(HealthError, match="no large cluster"):
    pyod_detectors.Pyod(Refusing()).fit(np.zeros((3, 1)))
