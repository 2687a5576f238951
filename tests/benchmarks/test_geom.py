"""GEOM: its transformations by hand, Dirichlet fits of known samples, and a toy set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from benchmarks.baselines import geom
from detector_jax import metrics
from drocc_jax import networks

SHAPE = (8, 8, 1)
NETWORK = networks.LeNet((4,), (16,))


@pytest.fixture(scope="module")
def image():
  return np.random.default_rng(0).normal(size=(8, 8, 3)).astype(np.float32)


def test_transformations_are_flips_shifts_and_turns(image):
  every = np.asarray(jax.vmap(geom.transform, (None, 0))(image, jnp.arange(72)))
  np.testing.assert_array_equal(every[0], image)
  for turns in range(4):
    np.testing.assert_array_equal(every[turns], np.rot90(image, turns))
  np.testing.assert_array_equal(every[36], image[:, ::-1])
  np.testing.assert_array_equal(every[12][:-2], image[2:])  # a quarter up
  np.testing.assert_array_equal(every[12][-2:], image[[6, 5]])  # the rest mirrored
  np.testing.assert_array_equal(every[24][2:], image[:-2])  # down
  np.testing.assert_array_equal(every[4][:, :-2], image[:, 2:])  # to the left
  np.testing.assert_array_equal(every[8][:, 2:], image[:, :-2])  # to the right
  assert len({each.tobytes() for each in every}) == 72


def test_inverse_digamma():
  x = np.array([1e-3, 0.05, 0.5, 1.0, 7.0, 300.0])
  np.testing.assert_allclose(geom._inverse_digamma(special.digamma(x)), x, rtol=1e-8)


@pytest.mark.parametrize("alpha", [[0.5, 1.0, 4.0], [20.0, 3.0, 0.2], [1.0, 1.0, 1.0]])
def test_dirichlet_parameters_are_recovered(alpha):
  p = np.random.default_rng(0).dirichlet(alpha, 20_000)
  got = geom.fit_dirichlet(np.log(np.maximum(p, 1e-30)), 1000)
  np.testing.assert_allclose(got, alpha, rtol=0.05)


def test_wide_resnet_has_the_parameters_of_its_layers():
  body = geom.WideResNet(blocks=1, width=4)
  variables = jax.eval_shape(body.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  convolutions = 9 * 3 * 16 + sum(
    ins * outs + 9 * ins * outs + 9 * outs * outs for ins, outs in ((16, 64), (64, 128), (128, 256))
  )
  normalised = 2 * (16 + 64 + 64 + 128 + 128 + 256 + 256)
  assert count == convolutions + normalised
  got = jax.eval_shape(body.apply, variables, jnp.zeros((2, 32, 32, 3)))
  assert got.shape == (2, 256)


def slopes(count, seed, turned):
  """Images that grow brighter to the right and, faster, downwards; or turned by 90 degrees."""
  x = np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)
  down, right = np.mgrid[-1.0:1.0:8j, -1.0:1.0:8j]
  x = 0.3 * x + (2.0 * down + right)[..., None].astype(np.float32)
  return np.ascontiguousarray(np.rot90(x, axes=(1, 2))) if turned else x


@pytest.fixture(scope="module")
def problem():
  test = np.concatenate([slopes(60, 1, False), slopes(60, 2, True)])
  return slopes(128, 0, False), test, np.repeat([0, 1], 60)


def made(seed=0, **settings):
  settings = {"epochs": 30, "learning_rate": 1e-2, "batch_size": 64, **settings}
  return geom.make(seed, SHAPE, network=NETWORK, **settings)


@pytest.mark.long
def test_finds_images_that_are_turned_and_says_the_same_twice(problem):
  train, test, labels = problem
  model = made().fit(train)
  scores = model.score(test)
  assert metrics.auroc(labels, scores) > 0.95
  assert model.alpha.shape == (72, 72)
  assert (model.alpha > 0).all()
  np.testing.assert_array_equal(made().fit(train).score(test), scores)
  np.testing.assert_allclose(model.score(test[:3]), scores[:3], rtol=1e-6)
  found = accuracy(model, test)
  assert found[labels == 0].mean() > 0.6
  assert found[labels == 1].mean() < 0.2
  untrained = made(learning_rate=1e-30, epochs=1).fit(train)
  assert accuracy(untrained, test).mean() < 0.1


def accuracy(model, x):
  """Share of transformations of each image that the classifier names."""
  return (model._log_p(x).argmax(axis=-1) == np.arange(72)).mean(axis=-1)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: geom.make(0, (8, 9, 1)), r"square images of at least 8 x 8, got records \[8, 9, 1\]"),
    (lambda: geom.make(0, (4, 4, 1)), "at least 8 x 8"),
    (lambda: geom.make(0, SHAPE, network=networks.MLP()), "takes a LeNet or its own network"),
    (lambda: made(epochs=0), "epochs must be >= 1"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()
