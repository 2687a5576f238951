"""One-class SVM with an RBF kernel (Schoelkopf et al., 1999)."""

from sklearn.svm import OneClassSVM

from benchmarks.baselines.scikit import Scikit


def make(seed: int) -> Scikit:
  """Kernel width by scikit-learn's rule ``1 / (d var)``, nu 0.1; deterministic."""
  del seed
  return Scikit(OneClassSVM(kernel="rbf", gamma="scale", nu=0.1))
