"""Whole epochs over device-resident data as one compiled program."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import batching

NEGATIVES = 2**32 - 1  # folded into the key of their order; no epoch has that number


class Data(NamedTuple):
  """Training rows on the device, padded to one of few lengths.

  Attributes:
    inputs: ``[length, ...]`` float32.
    labels: ``[length]`` float32: +1 typical, -1 negative; or the class, for a classifier.
    num_rows: int32, how many rows are real.
    negatives: labelled negatives to learn from beside them, or None. An epoch visits the rows once;
      with each batch goes one of as many negatives, in an order of their own that begins anew
      where it ends and is another one in every epoch.
  """

  inputs: jax.Array
  labels: jax.Array
  num_rows: jax.Array
  negatives: "Data | None" = None


def to_device(
  inputs: np.ndarray, labels: np.ndarray | None = None, negatives: np.ndarray | None = None
) -> Data:
  """Pads rows and puts them on the device.

  Args:
    inputs: ``[n, ...]``.
    labels: ``[n]``; +1 where not given.
    negatives: ``[k, ...]``, or None.
  """
  length = batching.padded_length(len(inputs))
  if labels is None:
    labels = np.ones(len(inputs))
  return Data(
    jnp.asarray(batching.pad_rows(np.asarray(inputs, np.float32), length)),
    jnp.asarray(batching.pad_rows(np.asarray(labels, np.float32), length)),
    jnp.asarray(len(inputs), jnp.int32),
    None if negatives is None else to_device(negatives, -np.ones(len(negatives))),
  )


def orders_of(key: jax.Array, epoch: jax.Array, data: Data) -> tuple[jax.Array, ...]:
  """The order of the rows in an epoch, and that of the negatives where there are any."""
  order = batching.epoch_order(key, epoch, data.num_rows, data.inputs.shape[0])
  if data.negatives is None:
    return (order,)
  return order, *orders_of(jax.random.fold_in(key, NEGATIVES), epoch, data.negatives)


def batch_at(
  data: Data,
  orders: tuple[jax.Array, ...],
  position: jax.typing.ArrayLike,
  batch_size: int,
  axis_name: str | None = None,
) -> batching.Batch:
  """Batch number ``position`` of an epoch with these orders.

  With ``axis_name`` it is this device's share: ``n`` devices take ``ceil(batch_size / n)`` rows
  each, in order, and what the last ones lack is masked.
  """
  start, size = position * batch_size, batch_size
  inside: Any = None
  if axis_name is not None:
    size = -(-batch_size // jax.lax.axis_size(axis_name))
    first = size * jax.lax.axis_index(axis_name)
    start, inside = start + first, first + jnp.arange(size) < batch_size

  def masked(batch: batching.Batch) -> batching.Batch:
    if inside is None:
      return batch
    return dataclasses.replace(batch, mask=jnp.where(inside, batch.mask, 0.0))

  batch = masked(batching.gather(data.inputs, data.labels, orders[0], start, data.num_rows, size))
  if data.negatives is None:
    return batch
  inputs, labels, num_rows, _ = data.negatives
  negatives = masked(batching.gather_around(inputs, labels, orders[1], start, num_rows, size))
  return dataclasses.replace(batch, negatives=negatives)


def psum_if(tree: Any, axis_name: str | None) -> Any:
  """Sums a tree over the devices of a mapped axis; without one it is the tree itself."""
  return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
  """Number of steps that visit every row once; the last batch may be smaller."""
  return -(-num_rows // batch_size)


TrainEpochs = Callable[[Any, Data, jax.Array, Any, Any], tuple[Any, Any]]


def make_train_epochs(
  step: Callable[..., Any], batch_size: int, axis_name: str | None = None
) -> TrainEpochs:
  """Makes the function that trains over whole epochs without coming back to the host.

  Args:
    step: a train step, ``(state, batch, key) -> (state, info)``.
    batch_size: examples per step; a last, smaller batch is padded and masked.
    axis_name: of the mapped axis that the devices of a training form, where it is spread over
      several; ``step`` must reduce over it. State, data and key are then the same on all of them,
      and so are the results; every device takes its share of each batch, see ``batch_at``.

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

    def one_step(position: jax.Array, carry: Any, orders: tuple[jax.Array, ...]) -> Any:
      state, info = carry
      batch = batch_at(data, orders, position, batch_size, axis_name)
      state, new_info = step(state, batch, jax.random.fold_in(step_key, state.step))
      return state, jax.tree.map(jnp.add, info, new_info)

    def one_epoch(epoch: jax.Array, carry: Any) -> Any:
      state, info = carry
      body = functools.partial(one_step, orders=orders_of(order_key, epoch, data))
      info = jax.tree.map(jnp.zeros_like, info)
      return jax.lax.fori_loop(0, num_steps, body, (state, info))

    info = _no_info(step, state, data, step_key, batch_size, axis_name)
    return jax.lax.fori_loop(first, last, one_epoch, (state, info))

  return train_epochs


def make_train_epochs_by_step(step: Callable[..., Any], batch_size: int) -> TrainEpochs:
  """As ``make_train_epochs``, but one compiled call for each step, and the loop in Python.

  XLA's gradients of convolutions are slow on a CPU inside a compiled loop (12 times slower in the
  trial that decided it), so networks with convolutions train by this there. The state passed in
  is donated.

  Args:
    step: a train step, ``(state, batch, key) -> (state, info)``; the state has an int32 ``step``.
    batch_size: examples per step; a last, smaller batch is padded and masked.
  """

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def one_step(
    state: Any,
    info: Any,
    data: Data,
    orders: tuple[jax.Array, ...],
    position: jax.Array,
    key: jax.Array,
  ) -> Any:
    batch = batch_at(data, orders, position, batch_size)
    state, new_info = step(state, batch, jax.random.fold_in(key, state.step))
    return state, jax.tree.map(jnp.add, info, new_info)

  jitted_orders_of = jax.jit(orders_of)
  no_info = jax.jit(functools.partial(_no_info, step, batch_size=batch_size))

  def train_epochs(state: Any, data: Data, key: jax.Array, first: Any, last: Any) -> Any:
    order_key, step_key = jax.random.split(key)
    num_steps = steps_per_epoch(int(data.num_rows), batch_size)
    info = no_info(state, data, step_key)
    for epoch in range(int(first), int(last)):
      orders = jitted_orders_of(order_key, jnp.asarray(epoch, jnp.int32), data)
      info = jax.tree.map(jnp.zeros_like, info)
      for position in range(num_steps):
        place = jnp.asarray(position, jnp.int32)
        state, info = one_step(state, info, data, orders, place, step_key)
    return state, info

  return train_epochs


def compile_train_epochs(step: Callable[..., Any], batch_size: int) -> TrainEpochs:
  """Epochs of ``step`` for one device: compiled whole on accelerators, step by step on a CPU."""
  if jax.default_backend() == "cpu":
    return make_train_epochs_by_step(step, batch_size)
  return jax.jit(make_train_epochs(step, batch_size), donate_argnums=0)


def on_one_device(make_train_step: Callable[..., Any], batch_size: int) -> TrainEpochs:
  """Epochs of the step that ``make_train_step(axis_name=None)`` makes, compiled for one device."""
  return compile_train_epochs(make_train_step(axis_name=None), batch_size)


def _no_info(
  step: Callable[..., Any],
  state: Any,
  data: Data,
  key: jax.Array,
  batch_size: int,
  axis_name: str | None = None,
) -> Any:
  """Zeros shaped like the info of a step."""

  def shaped(state: Any, data: Data, key: jax.Array) -> Any:
    orders = orders_of(key, jnp.zeros((), jnp.int32), data)
    return step(state, batch_at(data, orders, 0, batch_size, axis_name), key)[1]

  shapes = jax.eval_shape(shaped, state, data, key)
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
