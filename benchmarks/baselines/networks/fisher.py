"""Scores of every layer, joined by Fisher's method (Haroush, Frostig, Heller & Soudry, 2021).

As oodeel has it: a layer's score becomes a p-value among those of the training inputs, and the
p-values ``-2 sum log p``. Brown's correction for their dependence, which follows there, rises with
this sum and changes no rank; it is left out.
"""

from collections.abc import Callable
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import NotFittedError

from benchmarks.baselines.networks.deep_nearest_neighbour import DeepNearestNeighbour
from benchmarks.baselines.networks.forward import Forward, in_batches
from benchmarks.baselines.networks.gram import Gram
from benchmarks.baselines.networks.mahalanobis import Mahalanobis


class LayerScores(Protocol):
  """What is joined."""

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Learns from training inputs ``[n, ...]`` and classes int64 ``[n]``."""

  def layer_scores(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n, layers]``; higher = more anomalous."""


class EachLayer:
  """A method on each layer, maps averaged over their places.

  Args:
    forward: the trained classifier; where it has ``layers``, ``x -> {name: [n, ..., channels]}``,
      these are the layers, else features and logits.
    make: the method of a ``Forward``; it scores by the features alone.
  """

  def __init__(self, forward: Forward, make: Callable[[Forward], Any]):
    layers = getattr(forward, "layers", lambda x: dict(enumerate(forward(x))))

    def pooled(x: jax.Array) -> list[jax.Array]:
      return [jnp.mean(a.reshape(len(a), -1, a.shape[-1]), axis=1) for a in layers(x).values()]

    self._pooled, self._make = jax.jit(pooled), make
    self._parts: list[Any] = []

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Fits the method to each layer of the training inputs."""
    features = in_batches(self._pooled, x)
    self._parts = [self._make(lambda rows: (rows, rows)).fit(rows, y) for rows in features]
    return self

  def layer_scores(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n, layers]``; higher = more anomalous."""
    pairs = zip(self._parts, in_batches(self._pooled, x), strict=True)
    return np.stack([part.score(rows) for part, rows in pairs], axis=1)


class Fisher:
  """Fisher's statistic of the p-values of a record's layers.

  A p-value is read off the training inputs' scores ``s_1 .. s_n`` of that layer, of rank over
  ``n + 2``, linearly between them, and beyond the largest, as oodeel has it, up to n times as far.

  Args:
    layers: gives the scores.
  """

  def __init__(self, layers: LayerScores):
    self._layers = layers
    self._reference: np.ndarray | None = None

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Learns from training inputs ``[n, ...]`` and classes ``[n]``."""
    found = -self._layers.fit(x, y).layer_scores(x)
    n, least, most = len(found), found.min(axis=0), found.max(axis=0)
    ends = (np.where(least > 0, least / n, least * n), np.where(most > 0, most * n, most / n))
    self._reference = np.sort(np.concatenate([found, np.stack(ends)]), axis=0)
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n]``, at least 0; higher = more anomalous.

    Raises:
      NotFittedError: before ``fit``.
    """
    if self._reference is None:
      raise NotFittedError("Call fit before score.")
    ranks = np.arange(1, len(self._reference) + 1) / len(self._reference)
    pairs = zip(self._layers.layer_scores(x).T, self._reference.T, strict=True)
    return 2.0 * np.sum([-np.log(np.interp(-s, known, ranks)) for s, known in pairs], axis=0)


def neighbours(forward: Forward) -> Fisher:
  """Deep nearest neighbours on every layer."""
  return Fisher(EachLayer(forward, DeepNearestNeighbour))


def mahalanobis(forward: Forward) -> Fisher:
  """Mahalanobis distances on every layer, without a step of the input."""
  return Fisher(EachLayer(forward, lambda part: Mahalanobis(part, epsilon=0.0)))


def gram(forward: Forward) -> Fisher:
  """Gram matrices up to the fifth power, roots of entries, bounds that hold 98 % of records."""
  return Fisher(Gram(forward, powers=5, quantile=0.01, of_entries=True, held_out=False))
