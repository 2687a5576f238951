"""Non-parametric diffusion time estimation, DTE (Livernoche et al., ICLR 2024, section 4.1).

How much noise was added to a typical record to get this one? With Gaussian noise of variance v in
each of d columns, the posterior of v given a typical record y as the start is an inverse gamma
distribution with shape d / 2 - 1 and scale ``|x - y|^2 / 2``. The authors take the mean of ``|x -
y|^2`` over the five nearest y, and score by the mean of the diffusion time under that distribution.
Time grows with v and the distribution moves up with its scale, so that the mean squared distance
alone ranks the records; it is the score here. Theirs ends at the longest time, where records very
far from all data are equal.
"""

import numpy as np

from benchmarks.baselines.nearest_neighbour import NearestNeighbour


class DiffusionTime(NearestNeighbour):
  """Mean squared Euclidean distance to the nearest of the typical records."""

  def score(self, x: np.ndarray) -> np.ndarray:
    """Mean squared distances ``[m]`` of ``[m, d]``; higher = more anomalous."""
    return np.square(self._index.kneighbors(x)[0]).mean(axis=1)


def make(seed: int) -> DiffusionTime:
  """Five neighbours, as the authors take; deterministic."""
  del seed
  return DiffusionTime(neighbours=5)
