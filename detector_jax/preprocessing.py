"""Preprocessing with the statistics of the training data."""

import dataclasses
import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

logger = logging.getLogger(__name__)

SCALING_CHOICES = ("standard", "contrast", "none")
CONSTANT_CHOICES = ("drop", "clip")
LARGEST, SMALLEST = 1e18, 1e-30


def contrast_normalised(x: Any) -> Any:
  """Records less their own mean, over their own mean absolute value, whatever their brightness.

  Args:
    x: ``[batch, ...]``, NumPy or JAX. A record without contrast (less than a 10,000th of its
      largest value) becomes next to zero.

  References:
    Deep SVDD (Ruff et al., 2018), section 4.1: global contrast normalisation with the L1 norm.
  """
  axes = tuple(range(1, x.ndim))
  centred = x - x.mean(axis=axes, keepdims=True)
  contrast = abs(centred).mean(axis=axes, keepdims=True)
  floor = 1e-4 * abs(x).max(axis=axes, keepdims=True) + SMALLEST
  maximum = jnp.maximum if isinstance(x, jax.Array) else np.maximum
  return centred / maximum(contrast, floor)


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["center", "scale", "kept"],
  meta_fields=["clip", "contrast"],
)
@dataclasses.dataclass(frozen=True)
class Standardizer:
  """``clip((x - center) / scale)``, per feature or per channel.

  A feature that is constant in the training data has no scale, and any change in it would become
  huge (values of 1e4 on Arrhythmia): it is dropped, or kept in its own units and clipped.

  Attributes:
    center: mean, ``[kept features]``, or ``[channels]`` for inputs with more axes.
    scale: standard deviation, same shape; 1 for a constant feature that is kept.
    kept: int32 numbers of the features that are kept, or None for all.
    clip: results are clipped to [-clip, clip], in standard deviations.
    contrast: whether each record is normalised by ``contrast_normalised`` before.
  """

  center: jax.Array
  scale: jax.Array
  kept: jax.Array | None
  clip: float = 20.0
  contrast: bool = False

  @classmethod
  def fit(
    cls,
    x: np.ndarray,
    *,
    scaling: str = "standard",
    constant: str = "drop",
    clip: float = 20.0,
  ) -> "Standardizer":
    """Statistics of ``x``, computed in float64.

    Args:
      x: ``[n, features]``: per feature; ``[n, ..., channels]``: per channel.
      scaling: "standard" (zero mean, unit variance), "contrast" (each image or series by its own
        mean and contrast first, see ``contrast_normalised``) or "none" (raw values, for inputs
        whose distances mean something already).
      constant: "drop" or "clip", what becomes of features with a standard deviation below 1e-6
        of their largest value (or below 1e-30, where float32 ends). Channels of images and series
        are never dropped.
      clip: in standard deviations, > 0; raw values are not clipped.

    Raises:
      ValueError: no feature varies, an unknown ``scaling`` or ``constant``, ``clip <= 0``, a
        value beyond 1e18, which float32 arithmetic would overflow on, or "contrast" for a table.
    """
    if scaling not in SCALING_CHOICES:
      raise ValueError(f"scaling must be one of {SCALING_CHOICES}, got {scaling!r}.")
    if constant not in CONSTANT_CHOICES:
      raise ValueError(f"constant must be one of {CONSTANT_CHOICES}, got {constant!r}.")
    if not clip > 0:
      raise ValueError(f"clip must be > 0, got {clip!r}.")
    contrast = scaling == "contrast"
    if contrast and np.ndim(x) < 3:
      raise ValueError(
        "scaling 'contrast' is for images and series, whose values have one unit; these records "
        "are rows of features: take 'standard'."
      )
    x = np.asarray(x, np.float64)
    axes = tuple(range(x.ndim - 1))
    largest = np.abs(x).max(axis=axes)
    if largest.max(initial=0.0) > LARGEST:
      column = int(largest.argmax())
      raise ValueError(
        f"Column {column} holds {largest[column]:.3g}; values beyond {LARGEST:g} overflow float32. "
        "Rescale or remove it."
      )
    if contrast:
      x = contrast_normalised(x)
      largest = np.abs(x).max(axis=axes)
    center, scale = x.mean(axis=axes), x.std(axis=axes)
    varies = scale > np.maximum(1e-6 * largest, SMALLEST)
    if not varies.any():
      raise ValueError(
        "Every feature is constant over the training rows; there is nothing to learn from."
      )
    kept = None
    if not varies.all():
      names = ", ".join(map(str, np.flatnonzero(~varies)[:10]))
      more = ", ..." if (~varies).sum() > 10 else ""
      if constant == "drop" and x.ndim == 2:
        logger.warning("Dropped %d constant features: %s%s.", (~varies).sum(), names, more)
        kept = jnp.asarray(np.flatnonzero(varies), jnp.int32)
        center, scale = center[varies], scale[varies]
      else:
        logger.warning("Clipped %d constant features: %s%s.", (~varies).sum(), names, more)
        scale = np.where(varies, scale, 1.0)
    if scaling == "none":
      center, scale, clip = np.zeros_like(center), np.ones_like(scale), np.inf
    as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
    return cls(as_float32(center), as_float32(scale), kept, float(clip), contrast)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps raw ``[batch, ...]`` to standardised float32 ``[batch, ...]``."""
    x = jnp.asarray(x, jnp.float32)
    if self.kept is not None:
      x = jnp.take(x, self.kept, axis=-1)
    if self.contrast:
      x = contrast_normalised(x)
    per_feature = (1,) * (x.ndim - 1) + (-1,)
    center, scale = self.center.reshape(per_feature), self.scale.reshape(per_feature)
    return jnp.clip((x - center) / scale, -self.clip, self.clip)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Identity:
  """Preprocessing for records that are ready for their network."""

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns ``x`` ``[batch, ...]``."""
    return x
