"""A convolution that is fast on a CPU inside a compiled loop, and max-pooling to go with it.

On a CPU XLA computes a convolution at the rate of its matrix products if image, kernel and result
have their axes in the usual order. The gradients that JAX derives have them in another order, or
the kernel reversed; outside of a loop XLA rearranges them, but inside one it takes a plain loop
over single numbers. Here both gradients are convolutions in the usual order. Convolutions of single
channels, of one pixel and with a stride are sums and matrix products over slices of the image,
whose gradients are such again. ``flax.linen.max_pool`` has a slow gradient, too.

Gradients are of reverse mode only.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import contextvars
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]
ORDER = ("NHWC", "HWIO", "NHWC")


_IN_LOOP: contextvars.ContextVar[bool] = contextvars.ContextVar("in_loop", default=False)


@contextlib.contextmanager
def for_loops(wanted: bool = True) -> Iterator[None]:
  """What is traced within takes the forms that are fast in a loop, where the device is a CPU."""
  token = _IN_LOOP.set(wanted and jax.default_backend() == "cpu")
  try:
    yield
  finally:
    _IN_LOOP.reset(token)


def conv_general_dilated() -> Callable[..., jax.Array]:
  """The convolution to give to ``flax.linen.Conv`` as ``conv_general_dilated_cls``.

  Returns:
    ``jax.lax.conv_general_dilated``, or within ``for_loops`` a function of the same arguments and
    results that is fast there. Kernels with even sides, dilations, groups of several channels or
    a padding other than half the kernel are left to the former.
  """
  return _in_loops if _IN_LOOP.get() else jax.lax.conv_general_dilated


def max_pool(x: jax.Array) -> jax.Array:
  """2x2 max-pooling of ``[batch, height, width, channels]``; an odd last row or column is dropped.

  ``flax.linen.max_pool``, or within ``for_loops`` a form whose gradient is fast there.
  """
  return _max_pool(x) if _IN_LOOP.get() else nn.max_pool(x, (2, 2), strides=(2, 2))


def _in_loops(
  x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **options: Any
) -> jax.Array:
  """See ``conv_general_dilated``."""
  groups, channels = options["feature_group_count"], x.shape[-1]
  depthwise = groups == channels == kernel.shape[-1]
  if not _is_plain(x, kernel, strides, padding, options) or not (groups == 1 or depthwise):
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
  rows, columns, _, features = kernel.shape
  if depthwise and groups > 1:
    flat = kernel.reshape(-1, 1, 1, 1, features)
    taps = _taps(x, (rows, columns), strides[0])
    return jnp.asarray(sum(tap * row for tap, row in zip(taps, flat, strict=True)))
  if (rows, columns) == (1, 1) or strides[0] > 1:
    patches = jnp.concatenate(_taps(x, (rows, columns), strides[0]), axis=-1)
    return patches @ kernel.reshape(-1, features)
  return convolve(x, kernel)


def _is_plain(
  x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, options: dict[str, Any]
) -> bool:
  """Whether images are convolved with odd kernels, padded by half of these on every side."""
  if x.ndim != 4 or len(set(strides)) > 1 or any(size % 2 == 0 for size in kernel.shape[:2]):
    return False
  dilated = [*(options["lhs_dilation"] or ()), *(options["rhs_dilation"] or ())]
  halves = tuple((size // 2, size // 2) for size in kernel.shape[:2])
  same = padding == "SAME" and strides[0] == 1
  return all(each == 1 for each in dilated) and (same or tuple(map(tuple, padding)) == halves)


def _taps(x: jax.Array, kernel_size: tuple[int, int], stride: int) -> list[jax.Array]:
  """What each place of a kernel sees, ``[batch, height', width', channels]``, row by row.

  A stride takes every so many-th pixel of an axis split in two: the gradient of that is far
  faster than that of a slice with steps.
  """
  batch, height, width, channels = x.shape
  rows, columns = kernel_size
  high, wide = -(-height // stride), -(-width // stride)
  x = jnp.pad(
    x,
    (
      (0, 0),
      (rows // 2, _room(high, rows, stride) - height - rows // 2),
      (columns // 2, _room(wide, columns, stride) - width - columns // 2),
      (0, 0),
    ),
  )
  x = x.reshape(batch, x.shape[1] // stride, stride, x.shape[2] // stride, stride, channels)
  taps = []
  for row in range(rows):
    begin, rest = divmod(row, stride)
    of_row = x[:, begin : begin + high, rest]
    for column in range(columns):
      begin, rest = divmod(column, stride)
      taps.append(of_row[:, :, begin : begin + wide, rest])
  return taps


def _room(count: int, size: int, stride: int) -> int:
  """Pixels of an axis for ``count`` places of a kernel, up to a multiple of the stride."""
  return (count + (size - 1) // stride) * stride


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolution with padding "SAME" and stride 1.

  Args:
    x: ``[batch, height, width, channels]``.
    kernel: ``[rows, columns, channels, features]``, rows and columns odd.

  Returns:
    ``[batch, height, width, features]``.
  """
  rows, columns = kernel.shape[:2]
  return _convolve(x, kernel, ((rows // 2, rows // 2), (columns // 2, columns // 2)))


def _in_order(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=ORDER)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
  if x.shape[-1] == 3:  # colours: XLA is faster with a fourth channel of zeros
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))
    kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0)))
  return _in_order(x, kernel, padding)


def _convolve_forward(x: Any, kernel: Any, padding: Padding) -> tuple[jax.Array, Any]:
  kept = (x.value if kernel.perturbed else None, kernel.value if x.perturbed else None)
  return _convolve(x.value, kernel.value, padding), kept


def _convolve_backward(padding: Padding, kept: Any, gradient: Any) -> tuple[Any, Any]:
  """Gradients of what needs one; in the search that is the image alone.

  The barriers keep XLA from merging a rearrangement into the convolution that follows.
  """
  x, kernel = kept
  of_x = of_kernel = None
  if kernel is not None:
    turned = jax.lax.optimization_barrier(kernel[::-1, ::-1].transpose(0, 1, 3, 2))
    of_x = _in_order(gradient, turned, padding)
  if x is not None:  # channels take the place of the examples, and examples that of the channels
    images, weights = jax.lax.optimization_barrier(
      (x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3))
    )
    of_kernel = _in_order(images, weights, padding).transpose(1, 2, 0, 3)
  return of_x, of_kernel


_convolve.defvjp(_convolve_forward, _convolve_backward, symbolic_zeros=True)


@jax.custom_vjp
def _max_pool(x: jax.Array) -> jax.Array:
  """As ``flax.linen.max_pool``, whose gradient goes to the first of equal values, too."""
  (a, b), (c, d) = _windows(x)
  return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _windows(x: jax.Array) -> list[list[jax.Array]]:
  """The values of all 2x2 windows by their row and column in the window."""
  height, width = (size // 2 * 2 for size in x.shape[1:3])
  return [[x[:, row:height:2, column:width:2] for column in range(2)] for row in range(2)]


def _max_pool_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  largest = _max_pool(x)
  return largest, (x, largest)


def _max_pool_backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
  x, largest = kept
  batch, height, width, channels = x.shape
  free, rows = jnp.ones(largest.shape, bool), []
  for windows in _windows(x):
    row = []
    for values in windows:
      row.append(jnp.where(free & (values == largest), gradient, 0.0))
      free &= values != largest
    rows.append(jnp.stack(row, axis=3))
  whole = jnp.stack(rows, axis=2).reshape(batch, height // 2 * 2, width // 2 * 2, channels)
  return (jnp.pad(whole, ((0, 0), (0, height % 2), (0, width % 2), (0, 0))),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)
