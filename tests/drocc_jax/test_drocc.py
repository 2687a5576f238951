"""DROCC's step: the released numbers, Algorithm 1's parts and settings; see test_contract too."""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from detector_jax.batching import Batch
from drocc_jax import drocc, losses, networks, update
from drocc_jax.search import SearchInfo
from tests.helpers import (
  assert_trees_close,
  assert_trees_equal,
  gradient_of,
  is_different,
  with_hyper,
)

KEY = jax.random.key(7)


# The released code's step.


def test_one_step_of_the_released_code(released, monkeypatch):
  """``test_search`` shows that the search ends on these negatives; here the step from them on."""
  size = len(released.x)
  zeros = jnp.zeros(size)
  found = jnp.asarray(released.negatives), SearchInfo(zeros, zeros, zeros, zeros)
  monkeypatch.setattr(drocc, "find_negatives", lambda *_: found)
  settings = ("radius", "gamma", "mu", "step_size", "learning_rate")
  config = drocc.Config(**{name: float(getattr(released, name)) for name in settings})
  x, static = jnp.asarray(released.x), config.static()
  before = drocc.make_init(released.network, static)(config.hyper(), x, KEY)
  before = dataclasses.replace(before, params=released.params("initial"))
  batch = Batch(x, jnp.ones(size), jnp.ones(size), jnp.arange(size))
  after, info = jax.jit(drocc.make_train_step(released.network, static))(before, batch, KEY)
  np.testing.assert_allclose(info.positive_loss.value, released.positive_loss, rtol=1e-5)
  np.testing.assert_allclose(info.negative_loss.value, released.negative_loss, rtol=1e-5)
  gradient = released.params("gradient")
  norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
  np.testing.assert_allclose(info.gradient_norm.value, norm, rtol=1e-5)
  assert_trees_close(gradient_of(after), gradient, rtol=1e-5, atol=1e-6 * norm)
  assert_trees_close(after.params, released.params("after_adam"), rtol=1e-5, atol=1e-7)


# The parts of Algorithm 1.


def test_warmup_uses_only_positives(state, batch, train_step):
  def run(steps, **values):
    end = with_hyper(state, **values)
    for _ in range(steps):
      end, _ = train_step(end, batch, KEY)
    return end.params

  without = run(2, mu=0.0)
  assert_trees_equal(run(2, warmup_steps=2, mu=5.0), without)
  assert_trees_equal(run(2, warmup_steps=2, mu=5.0, radius=9.0, num_steps=50), without)
  assert is_different(run(2, warmup_steps=1, mu=5.0), without)
  assert_trees_equal(run(1, warmup_steps=1, mu=5.0), run(1, mu=0.0))
  info = drocc.means(train_step(with_hyper(state, warmup_steps=1), batch, KEY)[1])
  assert info["search_travel"] < 1e-6  # no search while nobody needs it


class Normalised(nn.Module):
  """An MLP behind batch normalisation."""

  @nn.compact
  def __call__(self, x, train=False, mask=None):
    """Maps ``[batch, features]`` to logits ``[batch]``."""
    x = networks.MaskedBatchNorm()(x[:, None, None], train, mask)
    return networks.MLP((4,))(x)


def test_warmup_keeps_negatives_out_of_batch_statistics(batch, config):
  network = Normalised()
  start = drocc.make_init(network)(config.hyper(), batch.inputs, jax.random.key(0))
  step = jax.jit(drocc.make_train_step(network))
  warm, _ = step(with_hyper(start, warmup_steps=1), batch, KEY)
  real = np.asarray(batch.inputs[:6])
  running = warm.stats["batch_stats"]["MaskedBatchNorm_0"]
  np.testing.assert_allclose(running["mean"], 0.1 * real.mean(axis=0), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(running["var"], 0.9 + 0.1 * real.var(axis=0), rtol=1e-4)
  # Afterwards both halves of the step share the statistics.
  cold, _ = step(start, batch, KEY)
  assert is_different(cold.stats, warm.stats)


@pytest.mark.parametrize(("how", "feeds"), [("separate", 1), ("released", 51)])
def test_terms_with_statistics_of_their_own(batch, config, how, feeds, monkeypatch):
  negatives = batch.inputs[::-1] * 3.0 + 2.0
  none = jnp.zeros(len(negatives))
  found = negatives, SearchInfo(none, none, none, none)
  monkeypatch.setattr(drocc, "find_negatives", lambda *_: found)
  network = Normalised()
  config = dataclasses.replace(config, batch_statistics=how, weight_decay=0.0)
  static = config.static()
  start = drocc.make_init(network, static)(config.hyper(), batch.inputs, jax.random.key(0))
  step = jax.jit(drocc.make_train_step(network, static))
  after, info = step(start, batch, KEY)
  typical, searched = (np.asarray(part)[batch.mask > 0] for part in (batch.inputs, negatives))
  kept = 0.9**feeds
  mean = kept * 0.1 * typical.mean(axis=0) + (1.0 - kept) * searched.mean(axis=0)
  var = kept * (0.9 + 0.1 * typical.var(axis=0)) + (1.0 - kept) * searched.var(axis=0)
  running = after.stats["batch_stats"]["MaskedBatchNorm_0"]
  np.testing.assert_allclose(running["mean"], mean, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(running["var"], var, rtol=1e-4)

  def loss(params, x, label):
    variables = {"params": params, **start.stats}
    logits, _ = network.apply(variables, x, train=True, mutable=["batch_stats"])
    return jnp.mean(losses.logistic(logits, label))

  def objective(params):
    return loss(params, typical, 1.0) + config.mu * loss(params, searched, -1.0)

  np.testing.assert_allclose(
    info.negative_loss.value, loss(start.params, searched, -1.0), rtol=1e-5
  )
  assert_trees_close(gradient_of(after), jax.grad(objective)(start.params), rtol=1e-4, atol=1e-6)
  warm, _ = step(with_hyper(start, warmup_steps=1), batch, KEY)
  running = warm.stats["batch_stats"]["MaskedBatchNorm_0"]
  np.testing.assert_allclose(running["mean"], 0.1 * typical.mean(axis=0), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def find(network, config):
  """``find(state, inputs, index, key)``: the search over a batch, jitted once."""

  @jax.jit
  def find(state, inputs, index, key):
    forward = networks.as_forward(network)
    return drocc.find_negatives(forward, state, inputs, index, key, config.static())

  return find


def test_the_gradient_is_that_of_the_objective(state, batch, train_step, find, network):
  hyper, real = state.hyper, np.asarray(batch.mask) > 0
  forward = networks.as_forward(network)
  negatives, _ = find(state, batch.inputs, batch.index, KEY)

  @jax.jit
  @jax.grad
  def gradient(params):
    positive = losses.logistic(forward.evaluate(params, {}, batch.inputs[real]), 1.0)
    negative = losses.logistic(forward.evaluate(params, {}, negatives[real]), -1.0)
    decay = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
    return hyper.weight_decay * decay + jnp.mean(positive + hyper.mu * negative)

  want = gradient(state.params)
  after, info = train_step(state, batch, KEY)
  np.testing.assert_allclose(info.gradient_norm.value, optax.tree.norm(want), rtol=1e-5)
  assert_trees_close(gradient_of(after), want, rtol=1e-4, atol=1e-6)


def test_weight_decay_adds_2_lambda_theta_to_the_gradient(state, batch, train_step):
  def gradient(decay):
    return gradient_of(train_step(with_hyper(state, weight_decay=decay), batch, KEY)[0])

  added = jax.tree.map(jnp.subtract, gradient(3.0), gradient(0.0))
  want = jax.tree.map(lambda theta: 2.0 * 3.0 * theta, state.params)
  assert_trees_close(added, want, rtol=1e-4, atol=1e-5)


def test_noise_belongs_to_the_row_and_not_to_its_place(state, batch, find):
  inputs, index = batch.inputs, batch.index
  negatives = np.asarray(find(state, inputs, index, KEY)[0])
  order = np.array([3, 0, 7, 1, 2, 6, 5, 4])
  np.testing.assert_array_equal(find(state, inputs[order], index[order], KEY)[0], negatives[order])
  for other in (find(state, inputs, index + 1, KEY), find(state, inputs, index, jax.random.key(8))):
    assert (np.asarray(other[0]) != negatives).any(axis=1).all()


# A pure, compiled step.


def test_average_follows_the_parameters_by_its_decay(state, batch, train_step):
  """Step t keeps min(decay, (1 + t) / (10 + t)) of the average: first 0.1, then 0.15."""
  now = with_hyper(state, average_decay=0.15)
  expected = state.params
  for keep in (0.1, 0.15, 0.15):
    now, _ = train_step(now, batch, jax.random.key(1))
    expected = jax.tree.map(lambda a, p, k=keep: k * a + (1 - k) * p, expected, now.params)
    assert_trees_close(now.average["params"], expected, rtol=1e-5, atol=1e-6)
  assert is_different(now.average["params"], now.params)


def test_without_averaging_the_average_is_the_network(state, batch, train_step):
  now, _ = train_step(with_hyper(state, average_decay=0.0), batch, jax.random.key(1))
  assert_trees_equal(now.average["params"], now.params)


# Settings.


@pytest.mark.parametrize("name", ["radius", "gamma", "mu", "step_size", "learning_rate"])
def test_nan_is_out_of_every_range(name, config):
  with pytest.raises(ValueError, match=f"^{name} must be"):
    dataclasses.replace(config, **{name: float("nan")}).validate()


@pytest.mark.parametrize("name", ["radius", "step_size", "noise_scale"])
def test_what_is_not_resolved_cannot_be_traced(name, config):
  with pytest.raises(ValueError, match=r"radius, mu, .*, schedule must be set here"):
    dataclasses.replace(config, **{name: None}).hyper()


def test_a_constant_schedule_compiles_once_for_any_length(config):
  assert dataclasses.replace(config, total_steps=7).static() == config.static()
  cosine = dataclasses.replace(config, schedule="cosine", total_steps=7)
  assert cosine.static() != dataclasses.replace(cosine, total_steps=8).static()


@pytest.mark.parametrize(
  ("schedule", "factors"),
  [
    ("constant", [1.0] * 11),
    ("cosine", [(1 + np.cos(np.pi * step / 10)) / 2 for step in range(11)]),
    ("released", [1.0] * 5 + [0.1] * 3 + [0.01] * 3 + [0.001] * 2),
    ("released_images", [1.0] * 6 + [0.1] * 4 + [0.01] * 2),
    ("released_series", [1.0] * 7 + [0.1] * 5),
  ],
)
def test_schedules(schedule, factors):
  start = 2 if schedule.startswith("released") else 0
  static = drocc.Static(1, "sgd", 0.0, schedule, schedule_start=start, schedule_steps=start + 10)
  optimizer = update.make_optimizer(static)
  apply, opt_state = jax.jit(optimizer.update), optimizer.init(jnp.ones(()))
  got = []
  for _ in factors:
    step, opt_state = apply(jnp.ones(()), opt_state)
    got.append(-float(step))
  np.testing.assert_allclose(got, factors, rtol=1e-5, atol=1e-7)


def test_momentum_adds_up_past_gradients():
  optimizer = update.make_optimizer(drocc.Static(1, "sgd", 0.5, "constant", 0))
  opt_state = optimizer.init(jnp.zeros(()))
  first, opt_state = optimizer.update(jnp.ones(()), opt_state)
  second, _ = optimizer.update(jnp.ones(()), opt_state)
  assert (float(first), float(second)) == (-1.0, -1.5)
