"""The epoch loops: what is visited when, and the same bits however they are run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import training
from detector_jax.batching import Mean
from tests.helpers import assert_trees_close, assert_trees_equal

KEY = jax.random.key(3)
ROWS, BATCH, STEPS = 20, 8, 3  # two full batches an epoch, and one of four
GIVEN = pytest.mark.parametrize("given", [0, 11])
TRACES = []


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["step", "weight", "seen", "visited"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class State:
  """Seen: how often each row was. Visited: numbers of negatives in their order, -1 where none."""

  step: jax.Array
  weight: jax.Array
  seen: jax.Array
  visited: jax.Array


def step(state, batch, key):
  """Least squares, and away from negatives, with noise; writes down what it saw."""
  TRACES.append(batch)
  given, visited = batch.negatives, state.visited

  def loss(weight):
    values = (batch.inputs @ weight - batch.labels) ** 2
    info = {"loss": Mean.from_values(values, batch.mask)}
    total = info["loss"].value
    if given is not None:
      others = jax.nn.softplus(given.inputs @ weight)
      info["negatives"] = Mean.from_values(others, given.mask)
      info["labels"] = Mean.from_values(given.labels, given.mask)
      total += info["negatives"].value
    return total, info

  gradient, info = jax.grad(loss, has_aux=True)(state.weight)
  gradient += 0.1 * jax.random.normal(key, gradient.shape)
  seen = state.seen.at[batch.index].add(batch.mask)
  if given is not None:
    place = (state.step * given.index.shape[0],)
    visited = jax.lax.dynamic_update_slice(visited, given.index, place)
  return State(state.step + 1, state.weight - 0.05 * gradient, seen, visited), info


def initial() -> State:
  visited = jnp.full(1000, -1, jnp.int32)
  return State(jnp.zeros((), jnp.int32), jnp.zeros(3), jnp.zeros(32), visited)


@functools.cache
def loop(batch_size=BATCH):
  return jax.jit(training.make_train_epochs(step, batch_size))


@functools.cache
def loop_by_step(batch_size=BATCH):
  return training.make_train_epochs_by_step(step, batch_size)


BOTH = pytest.mark.parametrize("run", [loop, loop_by_step])


def data(given: int = 0) -> training.Data:
  rng = np.random.default_rng(0)
  x, negatives = rng.normal(1.0, 1.0, (ROWS, 3)), rng.normal(-1.0, 1.0, (given, 3))
  return training.to_device(x, x @ [1.0, -2.0, 0.5], negatives=negatives if given else None)


def visits(given: int, epochs: int, batch_size: int = BATCH) -> np.ndarray:
  """Numbers of the visited negatives, ``[epochs, steps * batch_size]``."""
  state, _ = loop(batch_size)(initial(), data(given), KEY, 0, epochs)
  count = int(state.step) * batch_size
  assert (np.asarray(state.visited[count:]) == -1).all()
  return np.asarray(state.visited[:count]).reshape(epochs, -1)


# However it is run.


@GIVEN
def test_step_by_step_gives_the_numbers_of_the_compiled_epochs(given):
  want = loop()(initial(), data(given), KEY, 0, 5)
  got = loop_by_step()(initial(), data(given), KEY, 0, 5)
  assert_trees_close(got, want, rtol=1e-5, atol=1e-6)
  state, info = got
  assert int(state.step) == 5 * STEPS
  assert float(info["loss"].count) == ROWS
  assert "negatives" not in info or float(info["negatives"].count) == STEPS * BATCH
  np.testing.assert_array_equal(state.seen, [5] * ROWS + [0] * 12)


@BOTH
@GIVEN
def test_any_division_into_calls_gives_the_same_bits(run, given):
  straight, info = run()(initial(), data(given), KEY, 0, 5)
  state = initial()
  for first, last in ((0, 1), (1, 4), (4, 5)):
    state, last_info = run()(state, data(given), KEY, first, last)
  assert_trees_equal((state, last_info), (straight, info))
  other, _ = run()(initial(), data(given), jax.random.key(4), 0, 5)
  assert (np.asarray(other.weight) != straight.weight).any()


@BOTH
def test_nothing_is_traced_again_for_other_epochs_rows_or_negatives(run):
  for given, fewer in ((0, training.to_device(np.ones((11, 3)))), (11, data(3))):
    run()(initial(), data(given), KEY, 0, 1)
    count = len(TRACES)
    run()(initial(), fewer, jax.random.key(4), 1, 4)
    assert len(TRACES) == count > 0


@GIVEN
def test_no_epochs_change_nothing_and_report_nothing(given):
  whole = loop()(initial(), data(given), KEY, 2, 2)
  assert_trees_equal(loop_by_step()(initial(), data(given), KEY, 2, 2), whole)
  assert_trees_equal(whole[0], initial())
  assert float(whole[1]["loss"].count) == 0.0


@BOTH
def test_padding_is_irrelevant(run):
  plain = data(11)
  others = plain.negatives
  garbage = plain._replace(
    inputs=plain.inputs.at[ROWS:].set(1e6),
    labels=plain.labels.at[ROWS:].set(-9.0),
    negatives=others._replace(inputs=others.inputs.at[11:].set(1e6)),
  )
  want = run()(initial(), plain, KEY, 0, 2)
  assert_trees_equal(run()(initial(), garbage, KEY, 0, 2), want)


def test_the_state_is_given_away():
  state, given = initial(), data()
  loop_by_step()(state, given, KEY, 0, 1)
  assert state.weight.is_deleted()
  assert not given.inputs.is_deleted()


# Which negatives are visited when.


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


def test_the_order_begins_anew_where_it_ends_and_is_another_one_in_every_epoch():
  """11 negatives in 24 places an epoch: two whole rounds, then the first two again."""
  visited = visits(11, 6)
  for epoch in visited:
    order = epoch[:11]
    assert sorted(order) == list(range(11))
    np.testing.assert_array_equal(epoch, np.resize(order, STEPS * BATCH))
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
