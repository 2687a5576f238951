"""Isolation forest (Liu et al., 2008)."""

from sklearn.ensemble import IsolationForest

from benchmarks.baselines.scikit import Scikit


def make(seed: int) -> Scikit:
  """100 trees of 256 records each, scikit-learn's defaults."""
  return Scikit(IsolationForest(random_state=seed))
