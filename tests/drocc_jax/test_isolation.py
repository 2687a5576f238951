"""Which records are isolated: hand-made distances, the cap, copies, and who is trained on."""

import numpy as np
import pytest

from detector_jax import card
from drocc_jax import DROCC, isolation


@pytest.fixture
def line():
  """Records at 0, 1, ..., 299 on a line, and six far from each other and from these."""
  return np.concatenate([np.arange(300.0), 1000.0 * np.arange(2.0, 8.0)])[:, None]


def test_records_far_from_all_others_are_isolated_and_no_others(line):
  # Inside the line the five nearest are 1, 1, 2, 2 and 3 away: 1.8 in the mean; at its ends 3.
  np.testing.assert_array_equal(isolation.connected_rows(line, 0.1), np.arange(300))


def test_the_far_end_of_a_plain_sample_is_not_isolated(rng):
  z = rng.normal(size=(1000, 30))
  np.testing.assert_array_equal(isolation.connected_rows(z, 0.1), np.arange(1000))


def test_no_more_than_the_share_are_left_out(rng):
  few = [rng.uniform(size=(10, 2)) * 400.0 + 1e4 * place for place in range(1, 11)]
  z = np.concatenate([rng.normal(size=(300, 2)), *few])  # ten heaps, none large enough for a hill
  kept = isolation.connected_rows(z, 0.1)
  assert len(kept) == 360
  assert set(range(300)) <= set(kept.tolist())


def test_few_records_are_all_kept(line):
  np.testing.assert_array_equal(isolation.connected_rows(line[110:], 0.1), np.arange(196))
  assert len(isolation.connected_rows(line[110:], 0.2)) == 190


def test_copies_have_no_distance_to_compare_with(line):
  z = np.concatenate([np.zeros((400, 1)), line])
  assert len(isolation.connected_rows(z, 0.1)) == len(z)


def test_of_many_records_some_are_the_neighbours(line, monkeypatch):
  monkeypatch.setattr(isolation, "REFERENCE", 160)
  z = np.concatenate([line[:300], line[300:], line[:300] + 0.5])
  kept = isolation.connected_rows(z, 0.1)
  np.testing.assert_array_equal(kept, np.delete(np.arange(606), range(300, 306)))


def test_a_hill_of_its_own_is_no_heap_of_isolated_records(rng):
  """Records ten times as far apart as the others, which are one another's neighbours."""
  hill = rng.normal(100.0, 10.0, size=(60, 3))
  strays = rng.uniform(-300.0, -30.0, size=(12, 3)) * [1.0, -1.0, 1.0]
  z = np.concatenate([rng.normal(size=(1000, 3)), hill, strays, [[400.0, 400.0, 400.0]]])
  kept = np.zeros(len(z), bool)
  kept[isolation.connected_rows(z, 0.1)] = True
  assert kept[1000:1060].mean() > 0.9
  assert not kept[1060:].any()


def test_a_long_tail_is_no_hill(rng, monkeypatch):
  z = rng.standard_t(2, size=(2000, 2))
  left_out = len(z) - len(isolation.connected_rows(z, 0.1))
  monkeypatch.setattr(isolation, "TOGETHER", 0.0)  # any group that holds together is a hill
  assert left_out > 1.1 * (len(z) - len(isolation.connected_rows(z, 0.1))) > 50


@pytest.mark.parametrize("trim", [-0.1, 0.5, float("nan")])
def test_a_share_out_of_its_range_is_named(line, trim):
  with pytest.raises(ValueError, match=r"trim must be in \[0, 0.5\)"):
    isolation.connected_rows(line, trim)


def test_isolated_records_are_not_trained_on(rng):
  x = np.concatenate([rng.uniform(size=(300, 2)), [[60.0, 0.0], [0.0, 90.0], [-80.0, 80.0]]])
  settings = {"calibration_size": 0.0, "epochs": 2, "random_state": 0}
  model = DROCC(**settings).fit(x)
  assert model.detector_.metadata["training_records"] == 300
  assert sorted(model.trimmed_.tolist()) == [300, 301, 302]
  said = card.facts(model.detector_, {})["trained on"]
  assert said == "300 records; 3 more were left out, far from all others"
  model = DROCC(trim=0.0, **settings).fit(x)
  assert model.detector_.metadata["training_records"] == 303
  assert card.facts(model.detector_, {})["trained on"] == "303 records"
