"""Deep nearest neighbours (Sun, Ming, Zhu & Li, 2022)."""

from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.neighbors import NearestNeighbors

from benchmarks.baselines.networks.forward import Forward, in_batches


class DeepNearestNeighbour:
  """Distance ``|z - z_(k)|_2`` to the k-th nearest training example, ``z = f / |f|_2``.

  f are the penultimate features; f = 0 becomes z = 0, at distance 1 from every other.

  Deviation: the paper searches all of CIFAR-10's training set, or a random 1 % of ImageNet's; here
  a random subset of ``max_rows``.

  Args:
    forward: the trained classifier.
    k: which neighbour; 50 is the paper's for CIFAR-10.
    max_rows: at most as many training examples are searched.
    seed: decides which.

  Raises:
    ValueError: k is not in 1 .. max_rows.
  """

  def __init__(self, forward: Forward, k: int = 50, max_rows: int = 10_000, seed: int = 0):
    if not 1 <= k <= max_rows:
      raise ValueError(f"k must be in 1 .. max_rows = {max_rows}, got {k}.")
    self._max_rows, self._seed = max_rows, seed
    self._index = NearestNeighbors(n_neighbors=k)

    def directions(x: jax.Array) -> jax.Array:
      features = forward(x)[1]
      # By the largest entry first: squares of tiny features would underflow.
      largest = jnp.max(jnp.abs(features), axis=1, keepdims=True)
      scaled = features / jnp.where(largest > 0.0, largest, 1.0)
      norm = jnp.linalg.norm(scaled, axis=1, keepdims=True)
      return scaled / jnp.where(norm > 0.0, norm, 1.0)

    self._directions = jax.jit(directions)

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Keeps the directions of at most ``max_rows`` training inputs ``[n, ...]``.

    Raises:
      ValueError: fewer than k inputs.
    """
    del y
    if len(x) < self._index.n_neighbors:
      raise ValueError(f"{len(x)} inputs do not have a neighbour {self._index.n_neighbors}.")
    if len(x) > self._max_rows:
      generator = np.random.default_rng(self._seed)
      x = x[np.sort(generator.choice(len(x), self._max_rows, replace=False))]
    self._index.fit(in_batches(self._directions, x).astype(np.float64))
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n]``, in [0, 2]; higher = more anomalous.

    Raises:
      NotFittedError: before ``fit``.
    """
    return self._index.kneighbors(in_batches(self._directions, x).astype(np.float64))[0][:, -1]
