"""Relative Mahalanobis distance (Ren, Fort, Liu, Roy, Padhy & Lakshminarayanan, 2021)."""

from typing import Self

import jax
import numpy as np

from benchmarks.baselines.networks.forward import Fitted, Forward, in_batches
from benchmarks.baselines.networks.mahalanobis import Gaussians, fit_gaussians


class RelativeMahalanobis(Fitted):
  """Squared distance to the nearest class less that to one Gaussian of all training inputs.

  Of the penultimate features; both covariances get a ridge, as units that are dead on the training
  data make them singular.

  Args:
    forward: the trained classifier.
    ridge: positive; added to the diagonal, in units of its mean, ``trace / d``.
  """

  def __init__(self, forward: Forward, ridge: float = 1e-6):
    self._ridge = ridge

    def score(x: jax.Array, fitted: tuple[Gaussians, Gaussians]) -> jax.Array:
      features = forward(x)[1]
      return fitted[0].distance(features) - fitted[1].distance(features)

    self._score = jax.jit(score)
    self._features = jax.jit(lambda x: forward(x)[1])

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Fits the Gaussians to training inputs ``[n, ...]`` of classes ``[n]``.

    Raises:
      HealthError: features that are not finite, or do not vary within any class.
      ValueError: numbers of inputs and labels differ.
    """
    features = in_batches(self._features, x)
    of_classes = fit_gaussians(features, y, self._ridge)
    self._fitted = of_classes, fit_gaussians(features, np.zeros(len(features)), self._ridge)
    return self
