"""A convolution that is fast on a CPU inside a compiled loop, and max-pooling to go with it.

XLA's own convolution runs on one thread there, and its gradients are slow; shifted slices and one
matrix product are not. Alone, outside of a loop, ``flax.linen.Conv`` is the faster one.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp


class SlicedConv(nn.Module):
  """``flax.linen.Conv`` with padding "SAME", stride 1 and no bias, as one matrix product.

  Parameters have the same names and shapes, so that either module can use what the other learned.

  Attributes:
    features: output channels.
    kernel_size: height and width, odd.
  """

  features: int
  kernel_size: tuple[int, int]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` to ``[batch, height, width, features]``."""
    (rows, columns), (height, width, channels) = self.kernel_size, x.shape[1:]
    shape = (rows, columns, channels, self.features)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
    padding = ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0))
    x = jnp.pad(x, padding)
    slices = [
      x[:, row : row + height, column : column + width]
      for row in range(rows)
      for column in range(columns)
    ]
    return jnp.concatenate(slices, axis=-1) @ kernel.reshape(-1, self.features)


def max_pool(x: jax.Array) -> jax.Array:
  """2x2 max-pooling of ``[batch, height, width, channels]``; an odd last row or column is dropped.

  As ``flax.linen.max_pool``, but by reshaping. Where the largest values of a window are equal, the
  gradient is shared among them and does not go to the first.
  """
  batch, height, width, channels = x.shape
  x = x[:, : height // 2 * 2, : width // 2 * 2]
  return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
