"""Out-of-distribution scores of a trained classifier: one file each, one small interface.

A method is made from ``(forward, **settings)``, learns by ``fit(x, y)`` from the training inputs
``[n, ...]`` and classes ``[n]``, and gives ``score(x) -> [n]``, higher = more anomalous.
"""

from collections.abc import Callable
from typing import Protocol, Self

import numpy as np

from benchmarks.baselines.networks import fisher
from benchmarks.baselines.networks.deep_nearest_neighbour import DeepNearestNeighbour
from benchmarks.baselines.networks.energy import Energy, ReAct
from benchmarks.baselines.networks.forward import Forward
from benchmarks.baselines.networks.gram import Gram
from benchmarks.baselines.networks.mahalanobis import Mahalanobis
from benchmarks.baselines.networks.max_softmax import MaxSoftmax
from benchmarks.baselines.networks.odin import ODIN
from benchmarks.baselines.networks.relative_mahalanobis import RelativeMahalanobis
from benchmarks.baselines.networks.vim import ViM

__all__ = [
  "EPSILONS",
  "NETWORK_BASELINES",
  "ODIN",
  "DeepNearestNeighbour",
  "Energy",
  "Forward",
  "Gram",
  "Mahalanobis",
  "MaxSoftmax",
  "NetworkBaseline",
  "ReAct",
  "RelativeMahalanobis",
  "ViM",
]

EPSILONS = (0.0005, 0.001, 0.0014, 0.002, 0.005, 0.01)
"""Input steps of the tables of ODIN and Mahalanobis in the NeuralFP paper.

Three of its four tables list 0.014 between 0.001 and 0.002, the fourth 0.0014: a slip for 0.0014,
which is also what the released code of Mahalanobis lists there.
"""


class NetworkBaseline(Protocol):
  """What every method here can do."""

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Learns from training inputs ``[n, ...]`` and classes int64 ``[n]``, if it needs to."""

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n]``; higher = more anomalous."""


NETWORK_BASELINES: dict[str, Callable[..., NetworkBaseline]] = {
  "max softmax": MaxSoftmax,
  "ODIN": ODIN,
  "Mahalanobis": Mahalanobis,
  "deep nearest neighbour": DeepNearestNeighbour,
  "energy": Energy,
  "ReAct": ReAct,
  "relative Mahalanobis": RelativeMahalanobis,
  "ViM": ViM,
  "Gram": Gram,
  "nearest neighbours of layers": fisher.neighbours,
  "Mahalanobis of layers": fisher.mahalanobis,
  "Gram of layers": fisher.gram,
}
