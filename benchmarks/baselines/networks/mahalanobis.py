"""Mahalanobis distance of the penultimate features (Lee, Lee, Lee & Shin, 2018)."""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import NotFittedError

from benchmarks.baselines.networks.forward import Forward, check_epsilon, in_batches, sign_step
from detector_jax.health import HealthError


class Gaussians(NamedTuple):
  """One Gaussian per class with one covariance ``Sigma`` for all.

  Attributes:
    centre: ``[d]`` mean of all features, subtracted first to keep float32 exact.
    whitening: ``[d, d]`` inverse of the Cholesky factor of ``Sigma``.
    means: ``[classes, d]`` whitened class means.
  """

  centre: jax.Array
  whitening: jax.Array
  means: jax.Array

  def distance(self, features: jax.Array) -> jax.Array:
    """Squared Mahalanobis distance ``[n]`` of ``[n, d]`` to the nearest class."""
    white = jnp.matmul(features - self.centre[None], self.whitening.T, precision="highest")
    return jnp.min(jnp.sum(jnp.square(white[:, None] - self.means[None]), axis=2), axis=1)


def fit_gaussians(features: np.ndarray, labels: np.ndarray, ridge: float) -> Gaussians:
  """Class means and tied covariance (equation 1 of the paper), in float64.

  Args:
    features: ``[n, d]``.
    labels: ``[n]`` classes.
    ridge: added to the diagonal of the covariance, in units of its mean, ``trace / d``.

  Raises:
    HealthError: features that are not finite, or do not vary within any class.
    ValueError: numbers of features and labels differ.
  """
  features, labels = np.asarray(features, np.float64), np.asarray(labels)
  if labels.shape != features.shape[:1]:
    raise ValueError(f"{len(features)} inputs do not match labels of shape {labels.shape}.")
  if not np.isfinite(features).all():
    raise HealthError("Some features are not finite: the network has diverged.")
  classes, of_class = np.unique(labels, return_inverse=True)
  means = np.array([features[of_class == index].mean(axis=0) for index in range(len(classes))])
  rest = features - means[of_class]
  covariance = rest.T @ rest / len(features)
  size = np.trace(covariance) / len(covariance)
  if size <= 1e-12 * np.square(features).mean():
    raise HealthError("Features do not vary within any class: the network is dead or collapsed.")
  factor = np.linalg.cholesky(covariance + ridge * size * np.eye(len(covariance)))
  centre, whitening = features.mean(axis=0), np.linalg.inv(factor)
  arrays = centre, whitening, (means - centre) @ whitening.T
  return Gaussians(*(jnp.asarray(array, jnp.float32) for array in arrays))


class Mahalanobis:
  """Squared distance to the nearest class mean, after a step of the input that lowers it.

  With f the penultimate features and ``d(x) = min_c (f(x) - mu_c)^T Sigma^-1 (f(x) - mu_c)``
  (equation 2)::

    x' = x - epsilon sign(grad d(x))        (Algorithm 1)
    score = d(x')

  Deviations: the last hidden layer alone, not a weighted sum over layers, whose weights the paper
  learns from anomalies; and a ridge, as units that are dead on the training data make ``Sigma``
  singular.

  Args:
    forward: the trained classifier.
    epsilon: input step >= 0, in units of x.
    ridge: positive; added to the diagonal of ``Sigma``, in units of its mean, ``trace / d``.

  Attributes:
    epsilon: may be set anew at any time: a sweep over it fits and compiles once.

  Raises:
    ValueError: epsilon or ridge out of range.
  """

  def __init__(self, forward: Forward, epsilon: float = 0.0014, ridge: float = 1e-6):
    if not 0.0 < ridge < float("inf"):
      raise ValueError(f"ridge must be a positive number, got {ridge}.")
    self.epsilon, self._ridge = check_epsilon(epsilon), ridge
    self._gaussians: Gaussians | None = None

    def score(x: jax.Array, gaussians: Gaussians, epsilon: jax.Array) -> jax.Array:
      def nearness(moved: jax.Array) -> jax.Array:
        return -gaussians.distance(forward(moved)[1])

      return -nearness(sign_step(nearness, x, epsilon))

    self._score = jax.jit(score)
    self._features = jax.jit(lambda x: forward(x)[1])

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Fits the Gaussians to training inputs ``[n, ...]`` of classes ``[n]``.

    Raises:
      HealthError: features that are not finite, or do not vary within any class.
      ValueError: numbers of inputs and labels differ.
    """
    self._gaussians = fit_gaussians(in_batches(self._features, x), y, self._ridge)
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n]``, at least 0; higher = more anomalous.

    Raises:
      NotFittedError: before ``fit``.
    """
    if self._gaussians is None:
      raise NotFittedError("Call fit before score.")
    return in_batches(lambda rows: self._score(rows, self._gaussians, self.epsilon), x)
