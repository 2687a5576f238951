"""Labelled negatives in the epoch loops: which are visited when, and the same bits however run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import training
from detector_jax.batching import Mean

KEY = jax.random.key(3)
ROWS, BATCH, STEPS = 20, 8, 3  # two full batches an epoch, and one of four


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["step", "weight", "visited"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class State:
  """Visited: ``[1000]`` numbers of the negatives in the order of their visits, -1 where none."""

  step: jax.Array
  weight: jax.Array
  visited: jax.Array


TRACES = []


def step(state, batch, key):
  """Pushes rows and negatives apart, with noise, and writes down which negatives it saw."""
  TRACES.append(batch)
  given = batch.negatives
  size = given.index.shape[0]

  def loss(weight):
    values = jax.nn.softplus(-batch.inputs @ weight)
    others = jax.nn.softplus(given.inputs @ weight)
    return Mean.from_values(values, batch.mask).value + Mean.from_values(
      others, given.mask
    ).value, others

  gradient, others = jax.grad(loss, has_aux=True)(state.weight)
  gradient += 0.1 * jax.random.normal(key, gradient.shape)
  visited = jax.lax.dynamic_update_slice(state.visited, given.index, (state.step * size,))
  info = {
    "negatives": Mean.from_values(others, given.mask),
    "labels": Mean.from_values(given.labels, given.mask),
  }
  return State(state.step + 1, state.weight - 0.1 * gradient, visited), info


def initial() -> State:
  return State(jnp.zeros((), jnp.int32), jnp.zeros(3), jnp.full(1000, -1, jnp.int32))


@functools.cache
def loop(batch_size=BATCH):
  return jax.jit(training.make_train_epochs(step, batch_size))


@functools.cache
def loop_by_step(batch_size=BATCH):
  return training.make_train_epochs_by_step(step, batch_size)


def data(given: int) -> training.Data:
  rng = np.random.default_rng(0)
  x, negatives = rng.normal(1.0, 1.0, (ROWS, 3)), rng.normal(-1.0, 1.0, (given, 3))
  return training.to_device(x, negatives=negatives)


def visits(given: int, epochs: int, batch_size: int = BATCH) -> np.ndarray:
  """Numbers of the visited negatives, ``[epochs, steps * batch_size]``."""
  state, _ = loop(batch_size)(initial(), data(given), KEY, 0, epochs)
  count = int(state.step) * batch_size
  assert (np.asarray(state.visited[count:]) == -1).all()
  return np.asarray(state.visited[:count]).reshape(epochs, -1)


def assert_equal(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_array_equal(a, b)


def test_negatives_put_on_the_device():
  got = data(11)
  assert got.inputs.shape == got.negatives.inputs.shape == (32, 3)
  assert (int(got.num_rows), int(got.negatives.num_rows)) == (ROWS, 11)
  np.testing.assert_array_equal(got.negatives.labels, [-1.0] * 11 + [0.0] * 21)
  assert training.to_device(np.ones((4, 3))).negatives is None
  batch = training.batch_at(got, training.orders_of(KEY, 0, got), 2, BATCH)
  np.testing.assert_array_equal(batch.mask, [1.0] * 4 + [0.0] * 4)
  np.testing.assert_array_equal(batch.negatives.mask, np.ones(BATCH))
  np.testing.assert_array_equal(batch.negatives.labels, -np.ones(BATCH))
  np.testing.assert_array_equal(batch.negatives.inputs, got.negatives.inputs[batch.negatives.index])


def test_the_order_begins_anew_where_it_ends():
  """11 negatives in 24 places an epoch: two whole rounds, then the first two again."""
  for visited in visits(11, 4):
    order = visited[:11]
    assert sorted(order) == list(range(11))
    np.testing.assert_array_equal(visited, np.resize(order, STEPS * BATCH))


def test_the_order_is_another_one_in_every_epoch():
  visited = visits(11, 6)
  assert len({tuple(epoch) for epoch in visited}) == 6


def test_it_is_not_the_order_of_the_rows():
  got = data(ROWS)
  for epoch in range(3):
    rows, negatives = training.orders_of(KEY, jnp.asarray(epoch), got)
    assert sorted(rows[:ROWS].tolist()) == sorted(negatives[:ROWS].tolist()) == list(range(ROWS))
    assert rows.tolist() != negatives.tolist()


def test_every_negative_is_visited_over_the_epochs():
  """40 negatives in 24 places an epoch: never one twice in an epoch, and all within ten."""
  visited = visits(40, 10)
  assert all(len(set(epoch)) == STEPS * BATCH for epoch in visited)
  assert set(visited.ravel()) == set(range(40))


@pytest.mark.parametrize("given", [1, 3])
def test_batches_larger_than_the_number_of_negatives_hold_all_of_them_alike(given):
  visited = visits(given, 2)
  for batch in visited.reshape(-1, BATCH):
    counts = np.bincount(batch, minlength=given)
    assert len(counts) == given
    assert counts.max() - counts.min() <= 1


def test_one_batch_of_everything():
  state, info = loop(32)(initial(), data(5), KEY, 0, 2)
  assert int(state.step) == 2
  assert float(info["negatives"].count) == 32
  assert float(info["labels"].value) == -1.0


def test_any_division_into_calls_gives_the_same_bits():
  for run in (loop(), loop_by_step()):
    straight, info = run(initial(), data(11), KEY, 0, 5)
    state = initial()
    for first, last in ((0, 1), (1, 4), (4, 5)):
      state, last_info = run(state, data(11), KEY, first, last)
    assert_equal((state, last_info), (straight, info))


def test_step_by_step_gives_the_numbers_of_the_compiled_epochs():
  got, info = loop_by_step()(initial(), data(11), KEY, 0, 4)
  want, want_info = loop()(initial(), data(11), KEY, 0, 4)
  np.testing.assert_array_equal(got.visited, want.visited)
  np.testing.assert_allclose(got.weight, want.weight, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(info["negatives"].total, want_info["negatives"].total, rtol=1e-5)
  assert float(info["negatives"].count) == STEPS * BATCH


def test_what_lies_beyond_the_negatives_is_irrelevant():
  plain = data(11)
  garbage = plain._replace(
    negatives=plain.negatives._replace(inputs=plain.negatives.inputs.at[11:].set(1e6))
  )
  assert_equal(loop()(initial(), garbage, KEY, 0, 2), loop()(initial(), plain, KEY, 0, 2))


def test_another_number_of_negatives_compiles_nothing():
  for run in (loop(), loop_by_step()):
    run(initial(), data(11), KEY, 0, 1)
    count = len(TRACES)
    run(initial(), data(3), jax.random.key(4), 2, 3)
    assert len(TRACES) == count > 0
