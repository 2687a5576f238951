"""Gram matrices of the layers (Sastry & Oore, 2020)."""

from typing import Any, Self

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
    quantile: in [0, 0.5), the share of training inputs below, and above, the bounds.
    of_entries: whether the root is taken of every entry on and below the diagonal, and then summed.
    held_out: whether a tenth of the training inputs is; if not, deviations are not divided.
  """

  def __init__(
    self,
    forward: Forward,
    powers: int = 10,
    quantile: float = 0.0,
    of_entries: bool = False,
    held_out: bool = True,
  ):
    self._bounds: list[tuple[np.ndarray, np.ndarray]] | None = None
    self._usual: Any = 1.0
    self._quantile, self._held_out = quantile, held_out
    layers = getattr(forward, "layers", lambda x: dict(enumerate(forward(x))))

    def sums(x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
      found = [_row_sums(a, powers, of_entries) for a in layers(x).values()]
      return jnp.argmax(forward(x)[0], axis=1), found

    self._sums = jax.jit(sums)

  def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
    """Learns the bounds from training inputs ``[n, ...]``, at least 10."""
    del y
    of_class, values = in_batches(self._sums, x)
    last = (np.arange(len(x)) % 10 == 0) & self._held_out
    shape, ends = (int(of_class.max()) + 1, 1), (self._quantile, 1.0 - self._quantile)
    bounds = []
    for layer in values:
      found = [np.tile(np.quantile(layer[~last], end, axis=0), shape) for end in ends]
      for each in np.unique(of_class[~last]):
        rows = layer[~last & (of_class == each)]
        for bound, end in zip(found, ends, strict=True):
          bound[each] = np.quantile(rows, end, axis=0)
      bounds.append((found[0], found[1]))
    self._bounds = bounds
    if self._held_out:
      apart = self._deviations(of_class[last], [layer[last] for layer in values])
      self._usual = np.maximum(apart.mean(axis=0), TINY)
    return self

  def layer_scores(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n, layers]``, at least 0; higher = more anomalous.

    Raises:
      NotFittedError: before ``fit``.
    """
    if self._bounds is None:
      raise NotFittedError("Call fit before score.")
    of_class, values = in_batches(self._sums, x)
    known = np.minimum(of_class, len(self._bounds[0][0]) - 1)
    return self._deviations(known, values) / self._usual

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n, ...]`` to ``[n]``, at least 0; higher = more anomalous.

    Raises:
      NotFittedError: before ``fit``.
    """
    return self.layer_scores(x).sum(axis=1)

  def _deviations(self, of_class: np.ndarray, values: list[np.ndarray]) -> np.ndarray:
    """``[n, layers]`` of the sums ``[n, d]`` of each layer."""
    pairs = zip(values, self._bounds or (), strict=True)
    return np.stack([_outside(layer, of_class, *bound) for layer, bound in pairs], axis=1)


def _row_sums(activation: jax.Array, powers: int, of_entries: bool) -> jax.Array:
  """Roots and sums of rows, ``[n, channels * powers]``; scaled, so that no power overflows."""
  a = activation.reshape(activation.shape[0], -1, activation.shape[-1])
  size = jnp.maximum(jnp.max(jnp.abs(a), axis=(1, 2), keepdims=True), 1e-30)
  a, result = a / size, []
  for power in range(1, powers + 1):

    def root(sums: jax.Array, power: int = power) -> jax.Array:
      return jnp.sign(sums) * jnp.abs(sums) ** (1.0 / power)

    gram = jnp.einsum("npc,npd->ncd", a**power, a**power)
    of_rows = jnp.sum(jnp.tril(root(gram)), axis=2) if of_entries else root(jnp.sum(gram, axis=2))
    result.append(of_rows * size[:, 0] ** 2)
  return jnp.concatenate(result, axis=1)


def _outside(
  values: np.ndarray, of_class: np.ndarray, least: np.ndarray, most: np.ndarray
) -> np.ndarray:
  """Sum of the relative distances of ``[n, d]`` to the bounds of their classes, ``[n]``."""
  low, high = least[of_class], most[of_class]
  below = np.maximum(low - values, 0.0) / (np.abs(low) + TINY)
  above = np.maximum(values - high, 0.0) / (np.abs(high) + TINY)
  return (below + above).sum(axis=1, dtype=np.float64)
