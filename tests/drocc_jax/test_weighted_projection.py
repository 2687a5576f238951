"""DROCC-LF's shell: hand values, the stationary point in float64, and 10,000 hard random cases."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from drocc_jax import projections

CASES = {8: 5000, 64: 3000, 784: 1600, 3072: 400}


@functools.cache
def one(solver, points=1000):
  """``project_weighted_shell`` of one example, jitted."""
  project = functools.partial(projections.project_weighted_shell, solver=solver, points=points)
  return jax.jit(project)


@functools.cache
def projected(solver):
  """The same of many."""
  return jax.jit(
    jax.vmap(
      lambda delta, sigma, radius, gamma: projections.project_weighted_shell(
        delta, sigma, radius, gamma, solver, points=1000
      )
    )
  )


def length(delta, sigma):
  """Weighted length in float64; Euclidean where all weights are 0."""
  delta, sigma = np.asarray(delta, np.float64), np.asarray(sigma, np.float64)
  sigma = np.where(sigma.max(axis=-1, keepdims=True) == 0.0, 1.0, sigma)
  return np.sqrt(np.sum(sigma * delta**2, axis=-1))


@pytest.mark.parametrize("solver", projections.SOLVERS)
@pytest.mark.parametrize(
  ("delta", "sigma", "radius", "gamma", "want"),
  [
    ([3.0, 4.0], [1.0, 1.0], 1.0, 2.0, [1.2, 1.6]),  # equal weights: the Euclidean shell
    ([3.0, 4.0], [0.0, 0.0], 1.0, 2.0, [1.2, 1.6]),  # no weights: likewise
    ([1.0, 5.0], [4.0, 0.0], 3.0, 2.0, [1.5, 5.0]),  # the coordinate without weight stays
    ([6.0, 5.0], [4.0, 0.0], 3.0, 2.0, [3.0, 5.0]),
    ([0.8, 0.6], [1.0, 2.0], 1.0, 2.0, [0.8, 0.6]),  # on the shell: unchanged
    ([0.0, 0.0], [1.0, 4.0], 3.0, 1.0, [0.0, 1.5]),  # no direction: where a step counts most
  ],
)
def test_hand_values(delta, sigma, radius, gamma, want, solver):
  got = one(solver)(jnp.array(delta), jnp.array(sigma), radius, gamma)
  np.testing.assert_allclose(got, want, rtol=2e-3 if solver == "grid" else 1e-6, atol=1e-6)


def test_hard_case_adds_the_missing_length_where_it_counts_most():
  """No tau reaches the shell: at tau = -1/4 the second coordinate has grown to 1/(1 - 1/4)."""
  delta, sigma = jnp.array([0.0, 1.0]), jnp.array([4.0, 1.0])
  got = one("secular")(delta, sigma, 4.0, 2.0)
  second = 1.0 / (1.0 - 0.25)
  np.testing.assert_allclose(got, [np.sqrt((16.0 - second**2) / 4.0), second], rtol=1e-6)


def test_it_is_the_stationary_point_that_moves_least(rng):
  """Against Brent's method on the secular equation, in float64."""
  for case in range(20):
    delta, sigma = rng.normal(size=6), rng.exponential(size=6)
    now = float(length(delta, sigma))
    target = now * (0.3, 0.9, 1.1, 4.0)[case % 4]

    def excess(tau, delta=delta, sigma=sigma, target=target):
      return np.sum(sigma * (delta / (1.0 + tau * sigma)) ** 2) - target**2

    lowest = -1.0 / sigma.max()
    low, high = (0.0, 1e6) if target < now else (lowest * (1 - 1e-12), 0.0)
    tau = optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14)
    want = delta / (1.0 + tau * sigma)
    arrays = jnp.asarray(delta, jnp.float32), jnp.asarray(sigma, jnp.float32)
    got = one("secular")(*arrays, target, 1.0)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def hard_cases(coordinates, count):
  """Displacements, weights, radii and ratios: every case that the mathematics calls hard."""
  rng = np.random.default_rng(coordinates)
  delta = rng.normal(size=(count, coordinates)) * 10.0 ** rng.uniform(-4, 3, size=(count, 1))
  sigma = 10.0 ** rng.uniform(-6, 6, size=(count, coordinates))
  kind = np.arange(count) % 7
  sigma[kind == 1] = 10.0 ** rng.uniform(-12, 0, size=(np.sum(kind == 1), coordinates))
  largest = sigma == sigma.max(axis=1, keepdims=True)
  delta[(kind == 2)[:, None] & largest] = 0.0
  for row in np.flatnonzero(kind == 3):  # several coordinates share the largest weight
    shared = rng.integers(1, coordinates)
    sigma[row, :shared] = sigma[row].max()
    delta[row, :shared] = 0.0
  sigma[(kind == 4)[:, None] & (rng.random(sigma.shape) < 0.5)] = 0.0
  mild = kind == 5
  sigma[mild] = rng.exponential(size=(mild.sum(), coordinates))
  sigma[mild] /= sigma[mild].mean(axis=1, keepdims=True)
  sigma[0], delta[1], delta[2], sigma[2] = 0.0, 0.0, 0.0, 0.0
  gamma = rng.choice([1.0, 1.0001, 1.5, 2.0, 10.0], count)
  radius = 10.0 ** rng.uniform(-1, 2, count)
  near = (kind == 6) & (length(delta, sigma) > 0)  # hardly off the shell, or inside it
  radius[near] = (length(delta, sigma) * rng.choice([1.00001, 1.001, 0.7, 0.4], count))[near]
  return [values.astype(np.float32) for values in (delta, sigma, radius, gamma)]


@pytest.fixture(scope="module", params=CASES)
def cases(request) -> SimpleNamespace:
  """All cases of one number of coordinates with what both solvers make of them."""
  delta, sigma, radius, gamma = hard_cases(request.param, CASES[request.param])
  results = {
    solver: np.asarray(projected(solver)(delta, sigma, radius, gamma))
    for solver in projections.SOLVERS
  }
  before = length(delta, sigma)
  inside = (before >= radius) & (before <= np.asarray(gamma, np.float64) * radius)
  return SimpleNamespace(
    delta=delta, sigma=sigma, radius=radius, gamma=gamma, results=results, inside=inside
  )


def test_there_are_10_000_cases_on_both_sides_of_the_shell(cases):
  assert sum(CASES.values()) >= 10_000
  before = length(cases.delta, cases.sigma)
  assert np.mean(before < cases.radius) > 0.1
  assert np.mean(before > cases.gamma * cases.radius) > 0.1
  assert np.mean(cases.inside) > 0.02


def test_every_point_is_finite_and_on_the_shell(cases):
  for result in cases.results.values():
    assert np.isfinite(result).all()
    after = length(result, cases.sigma) / cases.radius
    assert after.min() > 1.0 - 1e-4
    assert (after / cases.gamma).max() < 1.0 + 1e-4


def test_what_is_inside_stays_to_the_bit(cases):
  before = length(cases.delta, cases.sigma)
  clear = (before > 1.001 * cases.radius) & (before < 0.999 * cases.gamma * cases.radius)
  assert clear.any()
  for result in cases.results.values():
    np.testing.assert_array_equal(result[clear], cases.delta[clear])


def test_the_secular_solver_never_moves_further_than_the_grid(cases):
  def moved(solver):
    difference = cases.results[solver].astype(np.float64) - cases.delta
    return np.sqrt(np.sum(difference**2, axis=1))

  # Rounding: float32 of the displacement and of its result.
  scale = np.sqrt(np.sum(cases.delta.astype(np.float64) ** 2, axis=1)) + moved("secular")
  assert (moved("secular") <= moved("grid") * (1.0 + 1e-4) + 1e-6 * scale).all()
  assert np.median(moved("secular")[~cases.inside] / moved("grid")[~cases.inside]) < 1.0


@pytest.mark.parametrize("solver", projections.SOLVERS)
def test_images_keep_their_shape(rng, solver):
  delta = jnp.asarray(rng.normal(size=(4, 5, 2)), jnp.float32)
  sigma = jnp.asarray(rng.exponential(size=(4, 5, 2)), jnp.float32)
  got = one(solver)(delta, sigma, 20.0, 1.0)
  flat = one(solver)(delta.ravel(), sigma.ravel(), 20.0, 1.0)
  np.testing.assert_allclose(got.ravel(), flat, rtol=1e-6)
  np.testing.assert_allclose(projections.weighted_norm(got, sigma), 20.0, rtol=1e-5)


def test_an_unknown_solver_is_refused():
  with pytest.raises(ValueError, match="solver must be one of secular, grid; got 'newton'"):
    projections.project_weighted_shell(jnp.ones(2), jnp.ones(2), 1.0, 1.0, "newton")
