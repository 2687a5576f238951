"""The metric of DROCC's released code; all others are in ``detector_jax.metrics``."""

import numpy as np
from sklearn import metrics as sk

from detector_jax import metrics


def f1_released(labels: np.ndarray, scores: np.ndarray) -> float:
  """F1 of the typical class at the 20th percentile of normality, as the DROCC code computes it.

  On a balanced test set it can only lie between 6/13 = 0.462 (inverted) and 10/13 = 0.769
  (perfect), and a random score gets 8/13 = 0.615; the percentile's rounding moves each by up to
  1/n (0.463 on the 93 + 93 records of Thyroid). Read AUROC beside it.
  """
  labels, scores = metrics.checked(labels, scores)
  normality = -scores
  return float(sk.f1_score(1 - labels, normality >= np.percentile(normality, 20)))
