"""PCA whitening whose statistics are gathered batch by batch."""

from collections.abc import Iterable
import dataclasses
import functools
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import batching

SMALLEST = 1e-7  # variance, as a share of the largest, that is more than rounding
ROUNDING, TINY = 1e-6, 1e-12  # share of a squared length that may be rounding; for a derivative


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["mean", "projection", "residual"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Whitening:
  """``(x - mean) projection``: uncorrelated features whose variances have mean 1.

  One more says how far a row is from all that these can say of it, see ``residual``.

  Attributes:
    mean: ``[features]``.
    projection: ``[features, components]``, eigenvectors over the root of their eigenvalue and
      noise, with a common factor.
    residual: factor of one more feature, the length of what the components leave out; None where
      there is none.
  """

  mean: jax.Array
  projection: jax.Array
  residual: jax.Array | None = None

  @classmethod
  def fit(
    cls,
    batches: Iterable[np.ndarray],
    components: int,
    noise: float = 1e-3,
    residual: bool = False,
    left_out: bool = True,
  ) -> Self:
    """Statistics of all rows, in float64.

    Args:
      batches: of rows ``[n, features]``; one at a time is held.
      components: at most so many, and fewer than rows; those of the largest variance.
      noise: added to every eigenvalue, as a share of the mean one; >= 0. With 0 every feature has
        variance 1; the more, the more of the differences between eigenvalues is left.
      residual: whether the length of what the components leave out is a feature, too: an anomaly
        may be where no training row is. Components are then at most half of the rows, since more
        would leave nothing out of a training row.
      left_out: False lets components be as many as hold every training row, for distances to these:
        with all of them and the length these are as if nothing were left out.

    Raises:
      ValueError: fewer than one component, fewer than two rows, or none that differ.
    """
    components = batching.whole("components", components)
    count, total, products = 0, np.zeros(()), np.zeros(())
    origin = np.zeros(())  # near the mean, so that no digits are lost in the products
    for batch in batches:
      rows = np.asarray(batch, np.float64)
      origin = origin if count else rows.mean(axis=0)
      rows = rows - origin
      count, total, products = count + len(rows), total + rows.sum(axis=0), products + rows.T @ rows
    if count < 2:
      raise ValueError(f"Whitening needs two records or more, got {count}: give more.")
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    if not values[0] > 0:
      raise ValueError("Every feature is constant over the training rows.")
    most = count // 2 if residual and left_out else count - 1
    kept = min(components, most, int(np.sum(values > SMALLEST * values[0])))
    scale = 1.0 / np.sqrt(values[:kept] + noise * values.mean())
    common = np.sqrt(np.mean(values[:kept] * np.square(scale)))
    as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
    left = None
    if residual and kept < len(values):  # rows may leave nothing out but what rounding does
      left = max(values[kept:].mean() + noise * values.mean(), SMALLEST * values[0])
    return cls(
      as_float32(origin + mean),
      as_float32(vectors[:, :kept] * scale / common),
      None if left is None else as_float32(1.0 / np.sqrt(left) / common),
    )

  @property
  def size(self) -> int:
    """How many features it makes."""
    return int(self.projection.shape[1]) + (self.residual is not None)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Whitens rows ``[batch, features]`` to ``[batch, components]``, and the residual."""
    centred = x - self.mean[None]
    z = centred @ self.projection
    if self.residual is None:
      return z
    within = z * jax.lax.rsqrt(jnp.sum(jnp.square(self.projection), axis=0))[None]
    whole = jnp.sum(jnp.square(centred), axis=1)
    square = jnp.maximum(whole - jnp.sum(jnp.square(within), axis=1), ROUNDING * whole)
    length = jnp.sqrt(square + TINY) * self.residual
    return jnp.concatenate([z, length[:, None]], axis=1)
