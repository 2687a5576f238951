"""Distance to the nearest training record."""

from typing import Self

import numpy as np
from sklearn.neighbors import NearestNeighbors


class NearestNeighbour:
  """Euclidean distance to the nearest of the typical records."""

  def __init__(self) -> None:
    self._index = NearestNeighbors(n_neighbors=1)

  def fit(self, x: np.ndarray) -> Self:
    """Keeps the standardised typical records ``[n, d]``."""
    self._index.fit(x)
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Distances ``[m]`` of ``[m, d]``; higher = more anomalous."""
    return self._index.kneighbors(x)[0][:, 0]


def make(seed: int) -> NearestNeighbour:
  """One neighbour, as in the paper's tables; deterministic."""
  del seed
  return NearestNeighbour()
