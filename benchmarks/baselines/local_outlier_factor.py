"""Local outlier factor (Breunig et al., 2000), for new records."""

from sklearn.neighbors import LocalOutlierFactor

from benchmarks.baselines.scikit import Scikit


def make(seed: int) -> Scikit:
  """20 neighbours, scikit-learn's default; deterministic."""
  del seed
  return Scikit(LocalOutlierFactor(n_neighbors=20, novelty=True))
