"""Virtual-logit matching (Wang, Li, Feng & Zhang, 2022)."""

from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baselines.networks.forward import Fitted, Forward, in_batches, linear_head
from detector_jax.health import HealthError


class ViM(Fitted):
  """``alpha |R (f - o)|_2 - log sum_i exp(z_i)``, a residual of the features beside the logits.

  The origin o is where the logits vanish, ``-pinv(W^T) b``; R projects on what the first ``kept``
  principal axes of the training features about it leave; alpha is the mean largest logit of the
  training inputs over their mean residual.

  Args:
    forward: the trained classifier; its logits must be linear in the features.
    kept: how many principal axes; None takes half of the features (the paper has 1,000 of 2,048).
  """

  def __init__(self, forward: Forward, kept: int | None = None):
    self._kept = kept
    self._forward = jax.jit(forward)

    def score(x: jax.Array, fitted: tuple[jax.Array, ...]) -> jax.Array:
      origin, rest = fitted
      logits, features = forward(x)
      left = jnp.matmul(features - origin[None], rest, precision="highest")
      return jnp.linalg.norm(left, axis=1) - jax.nn.logsumexp(logits, axis=1)

    self._score = jax.jit(score)

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Learns origin, axes and scale from training inputs ``[n, ...]``.

    Raises:
      HealthError: features that leave no residual.
    """
    del y
    logits, features = in_batches(self._forward, x)
    weights, bias = linear_head(features, logits)
    origin = -np.linalg.pinv(weights.T) @ bias
    about = features.astype(np.float64) - origin
    kept = about.shape[1] // 2 if self._kept is None else self._kept
    rest = np.linalg.eigh(about.T @ about)[1][:, : about.shape[1] - kept]
    residual = float(np.linalg.norm(about @ rest, axis=1).mean())
    if residual <= 1e-6 * np.abs(features).mean():
      raise HealthError("Features leave no residual: the network is dead or collapsed.")
    scaled = rest * float(logits.max(axis=1).mean()) / residual
    self._fitted = jnp.asarray(origin, jnp.float32), jnp.asarray(scaled, jnp.float32)
    return self
