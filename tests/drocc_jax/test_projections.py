"""The Euclidean shell: hand values and invariants over random cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drocc_jax import projections


@pytest.mark.parametrize(
  ("delta", "radius", "gamma", "want"),
  [
    ([3.0, 4.0], 1.0, 2.0, [1.2, 1.6]),  # too far: to 2
    ([0.3, 0.4], 1.0, 2.0, [0.6, 0.8]),  # too near: to 1
    ([0.9, 1.2], 1.0, 2.0, [0.9, 1.2]),  # on the shell
    ([3.0, 4.0], 1.0, 1.0, [0.6, 0.8]),  # the sphere
    ([0.0, 0.0], 2.0, 2.0, [2**0.5, 2**0.5]),  # no direction: the diagonal
  ],
)
def test_hand_values(delta, radius, gamma, want):
  got = projections.project_shell(jnp.array(delta), radius, gamma)
  np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.fixture(scope="module")
def cases() -> dict[str, np.ndarray]:
  """Displacements ``[500, 7]`` of lengths over six decades, with radii and ratios."""
  rng = np.random.default_rng(0)
  delta = rng.normal(size=(500, 7)) * 10.0 ** rng.uniform(-3, 3, size=(500, 1))
  radius, gamma = 10.0 ** rng.uniform(-2, 2, size=500), 1.0 + rng.exponential(4.0, size=500)
  gamma[:100] = 1.0
  delta, radius, gamma = (values.astype(np.float32) for values in (delta, radius, gamma))
  projected = jax.jit(jax.vmap(projections.project_shell))(delta, radius, gamma)
  return {"delta": delta, "radius": radius, "gamma": gamma, "projected": np.asarray(projected)}


def norm(vectors):
  return np.linalg.norm(np.asarray(vectors, np.float64), axis=-1)


def test_results_lie_on_the_shell(cases):
  length = norm(cases["projected"]) / cases["radius"]
  assert (length >= 1 - 1e-5).all()
  assert (length <= cases["gamma"] * (1 + 1e-5)).all()
  near, far = norm(cases["delta"]) < cases["radius"], length > cases["gamma"] * (1 - 1e-5)
  assert near.sum() > 50
  assert far.sum() > 50
  np.testing.assert_allclose(length[near], 1.0, rtol=1e-5)


def test_what_is_inside_stays_to_the_bit(cases):
  length = norm(cases["delta"]) / cases["radius"]
  inside = (length > 1.0001) & (length < 0.9999 * cases["gamma"])
  assert inside.sum() > 20
  np.testing.assert_array_equal(cases["projected"][inside], cases["delta"][inside])


def test_directions_are_kept(cases):
  cosine = np.sum(cases["projected"] * cases["delta"], axis=1, dtype=np.float64)
  np.testing.assert_allclose(cosine, norm(cases["projected"]) * norm(cases["delta"]), rtol=1e-5)


def test_no_other_point_of_the_shell_is_nearer(cases, rng):
  moved = norm(cases["projected"] - cases["delta"])
  for _ in range(20):
    other = cases["projected"] + rng.normal(size=(500, 7)) * 0.1 * cases["radius"][:, None]
    length = np.clip(norm(other), cases["radius"], cases["gamma"] * cases["radius"])
    other *= (length / norm(other))[:, None]
    tolerance = 1e-5 * (cases["radius"] + norm(cases["delta"]))
    assert (norm(other - cases["delta"]) >= moved - tolerance).all()


@pytest.mark.parametrize("delta", [np.zeros(4), np.full(4, 1e-30), np.ones(4), np.full(4, 1e6)])
def test_value_and_gradient_are_finite(delta):
  def length(delta):
    return jnp.sum(projections.project_shell(delta, 1.0, 2.0) ** 2)

  value, gradient = jax.jit(jax.value_and_grad(length))(jnp.asarray(delta, jnp.float32))
  assert 1 - 1e-5 <= float(value) <= 4 + 1e-5
  assert np.isfinite(gradient).all()


def test_shape_of_images_is_kept_and_the_norm_is_over_all_axes(rng):
  delta = rng.normal(size=(4, 5, 3)).astype(np.float32) * 100
  got = functools.partial(projections.project_shell, radius=2.0, gamma=1.0)(jnp.asarray(delta))
  assert got.shape == (4, 5, 3)
  assert float(jnp.sqrt(jnp.sum(got**2))) == pytest.approx(2.0, rel=1e-5)


def test_unit():
  np.testing.assert_allclose(projections.unit(jnp.array([3.0, -4.0])), [0.6, -0.8], rtol=1e-6)
  np.testing.assert_array_equal(projections.unit(jnp.zeros(3)), np.zeros(3))
  gradient = jax.jit(jax.jacobian(projections.unit))(jnp.zeros(3))
  assert np.isfinite(gradient).all()
