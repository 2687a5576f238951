"""Two epoch loops, one run: the same numbers, and the same bits for any division into calls."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import training
from detector_jax.batching import Mean

BATCH = 8
KEY = jax.random.key(3)


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["step", "weight", "seen"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class State:
  step: jax.Array
  weight: jax.Array
  seen: jax.Array


class Info(NamedTuple):
  loss: Mean


@pytest.fixture
def traces() -> list:
  return []


@pytest.fixture
def step(traces):
  """Least squares with noise; counts how often each row was seen."""

  def step(state, batch, key):
    traces.append(batch)

    def loss(weight):
      noise = 0.1 * jax.random.normal(key, batch.labels.shape)
      values = (batch.inputs @ weight + noise - batch.labels) ** 2
      mean = Mean.from_values(values, batch.mask)
      return mean.value, Info(mean)

    gradient, info = jax.grad(loss, has_aux=True)(state.weight)
    seen = state.seen.at[batch.index].add(batch.mask)
    return State(state.step + 1, state.weight - 0.1 * gradient, seen), info

  return step


@pytest.fixture
def data() -> training.Data:
  """20 rows: two full batches an epoch, and one of four."""
  x = np.random.default_rng(0).normal(size=(20, 3))
  return training.to_device(x, x @ [1.0, -2.0, 0.5])


def initial() -> State:
  return State(jnp.zeros((), jnp.int32), jnp.zeros(3), jnp.zeros(32))


def assert_equal(got, want):
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_array_equal(a, b)


def test_step_by_step_gives_the_numbers_of_the_compiled_epochs(step, data):
  whole = jax.jit(training.make_train_epochs(step, BATCH))(initial(), data, KEY, 0, 5)
  by_step = training.make_train_epochs_by_step(step, BATCH)(initial(), data, KEY, 0, 5)
  assert jax.tree.structure(whole) == jax.tree.structure(by_step)
  for a, b in zip(jax.tree.leaves(by_step), jax.tree.leaves(whole), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  state, info = by_step
  assert int(state.step) == 15
  assert float(info.loss.count) == 20
  np.testing.assert_array_equal(state.seen, [5] * 20 + [0] * 12)


def test_any_division_into_calls_gives_the_same_bits(step, data):
  epochs = training.make_train_epochs_by_step(step, BATCH)
  straight, info = epochs(initial(), data, KEY, 0, 5)
  state = initial()
  for first, last in ((0, 1), (1, 4), (4, 5)):
    state, last_info = epochs(state, data, KEY, first, last)
  assert_equal((state, last_info), (straight, info))
  other, _ = epochs(initial(), data, jax.random.key(4), 0, 5)
  assert (np.asarray(other.weight) != straight.weight).any()


def test_nothing_is_traced_again_on_a_second_call(step, data, traces):
  epochs = training.make_train_epochs_by_step(step, BATCH)
  state, _ = epochs(initial(), data, KEY, 0, 1)
  count = len(traces)
  epochs(state, data, jax.random.key(4), 1, 4)
  fewer = training.to_device(np.ones((11, 3)))
  epochs(initial(), fewer, KEY, 0, 2)
  assert len(traces) == count > 0


def test_no_epochs_change_nothing_and_report_nothing(step, data):
  whole = jax.jit(training.make_train_epochs(step, BATCH))(initial(), data, KEY, 2, 2)
  by_step = training.make_train_epochs_by_step(step, BATCH)(initial(), data, KEY, 2, 2)
  assert_equal(by_step, whole)
  assert_equal(by_step[0], initial())
  assert float(by_step[1].loss.count) == 0.0


def test_what_lies_beyond_num_rows_is_irrelevant(step, data):
  epochs = training.make_train_epochs_by_step(step, BATCH)
  garbage = data._replace(inputs=data.inputs.at[20:].set(1e6), labels=data.labels.at[20:].set(-9.0))
  got, info = epochs(initial(), garbage, KEY, 0, 2)
  assert_equal((got, info), epochs(initial(), data, KEY, 0, 2))


def test_the_state_is_given_away(step, data):
  state = initial()
  training.make_train_epochs_by_step(step, BATCH)(state, data, KEY, 0, 1)
  assert state.weight.is_deleted()
  assert not data.inputs.is_deleted()
