"""Autoencoders: shapes, the variational one's noise and penalty, gradients, and their size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import taps
from fingerprint_jax import autoencoders, classifiers, views
from fingerprint_jax.autoencoders import ConvAutoencoder, DenseAutoencoder, VariationalAutoencoder


def size(tree) -> int:
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def params_of(module, shape, seed=0):
  """Parameters drawn by NumPy: compiling their initialisers takes longer than all else here."""
  x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda s: jnp.asarray(0.3 * rng.normal(size=s.shape), s.dtype), shapes)


@pytest.mark.parametrize(
  ("module", "shape"),
  [
    (DenseAutoencoder(8, 2), (5,)),
    (DenseAutoencoder(8, 2), (1,)),
    (ConvAutoencoder(3, 4), (7, 7, 2)),
    (ConvAutoencoder(3, 4, kernel=3), (5, 6, 2)),
    (ConvAutoencoder(3, 4, kernel=3), (20, 2)),
    (ConvAutoencoder(3, 4), (3, 3, 3, 2)),
    (VariationalAutoencoder(8, 2), (5,)),
    (VariationalAutoencoder(8, 2), (4, 4, 3)),
  ],
)
def test_the_shape_is_kept(module, shape):
  x = jax.ShapeDtypeStruct((6, *shape), jnp.float32)
  result, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
  assert (result.shape, result.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize(
  ("module", "shape"),
  [
    (DenseAutoencoder(8, 2), (5,)),
    (ConvAutoencoder(3, 4, kernel=3), (5, 6, 2)),
    (VariationalAutoencoder(8, 2), (5,)),
  ],
)
def test_every_parameter_learns(module, shape):
  x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
  params = params_of(module, shape)

  @jax.jit
  @jax.grad
  def gradient(params):
    result, sown = module.apply({"params": params}, x, mutable=[autoencoders.PENALTY])
    return jnp.mean((x - result) ** 2) + sum(leaf.mean() for leaf in jax.tree.leaves(sown))

  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
    assert np.isfinite(leaf).all(), path
    assert np.abs(leaf).max() > 0, path


def test_the_variational_code_is_drawn_where_there_is_noise():
  module = VariationalAutoencoder(8, 2, beta=0.5)
  x = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)
  params = params_of(module, (3, 4))

  def apply(seed=None):
    rngs = None if seed is None else {autoencoders.NOISE: jax.random.key(seed)}
    return module.apply({"params": params}, x, rngs=rngs, mutable=[autoencoders.PENALTY])

  (still, sown), (again, _), (drawn, _), (other, _) = apply(), apply(), apply(0), apply(1)
  np.testing.assert_array_equal(still, again)
  assert np.abs(drawn - other).max() > 1e-3
  assert np.abs(drawn - still).max() > 1e-3

  flat = x.reshape(6, 12)
  dense = {name: lambda h, p=p: h @ p["kernel"] + p["bias"][None] for name, p in params.items()}
  hidden = jax.nn.relu(dense["encode"](flat))
  mean, log_var = dense["mean"](hidden), dense["log_variance"](hidden)
  want = 0.5 * 0.5 * jnp.sum(mean**2 + jnp.exp(log_var) - 1.0 - log_var, axis=1) / 12
  (penalty,) = jax.tree.leaves(sown)
  np.testing.assert_allclose(penalty, want, rtol=1e-4)
  assert (np.asarray(penalty) >= 0).all()


def test_default_autoencoders_follow_the_shape_of_the_view():
  assert autoencoders.default_autoencoder((64,)) == DenseAutoencoder(32, 8)
  assert autoencoders.default_autoencoder((3,)) == DenseAutoencoder(8, 2)
  assert autoencoders.default_autoencoder((4096,)) == DenseAutoencoder(128, 32)
  assert autoencoders.default_autoencoder((7, 7, 32)) == ConvAutoencoder(16, 28)
  assert autoencoders.default_autoencoder((40, 8)) == ConvAutoencoder(16, 28)


def test_fingerprints_of_the_mnist_network_are_no_larger_than_it():
  network = classifiers.mnist_classifier()
  key = jax.random.key(0)
  variables = jax.eval_shape(network.init, key, jnp.zeros((1, 28, 28, 1)))
  found = taps.find(network, variables, (28, 28, 1))
  total = 0
  for shape in found.shapes:
    seen = views.pooled_shape(shape)
    module = autoencoders.default_autoencoder(seen)
    total += size(jax.eval_shape(module.init, key, jnp.zeros((1, *seen)))["params"])
  assert size(variables) == 226_106
  assert 100_000 < total <= 226_106
