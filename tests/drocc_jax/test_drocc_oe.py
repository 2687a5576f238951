"""DROCC-OE: the gradient of the written objective, its weights, and what the warm-up leaves out."""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from detector_jax.batching import Batch
from drocc_jax import drocc, drocc_oe, networks
from tests.helpers import assert_trees_close, gradient_of, is_different, with_hyper

KEY = jax.random.key(7)
GIVEN = np.random.default_rng(1).normal(1.0, 1.0, size=(4, 3)).astype(np.float32)


def given_of(rows) -> Batch:
  """Given negatives in eight places, the last of them padding."""
  x = np.full((8, 3), 1e3, np.float32)
  x[: len(rows)] = rows
  mask = jnp.where(jnp.arange(8) < len(rows), 1.0, 0.0)
  return Batch(jnp.asarray(x), -jnp.ones(8), mask, jnp.arange(8, dtype=jnp.int32))


@pytest.fixture(scope="module")
def mixed(batch) -> Batch:
  """Six typical records with four given negatives, both with padding."""
  return dataclasses.replace(batch, negatives=given_of(GIVEN))


@pytest.fixture(scope="module")
def oe_config(config) -> drocc_oe.Config:
  return drocc_oe.Config(**vars(config))


@pytest.fixture(scope="module")
def start(network, oe_config):
  init = jax.jit(drocc_oe.make_init(network, oe_config.static()))
  return init(oe_config.hyper(), jnp.zeros((1, 3)), jax.random.key(0))


@pytest.fixture(scope="module")
def step(network, oe_config):
  step = drocc_oe.make_train_step(network, oe_config.static())
  return jax.jit(step)


@pytest.fixture(scope="module")
def objective(network):
  """Gradient of the sums in the module's docstring, over real records only."""

  @jax.jit
  @jax.grad
  def gradient(params, typical, searched, given, mu, nu, decay):
    def f(x):
      return network.apply({"params": params}, x)

    squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
    return (
      decay * squares
      + jnp.mean(jnp.log1p(jnp.exp(-f(typical))))
      + mu * jnp.mean(jnp.log1p(jnp.exp(f(searched))))
      + nu * jnp.mean(jnp.log1p(jnp.exp(f(given))))
    )

  return gradient


@pytest.fixture(scope="module")
def searched(start, mixed, network, oe_config):
  """What the search of the first step finds, for every place of the batch."""
  forward = networks.as_forward(network)
  find = jax.jit(drocc_oe.find_negatives, static_argnums=(0, 5))
  return find(forward, start, mixed.inputs, mixed.index, KEY, oe_config.static())[0]


@pytest.mark.parametrize(
  ("mu", "nu", "decay"),
  [(1.0, 1.0, 0.0), (0.3, 2.5, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.7, 0.2, 0.5)],
)
def test_the_gradient_is_that_of_the_objective(
  start, mixed, step, objective, searched, mu, nu, decay
):
  state = with_hyper(start, mu=mu, nu=nu, weight_decay=decay)
  want = objective(state.params, mixed.inputs[:6], searched[:6], GIVEN, mu, nu, decay)
  after, info = step(state, mixed, KEY)
  assert_trees_close(gradient_of(after), want, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(info.gradient_norm.value, optax.tree.norm(want), rtol=1e-5)


def test_the_loss_of_the_given_negatives_is_their_mean(start, mixed, step, network):
  info = step(start, mixed, KEY)[1]
  logits = np.asarray(network.apply({"params": start.params}, GIVEN))
  assert float(info.given_loss.count) == 4
  np.testing.assert_allclose(info.given_loss.value, np.log1p(np.exp(logits)).mean(), rtol=1e-5)


def test_classes_enter_as_means_whatever_their_sizes(start, mixed, step):
  """Four given negatives twice weigh what they weigh once, and so do typical records."""
  want = gradient_of(step(start, mixed, KEY)[0])
  twice = dataclasses.replace(mixed, negatives=given_of(np.concatenate([GIVEN, GIVEN])))
  assert_trees_close(gradient_of(step(start, twice, KEY)[0]), want, rtol=1e-4, atol=1e-6)
  few = dataclasses.replace(mixed, negatives=given_of(GIVEN[:3]))
  assert is_different(gradient_of(step(start, few, KEY)[0]), want)

  def first(count):
    """``count`` places hold the first record, with the noise of its own row."""
    rows = np.zeros(8, np.int32)
    mask = jnp.where(jnp.arange(8) < count, 1.0, 0.0)
    return dataclasses.replace(mixed, inputs=mixed.inputs[rows], index=mixed.index[rows], mask=mask)

  once, often = (gradient_of(step(start, first(count), KEY)[0]) for count in (1, 7))
  assert_trees_close(often, once, rtol=1e-4, atol=1e-6)


def test_without_weight_it_is_drocc(start, mixed, step, state, batch, train_step):
  """The same weights, records and noise, and nu = 0."""
  assert_trees_close(start.params, state.params, rtol=0, atol=0)
  want, want_info = train_step(state, batch, KEY)
  got, info = step(with_hyper(start, nu=0.0), mixed, KEY)
  assert_trees_close(got.params, want.params, rtol=1e-5, atol=1e-6)
  drocc_means = drocc.means(want_info)
  assert {name: drocc.means(info)[name] for name in drocc_means} == pytest.approx(
    drocc_means, rel=1e-4, abs=1e-6
  )


def test_warmup_keeps_the_given_negatives_and_leaves_the_searched_ones_out(start, mixed, step):
  def after(**values):
    return step(with_hyper(start, **values), mixed, KEY)[0].params

  warm = after(warmup_steps=1, mu=5.0)
  assert_trees_close(warm, after(mu=0.0), rtol=0, atol=0)
  assert_trees_close(after(warmup_steps=1, mu=5.0, radius=9.0, num_steps=9), warm, rtol=0, atol=0)
  assert is_different(warm, after(mu=0.0, nu=0.0))
  assert is_different(after(warmup_steps=0, mu=5.0), warm)


class Normalised(nn.Module):
  """A linear classifier behind batch normalisation."""

  @nn.compact
  def __call__(self, x, train=False, mask=None):
    """Maps ``[batch, features]`` to logits ``[batch]``."""
    x = networks.MaskedBatchNorm()(x[:, None, None], train, mask)
    return nn.Dense(1)(x.reshape(len(x), -1))


def test_batch_statistics_are_those_of_all_that_the_objective_sees(mixed, oe_config):
  network = Normalised()
  begin = jax.jit(drocc_oe.make_init(network))(oe_config.hyper(), mixed.inputs, KEY)
  step = jax.jit(drocc_oe.make_train_step(network))
  warm, _ = step(with_hyper(begin, warmup_steps=1), mixed, KEY)
  real = np.concatenate([np.asarray(mixed.inputs[:6]), GIVEN])
  running = warm.stats["batch_stats"]["MaskedBatchNorm_0"]
  np.testing.assert_allclose(running["mean"], 0.1 * real.mean(axis=0), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(running["var"], 0.9 + 0.1 * real.var(axis=0), rtol=1e-4)
  assert is_different(step(begin, mixed, KEY)[0].stats, warm.stats)


# Settings.


def test_nan_is_no_weight(oe_config):
  with pytest.raises(ValueError, match=r"^nu must be >= 0, got nan\.$"):
    dataclasses.replace(oe_config, nu=float("nan")).hyper()


def test_the_weight_of_the_given_negatives_is_traced(oe_config):
  other = dataclasses.replace(oe_config, nu=3.5)
  assert other.static() == oe_config.static()
  assert float(other.hyper().nu) == 3.5
  assert isinstance(other.hyper(), drocc_oe.Hyper)
