"""Scores of a trained classifier: the papers' values, no ties in float32, no say of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn.exceptions import NotFittedError

from benchmarks.baselines.networks import (
  EPSILONS,
  NETWORK_BASELINES,
  ODIN,
  DeepNearestNeighbour,
  Mahalanobis,
  MaxSoftmax,
  fisher,
)
from benchmarks.baselines.networks.forward import log_odds, sign_step
from detector_jax import health, metrics

CENTRES = 3.0 * np.eye(3, 5, dtype=np.float32)
METHODS = pytest.mark.parametrize("name", NETWORK_BASELINES)


def forward(x):
  """Knows the three classes by their centres in the first three of five coordinates."""
  return jnp.matmul(x, CENTRES.T, precision="highest"), x


def identity(x):
  """The input is both logits and features."""
  return x, x


@pytest.fixture(scope="module")
def problem():
  """Training inputs and classes, typical inputs, and far ones half-way between all classes."""
  rng = np.random.default_rng(0)
  y = rng.integers(0, 3, 300)
  x = CENTRES[y] + 0.4 * rng.normal(size=(300, 5))
  far = np.array([0.0, 0.0, 0.0, 6.0, 0.0]) + 0.4 * rng.normal(size=(100, 5))
  return x[:200], y[:200], x[200:], far


def ranks(scores):
  return np.argsort(np.argsort(scores))


@METHODS
def test_far_inputs_score_higher(problem, name):
  x, y, typical, far = problem
  model = NETWORK_BASELINES[name](forward)
  assert model.fit(x, y) is model
  scores = model.score(np.concatenate([typical, far]))
  assert scores.shape == (200,)
  assert len(np.unique(scores)) > (100 if name.startswith("Gram") else 150)  # 0 within bounds
  health.check_scores(scores)
  assert metrics.auroc(np.repeat([0, 1], 100), scores) > 0.97


@METHODS
def test_a_score_depends_on_its_own_row_alone(problem, name):
  x, y, typical, far = problem
  model = NETWORK_BASELINES[name](forward).fit(x, y)
  rows = np.concatenate([typical, far, x])
  whole = model.score(rows)
  parts = np.concatenate([model.score(rows[:1]), model.score(rows[1:130]), model.score(rows[130:])])
  if name == "deep nearest neighbour":  # scikit-learn's search may sum in another order
    np.testing.assert_allclose(whole, parts, rtol=1e-9)
  else:
    np.testing.assert_array_equal(whole, parts)


@METHODS
def test_a_second_call_and_another_epsilon_do_not_trace_again(problem, name):
  x, y, typical, _ = problem
  traced = []

  def counted(x):
    traced.append(x.shape)
    return forward(x)

  model = NETWORK_BASELINES[name](counted).fit(x, y)
  first = model.score(typical)
  before = len(traced)
  if hasattr(model, "epsilon"):
    model.epsilon = 0.1
    assert not np.array_equal(first, model.score(typical[:3]))
  model.fit(x, y).score(typical[:3])
  assert len(traced) == before
  assert {shape[0] for shape in traced} == {256}


@pytest.mark.parametrize("name", ["max softmax", "ODIN"])
def test_a_head_that_sees_no_classes_finds_nothing(problem, name):
  x, y, typical, far = problem

  def untrained(x):
    return x[:, 4:] * jnp.array([[1.0, -1.0, 0.5]]), x

  scores = NETWORK_BASELINES[name](untrained).fit(x, y).score(np.concatenate([typical, far]))
  assert 0.4 < metrics.auroc(np.repeat([0, 1], 100), scores) < 0.6


@METHODS
def test_a_collapsed_network_is_refused(problem, name):
  x, y, typical, _ = problem

  def collapsed(x):
    return jnp.tile(jnp.array([[2.0, 1.0, 0.0]]), (x.shape[0], 1)), jnp.ones_like(x)

  with pytest.raises(health.HealthError, match="collapsed"):
    health.check_scores(NETWORK_BASELINES[name](collapsed).fit(x, y).score(typical))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1000.0])
def test_log_odds_are_those_of_the_softmax(rng, temperature):
  logits = rng.normal(size=(50, 4)) * 3.0
  labels = rng.integers(0, 4, 50)
  p = special.softmax(logits / temperature, axis=1)[np.arange(50), labels]
  expected = temperature * np.log((1 - p) / (3 * p))
  odds = log_odds(jnp.asarray(logits, jnp.float32), labels, temperature)
  np.testing.assert_allclose(odds, expected, rtol=1e-4, atol=1e-5)


def test_log_odds_keep_value_and_gradient_where_the_softmax_is_one():
  logits = jnp.array([[60.0, 0.0, 0.0], [0.0, 60.0, 0.0]])
  labels = jnp.array([0, 0])
  np.testing.assert_allclose(log_odds(logits, labels), [-60.0, 60.0 - np.log(2.0)], rtol=1e-6)
  gradient = jax.grad(lambda z: jnp.sum(log_odds(z, labels)))(logits)
  np.testing.assert_allclose(gradient, [[-1, 0.5, 0.5], [-1, 1, 0]], atol=1e-6)


def test_log_odds_of_one_class_are_refused():
  with pytest.raises(ValueError, match="at least 2 classes"):
    log_odds(jnp.zeros((3, 1)), jnp.zeros(3, int))


def test_sign_step_moves_each_entry_by_its_own_sign():
  x = jnp.array([[1.0, -2.0, 0.0]])
  np.testing.assert_allclose(sign_step(lambda x: jnp.sum(x**2, axis=1), x, 0.5), [[1.5, -2.5, 0.0]])


def test_max_softmax_by_hand():
  scores = MaxSoftmax(identity).score(np.log([[0.7, 0.2, 0.1], [1.0, 1.0, 1.0], [0.1, 0.1, 0.8]]))
  np.testing.assert_allclose(scores, np.log([0.3, 2 / 3, 0.2]), rtol=1e-6)


def test_max_softmax_ranks_where_a_float32_softmax_is_one():
  margins = np.array([20.0, 200.0, 25.0, 30.0, 90.0], np.float32)
  logits = np.stack([margins, np.zeros(5), np.zeros(5)], axis=1).astype(np.float32)
  assert (np.asarray(jax.nn.softmax(logits)).max(axis=1) == 1.0).all()
  scores = MaxSoftmax(identity).score(logits)
  np.testing.assert_allclose(scores, np.log(2.0) - margins, rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 10.0, 1000.0])
def test_odin_without_a_step_ranks_as_the_softmax_at_its_temperature(rng, temperature):
  logits = rng.normal(size=(200, 10)).astype(np.float32) * 3.0
  largest = special.softmax(logits.astype(np.float64) / temperature, axis=1).max(axis=1)
  scores = ODIN(identity, temperature, epsilon=0.0).score(logits)
  np.testing.assert_array_equal(ranks(scores), ranks(-largest))
  implied = 1.0 / (1.0 + 9.0 * np.exp(scores.astype(np.float64) / temperature))
  np.testing.assert_allclose(implied, largest, rtol=1e-5)


def test_odin_does_not_tie_where_a_float32_softmax_does():
  gaps = np.linspace(1.0, 1.02, 201, dtype=np.float32)
  logits = np.zeros((201, 10), np.float32)
  logits[:, 3] = gaps
  assert len(np.unique(jax.nn.softmax(logits / 1000.0).max(axis=1))) < 201
  scores = ODIN(identity, epsilon=0.0).score(logits)
  assert (np.diff(scores) < 0).all()
  np.testing.assert_allclose(scores, -gaps, rtol=1e-5)


def test_odin_step_by_hand():
  weights = np.array([[1.0, -2.0, 0.0], [3.0, 1.0, 0.0]], np.float32)

  def linear(x):
    return jnp.matmul(x, weights.T, precision="highest"), x

  x = np.array([[1.0, 0.5, 7.0], [-1.0, 0.5, 7.0]])
  # Second minus first logit: 2 a + 3 b, raised or lowered by 0.1 (2 + 3) for the class it favours.
  np.testing.assert_allclose(ODIN(linear, epsilon=0.0).score(x), [-3.5, -0.5], rtol=1e-5)
  np.testing.assert_allclose(ODIN(linear, epsilon=0.1).score(x), [-4.0, -1.0], rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_odin_moves_along_the_gradient_of_the_papers_log_softmax(rng, temperature, scale):
  first, second = rng.normal(size=(4, 6)), scale * rng.normal(size=(6, 3))

  def network(x):
    return jnp.matmul(jnp.tanh(x @ first), second, precision="highest"), x

  def log_odds_64(x, chosen):
    logits = np.tanh(x @ first) @ second / temperature
    gaps = logits - np.take_along_axis(logits, chosen, axis=1)
    np.put_along_axis(gaps, chosen, -np.inf, axis=1)
    return special.logsumexp(gaps, axis=1)

  x = rng.normal(size=(40, 4))
  chosen = (np.tanh(x @ first) @ second).argmax(axis=1)[:, None]
  ahead, behind = (
    [np.logaddexp(0.0, log_odds_64(x + step, chosen)) for step in sign * 1e-5 * np.eye(4)]
    for sign in (1, -1)
  )  # -log S on both sides
  moved = x - 0.01 * np.sign(np.array(ahead) - np.array(behind)).T
  scores = ODIN(network, temperature, epsilon=0.01).score(x)
  expected = temperature * (log_odds_64(moved, chosen) - np.log(2.0))
  np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("name", ["ODIN", "Mahalanobis"])
def test_the_input_step_lowers_the_score(problem, name):
  x, y, typical, far = problem
  rows = np.concatenate([typical, far])
  model = NETWORK_BASELINES[name](forward, epsilon=0.0).fit(x, y)
  scores = [model.score(rows)]
  for model.epsilon in EPSILONS:
    scores.append(model.score(rows))
  assert (np.mean(np.diff(scores, axis=0) < 0, axis=1) > 0.95).all()


def test_mahalanobis_by_hand():
  cross = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
  x, y = np.concatenate([cross, cross + np.array([10.0, 3.0])]), np.repeat([4, 7], 4)
  model = Mahalanobis(identity, epsilon=0.0, ridge=1e-9).fit(x, y)
  # Tied covariance diag(2, 0.5) round the means (0, 0) and (10, 3).
  at = np.array([[2.0, 1.0], [0.0, 0.0], [10.0, 2.0], [12.0, 3.0]])
  np.testing.assert_allclose(model.score(at), [4.0, 0.0, 2.0, 2.0], rtol=1e-5, atol=1e-6)
  model.epsilon = 0.5
  # (2, 1) -> (1.5, 0.5), and (12, 3) -> (11.5, 3): no slope along the second axis.
  np.testing.assert_allclose(model.score(at[[0, 3]]), [1.625, 1.125], rtol=1e-5)


def test_mahalanobis_is_that_of_float64_on_correlated_features(rng):
  mixing = np.array([[1.0, 0.99, 0.0], [0.0, 0.1, 0.3], [0.0, 0.0, 0.01]])
  y = rng.integers(0, 3, 400)
  x = (rng.normal(size=(400, 3)) @ mixing + 100.0 + 5.0 * np.eye(3)[y]).astype(np.float32)
  means = np.array([x[y == c].mean(axis=0, dtype=np.float64) for c in range(3)])
  precision = np.linalg.inv((x - means[y]).T @ (x - means[y]) / 400)
  gaps = x[:, None].astype(np.float64) - means
  expected = np.einsum("ncd,de,nce->nc", gaps, precision, gaps).min(axis=1)
  scores = Mahalanobis(identity, epsilon=0.0, ridge=1e-9).fit(x, y).score(x)
  np.testing.assert_allclose(scores, expected, rtol=2e-3, atol=1e-3)


def test_mahalanobis_bears_units_that_are_dead_on_the_training_data(rng):
  x = rng.normal(size=(50, 3))
  x[:, 2] = 0.0
  model = Mahalanobis(identity, epsilon=0.0).fit(x, np.zeros(50, np.int64))
  awake = x + np.array([0.0, 0.0, 0.1])
  assert np.isfinite(model.score(x)).all()
  assert (model.score(awake) > 100.0 * model.score(x).max()).all()


def test_deep_nearest_neighbour_by_hand():
  x = np.array([[2.0, 0.0], [0.0, 5.0], [-3.0, 0.0]])
  at = np.array([[7.0, 0.0], [0.0, 0.1], [0.0, 0.0], [1e-30, 1e-30]])
  nearest = DeepNearestNeighbour(identity, k=1).fit(x, np.zeros(3)).score(at)
  near = np.sqrt(2.0 - np.sqrt(2.0))
  np.testing.assert_allclose(nearest, [0.0, 0.0, 1.0, near], atol=1e-6)
  second = DeepNearestNeighbour(identity, k=2).fit(x, np.zeros(3)).score(at)
  np.testing.assert_allclose(second, [np.sqrt(2.0), np.sqrt(2.0), 1.0, near], atol=1e-6)


def test_deep_nearest_neighbour_searches_a_subset_that_the_seed_decides(problem):
  x, y, typical, _ = problem
  score = {
    seed: DeepNearestNeighbour(forward, k=2, max_rows=20, seed=seed).fit(x, y).score(typical)
    for seed in (1, 2)
  }
  again = DeepNearestNeighbour(forward, k=2, max_rows=20, seed=1).fit(x, y).score(typical)
  np.testing.assert_array_equal(score[1], again)
  assert not np.array_equal(score[1], score[2])
  whole = DeepNearestNeighbour(forward, k=2).fit(x, y).score(typical)
  assert (score[1] >= whole).all()


def test_the_steps_are_those_of_the_paper():
  assert EPSILONS == (0.0005, 0.001, 0.0014, 0.002, 0.005, 0.01)


@pytest.mark.parametrize(
  ("method", "settings", "message"),
  [
    (ODIN, {"temperature": 0.0}, "temperature"),
    (ODIN, {"epsilon": -0.1}, "epsilon"),
    (Mahalanobis, {"epsilon": np.nan}, "epsilon"),
    (Mahalanobis, {"ridge": 0.0}, "ridge"),
    (DeepNearestNeighbour, {"k": 0}, "k must be"),
    (DeepNearestNeighbour, {"k": 3, "max_rows": 2}, "max_rows"),
  ],
)
def test_settings_out_of_range_are_refused(method, settings, message):
  with pytest.raises(ValueError, match=message):
    method(identity, **settings)


def test_training_data_that_cannot_be_used_is_refused(problem):
  x, y, typical, _ = problem
  with pytest.raises(ValueError, match="do not match"):
    Mahalanobis(forward).fit(x, y[1:])
  with pytest.raises(health.HealthError, match="not finite"):
    Mahalanobis(lambda x: (x, x / 0.0)).fit(x, y)
  with pytest.raises(ValueError, match="neighbour 50"):
    DeepNearestNeighbour(forward).fit(x[:49], y[:49])
  for method in (Mahalanobis, DeepNearestNeighbour):
    with pytest.raises(NotFittedError):
      method(forward).score(typical)


class Given:
  """Scores of two layers that are the input's own two coordinates."""

  def fit(self, x, y):
    del x, y
    return self

  def layer_scores(self, x):
    return np.asarray(x)


def test_fishers_statistic_is_that_of_ranks_among_training_scores():
  x = np.array([[1.0, -4.0], [2.0, -3.0], [3.0, -2.0], [4.0, -1.0]])
  model = fisher.Fisher(Given()).fit(x, np.zeros(4))
  # Of 4 scores and two ends: the largest is second of 6, the end 4 times as far first.
  scores = model.score(np.array([[4.0, -1.0], [16.0, -0.25], [1e9, 1e9], [2.5, -4.0]]))
  want = [[2 / 6, 2 / 6], [1 / 6, 1 / 6], [1 / 6, 1 / 6], [3.5 / 6, 5 / 6]]
  np.testing.assert_allclose(scores, -2.0 * np.log(want).sum(axis=1))
  with pytest.raises(NotFittedError):
    fisher.Fisher(Given()).score(x)
