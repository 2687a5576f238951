"""ODIN (Liang, Li & Srikant, 2018): temperature and a small step of the input."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baselines.networks.forward import (
  Forward,
  Untaught,
  check_epsilon,
  in_batches,
  log_odds,
  sign_step,
)


class ODIN(Untaught):
  """Minus the maximum softmax at temperature T, after a step that raises it.

  With ``S_i(x; T) = softmax(z(x) / T)_i`` (equation 1) and ``c`` the predicted class::

    x' = x - epsilon sign(-grad log S_c(x; T))        (equation 2)
    score = T log((1 - S) / ((classes - 1) S)),  S = max_i S_i(x'; T)

  The score ranks as the paper's ``-S`` does in exact arithmetic. At T = 1000 all S lie within
  about 1e-3 of ``1 / classes``, where float32 has few values left; the score is in units of the
  logits. The step is taken on it as well: ``grad log S`` is ``-(1 - S) / T`` times its gradient,
  the same signs also where S rounds to 1.

  Deviation: the released code divides the step by the standard deviation of each channel; here
  epsilon is in the units of x.

  Args:
    forward: the trained classifier.
    temperature: T > 0.
    epsilon: input step >= 0, in units of x; 0.0014 is the paper's for DenseNet on CIFAR-10.

  Attributes:
    epsilon: may be set anew at any time: a sweep over it compiles once.

  Raises:
    ValueError: a temperature or epsilon out of range.
  """

  def __init__(self, forward: Forward, temperature: float = 1000.0, epsilon: float = 0.0014):
    if not 0.0 < temperature < float("inf"):
      raise ValueError(f"temperature must be a positive number, got {temperature}.")
    self.epsilon = check_epsilon(epsilon)

    def unlikeliness(x: jax.Array) -> jax.Array:
      logits = forward(x)[0]
      return log_odds(logits, jnp.argmax(logits, axis=1), temperature)

    self._score = jax.jit(
      lambda x, epsilon: unlikeliness(sign_step(unlikeliness, x, -epsilon)),
    )

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n]``, at most 0; higher = more anomalous."""
    return in_batches(lambda rows: self._score(rows, self.epsilon), x)
