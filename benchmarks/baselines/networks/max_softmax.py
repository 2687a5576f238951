"""Maximum softmax probability (Hendrycks & Gimpel, 2017)."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baselines.networks.forward import Forward, Untaught, log_odds


class MaxSoftmax(Untaught):
  """Score ``log(1 - max_i softmax(z)_i)``.

  Ranks as the paper's ``-max_i softmax(z)_i`` does in exact arithmetic. In float32 that rounds to
  -1 from a margin of about 17 on, and the most typical inputs tie; the logarithm does not. At most
  0.

  Args:
    forward: the trained classifier.
  """

  def __init__(self, forward: Forward):
    def score(x: jax.Array) -> jax.Array:
      logits = forward(x)[0]
      odds = log_odds(logits, jnp.argmax(logits, axis=1))
      return jax.nn.log_sigmoid(odds + np.log(logits.shape[1] - 1))

    self._score = jax.jit(score)
