"""Whole epochs as one program: the same bits for any division, one compilation for a sweep."""

import dataclasses

import jax
import numpy as np
import pytest

from detector_jax import batching, training
from drocc_jax import drocc, fit, networks
from tests.helpers import assert_trees_equal

BATCH = 8
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
  """20 records: two full batches an epoch, and one of four."""
  return np.random.default_rng(5).normal(size=(20, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def traces() -> list:
  """Grows with every trace of ``train_epochs``."""
  return []


@pytest.fixture(scope="module")
def train_epochs(network, config, traces):
  step = drocc.make_train_step(network, config.static())

  def counted(state, batch, key):
    traces.append(batch)
    return step(state, batch, key)

  return jax.jit(training.make_train_epochs(counted, BATCH))


def test_any_division_into_calls_gives_the_same_bits(state, x, train_epochs):
  data = training.to_device(x)
  straight, info = train_epochs(state, data, KEY, 0, 5)
  part, _ = train_epochs(state, data, KEY, 0, 2)
  resumed, resumed_info = train_epochs(part, data, KEY, 2, 5)
  assert_trees_equal(resumed, straight)
  assert_trees_equal(resumed_info, info)
  assert int(straight.step) == 15
  repeated, _ = train_epochs(part, data, KEY, 0, 3)
  assert (
    np.asarray(repeated.params["Dense_0"]["kernel"]) != straight.params["Dense_0"]["kernel"]
  ).any()


def test_epochs_are_their_steps_one_after_the_other(state, x, train_epochs, train_step):
  data = training.to_device(x)
  got, info = train_epochs(state, data, KEY, 0, 2)
  order_key, step_key = jax.random.split(KEY)
  want = state
  for epoch in (0, 1):
    order, infos = batching.epoch_order(order_key, epoch, 20, 32), []
    for start in (0, 8, 16):
      batch = batching.gather(data.inputs, data.labels, order, start, 20, BATCH)
      want, step_info = train_step(want, batch, jax.random.fold_in(step_key, want.step))
      infos.append(step_info)
  total = jax.tree.map(lambda *leaves: sum(leaves), *infos)
  for a, b in zip(jax.tree.leaves((got, info)), jax.tree.leaves((want, total)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  assert float(info.positive_loss.count) == 20
  assert float(info.gradient_norm.count) == 3


def test_what_lies_beyond_num_rows_is_irrelevant(state, x, train_epochs):
  data = training.to_device(x)
  assert data.inputs.shape == (32, 3)
  garbage = data._replace(inputs=data.inputs.at[20:].set(1e6), labels=data.labels.at[20:].set(-1.0))
  assert_trees_equal(train_epochs(state, garbage, KEY, 0, 2), train_epochs(state, data, KEY, 0, 2))


def test_rows_put_on_the_device(x):
  data = training.to_device(x, -np.ones(20))
  np.testing.assert_array_equal(data.inputs[:20], x)
  np.testing.assert_array_equal(data.labels, [-1] * 20 + [0] * 12)
  assert int(data.num_rows) == 20
  np.testing.assert_array_equal(training.to_device(x).labels[:20], np.ones(20))
  assert [training.steps_per_epoch(n, 8) for n in (1, 8, 9, 20)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
  "settings",
  [
    {"radius": 3.0},
    {"mu": 0.25},
    {"gamma": 1.0},
    {"step_size": 0.7},
    {"num_steps": 2},
    {"learning_rate": 0.5},
    {"weight_decay": 1.0},
    {"warmup_steps": 2},
  ],
  ids=lambda settings: next(iter(settings)),
)
def test_a_traced_setting_changes_the_result_and_compiles_nothing(
  state, x, config, train_epochs, traces, settings
):
  data = training.to_device(x)
  want, _ = train_epochs(state, data, KEY, 0, 2)
  count = len(traces)
  other = dataclasses.replace(state, hyper=dataclasses.replace(config, **settings).hyper())
  got, _ = train_epochs(other, data, KEY, 0, 2)
  assert len(traces) == count > 0
  assert (np.asarray(got.params["Dense_0"]["kernel"]) != want.params["Dense_0"]["kernel"]).any()


def test_seed_epochs_and_number_of_rows_compile_nothing(state, x, train_epochs, traces):
  train_epochs(state, training.to_device(x), KEY, 0, 1)
  count = len(traces)
  train_epochs(state, training.to_device(x), jax.random.key(4), 0, 1)
  train_epochs(state, training.to_device(x), KEY, 1, 4)
  train_epochs(state, training.to_device(x[:11]), KEY, 0, 1)
  assert len(traces) == count > 0


def test_equal_networks_and_settings_share_one_program(config):
  program = fit.compile_program(networks.MLP((8,)), config.static(), BATCH)
  other = dataclasses.replace(config, radius=9.0, learning_rate=1.0)
  assert fit.compile_program(networks.MLP((8,)), other.static(), BATCH) is program
  assert fit.compile_program(networks.MLP((9,)), config.static(), BATCH) is not program
  assert fit.compile_program(networks.MLP((8,)), config.static(), 4) is not program
