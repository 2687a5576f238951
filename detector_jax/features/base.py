"""What a feature map is, and how one is applied to records that need not fit into memory."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from detector_jax import batching


class FeatureMap(Protocol):
  """Fitted features: a pytree of arrays, called inside a detector's program.

  Attributes:
    rows: how many records it is best given at a time.
  """

  @property
  def rows(self) -> int:
    """How many records it is best given at a time."""

  def __call__(self, x: jax.Array) -> jax.Array:
    """float32 ``[batch, features]`` of raw records ``[batch, ...]``."""


class Features(Protocol):
  """Settings of a feature map."""

  def fit(self, x: Any, seed: int = 0) -> FeatureMap:
    """The map that typical records ``[n, ...]`` give, by a seed."""


def batches_of(x: Any, rows: int) -> Iterator[np.ndarray]:
  """Slices of ``x`` of so many rows, float32; ``x`` may be a memory map."""
  for start in range(0, len(x), rows):
    yield np.asarray(x[start : start + rows], np.float32)


def rows_for(numbers: int) -> int:
  """Records at a time so that the largest intermediate array, of so many numbers each, stays small.

  About 16 MB: what is larger costs a CPU more in page faults than in arithmetic.
  """
  return int(np.clip(2**22 // numbers, 1, 256))


def per_channel(vector: jax.Array, x: jax.Array) -> jax.Array:
  """``[channels]`` with an axis of 1 for each of ``x`` ``[..., channels]`` but the last."""
  return vector.reshape((1,) * (x.ndim - 1) + (-1,))


def in_turn(function: Callable[[np.ndarray], Any], x: Any, rows: int) -> Iterator[np.ndarray]:
  """What ``function`` makes of ``x`` ``[n, ...]``, so many rows at a time; one batch is held."""
  for batch in batches_of(x, rows):
    yield batching.in_batches(function, batch, rows)


@jax.jit
def _apply(features: Any, x: jax.Array) -> jax.Array:
  return features(x)


def apply(features: FeatureMap, x: Any) -> np.ndarray:
  """Features float32 ``[n, features]`` of raw records ``[n, ...]``, ``features.rows`` at a time."""
  return np.concatenate(list(in_turn(lambda batch: _apply(features, batch), x, features.rows)))
