"""Energy of the logits (Liu, Wang, Owens & Li, 2020), plain and of clipped features (ReAct)."""

from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baselines.networks.forward import Fitted, Forward, Untaught, in_batches, linear_head


class Energy(Untaught):
  """Score ``-log sum_i exp(z_i)``, the energy at temperature 1.

  Args:
    forward: the trained classifier.
  """

  def __init__(self, forward: Forward):
    self._score = jax.jit(lambda x: -jax.nn.logsumexp(forward(x)[0], axis=1))


class ReAct(Fitted):
  """The energy after penultimate features are clipped from above (Sun, Guo & Li, 2021).

  The clip is one number for all features, a quantile of those of the training inputs.

  Args:
    forward: the trained classifier; its logits must be linear in the features.
    quantile: of the features, in (0, 1); 0.9 is the paper's.

  Raises:
    ValueError: a quantile out of its range.
  """

  def __init__(self, forward: Forward, quantile: float = 0.9):
    if not 0.0 < quantile < 1.0:
      raise ValueError(f"quantile must be in (0, 1), got {quantile}.")
    self._quantile = quantile
    self._forward = jax.jit(forward)

    def score(x: jax.Array, fitted: tuple[jax.Array, ...]) -> jax.Array:
      weights, bias, most = fitted
      clipped = jnp.minimum(forward(x)[1], most)
      logits = jnp.matmul(clipped, weights, precision="highest") + bias[None]
      return -jax.nn.logsumexp(logits, axis=1)

    self._score = jax.jit(score)

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Learns the clip, and the last layer, from training inputs ``[n, ...]``."""
    del y
    logits, features = in_batches(self._forward, x)
    weights, bias = linear_head(features, logits)
    most = np.quantile(features, self._quantile)
    self._fitted = tuple(jnp.asarray(each, jnp.float32) for each in (weights, bias, most))
    return self
