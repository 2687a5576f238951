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

  @property
  def parameters(self) -> int:
    """How many numbers scoring reads, after ``fit``.

    Support vectors and their weights; feature and threshold of each node; or all training records.
    """
    fitted = self._estimator
    if hasattr(fitted, "support_vectors_"):
      return int(fitted.support_vectors_.size + fitted.dual_coef_.size + 1)
    if hasattr(fitted, "estimators_"):
      return 2 * sum(tree.tree_.node_count for tree in fitted.estimators_)
    return int(fitted.n_samples_fit_ * fitted.n_features_in_)

  def fit(self, x: np.ndarray) -> Self:
    """Learns from standardised typical records ``[n, d]``."""
    self._estimator.fit(x)
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[m, d]`` to ``[m]``; higher = more anomalous."""
    return -self._estimator.score_samples(x)
