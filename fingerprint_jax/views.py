"""What a fingerprint sees of an activation: pooled to a small grid, standardised by channel."""

from collections.abc import Sequence
import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

GRID = 7
PLACES = GRID * GRID
DEAD = 1e-6


def pool(a: jax.Array) -> jax.Array:
  """Mean-pools maps to at most 49 places, 7 along each of two spatial axes.

  Args:
    a: ``[batch, width]``, left as it is, or ``[batch, ..., channels]``.
  """
  windows = _windows(a.shape[1:])
  if all(window == 1 for window in windows):
    return a
  if all(size % window == 0 for size, window in zip(a.shape[1:-1], windows, strict=True)):
    split = [n for s, w in zip(a.shape[1:-1], windows, strict=True) for n in (s // w, w)]
    blocks = a.reshape(a.shape[0], *split, a.shape[-1])
    return blocks.mean(axis=tuple(range(2, blocks.ndim - 1, 2)))
  return nn.avg_pool(a, windows, strides=windows, padding="SAME", count_include_pad=False)


def pooled_shape(shape: Sequence[int]) -> tuple[int, ...]:
  """Shape of one record's activation after ``pool``."""
  places = (-(-size // w) for size, w in zip(shape[:-1], _windows(shape), strict=True))
  return (*places, shape[-1])


def _windows(shape: Sequence[int]) -> tuple[int, ...]:
  """Pooling window along each spatial axis of a record ``[..., channels]``."""
  axes = len(shape) - 1
  if not axes:
    return ()
  most = round(PLACES ** (1.0 / axes))
  return tuple(-(-size // most) for size in shape[:-1])


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["center", "scale"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class View:
  """``(pool(a) - center) / scale`` of one layer.

  Attributes:
    center: ``[channels]`` mean over records and places.
    scale: ``[channels]`` standard deviation. A channel that is (nearly) constant over the training
      records gets the largest of its layer, so that it is neither blown up nor ignored.
  """

  center: jax.Array
  scale: jax.Array

  def __call__(self, a: jax.Array) -> jax.Array:
    """Maps an activation ``[batch, ...]`` to what its autoencoder sees."""
    axes = (1,) * (a.ndim - 1) + (-1,)
    return (pool(a) - self.center.reshape(axes)) / self.scale.reshape(axes)


def moments(
  a: jax.Array, mask: jax.Array, about: jax.typing.ArrayLike = 0.0
) -> tuple[jax.Array, jax.Array]:
  """Masked sums over records of the channels' means and mean squares, ``[channels]`` each.

  Both are of ``a - about``; with ``about`` near the mean, float32 does not lose the variance of a
  channel whose mean is many deviations from 0.
  """
  pooled = pool(a)
  weights = mask.reshape(-1, *(1,) * (pooled.ndim - 1))
  axes = tuple(range(1, pooled.ndim - 1))
  about = jnp.broadcast_to(jnp.asarray(about), (*(1,) * (pooled.ndim - 1), pooled.shape[-1]))
  values = jnp.where(weights > 0, pooled - about, 0.0)
  return values.mean(axis=axes).sum(axis=0), (values**2).mean(axis=axes).sum(axis=0)


def standardised(mean: np.ndarray, variance: np.ndarray) -> View:
  """The view of a layer with these moments ``[channels]``."""
  scale = np.sqrt(variance)
  varies = scale > DEAD * np.maximum(scale.max(), np.abs(mean))
  scale = np.where(varies, scale, np.maximum(scale.max(), 1e-30))
  return View(jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32))
