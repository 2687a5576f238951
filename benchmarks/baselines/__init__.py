"""Methods to compare with: one file each, one small interface.

``make(seed)`` gives an object with ``fit(x)`` on standardised typical records ``[n, d]`` and
``score(x) -> [m]``, higher = more anomalous.
"""

from collections.abc import Callable, Iterator
from typing import Protocol, Self

import numpy as np

from benchmarks.baselines import (
  isolation_forest,
  local_outlier_factor,
  nearest_neighbour,
  one_class_svm,
)


class Baseline(Protocol):
  """What every baseline can do."""

  def fit(self, x: np.ndarray) -> Self:
    """Learns from standardised typical records ``[n, d]``."""

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[m, d]`` to ``[m]``; higher = more anomalous."""


class BaselineWithNegatives(Protocol):
  """A baseline that learns from labelled negatives too; ``make(seed, shape, **settings)``."""

  def fit(self, x: np.ndarray, negatives: np.ndarray) -> Self:
    """Learns from standardised typical records and negatives ``[n, ...]``."""

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[m, ...]`` to ``[m]``; higher = more anomalous."""

  def trajectory(
    self, x: np.ndarray, negatives: np.ndarray, points: int
  ) -> Iterator[tuple[int, Callable[[np.ndarray], np.ndarray]]]:
    """As ``fit``, with stops: number of epochs done, and the score function then."""


BASELINES: dict[str, Callable[[int], Baseline]] = {
  "OC-SVM": one_class_svm.make,
  "isolation forest": isolation_forest.make,
  "LOF": local_outlier_factor.make,
  "nearest neighbour": nearest_neighbour.make,
}
