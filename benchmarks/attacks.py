"""Adversarial examples of a trained classifier: small changes of the input that raise its loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baselines.networks.forward import BATCH_SIZE, Forward, log_odds, sign_step
from detector_jax import batching


def fgsm(forward: Forward, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
  """Fast gradient sign method, ``clip(x + size sign(grad J(x, y)), 0, 1)``.

  J is the cross-entropy. Its gradient is ``1 - p_y`` times that of the log-odds against y, which is
  taken in its place: the same signs, also where ``p_y`` rounds to 1 and the cross-entropy's
  gradient is lost. Goodfellow, Shlens & Szegedy (2015), section 4.

  Args:
    forward: the trained classifier, hashable; compiled once.
    x: ``[n, ...]`` inputs in [0, 1], n >= 1.
    y: ``[n]`` true classes, integers in 0 .. classes - 1.
    size: largest change of an entry of x, >= 0.

  Returns:
    float32 ``[n, ...]`` in [0, 1].

  Raises:
    ValueError: x outside [0, 1], y of another length, or a size out of range.
  """
  x, y = _checked(x, y, size)
  return batching.in_batches(
    lambda rows: _fgsm(forward, x[rows], y[rows], size), np.arange(len(x)), BATCH_SIZE
  )


def pgd(
  forward: Forward,
  x: np.ndarray,
  y: np.ndarray,
  size: float,
  steps: int = 10,
  *,
  key: jax.Array,
) -> np.ndarray:
  """Projected gradient ascent of the loss in the ball ``|x' - x|_inf <= size``.

  From a random start, steps of ``2.5 size / steps`` along the sign of the gradient, as in ``fgsm``,
  each followed by a clip to the ball and to [0, 1]; the last point is the result. Madry et al.
  (2018), section 2.1.

  Args:
    forward: the trained classifier, hashable; compiled once.
    x: ``[n, ...]`` inputs in [0, 1], n >= 1.
    y: ``[n]`` true classes, integers in 0 .. classes - 1.
    size: radius of the ball, >= 0.
    steps: number of steps, >= 1.
    key: of the random starts, uniform in the ball; row i draws from ``fold_in(key, i)``.

  Returns:
    float32 ``[n, ...]`` in [0, 1].

  Raises:
    ValueError: x outside [0, 1], y of another length, or a size or steps out of range.
  """
  x, y = _checked(x, y, size)
  if steps < 1:
    raise ValueError(f"steps must be at least 1, got {steps}.")
  return batching.in_batches(
    lambda rows: _pgd(forward, x[rows], y[rows], size, steps, key, rows),
    np.arange(len(x), dtype=np.int32),
    BATCH_SIZE,
  )


def _checked(x: np.ndarray, y: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
  x, y = np.asarray(x, np.float32), np.asarray(y)
  if y.shape != x.shape[:1]:
    raise ValueError(f"{len(x)} inputs do not match classes of shape {y.shape}.")
  if not (x.min() >= 0.0 and x.max() <= 1.0):
    raise ValueError(f"Inputs must be in [0, 1], got {x.min()} to {x.max()}.")
  if not 0.0 <= size < float("inf"):
    raise ValueError(f"size must be a number of at least 0, got {size}.")
  return x, y.astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def _fgsm(forward: Forward, x: jax.Array, y: jax.Array, size: jax.Array) -> jax.Array:
  return jnp.clip(sign_step(lambda moved: log_odds(forward(moved)[0], y), x, size), 0.0, 1.0)


@functools.partial(jax.jit, static_argnums=0)
def _pgd(
  forward: Forward,
  x: jax.Array,
  y: jax.Array,
  size: jax.Array,
  steps: jax.Array,
  key: jax.Array,
  rows: jax.Array,
) -> jax.Array:
  low, high = jnp.maximum(x - size, 0.0), jnp.minimum(x + size, 1.0)

  def direction(row: jax.Array) -> jax.Array:
    return jax.random.uniform(jax.random.fold_in(key, row), x.shape[1:], minval=-1.0)

  def loss(moved: jax.Array) -> jax.Array:
    return log_odds(forward(moved)[0], y)

  def step(_: jax.Array, moved: jax.Array) -> jax.Array:
    return jnp.clip(sign_step(loss, moved, 2.5 * size / steps), low, high)

  start = jnp.clip(x + size * jax.vmap(direction)(rows), low, high)
  return jax.lax.fori_loop(0, steps, step, start)
