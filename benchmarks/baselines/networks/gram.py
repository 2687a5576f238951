"""Gram matrices of the layers (Sastry & Oore, 2020)."""

from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import NotFittedError

from benchmarks.baselines.networks.forward import Forward, in_batches

TINY = 1e-6


class Gram:
  """How far the sums of rows of Gram matrices lie outside what the predicted class has shown.

  Of each layer with activations F ``[channels, places]``, the sums of the rows of ``F^p F^p^T``
  to the power ``1 / p``, for ``p = 1 .. powers``, as the released code has it (the paper takes the
  root of every entry). Below the least (above the largest) value of the training inputs predicted
  as that class, a value adds its distance over the size of that bound. A layer's deviations are
  divided by their mean over a tenth of the training inputs, of which the bounds know nothing, and
  added up.

  Args:
    forward: the trained classifier; where it has ``layers``, ``x -> {name: [n, ..., channels]}``,
      these are the layers, else features and logits.
    powers: >= 1; 10 is the paper's.
  """

  def __init__(self, forward: Forward, powers: int = 10):
    self._bounds: list[tuple[np.ndarray, np.ndarray]] | None = None
    self._usual = np.zeros(0)
    layers = getattr(forward, "layers", lambda x: dict(enumerate(forward(x))))

    def sums(x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
      found = [_row_sums(a, powers) for a in layers(x).values()]
      return jnp.argmax(forward(x)[0], axis=1), found

    self._sums = jax.jit(sums)

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Learns the bounds from training inputs ``[n, ...]``, at least 10."""
    del y
    of_class, values = in_batches(self._sums, x)
    last = np.arange(len(x)) % 10 == 0
    bounds = []
    for layer in values:
      shape = (int(of_class.max()) + 1, 1)
      least, most = (np.tile(f(layer[~last], axis=0), shape) for f in (np.min, np.max))
      for each in np.unique(of_class[~last]):
        rows = layer[~last & (of_class == each)]
        least[each], most[each] = rows.min(axis=0), rows.max(axis=0)
      bounds.append((least, most))
    apart = [
      _outside(layer[last], of_class[last], *bound).mean()
      for layer, bound in zip(values, bounds, strict=True)
    ]
    self._bounds, self._usual = bounds, np.maximum(apart, TINY)
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n]``, at least 0; higher = more anomalous.

    Raises:
      NotFittedError: before ``fit``.
    """
    if self._bounds is None:
      raise NotFittedError("Call fit before score.")
    of_class, values = in_batches(self._sums, x)
    of_class = np.minimum(of_class, len(self._bounds[0][0]) - 1)
    pairs = zip(values, self._bounds, self._usual, strict=True)
    return np.sum([_outside(v, of_class, *bound) / usual for v, bound, usual in pairs], axis=0)


def _row_sums(activation: jax.Array, powers: int) -> jax.Array:
  """Roots of the sums of rows, ``[n, channels * powers]``; scaled, so that no power overflows."""
  a = activation.reshape(activation.shape[0], -1, activation.shape[-1])
  size = jnp.maximum(jnp.max(jnp.abs(a), axis=(1, 2), keepdims=True), 1e-30)
  a, result = a / size, []
  for power in range(1, powers + 1):
    raised = a**power
    gram = jnp.einsum("npc,npd->ncd", raised, raised)
    summed = jnp.sum(gram, axis=2)
    root = jnp.sign(summed) * jnp.abs(summed) ** (1.0 / power)
    result.append(root * size[:, 0] ** 2)
  return jnp.concatenate(result, axis=1)


def _outside(
  values: np.ndarray, of_class: np.ndarray, least: np.ndarray, most: np.ndarray
) -> np.ndarray:
  """Sum of the relative distances of ``[n, d]`` to the bounds of their classes, ``[n]``."""
  low, high = least[of_class], most[of_class]
  below = np.maximum(low - values, 0.0) / (np.abs(low) + TINY)
  above = np.maximum(values - high, 0.0) / (np.abs(high) + TINY)
  return (below + above).sum(axis=1, dtype=np.float64)
