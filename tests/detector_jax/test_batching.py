"""Which rows a step sees: lengths, orders, masks and means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import batching


def test_padded_length_is_at_most_a_quarter_longer_and_one_of_few():
  lengths = [batching.padded_length(n) for n in range(1, 5001)]
  for n, length in enumerate(lengths, start=1):
    assert n <= length <= max(32, 1.25 * n)
    assert batching.padded_length(length) == length
  assert lengths == sorted(lengths)
  assert len(set(lengths)) <= 32
  assert [batching.padded_length(n) for n in (1, 32, 33, 64, 65, 80, 81)] == [
    *(32, 32, 40, 64, 80, 80, 96)
  ]


def test_pad_rows_appends_zero_rows():
  rows = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
  padded = batching.pad_rows(rows, 5)
  np.testing.assert_array_equal(padded[:3], rows)
  np.testing.assert_array_equal(padded[3:], np.zeros((2, 2)))
  assert padded.dtype == np.float32
  assert batching.pad_rows(rows, 3) is rows


def test_epoch_order_is_a_permutation_of_the_real_rows_then_the_padding():
  order = np.asarray(batching.epoch_order(jax.random.key(0), 3, 20, 32))
  assert sorted(order[:20]) == list(range(20))
  np.testing.assert_array_equal(order[20:], np.arange(20, 32))
  assert (order[:20] != np.arange(20)).any()


def test_epoch_order_is_a_function_of_key_and_epoch_alone():
  key = jax.random.key(0)
  order = np.asarray(batching.epoch_order(key, 3, 20, 32))
  np.testing.assert_array_equal(
    order, jax.jit(batching.epoch_order, static_argnums=3)(key, 3, 20, 32)
  )
  assert (order != np.asarray(batching.epoch_order(key, 4, 20, 32))).any()
  assert (order != np.asarray(batching.epoch_order(jax.random.key(1), 3, 20, 32))).any()


@pytest.mark.parametrize(("num_rows", "length"), [(10, 32), (20, 40)])
def test_rows_keep_their_relative_order_whatever_else_is_there(num_rows, length):
  key = jax.random.key(0)
  full = np.asarray(batching.epoch_order(key, 3, 20, 32))
  other = np.asarray(batching.epoch_order(key, 3, num_rows, length))[:num_rows]
  np.testing.assert_array_equal(other, [row for row in full[:20] if row < num_rows])


def test_gather_masks_what_lies_beyond_the_real_rows():
  inputs, labels = jnp.arange(8.0).reshape(8, 1) * 10, jnp.ones(8).at[2].set(-1.0)
  order = jnp.array([4, 2, 0, 1, 3, 5, 6, 7])
  batch = batching.gather(inputs, labels, order, 3, 5, 3)
  np.testing.assert_array_equal(batch.mask, [1, 1, 0])
  np.testing.assert_array_equal(batch.index, [1, 3, 5])
  np.testing.assert_array_equal(batch.inputs[:, 0], [10, 30, 50])
  first = batching.gather(inputs, labels, order, 0, 5, 3)
  np.testing.assert_array_equal(first.labels, [1, -1, 1])
  beyond = batching.gather(inputs, labels, order, 6, 8, 3)
  np.testing.assert_array_equal(beyond.mask, [1, 1, 0])


def test_in_batches_gives_the_same_bits_for_any_division(rng):
  weights = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
  shapes = []

  @jax.jit
  def function(x):
    shapes.append(x.shape)
    return {"a": jnp.tanh(x @ weights), "b": jnp.sum(x, axis=1)}

  rows = rng.normal(size=(21, 5)).astype(np.float32)
  whole = batching.in_batches(function, rows, 8)
  assert whole["a"].shape == (21, 4)
  assert whole["b"].shape == (21,)
  np.testing.assert_allclose(whole["a"], np.tanh(rows @ np.asarray(weights)), rtol=1e-5)
  for cuts in ([1], [8], [20], [3, 5, 17], list(range(1, 21))):
    parts = [batching.in_batches(function, part, 8) for part in np.split(rows, cuts)]
    for name, values in whole.items():
      np.testing.assert_array_equal(values, np.concatenate([part[name] for part in parts]))
  assert shapes == [(8, 5)]


def test_mean_ignores_what_is_masked_out_even_nan():
  mean = batching.Mean.from_values(jnp.array([1.0, jnp.nan, 5.0]), jnp.array([1.0, 0.0, 1.0]))
  assert float(mean.value) == 3.0
  assert float(mean.count) == 2.0


def test_means_add_up_over_uneven_batches():
  parts = [
    batching.Mean.from_values(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0])),
    batching.Mean.from_values(jnp.array([9.0, 7.0]), jnp.array([1.0, 0.0])),
  ]
  assert float(jax.tree.map(jnp.add, *parts).value) == 4.0


def test_the_mean_of_nothing_is_zero():
  assert float(batching.Mean.from_values(jnp.array([jnp.nan]), jnp.zeros(1)).value) == 0.0
