"""Fitting reads records, and computes activations, a batch at a time."""

import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import splits
from detector_jax.batching import Selection
from detector_jax.joined import Computed
from fingerprint_jax import NeuralFP

CHEAP = {"fpr": 0.1, "batch_size": 32, "calibration_size": 0.1, "random_state": 0}
NUM, WIDTH = 1000, 40


def wide(x):
  assert len(x) <= CHEAP["batch_size"]
  return {"hidden": np.tanh(x[:, :20])}


def first(x):
  return {"hidden": jnp.tanh(x[:, :12]), "later": x[:, 8:] ** 2}


@pytest.fixture
def read(monkeypatch):
  """Numbers of records that were read at once, and of activations computed at once."""
  sizes = []
  for kind, method in ((Selection, "__array__"), (Computed, "__getitem__")):

    def counted(self, *args, former=getattr(kind, method), **kwargs):
      result = former(self, *args, **kwargs)
      sizes.append(len(result))
      return result

    monkeypatch.setattr(kind, method, counted)
  monkeypatch.setattr(splits, "HASHED_AT_ONCE", 2**12)
  return sizes


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
  """Records in a file."""
  file = tmp_path_factory.mktemp("stored") / "x.npy"
  np.save(file, np.random.default_rng(0).normal(size=(NUM, WIDTH)).astype(np.float32))
  return np.load(file, mmap_mode="r")


def test_a_memory_map_is_read_a_batch_at_a_time(read, stored):
  model = NeuralFP(first, **CHEAP).fit(stored)
  held_out = NUM * CHEAP["calibration_size"]
  assert sum(read) > NUM
  assert max(read) <= max(held_out / 2, 2**12 / WIDTH)
  fresh = stored[:200] + 0.5
  model.fit(stored, X_calibration=fresh)
  assert max(read) <= max(held_out, 2**12 / WIDTH)
  scores = model.detector_.score(fresh)
  near = np.abs(model.detector_.calibration.scores[:, None] - scores).min(axis=1)
  assert near.max() < 1e-4  # they are of the records that are given
  again = NeuralFP(first, **CHEAP).fit(np.array(stored), X_calibration=fresh)
  np.testing.assert_array_equal(again.score_samples(stored[:9]), model.score_samples(stored[:9]))


def test_activations_are_computed_a_batch_at_a_time(read, stored):
  model = NeuralFP(activations=wide, **CHEAP).fit(stored)
  assert sum(read) > NUM
  assert max(read) <= max(NUM * CHEAP["calibration_size"] / 2, 2**12 / 20)
  assert model.detector_.input_shape == (20,)


def test_a_selection_names_records_and_reads_them_when_asked():
  reads = []

  class Store:
    shape = (10, 2)

    def __getitem__(self, key):
      reads.append(list(key))
      return np.arange(20.0).reshape(10, 2)[key]

  some = Selection(Store(), np.arange(10))[2:8][np.array([0, 4])]
  assert (some.shape, len(some), reads) == ((2, 2), 2, [])
  read = np.asarray(some)
  assert (read.dtype, read.tolist(), reads) == (np.float32, [[4.0, 5.0], [12.0, 13.0]], [[2, 6]])
  assert np.asarray(some, np.float64).dtype == np.float64
  with pytest.raises(ValueError, match="makes a copy"):
    np.array(some, copy=False)


def test_activations_are_computed_of_the_records_that_are_named():
  asked = []

  def double(x):
    asked.append(x[:, 0].tolist())
    return {"a": 2 * x}

  found = Computed(double, np.arange(10.0)[:, None], {"a": (1,)}, 3)
  assert found[np.array([1, 5, 6, 7, 9])].tolist() == [[2.0], [10.0], [12.0], [14.0], [18.0]]
  assert asked == [[1.0, 5.0, 6.0], [7.0, 9.0]]
  assert (found[:0].shape, found.shape, found[7:].tolist()) == (
    (0, 1),
    (10, 1),
    [[14.0], [16.0], [18.0]],
  )
  with pytest.raises(ValueError, match="activations of record 4 hold NaN"):
    Computed(lambda x: {"a": np.where(x == 4, np.nan, x)}, found.records, {"a": (1,)}, 3)[2:]


@pytest.mark.parametrize("batch_size", [0, 2.5])
def test_a_batch_size_that_is_none_is_named(stored, batch_size):
  with pytest.raises(ValueError, match="batch_size must be"):
    NeuralFP(activations=wide, **{**CHEAP, "batch_size": batch_size}).fit(stored)
