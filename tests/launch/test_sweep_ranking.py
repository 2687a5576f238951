"""What ranks a sweep: the same made-up anomalies for every model, at distances of the data."""

import dataclasses

import numpy as np
import pytest

from launch import data, sweep_ranking
from launch.data.splits import Labelled
from launch.methods import drocc


def test_neighbour_distance_by_hand(rng):
  z = np.array([0.0, 1.0, 3.0, 10.0, 10.0])[:, None]  # 1, 1, 2, and 0, 0 for the repeated record
  assert sweep_ranking.neighbour_distance(z, rng) == 1.0
  assert sweep_ranking.neighbour_distance(z[:4], rng) == 1.5  # 1, 1, 2, 7
  assert sweep_ranking.neighbour_distance(np.ones((5, 2, 2)), rng) == 1.0
  assert sweep_ranking.neighbour_distance(np.ones((1, 2)), rng) == 1.0


@pytest.mark.parametrize("shape", [(3,), (4, 5), (8, 8, 1)])
def test_anomalies_lie_at_the_stated_distances_in_all_directions(rng, shape):
  z_train = rng.normal(size=(300, *shape)).astype(np.float32)
  z = rng.normal(size=(40, *shape)).astype(np.float32)
  made = sweep_ranking.synthetic_anomalies(z_train, z, seed=0)
  assert made.shape == (1000, *shape)
  assert made.dtype == np.float32
  moved = (made - np.repeat(z, 25, axis=0)).reshape(1000, -1)
  unit = sweep_ranking.neighbour_distance(z_train, rng)
  lengths = np.linalg.norm(moved, axis=1) / unit
  assert 0.5 - 1e-3 < lengths.min() < 0.55
  assert 3.7 < lengths.max() < 4.0 + 1e-3
  assert np.median(lengths) == pytest.approx(2.0**0.5, rel=0.1)  # the logarithm is uniform
  directions = moved / np.linalg.norm(moved, axis=1, keepdims=True)
  assert np.abs(directions.mean(axis=0)).max() < 0.12
  assert np.std(directions) * np.prod(shape) ** 0.5 == pytest.approx(1.0, abs=0.02)


def test_anomalies_are_a_function_of_data_and_seed(rng):
  z = rng.normal(size=(50, 3)).astype(np.float32)
  one = sweep_ranking.synthetic_anomalies(z, z[:7], seed=3)
  np.testing.assert_array_equal(one, sweep_ranking.synthetic_anomalies(z, z[:7], seed=3))
  assert (one != sweep_ranking.synthetic_anomalies(z, z[:7], seed=4)).any()
  assert len(one) == 1001  # 143 of each


def test_halves_are_disjoint_random_and_whole():
  held_out = np.arange(100, 131)
  ranks, calibrates = sweep_ranking.halves(held_out, 0)
  assert (len(ranks), len(calibrates)) == (15, 16)
  np.testing.assert_array_equal(np.sort(np.concatenate([ranks, calibrates])), held_out)
  other, _ = sweep_ranking.halves(held_out, 1)
  assert set(other) != set(ranks)
  with pytest.raises(ValueError, match="there are 3, too few: raise calibration_size"):
    sweep_ranking.halves(held_out[:3], 0)


@pytest.mark.parametrize(
  ("labels", "wanted"), [(None, False), ([0, 0], False), ([1], False), ([0, 1], True)]
)
def test_both_classes(labels, wanted):
  assert sweep_ranking.both_classes(None if labels is None else np.array(labels)) is wanted


def test_validation_labels_rank_only_where_both_classes_are_there(rng):
  x = rng.normal(size=(60, 3)).astype(np.float32)
  prepared = drocc.prepare(drocc.Config(epochs=1), x)
  splits = data.Splits(x)
  ranking = sweep_ranking.make(splits, prepared, x[:10], 0)
  assert ranking.description.startswith("AUROC of 10 held-out typical records against synthetic")
  np.testing.assert_array_equal(ranking.labels, [0] * 10 + [1] * 1000)
  assert ranking.z.shape == (1010, 3)
  np.testing.assert_allclose(ranking.z[:10], (x[:10] - x.mean(0)) / x.std(0), atol=1e-4)
  x_other, sources = np.ones((4, 3), np.float32), np.array(["a"] * 4)
  for y, labelled in ((np.array([0, 1, 1, 0]), True), (np.zeros(4, np.int64), False)):
    other = dataclasses.replace(splits, validation=Labelled(x_other, y, sources))
    assert sweep_ranking.labelled(other) is labelled
    made = sweep_ranking.make(other, prepared, x[:10], 0)
    assert (len(made.labels) == 4) is labelled
    if labelled:
      np.testing.assert_array_equal(made.labels, y)
