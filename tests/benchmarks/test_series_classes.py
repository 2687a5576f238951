"""One class of series against the others."""

import numpy as np
import pytest

from benchmarks import series_classes
from benchmarks.baselines import aeon_kernels


@pytest.fixture
def leaves(tmp_path, monkeypatch, rng):
  """A set of two kinds of series, 20 of each to train on and 10 to test."""
  waves = np.stack([np.sin(np.linspace(0, k, 12)) for k in (3, 9)])
  y = np.repeat([0, 1], 30)
  x = waves[y][..., None] + 0.1 * rng.normal(size=(60, 12, 1))
  (tmp_path / "series").mkdir()
  np.savez(tmp_path / "series" / "OSULeaf.npz", x=x, y=y, test=np.arange(60) % 3 == 0)
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))


def test_each_class_in_turn_is_typical(leaves):
  first, second = series_classes.tasks("OSULeaf", 0)
  assert first.x.shape == second.x.shape == (20, 12, 1)
  np.testing.assert_array_equal(first.labels, np.repeat([0, 1], 10))
  np.testing.assert_array_equal(second.labels, 1 - first.labels)
  assert abs(first.x.mean() - second.x.mean()) > 0.1


def test_all_tell_the_classes_apart(leaves):
  found = series_classes.measured("OSULeaf", 0)
  own = [series_classes.OURS, series_classes.PEER, series_classes.ROCKET]
  assert [name for name in found if name != series_classes.AEON] == own
  assert all(each["auroc"] > 0.99 and each["cpu_seconds"] > 0 for each in found.values())


def test_aeon_s_features_stand_beside_ours_where_it_is_installed(monkeypatch, caplog):
  monkeypatch.setattr(aeon_kernels.importlib.util, "find_spec", lambda name: None)
  series_classes.methods.cache_clear()
  assert series_classes.AEON not in series_classes.methods()
  assert "pip install 'drocc-jax[aeon]'" in caplog.text
  monkeypatch.setattr(aeon_kernels.importlib.util, "find_spec", lambda name: name)
  series_classes.methods.cache_clear()
  assert list(series_classes.methods())[-1] == series_classes.AEON
  series_classes.methods.cache_clear()


def test_aeon_s_features_tell_shapes_apart(leaves):
  pytest.importorskip("aeon", reason="aeon is not installed: pip install -e '.[aeon]'")
  task = next(series_classes.tasks("OSULeaf", 0))
  x, x_test = aeon_kernels.features(task.x, task.x_test, 0)
  assert [len(x), len(x_test)] == [20, 20]
  assert x.shape[1] == x_test.shape[1] > 9000
  assert x.min() >= 0.0
  assert x.max() <= 1.0
  scores = series_classes.aeon_scores(task, 0)
  assert scores[task.labels == 1].min() > scores[task.labels == 0].max()


def test_a_set_that_is_not_there_is_named(tmp_path, monkeypatch):
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  with pytest.raises(ValueError, match=r"no series/OSULeaf.npz; set OOD_DATA_DIR"):
    series_classes.read("OSULeaf")


def test_a_run_is_of_the_sets_that_are_asked_for():
  splits = ["epilepsy, released", "epilepsy, recording"]
  assert series_classes.rows(["OSULeaf", "epilepsy"]) == ["OSULeaf", *splits]
  with pytest.raises(ValueError, match="--series_sets: 'Leaf' is none of epilepsy, JapaneseVowels"):
    series_classes.rows(["Leaf"])
