"""The adversarial search: the released numbers, known answers, guards and what it reports."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drocc_jax import losses, networks, projections
from drocc_jax.search import search

WEIGHTS = np.array([1.0, -2.0, 2.0], np.float32)  # of length 3
RADIUS, GAMMA = 1.0, 2.0


def linear(x):
  return jnp.sum(jnp.asarray(WEIGHTS) * x) + 0.5


def constant(x):
  return 0.0 * jnp.sum(x)


def released_project(delta, radius=RADIUS, gamma=GAMMA):
  """The projection, in NumPy."""
  return delta * np.clip(np.linalg.norm(delta), radius, gamma * radius) / np.linalg.norm(delta)


@functools.cache
def compiled(logit, project_every=1):
  """``run(x, noise, step_size, num_steps)`` on the shell of radius 1 and gamma 2."""
  project = functools.partial(projections.project_shell, radius=RADIUS, gamma=GAMMA)

  @jax.jit
  def run(x, noise, step_size, num_steps):
    return search(logit, x, noise, project, step_size, num_steps, project_every)

  return run


@pytest.fixture(scope="module")
def starts() -> tuple[np.ndarray, np.ndarray]:
  """100 examples with their noise."""
  rng = np.random.default_rng(0)
  x, noise = rng.normal(size=(2, 100, 3)).astype(np.float32)
  return x, noise


def test_negatives_of_the_released_code(released):
  forward = networks.as_forward(released.network)
  params = released.params("initial")
  x = jnp.asarray(released.x)
  np.testing.assert_allclose(
    forward.evaluate(params, {}, x), released.logits, rtol=1e-5, atol=1e-5 * 0.1
  )

  @jax.jit
  @jax.vmap
  def run(x, noise):
    return search(
      lambda x: forward.evaluate(params, {}, x[None])[0],
      x,
      noise,
      functools.partial(
        projections.project_shell, radius=float(released.radius), gamma=float(released.gamma)
      ),
      float(released.step_size),
      int(released.num_steps),
      int(released.project_every),
    )

  negatives, info = run(x, jnp.asarray(released.noise))
  scale = np.abs(released.negatives).max()
  np.testing.assert_allclose(negatives, released.negatives, rtol=0, atol=1e-5 * scale)
  distance = np.linalg.norm(released.negatives - released.x, axis=1)
  np.testing.assert_allclose(info.norm, distance, rtol=1e-5)
  loss = losses.logistic(forward.evaluate(params, {}, negatives), -1.0).mean()
  np.testing.assert_allclose(loss, released.negative_loss, rtol=1e-5)


def test_a_linear_logit_is_climbed_to_the_outer_sphere(starts):
  x, noise = starts
  run = jax.vmap(compiled(linear), in_axes=(0, 0, None, None))
  negatives, info = run(x, noise, 0.1, 200)
  # The worst point of the shell is at gamma * r along the weights, where the loss is known.
  want = x + GAMMA * RADIUS * WEIGHTS / 3
  np.testing.assert_allclose(negatives, want, atol=1e-2)
  at_end = np.logaddexp(0, want @ WEIGHTS + 0.5)
  start = x + np.stack([released_project(h) for h in noise])
  at_start = np.logaddexp(0, start @ WEIGHTS + 0.5)
  np.testing.assert_allclose(info.gain, at_end - at_start, atol=1e-3)
  np.testing.assert_allclose(info.travel, np.linalg.norm(want - start, axis=1), atol=2e-2)
  assert (np.asarray(info.gain) >= 0).all()


@pytest.mark.parametrize("num_steps", [1, 3, 10])
def test_the_ascent_never_loses_on_a_linear_logit(starts, num_steps):
  run = jax.vmap(compiled(linear), in_axes=(0, 0, None, None))
  _, info = run(*starts, 0.3, num_steps)
  assert (np.asarray(info.gain) >= -1e-6).all()
  assert np.asarray(info.gain).mean() > 0.1


@pytest.mark.parametrize("project_every", [1, 2, 3, 10])
@pytest.mark.parametrize("num_steps", [0, 1, 5, 6])
def test_projects_at_every_so_many_steps_and_after_the_last(starts, project_every, num_steps):
  (x, *_), (_, noise, *_) = starts
  h = noise.astype(np.float64)
  for step in range(num_steps):
    h = h + 0.9 * WEIGHTS / 3
    if (step + 1) % project_every == 0:
      h = released_project(h)
  h = released_project(h)
  got, info = compiled(linear, project_every)(x, noise, 0.9, num_steps)
  np.testing.assert_allclose(got, x + h, rtol=1e-5, atol=1e-5)
  assert float(info.norm) == pytest.approx(np.linalg.norm(h), rel=1e-5)


def test_the_end_point_is_on_the_shell(starts):
  x, noise = starts
  noise = noise * np.geomspace(1e-3, 1e3, 100, dtype=np.float32)[:, None]
  for num_steps in (0, 1, 7):
    run = jax.vmap(compiled(linear, 3), in_axes=(0, 0, None, None))
    negatives, info = run(x, noise, 0.5, num_steps)
    assert (np.asarray(info.norm) >= RADIUS * (1 - 1e-5)).all()
    assert (np.asarray(info.norm) <= GAMMA * RADIUS * (1 + 1e-5)).all()
    np.testing.assert_allclose(np.linalg.norm(negatives - x, axis=1), info.norm, rtol=1e-4)


def test_without_steps_the_negative_is_the_projected_noise(starts):
  x, noise = starts
  run = jax.vmap(compiled(linear), in_axes=(0, 0, None, None))
  negatives, info = run(x, noise, 0.5, 0)
  want = x + np.stack([released_project(h) for h in noise])
  np.testing.assert_allclose(negatives, want, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(info.gain, np.zeros(100))
  np.testing.assert_array_equal(info.travel, np.zeros(100))


def test_a_zero_gradient_keeps_h(starts):
  (x, *_), _ = starts
  inside = np.array([0.9, 1.2, 0.0], np.float32)
  negative, info = compiled(constant)(x, inside, 0.5, 9)
  np.testing.assert_array_equal(negative, x + inside)
  assert [float(info.gain), float(info.travel), float(info.projected)] == [0, 0, 0]


def test_a_zero_h_restarts_from_the_noise(starts):
  (x, *_), _ = starts
  # One step of length 3 along the first axis ends in zero, which has no direction to project along.
  noise = np.array([-3.0, 0.0, 0.0], np.float32)
  negative, info = compiled(lambda x: x[0])(x, noise, 3.0, 1)
  np.testing.assert_allclose(negative - x, [-2, 0, 0], atol=1e-6)
  assert np.isfinite([float(value) for value in jax.tree.leaves(info)]).all()


@pytest.mark.parametrize(
  ("logit", "num_steps", "distance"),
  [(constant, 0, 1.0), (constant, 4, 1.0), (linear, 0, 1.0), (linear, 1, 1.0), (linear, 4, 1.3)],
)
def test_zero_noise_still_ends_on_the_shell(starts, logit, num_steps, distance):
  (x, *_), _ = starts
  # The first step along the gradient is projected to the inner sphere, the others add 0.1 each.
  negative, info = compiled(logit)(x, np.zeros(3, np.float32), 0.1, num_steps)
  assert np.linalg.norm(negative - x) == pytest.approx(distance, rel=1e-4)
  assert float(info.norm) == pytest.approx(distance, rel=1e-5)


def test_the_share_of_projected_points_is_reported(starts):
  (x, *_), _ = starts
  run = compiled(constant)
  on, near, far = np.array([[1.5, 0, 0], [0.5, 0, 0], [9, 0, 0]], np.float32)
  assert [float(run(x, noise, 0.1, 0)[1].projected) for noise in (on, near, far)] == [0, 1, 1]
  # Pulled in from 9 to 1.5 before the first projection is due: that one finds nothing to do.
  inwards = compiled(lambda x: -x[0], 10)
  assert float(inwards(x, far, 1.5, 5)[1].projected) == 0
  assert float(inwards(x, far, 1.5, 4)[1].projected) == 1


def test_negatives_are_constants_for_the_outer_gradient(starts):
  (x, *_), (noise, *_) = starts
  project = functools.partial(projections.project_shell, radius=RADIUS, gamma=GAMMA)

  def total(weights, x, noise):
    negative, info = search(lambda x: jnp.sum(weights * x), x, noise, project, 0.1, 3)
    return jnp.sum(negative) + info.gain + info.norm + info.travel

  gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(jnp.asarray(WEIGHTS), x, noise)
  for gradient in gradients:
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_the_search_moves_where_the_loss_underflows(starts):
  _, (noise, *_) = starts

  def certain(x):
    return jnp.sum(jnp.asarray(WEIGHTS) * x) - 200.0

  negative, _ = compiled(certain)(np.zeros(3, np.float32), noise, 0.1, 200)
  np.testing.assert_allclose(negative, GAMMA * WEIGHTS / 3, atol=1e-2)


def test_the_number_of_steps_is_traced(starts):
  (x, *_), (noise, *_) = starts
  traces = []

  def counted(x):
    traces.append(x.shape)
    return linear(x)

  run = compiled(counted)
  first, _ = run(x, noise, 0.1, 1)
  count = len(traces)
  second, _ = run(x, noise, 0.2, 7)
  assert len(traces) == count
  assert (np.asarray(first) != np.asarray(second)).any()


def test_examples_of_any_shape(rng):
  x = rng.normal(size=(4, 4, 2)).astype(np.float32)
  negative, info = compiled(lambda x: jnp.sum(x))(x, x * 0 + 1, 0.1, 5)
  assert negative.shape == (4, 4, 2)
  assert float(info.norm) == pytest.approx(2.0, rel=1e-5)
