"""One class of series against the others."""

import numpy as np
import pytest

from benchmarks import series_classes


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
  assert list(found) == [series_classes.OURS, series_classes.PEER, series_classes.ROCKET]
  assert all(each["auroc"] > 0.99 and each["cpu_seconds"] > 0 for each in found.values())


def test_a_set_that_is_not_there_is_named(tmp_path, monkeypatch):
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  with pytest.raises(ValueError, match=r"no series/OSULeaf.npz; set OOD_DATA_DIR"):
    series_classes.read("OSULeaf")


def test_a_run_is_of_the_sets_that_are_asked_for():
  splits = ["epilepsy, released", "epilepsy, recording"]
  assert series_classes.rows(["OSULeaf", "epilepsy"]) == ["OSULeaf", *splits]
  with pytest.raises(ValueError, match="--series_sets: 'Leaf' is none of epilepsy, JapaneseVowels"):
    series_classes.rows(["Leaf"])
