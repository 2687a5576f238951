"""Adapter for scikit-learn's outlier detectors."""

from typing import Any, Self

import numpy as np


class Scikit:
  """A scikit-learn outlier detector with the project's sign.

  Args:
    estimator: has ``fit`` and ``score_samples``, higher = more typical.
  """

  def __init__(self, estimator: Any):
    self._estimator = estimator

  def fit(self, x: np.ndarray) -> Self:
    """Learns from standardised typical records ``[n, d]``."""
    self._estimator.fit(x)
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[m, d]`` to ``[m]``; higher = more anomalous."""
    return -self._estimator.score_samples(x)
