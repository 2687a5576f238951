"""Attacks raise the loss, and stay in their ball and in [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from benchmarks import attacks

WEIGHTS = np.array([[2.0, -1.0, 0.0, 0.5], [-1.0, 1.0, 0.0, -0.5], [0.0, -3.0, 0.0, 1.0]])


def linear(x):
  """Three classes of four inputs, the third of which does not matter."""
  flat = x.reshape(x.shape[0], 4)
  return jnp.matmul(flat, jnp.asarray(WEIGHTS.T, jnp.float32), precision="highest"), flat


def curved(x):
  """Two classes: is the point within 0.3 of the centre of the square?"""
  inside = 4.0 * (0.09 - jnp.sum(jnp.square(x - 0.5), axis=1))
  return jnp.stack([inside, -inside], axis=1), x


def run(name, forward, x, y, size, **settings):
  if name == "fgsm":
    return attacks.fgsm(forward, x, y, size)
  return attacks.pgd(forward, x, y, size, key=jax.random.key(0), **settings)


def loss(forward, x, y):
  logits = np.asarray(forward(jnp.asarray(x, jnp.float32))[0], np.float64)
  return -special.log_softmax(logits, axis=1)[np.arange(len(y)), y]


@pytest.fixture
def images(rng):
  """Images ``[300, 2, 2, 1]``, corners of [0, 1] included, and classes."""
  x = np.clip(rng.uniform(-0.2, 1.2, size=(300, 2, 2, 1)), 0.0, 1.0).astype(np.float32)
  return x, rng.integers(0, 3, 300)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
@pytest.mark.parametrize("size", [0.0, 0.03, 0.3])
def test_attack_stays_in_its_ball_and_raises_the_loss(images, name, size):
  x, y = images
  moved = run(name, linear, x, y, size)
  assert moved.shape == x.shape
  assert moved.dtype == np.float32
  assert moved.min() >= 0.0
  assert moved.max() <= 1.0
  assert np.abs(moved - x).max() <= size + 1e-6
  if size == 0.0:
    np.testing.assert_array_equal(moved, x)
  else:
    before, after = loss(linear, x, y), loss(linear, moved, y)
    # The loss is convex: one step never lowers it, while a random start may lead to a lower corner.
    assert (after >= before - 1e-6).mean() >= (1.0 if name == "fgsm" else 0.98)
    assert (after > before + 1e-3).mean() > 0.95


def test_fgsm_by_hand():
  # Of class 0 against 1 alone: the gradient of the loss has the signs of (-3, 2, 0, -1).
  def two(x):
    return linear(x)[0][:, :2], x

  x = np.array([[0.5, 0.5, 0.5, 0.5], [0.05, 0.95, 0.5, 0.0]])
  moved = attacks.fgsm(two, x, np.array([0, 0]), 0.1)
  np.testing.assert_allclose(moved, [[0.4, 0.6, 0.5, 0.4], [0.0, 1.0, 0.5, 0.0]], atol=1e-7)
  moved = attacks.fgsm(two, x, np.array([1, 1]), 0.1)
  np.testing.assert_allclose(moved, [[0.6, 0.4, 0.5, 0.6], [0.15, 0.85, 0.5, 0.1]], atol=1e-7)


def test_pgd_of_a_linear_network_ends_in_the_corner_that_fgsm_finds(images):
  x = images[0].reshape(300, 4)

  def two(x):
    return linear(x)[0][:, :2], x

  y = np.zeros(300, np.int64)
  one, many = attacks.fgsm(two, x, y, 0.1), run("pgd", two, x, y, 0.1)
  matters = [0, 1, 3]
  np.testing.assert_allclose(many[:, matters], one[:, matters], atol=1e-6)
  assert np.abs(many[:, 2] - x[:, 2]).max() > 0.05


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_attack_moves_where_a_float32_softmax_is_one(name):
  def certain(x):
    return 1000.0 * x, x

  x, y = np.array([[0.9, 0.1, 0.2]]), np.array([0])
  assert float(jax.nn.softmax(certain(x)[0]).max()) == 1.0
  moved = run(name, certain, x, y, 0.05)
  np.testing.assert_allclose(moved[0, [0, 2]], [0.85, 0.25], atol=1e-6)


def test_pgd_leaves_a_centre_where_the_gradient_vanishes():
  x, y = np.full((20, 2), 0.5), np.zeros(20, np.int64)
  np.testing.assert_array_equal(attacks.fgsm(curved, x, y, 0.3), x)
  moved = run("pgd", curved, x, y, 0.3, steps=20)
  np.testing.assert_allclose(np.abs(moved - 0.5), 0.3, atol=1e-6)
  assert len(np.unique(np.sign(moved - 0.5), axis=0)) > 1


def test_more_steps_do_not_lower_the_loss_of_pgd(rng):
  x, y = rng.uniform(0.4, 0.6, size=(100, 2)), np.zeros(100, np.int64)
  losses = [loss(curved, run("pgd", curved, x, y, 0.2, steps=n), y).mean() for n in (1, 10)]
  assert losses[1] >= losses[0]
  assert losses[1] > loss(curved, x, y).mean()


def test_key_decides_the_random_start(images):
  x, y = images
  first, again, other = (
    attacks.pgd(linear, x, y, 0.1, steps=1, key=jax.random.key(seed)) for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_rows_do_not_depend_on_what_follows_and_are_traced_once(images, name):
  x, y = images
  traced = []

  def counted(x):
    traced.append(x.shape)
    return linear(x)

  whole = run(name, counted, x, y, 0.1)
  before = len(traced)
  np.testing.assert_array_equal(run(name, counted, x[:7], y[:7], 0.1), whole[:7])
  run(name, counted, x, y, 0.2)
  assert len(traced) == before
  assert {shape[0] for shape in traced} == {256}


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_what_cannot_be_attacked_is_refused(images, name):
  x, y = images
  with pytest.raises(ValueError, match=r"\[0, 1\]"):
    run(name, linear, 255.0 * x, y, 0.1)
  with pytest.raises(ValueError, match=r"\[0, 1\]"):
    run(name, linear, np.nan * x, y, 0.1)
  with pytest.raises(ValueError, match="do not match"):
    run(name, linear, x, y[1:], 0.1)
  with pytest.raises(ValueError, match="size"):
    run(name, linear, x, y, -0.1)
  with pytest.raises(ValueError, match="steps"):
    attacks.pgd(linear, x, y, 0.1, steps=0, key=jax.random.key(0))
