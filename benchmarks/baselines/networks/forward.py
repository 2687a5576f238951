"""The trained classifier as the methods here see it, and the sums that they share."""

from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import NotFittedError

from detector_jax import batching

Forward = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
"""Maps inputs float32 ``[n, ...]`` to logits ``[n, classes]`` and penultimate features ``[n, d]``.

Pure and differentiable; a row of the results depends on the same row of the inputs alone.
"""

BATCH_SIZE = 256


class Fitted:
  """A score of records and of what ``fit`` learns.

  Attributes:
    _score: jitted, ``(x [n, ...], fitted) -> [n]``.
    _fitted: what ``fit`` learnt, a pytree of arrays; None before.
  """

  _score: Callable[..., jax.Array]
  _fitted: Any = None

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n]``; higher = more anomalous.

    Raises:
      NotFittedError: before ``fit``.
    """
    if self._fitted is None:
      raise NotFittedError("Call fit before score.")
    return in_batches(lambda rows: self._score(rows, self._fitted), x)


class Untaught:
  """A score of records for which nothing is learnt.

  Attributes:
    _score: jitted, ``x [n, ...] -> [n]``.
  """

  _score: Callable[..., jax.Array]

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Nothing is left to learn."""
    del x, y
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n]``; higher = more anomalous."""
    return in_batches(self._score, x)


def in_batches(function: Callable[[Any], jax.Array], x: np.ndarray) -> np.ndarray:
  """Applies a jitted function of rows to ``x`` ``[n, ...]``, n >= 1, in batches of one shape."""
  return batching.in_batches(function, np.asarray(x, np.float32), BATCH_SIZE)


def log_odds(logits: jax.Array, labels: jax.Array, temperature: float = 1.0) -> jax.Array:
  """How unlikely a class is, ``T log((1 - p) / ((classes - 1) p))`` with ``p = softmax(z / T)_y``.

  Falls strictly as ``p`` rises and is 0 at ``p = 1 / classes``. Neither it nor its gradient
  saturates where ``p`` rounds to 1, and it keeps its relative precision at a large T, where all
  ``p`` are nearly alike::

    T log mean_{i != y} exp(-(z_y - z_i) / T)

  with the smallest gap taken out of the exponent.

  Args:
    logits: ``[n, classes]``, at least 2 classes.
    labels: ``[n]`` integers in 0 .. classes - 1, the class y of each row.
    temperature: T > 0.

  Returns:
    ``[n]``, in units of the logits.

  Raises:
    ValueError: fewer than 2 classes.
  """
  classes = logits.shape[1]
  if classes < 2:
    raise ValueError(f"A classifier needs at least 2 classes, got logits of shape {logits.shape}.")
  own = jnp.arange(classes)[None] == labels[:, None]
  gaps = jnp.take_along_axis(logits, labels[:, None], axis=1) - logits
  smallest = jax.lax.stop_gradient(jnp.where(own, jnp.inf, gaps).min(axis=1, keepdims=True))
  above = jnp.where(own, 0.0, gaps - smallest)
  mean = jnp.sum(jnp.expm1(-above / temperature), axis=1) / (classes - 1)
  return temperature * jnp.log1p(mean) - smallest[:, 0]


def sign_step(
  function: Callable[[jax.Array], jax.Array], x: jax.Array, size: jax.Array | float
) -> jax.Array:
  """One step uphill in the largest norm, ``x + size * sign(grad function(x))``.

  Args:
    function: maps ``[n, ...]`` to ``[n]``, row by row.
    x: ``[n, ...]``.
    size: length of the step in each coordinate, in units of x.
  """
  return x + jnp.sign(jax.grad(lambda moved: jnp.sum(function(moved)))(x)) * size


def check_epsilon(epsilon: float) -> float:
  """Returns an input step; raises a ValueError where it is not a number >= 0."""
  if not 0.0 <= epsilon < float("inf"):
    raise ValueError(f"epsilon must be a number of at least 0, got {epsilon}.")
  return epsilon


def linear_head(features: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Weights ``[d, classes]`` and bias ``[classes]`` of a last layer, by what it makes of features.

  By least squares in float64; exact on the span of the features ``[n, d]``, and 0 off it.
  """
  centre = features.mean(axis=0, dtype=np.float64)
  mean = logits.mean(axis=0, dtype=np.float64)
  weights = np.linalg.lstsq(features - centre, logits - mean, rcond=1e-6)[0]
  return weights, mean - centre @ weights
