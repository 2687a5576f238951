"""Distance to the nearest training records."""

from typing import Self

import numpy as np
from sklearn.neighbors import NearestNeighbors


class NearestNeighbour:
  """Mean Euclidean distance to the nearest of the typical records.

  Attributes:
    neighbours: how many of them, >= 1; at most all records are taken.
  """

  def __init__(self, neighbours: int = 1) -> None:
    self.neighbours = neighbours
    self._index = NearestNeighbors()

  @property
  def parameters(self) -> int:
    """How many numbers scoring reads, after ``fit``: all training records."""
    return int(self._index.n_samples_fit_ * self._index.n_features_in_)

  def fit(self, x: np.ndarray) -> Self:
    """Keeps the standardised typical records ``[n, d]``."""
    self._index = NearestNeighbors(n_neighbors=min(self.neighbours, len(x))).fit(x)
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Mean distances ``[m]`` of ``[m, d]``; higher = more anomalous."""
    return self._index.kneighbors(x)[0].mean(axis=1)


def make(seed: int, neighbours: int = 1) -> NearestNeighbour:
  """One neighbour, as in the paper's tables, or more; deterministic."""
  del seed
  return NearestNeighbour(neighbours)
