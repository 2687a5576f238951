"""Whole epochs over device-resident data as one compiled program."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import batching


class Data(NamedTuple):
  """Training rows on the device, padded to one of few lengths.

  Attributes:
    inputs: ``[length, ...]`` float32.
    labels: ``[length]`` float32: +1 typical, -1 negative; or the class, for a classifier.
    num_rows: int32, how many rows are real.
  """

  inputs: jax.Array
  labels: jax.Array
  num_rows: jax.Array


def put(inputs: np.ndarray, labels: np.ndarray | None = None) -> Data:
  """Pads ``inputs`` ``[n, ...]`` and puts them on the device; labels are +1 where not given."""
  length = batching.padded_length(len(inputs))
  if labels is None:
    labels = np.ones(len(inputs))
  return Data(
    jnp.asarray(batching.pad_rows(np.asarray(inputs, np.float32), length)),
    jnp.asarray(batching.pad_rows(np.asarray(labels, np.float32), length)),
    jnp.asarray(len(inputs), jnp.int32),
  )


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
  """Number of steps that visit every row once; the last batch may be smaller."""
  return -(-num_rows // batch_size)


TrainEpochs = Callable[[Any, Data, jax.Array, Any, Any], tuple[Any, Any]]


def make_train_epochs(step: Callable[..., Any], batch_size: int) -> TrainEpochs:
  """Makes the function that trains over whole epochs without coming back to the host.

  Args:
    step: a train step, ``(state, batch, key) -> (state, info)``.
    batch_size: examples per step; a last, smaller batch is padded and masked.

  Returns:
    ``train_epochs(state, data, key, first, last) -> (state, info)``: runs the epochs
    ``first, ..., last - 1`` and returns the info of the last one, summed over its steps. The step
    key is ``fold_in(key, state.step)`` and the order ``epoch_order(key, epoch)``, so that any
    division of a run into calls gives the same bits. ``first`` and ``last`` are traced.
  """

  def train_epochs(
    state: Any, data: Data, key: jax.Array, first: jax.Array, last: jax.Array
  ) -> tuple[Any, Any]:
    order_key, step_key = jax.random.split(key)
    num_steps = -(-data.num_rows // batch_size)

    def one_step(position: jax.Array, carry: Any, order: jax.Array) -> Any:
      state, info = carry
      batch = batching.gather(
        data.inputs, data.labels, order, position * batch_size, data.num_rows, batch_size
      )
      state, new_info = step(state, batch, jax.random.fold_in(step_key, state.step))
      return state, jax.tree.map(jnp.add, info, new_info)

    def one_epoch(epoch: jax.Array, carry: Any) -> Any:
      state, info = carry
      order = batching.epoch_order(order_key, epoch, data.num_rows, data.inputs.shape[0])
      body = functools.partial(one_step, order=order)
      info = jax.tree.map(jnp.zeros_like, info)
      return jax.lax.fori_loop(0, num_steps, body, (state, info))

    batch = batching.gather(
      data.inputs, data.labels, jnp.zeros(data.inputs.shape[0], jnp.int32), 0, 1, batch_size
    )
    shapes = jax.eval_shape(step, state, batch, step_key)[1]
    info = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.fori_loop(first, last, one_epoch, (state, info))

  return train_epochs


def make_train_epochs_by_step(step: Callable[..., Any], batch_size: int) -> TrainEpochs:
  """As ``make_train_epochs``, but one compiled call for each step, and the loop in Python.

  XLA's convolutions on a CPU run on one thread inside a compiled loop (12 times slower in the
  trial that decided it), so networks with convolutions train by this there. The state passed in
  is donated.

  Args:
    step: a train step, ``(state, batch, key) -> (state, info)``; the state has an int32 ``step``.
    batch_size: examples per step; a last, smaller batch is padded and masked.
  """

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def one_step(
    state: Any, info: Any, data: Data, order: jax.Array, position: jax.Array, key: jax.Array
  ) -> Any:
    batch = batching.gather(
      data.inputs, data.labels, order, position * batch_size, data.num_rows, batch_size
    )
    state, new_info = step(state, batch, jax.random.fold_in(key, state.step))
    return state, jax.tree.map(jnp.add, info, new_info)

  @jax.jit
  def order_of(key: jax.Array, epoch: jax.Array, data: Data) -> jax.Array:
    return batching.epoch_order(key, epoch, data.num_rows, data.inputs.shape[0])

  def train_epochs(state: Any, data: Data, key: jax.Array, first: Any, last: Any) -> Any:
    order_key, step_key = jax.random.split(key)
    num_steps = steps_per_epoch(int(data.num_rows), batch_size)
    batch = jax.eval_shape(
      lambda: batching.gather(
        data.inputs, data.labels, jnp.zeros(data.inputs.shape[0], jnp.int32), 0, 1, batch_size
      )
    )
    shapes = jax.eval_shape(step, state, batch, step_key)[1]
    info = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    for epoch in range(int(first), int(last)):
      order = order_of(order_key, jnp.asarray(epoch, jnp.int32), data)
      info = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
      for position in range(num_steps):
        place = jnp.asarray(position, jnp.int32)
        state, info = one_step(state, info, data, order, place, step_key)
    return state, info

  return train_epochs
