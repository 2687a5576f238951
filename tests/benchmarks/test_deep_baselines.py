"""Deep SVDD and the autoencoder: a toy set with a known answer, collapse, and the objective."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.baselines import autoencoder, deep_svdd, encoders
from detector_jax import HealthError, metrics
from detector_jax.batching import Batch
from drocc_jax import networks

NETWORKS = {
  "MLP": (networks.MLP((32, 16)), (12,)),
  "LeNet": (networks.LeNet((4,), (16,)), (8, 8, 1)),
}
METHODS = {
  "one-class": functools.partial(deep_svdd.make, learning_rate=3e-3, pretrain_learning_rate=1e-2),
  "soft-boundary": functools.partial(
    deep_svdd.make,
    objective="soft-boundary",
    warm_up_epochs=5,
    learning_rate=3e-3,
    pretrain_learning_rate=1e-2,
  ),
  "autoencoder": functools.partial(autoencoder.make, learning_rate=1e-2),
}
EACH = pytest.mark.parametrize("method", METHODS)


@functools.cache
def problem(network):
  """Typical records are a pattern and noise, anomalous ones its negative and noise."""
  shape = NETWORKS[network][1]
  rng = np.random.default_rng(0)
  pattern = rng.normal(size=shape)
  signs = np.repeat([1.0, -1.0], [356, 100]).reshape(-1, *(1 for _ in shape))
  x = (2.0 * signs * pattern + rng.normal(size=(456, *shape))).astype(np.float32)
  return x[:256], x[256:], np.repeat([0, 1], 100)


def made(method, network, seed=0, **settings):
  model, shape = NETWORKS[network]
  return METHODS[method](seed, shape, network=model, **{"epochs": 30, **settings})


@pytest.mark.long
@pytest.mark.parametrize("network", NETWORKS)
@EACH
def test_finds_the_pattern_turned_round(method, network):
  train, test, labels = problem(network)
  model = made(method, network).fit(train)
  scores = model.score(test)
  assert metrics.auroc(labels, scores) > 0.9
  assert scores.shape == (200,)
  np.testing.assert_allclose(model.score(test[:3]), scores[:3], rtol=1e-5)


@EACH
def test_the_seed_decides_and_training_makes_a_difference(method):
  train, test, _ = problem("MLP")
  scores = made(method, "MLP").fit(train).score(test)
  np.testing.assert_array_equal(made(method, "MLP").fit(train).score(test), scores)
  assert not np.allclose(made(method, "MLP", seed=1).fit(train).score(test), scores)
  still = made(method, "MLP", learning_rate=1e-30).fit(train).score(test)
  assert not np.allclose(still, scores)


def test_training_draws_typical_records_to_the_centre_and_counts_epochs_of_each_phase():
  train, test, labels = problem("MLP")
  typical = test[labels == 0]
  still = made("one-class", "MLP", learning_rate=1e-30).fit(train)
  near = made("one-class", "MLP").fit(train)
  np.testing.assert_array_equal(still.centre, near.centre)
  assert near.score(typical).mean() < 0.5 * still.score(typical).mean()
  few = {"epochs": 6, "warm_up_epochs": 10}  # half of them are the boundary's all the same
  one, other = (made(each, "MLP", **few).fit(train) for each in ("one-class", "soft-boundary"))
  assert not np.allclose(one.score(test), other.score(test))
  soft = made("soft-boundary", "MLP").fit(train).score(typical)
  assert soft.mean() > near.score(typical).mean(), "inside the boundary nothing draws them nearer"


def test_soft_objective_by_hand():
  encoder = encoders.MLPEncoder((2,))
  params = {"Dense_0": {"kernel": jnp.eye(2)}}
  inputs = jnp.asarray([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0], [0.0, 9.0], [50.0, 0.0]])
  mask = jnp.asarray([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
  batch = Batch(inputs, jnp.ones(6), mask, jnp.arange(6))
  objective = deep_svdd.make_soft_objective(encoder)
  constants = {"centre": jnp.zeros(2), "nu": jnp.asarray(0.3)}
  value, (_, info) = objective(params, {}, constants, batch, jax.random.key(0))
  # Distances 1, 4, 9, 16, 81, their 70 % quantile is 14.6.
  assert float(value) == pytest.approx(14.6 + (1.4 + 66.4) / 0.3 / 5.0)
  assert float(info["typical_distance"].value) == pytest.approx(111.0 / 5.0)
  slope = jax.grad(lambda p: objective(p, {}, constants, batch, None)[0])(params)
  kernel = slope["Dense_0"]["kernel"]
  # Only the records beyond R pull: d (16 / 0.3 / 5) / d kernel[0, 0] = 2 * 4 * 4 / 1.5.
  np.testing.assert_allclose(kernel, [[32.0 / 1.5, 0.0], [0.0, 162.0 / 1.5]], rtol=1e-5)


@pytest.mark.parametrize("method", ["one-class", "soft-boundary"])
def test_collapse_is_named(method):
  train, _, _ = problem("MLP")
  constant = np.ones_like(train)
  constant[0, 0] += 1e-6
  with pytest.raises(HealthError, match="Deep SVDD has collapsed"):
    made(method, "MLP").fit(constant)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: made("one-class", "MLP", nu=1.0), r"nu must be in \(0, 1\), got 1.0"),
    (lambda: made("one-class", "MLP", objective="hard"), "objective must be one of"),
    (lambda: made("one-class", "MLP", warm_up_epochs=-1), "warm_up_epochs must be >= 0"),
    (lambda: made("autoencoder", "MLP", epochs=0), "pretrain_epochs must be >= 1"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()
