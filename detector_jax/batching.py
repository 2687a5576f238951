"""Batches, masks and epoch orders: everything that decides which rows a step sees."""

from collections.abc import Callable
import dataclasses
import functools
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["inputs", "labels", "mask", "index", "negatives"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Batch:
  """One batch of examples.

  Attributes:
    inputs: ``[batch, ...]`` examples.
    labels: ``[batch]`` +1 typical, -1 negative.
    mask: ``[batch]`` 1.0 for a real example, 0.0 for padding.
    index: ``[batch]`` int32, the row's number in its data set. Random numbers of an example are
      drawn from ``fold_in(step_key, index)``, so that they do not depend on how a batch is
      spread over devices.
    negatives: a batch of labelled negatives to learn from beside it, or None.
  """

  inputs: jax.Array
  labels: jax.Array
  mask: jax.Array
  index: jax.Array
  negatives: "Batch | None" = None


@functools.partial(jax.tree_util.register_dataclass, data_fields=["total", "count"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Mean:
  """A mean that has not been divided yet, so that it adds up over batches and devices.

  Attributes:
    total: masked sum.
    count: number of examples in it.
  """

  total: jax.Array
  count: jax.Array

  @classmethod
  def from_values(cls, values: jax.Array, mask: jax.Array) -> "Mean":
    """Masked mean of ``values`` ``[batch]``; masked-out values may be anything, NaN included."""
    return cls(jnp.sum(jnp.where(mask > 0, values, 0.0)), jnp.sum(mask))

  @property
  def value(self) -> jax.Array:
    """The mean, 0 of nothing."""
    return self.total / jnp.maximum(self.count, 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
  """Some of many records, float32, which are read when ``np.asarray`` asks for them.

  Indexing with slices or row numbers gives a ``Selection``: records of a file that does not fit
  into memory are handed on by number, and read a batch at a time.

  Attributes:
    records: ``[n, ...]``: an array, a memory map, or what else has a shape and takes row numbers.
    index: int ``[k]``, which of them.
  """

  records: Any
  index: np.ndarray

  @property
  def shape(self) -> tuple[int, ...]:
    """``(k, ...)``."""
    return (len(self.index), *self.records.shape[1:])

  @property
  def ndim(self) -> int:
    """Number of axes."""
    return len(self.shape)

  def __len__(self) -> int:
    return len(self.index)

  def __getitem__(self, key: slice | np.ndarray) -> "Selection":
    return Selection(self.records, self.index[key])

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    if copy is False:
      raise ValueError("Records are read when they are asked for, which makes a copy.")
    return np.asarray(self.records[self.index], np.float32).astype(dtype or np.float32, copy=False)


Records = np.ndarray | Selection


def whole(name: str, value: Any, least: int = 1) -> int:
  """A setting that counts something.

  Raises:
    ValueError: it is no whole number, or below ``least``.
  """
  if not isinstance(value, numbers.Integral) or isinstance(value, bool):
    raise ValueError(f"{name} must be a whole number, got {value!r}.")
  if int(value) < least:
    raise ValueError(f"{name} must be >= {least}, got {value!r}.")
  return int(value)


def padded_length(length: int) -> int:
  """Rounds a number of rows up to one of few lengths, at most a quarter longer (32 at least).

  Programs are compiled for a shape; with the lengths ``2^k * {1, 1.25, 1.5, 1.75}`` data sets of
  similar size share one.
  """
  if length <= 32:
    return 32
  quarter = 2 ** (int(length - 1).bit_length() - 3)
  return -(-length // quarter) * quarter


def pad_rows(array: np.ndarray, length: int) -> np.ndarray:
  """Appends zero rows to ``array`` ``[n, ...]`` up to ``[length, ...]``."""
  if len(array) == length:
    return array
  return np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]), array.dtype)])


def epoch_order(
  key: jax.Array, epoch: jax.typing.ArrayLike, num_rows: jax.typing.ArrayLike, length: int
) -> jax.Array:
  """Order in which an epoch visits the rows, a function of the key and the epoch alone.

  Args:
    key: key of the run's data order.
    epoch: number of the epoch, from 0.
    num_rows: number of real rows, at most ``length``; may be traced.
    length: number of rows with padding.

  Returns:
    int32 ``[length]``: a random permutation of the real rows, then the padding.
  """
  draws = jax.random.uniform(jax.random.fold_in(key, epoch), (length,))
  return jnp.argsort(jnp.where(jnp.arange(length) < num_rows, draws, 2.0)).astype(jnp.int32)


def gather(
  inputs: jax.Array,
  labels: jax.Array,
  order: jax.Array,
  start: jax.typing.ArrayLike,
  num_rows: jax.typing.ArrayLike,
  batch_size: int,
) -> Batch:
  """The batch at places ``start, start + 1, ...`` of an epoch's order, padding masked out."""
  places = start + jnp.arange(batch_size)
  index = order[jnp.minimum(places, order.shape[0] - 1)]
  mask = jnp.where(places < num_rows, 1.0, 0.0)
  return Batch(inputs[index], labels[index], mask, index)


def gather_around(
  inputs: jax.Array,
  labels: jax.Array,
  order: jax.Array,
  start: jax.typing.ArrayLike,
  num_rows: jax.typing.ArrayLike,
  batch_size: int,
) -> Batch:
  """As ``gather``, but begins anew where the order ends, so that every example is a real one."""
  index = order[(start + jnp.arange(batch_size)) % num_rows]
  return Batch(inputs[index], labels[index], jnp.ones(batch_size), index)


def in_batches(function: Callable[..., Any], rows: Records, batch_size: int) -> Any:
  """Applies ``function`` to ``rows`` ``[n, ...]`` in padded batches of one fixed shape.

  The result of a row does not depend on which rows came with it, and the function is compiled
  once, whatever ``n``.

  Args:
    function: maps ``[batch_size, ...]`` to a pytree of arrays ``[batch_size, ...]``.
    rows: ``[n, ...]`` with n >= 1, an array or ``Selection``.
    batch_size: rows per call.

  Returns:
    The pytree of NumPy arrays ``[n, ...]``.
  """
  results = []
  for start in range(0, len(rows), batch_size):
    part = np.asarray(rows[start : start + batch_size])
    result = function(pad_rows(part, batch_size))
    results.append(jax.tree.map(lambda leaf, n=len(part): np.asarray(leaf)[:n], result))
  return jax.tree.map(lambda *leaves: np.concatenate(leaves), *results)


def num_parameters(tree: Any) -> int:
  """Numbers in all arrays of a pytree."""
  return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(tree))
