"""The network that begins at the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drocc_jax import drocc, networks, prototypes, recipe
from drocc_jax.settings import Training


def test_prototypes_begin_as_distances_to_the_data(rng):
  x = rng.normal(size=(200, 5)).astype(np.float32)
  forward = networks.as_forward(prototypes.Prototypes(count=200, tau=0.01))
  params, stats = forward.init(jax.random.key(0), x)
  others = rng.normal(size=(50, 5)).astype(np.float32) * 3
  nearest = ((others[:, None] - x[None]) ** 2).sum(-1).min(1)
  logits = forward.evaluate(params, stats, others)
  assert np.corrcoef(np.argsort(np.argsort(-nearest)), np.argsort(np.argsort(logits)))[0, 1] > 0.999
  assert (np.asarray(forward.evaluate(params, stats, x)) > 0).all()


def test_k_means_finds_clusters_and_stands_more_centroids_than_rows(rng):
  middles = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
  x = (np.repeat(middles, 40, axis=0) + 0.1 * rng.normal(size=(120, 2))).astype(np.float32)
  centroids = np.asarray(prototypes.k_means(jax.random.key(0), x, 12))
  gaps = np.sqrt(((x[:, None] - centroids[None]) ** 2).sum(-1)).min(axis=1)
  assert gaps.max() < 0.6
  cloud = rng.normal(size=(300, 2)).astype(np.float32)

  def inertia(rounds):
    found = np.asarray(prototypes.k_means(jax.random.key(0), cloud, 12, rounds))
    return ((cloud[:, None] - found[None]) ** 2).sum(-1).min(axis=1).mean()

  assert inertia(10) < 0.8 * inertia(0)
  repeated = np.asarray(prototypes.k_means(jax.random.key(0), x[:3], 7))
  assert len(np.unique(repeated, axis=0)) == 3


def test_a_network_that_starts_at_the_data_is_given_rows_of_it_and_others_zeros(rng):
  x = jnp.asarray(rng.normal(size=(30, 4)), jnp.float32)
  sample = networks.sample_for(prototypes.Prototypes(init_rows=7), x)
  assert sample.shape == (7, 4)
  assert np.array_equal(sample[-1], x[-1])
  assert not networks.sample_for(networks.MLP(), x).any()
  assert networks.sample_for(networks.MLP(), x).shape == (1, 4)


def test_no_point_starts_at_the_zeros_that_rows_are_padded_with(rng):
  middle = np.repeat([[-4.0], [4.0]], [20, 21], axis=0)  # 41 rows, which are padded to 48
  x = np.float32(middle + 0.1 * rng.normal(size=(41, 3)))
  network, settings = prototypes.Prototypes(), Training(scaling="none")
  prepared = recipe.build_training(x, drocc.Config(), settings, network=network)
  assert len(prepared.data.inputs) == 48
  np.testing.assert_array_equal(prepared.sample, x)
  centres = np.asarray(prepared.init(jax.random.key(0)).params["centres"])
  np.testing.assert_allclose(np.sort(centres, axis=0), np.sort(x, axis=0), atol=1e-5)


def test_networks_of_as_many_and_of_fewer_points_than_records_score_in_one_unit(rng):
  x, fresh = (jnp.asarray(rng.normal(size=(n, 6)), jnp.float32) for n in (300, 200))
  found = []
  for count in (300, 285, 150):
    forward = networks.as_forward(prototypes.Prototypes(count=count))
    found.append(np.median(forward.evaluate(*forward.init(jax.random.key(0), x), fresh)))
  assert 0.5 < (5.0 - found[0]) / 5.0 < 2.0  # the usual distance of records to one another is 1
  np.testing.assert_allclose(found[1:], found[0], atol=1.5)


def test_there_are_no_more_points_than_records():
  assert networks.for_records(prototypes.Prototypes(), 30).count == 30
  assert networks.for_records(prototypes.Prototypes(count=8), 30).count == 8
  assert networks.for_records(networks.MLP(), 30) == networks.MLP()


def test_long_records_have_fewer_points_and_are_begun_from_fewer(monkeypatch, rng):
  wide = jax.ShapeDtypeStruct((1, 5000, 12), jnp.float32)
  variables = jax.eval_shape(prototypes.Prototypes().init, jax.random.key(0), wide)
  assert variables["params"]["centres"].shape == (2**23 // 60_000, 60_000)
  assert variables["params"]["weights"].shape == (2**23 // 60_000,)
  monkeypatch.setattr(networks, "SAMPLED", 50)
  x = jnp.asarray(rng.normal(size=(30, 4, 3)), jnp.float32)
  assert networks.sample_for(prototypes.Prototypes(), x).shape == (4, 4, 3)


def test_parts_are_judged_apart_each_by_its_own_nearest_point_and_unit(rng):
  """Near one record in one part and near another in the other is near; noise of a part is small."""
  x = np.concatenate([rng.normal(size=(40, 3)), 50.0 * rng.normal(size=(40, 2))], axis=1)
  x = x.astype(np.float32)
  forward = networks.as_forward(prototypes.Prototypes(count=40, tau=1e-3, parts=(3, 2)))
  params, stats = forward.init(jax.random.key(0), x)
  others = np.concatenate([x[:20], x[20:], 3.0 * rng.normal(size=(30, 5))]).astype(np.float32)
  others[:20, 3:] = x[20:, 3:]
  want = np.zeros(len(others))
  for part in (slice(3), slice(3, None)):
    squared = np.square(others[:, None, part] - x[None, :, part]).sum(-1)
    own = np.square(x[:, None, part] - x[None, :, part]).sum(-1) + np.diag(np.full(40, np.inf))
    nearest = own.min(axis=1)
    want += (squared.min(axis=1) - nearest.mean()) / nearest.std() / 2.0
  np.testing.assert_allclose(
    forward.evaluate(params, stats, others), 5.0 * (1.0 - want), rtol=2e-2, atol=0.2
  )


def test_parts_that_do_not_add_up_are_refused(rng):
  x = rng.normal(size=(4, 5)).astype(np.float32)
  with pytest.raises(ValueError, match=r"parts=\(3, 1\) are of 4 features, got 5"):
    networks.as_forward(prototypes.Prototypes(parts=(3, 1))).init(jax.random.key(0), x)


def test_parts_of_one_row_or_of_equal_rows_have_units(rng):
  for x in (np.ones((1, 4), np.float32), np.ones((5, 4), np.float32)):
    forward = networks.as_forward(prototypes.Prototypes(count=2, parts=(2, 2)))
    params, stats = forward.init(jax.random.key(0), x)
    assert np.isfinite(forward.evaluate(params, stats, x + 1.0)).all()
