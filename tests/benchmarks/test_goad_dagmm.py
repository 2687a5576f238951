"""GOAD and DAGMM: their formulas by hand, a real set, and settings out of range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from benchmarks.baselines import dagmm, fitting, goad
from detector_jax import metrics
from detector_jax.batching import Batch

METHODS = {"GOAD": goad, "DAGMM": dagmm}
EACH = pytest.mark.parametrize("method", METHODS)
SETTINGS = {"GOAD": {"epochs": 6}, "DAGMM": {"epochs": 40, "learning_rate": 1e-2}}


@pytest.fixture(scope="module")
def problem():
  """Typical records lie near a curve; anomalous ones have its coordinates mixed."""
  rng = np.random.default_rng(0)
  angle = rng.uniform(0.0, 3.0, size=500)
  x = np.stack([np.cos(angle), np.sin(angle), angle, angle**2 / 3, np.cos(2 * angle)], axis=1)
  x = (x - x.mean(axis=0)) / x.std(axis=0) + 0.05 * rng.normal(size=x.shape)
  odd = np.stack([rng.permutation(column) for column in x[:150].T], axis=1)
  x = x.astype(np.float32)
  return x[:350], np.concatenate([x[350:], odd.astype(np.float32)]), np.repeat([0, 1], 150)


def made(method, seed=0, shape=(5,), **settings):
  return METHODS[method].make(seed, shape, **{**SETTINGS[method], "batch_size": 64, **settings})


@pytest.mark.long
@EACH
def test_finds_what_is_off_the_curve_and_training_helps(method, problem):
  train, test, labels = problem
  scores = made(method).fit(train).score(test)
  assert metrics.auroc(labels, scores) > 0.8
  np.testing.assert_array_equal(made(method).fit(train).score(test), scores)
  still = made(method, learning_rate=1e-30).fit(train).score(test)
  assert not np.allclose(still, scores)
  if method == "GOAD":
    assert metrics.auroc(labels, still) < metrics.auroc(labels, scores) - 0.02
  assert not np.allclose(made(method, seed=1).fit(train).score(test), scores)


def test_goad_s_objective_by_hand(monkeypatch):
  """Features are the mapped records themselves; two maps, 1 and 2 times the record."""

  class Plain:
    def apply(self, variables, mapped):
      return mapped, jnp.zeros((*mapped.shape[:2], 2))

  inputs = jnp.asarray([[1.0], [3.0], [100.0]])
  batch = Batch(inputs, jnp.ones(3), jnp.asarray([1.0, 1.0, 0.0]), jnp.arange(3))
  constants = {
    "matrices": jnp.asarray([[[1.0]], [[2.0]]]),
    "margin": jnp.asarray(1.0),
    "weight": jnp.asarray(0.5),
  }
  value, (_, info) = goad.make_objective(Plain())({}, {}, constants, batch, None)
  # z: (1, 2) and (3, 6); centres 2 and 4. Own - other + 1, at least 0:
  # 1 - 9 + 1 -> 0; 4 - 0 + 1 = 5; 1 - 1 + 1 = 1; 4 - 16 + 1 -> 0. Mean of two and two: 6 / 4.
  assert float(info["margin_loss"].value) == pytest.approx(1.5)
  assert float(value) == pytest.approx(0.5 * 1.5 + np.log(2.0), rel=1e-6)


def test_dagmm_s_mixture_is_that_of_its_memberships():
  rng = np.random.default_rng(0)
  z, gamma = rng.normal(size=(40, 3)), rng.dirichlet([1.0, 1.0], 40)
  mask = np.repeat([1.0, 0.0], [30, 10])
  got = dagmm.mixture_of(*(jnp.asarray(each, jnp.float32) for each in (z, gamma, mask)))
  for k in range(2):
    weights = gamma[:30, k]
    np.testing.assert_allclose(got.weights[k], weights.sum() / 30, rtol=1e-5)
    np.testing.assert_allclose(got.means[k], np.average(z[:30], axis=0, weights=weights), atol=1e-5)
    wanted = np.cov(z[:30].T, aweights=weights, ddof=0) + dagmm.JITTER * np.eye(3)
    np.testing.assert_allclose(got.covariances[k], wanted, atol=1e-5)


def test_dagmm_s_energy_is_minus_the_log_density():
  rng = np.random.default_rng(1)
  factor = rng.normal(size=(2, 3, 3))
  covariances = factor @ factor.transpose(0, 2, 1) + 0.1 * np.eye(3)
  weights, means, z = np.array([0.3, 0.7]), rng.normal(size=(2, 3)), rng.normal(size=(20, 3))
  mixture = dagmm.Mixture(
    *(jnp.asarray(each, jnp.float32) for each in (weights, means, covariances))
  )
  density = sum(
    weights[k] * stats.multivariate_normal(means[k], covariances[k]).pdf(z) for k in range(2)
  )
  got = dagmm.energy(mixture, jnp.asarray(z, jnp.float32))
  np.testing.assert_allclose(got, -np.log(density), rtol=1e-4)


def test_dagmm_s_gradient_stays_finite_where_the_reconstruction_is_exact():
  network = dagmm.Network((2,), 1, 0.0)
  x = jnp.zeros((4, 3))
  params = network.init(jax.random.key(0), x)["params"]
  objective = dagmm.make_objective(network, dagmm.Settings(hidden=(2,), components=1, dropout=0.0))
  batch = Batch(x, jnp.ones(4), jnp.ones(4), jnp.arange(4))
  slope = jax.jit(jax.grad(lambda p: objective(p, {}, {}, batch, jax.random.key(1))[0]))(params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.long
def test_dagmm_learns_to_reconstruct(problem):
  settings = dagmm.Settings(hidden=(6, 2), dropout=0.0)
  network = dagmm.Network(settings.hidden, settings.components, settings.dropout)
  x = jnp.asarray(problem[0][:64])
  params = network.init(jax.random.key(0), x)["params"]
  step = jax.jit(fitting.make_train_step(dagmm.make_objective(network, settings)))
  state = fitting.start(params, {}, 1e-2, 0.0, {})
  batch, errors = Batch(x, jnp.ones(64), jnp.ones(64), jnp.arange(64)), []
  for number in range(150):
    state, info = step(state, batch, jax.random.key(number))
    errors.append(float(info["reconstruction_error"].value))
  assert errors[-1] < 0.3 * errors[0]


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: made("GOAD", maps=1), "maps must be >= 2, got 1"),
    (lambda: made("GOAD", margin=0.0), "margin must be > 0"),
    (lambda: made("GOAD", shape=(4, 4)), r"for tables; records have shape \[4, 4\]"),
    (lambda: made("DAGMM", shape=(4, 4)), r"for tables; records have shape \[4, 4\]"),
    (lambda: made("DAGMM", hidden=()), "hidden must be widths >= 1"),
    (lambda: made("DAGMM", dropout=1.0), r"dropout must be in \[0, 1\)"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()
