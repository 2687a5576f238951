"""Projections of a displacement onto the shell that the adversarial search lives on."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

SOLVERS = ("secular", "grid")
MAX_STEPS = 100
SMALLEST = 1e-12
LEAST_TAU = 1.0 - 1e-6


def unit(vector: jax.Array) -> jax.Array:
  """Scales a vector to Euclidean length 1; a zero vector stays zero.

  Args:
    vector: any shape, read as one vector of ``d`` coordinates.

  Returns:
    ``vector / |vector|_2``, same shape. Neither value nor gradient is NaN at zero.

  Examples:
    >>> unit(jnp.array([0.0, -2.0])), unit(jnp.zeros(2))
    (Array([ 0., -1.], dtype=float32), Array([0., 0.], dtype=float32))
  """
  norm = optax.safe_norm(vector, 0.0)
  return jnp.where(norm > 0.0, vector / jnp.where(norm > 0.0, norm, 1.0), 0.0)


def project_shell(
  delta: jax.Array, radius: jax.typing.ArrayLike, gamma: jax.typing.ArrayLike
) -> jax.Array:
  r"""Nearest point of the Euclidean shell ``r <= |delta|_2 <= gamma r``.

  .. math:: \delta \leftarrow \delta \, \frac{\mathrm{clip}(|\delta|_2, r, \gamma r)}{|\delta|_2}

  Args:
    delta: displacement from one example, any shape of ``d`` coordinates.
    radius: ``r`` > 0, in the units of the (standardised) inputs.
    gamma: ratio of the outer to the inner radius, >= 1. With 1 the shell is a sphere.

  Returns:
    The projection, shaped like ``delta``; ``delta`` itself, to the bit, where it is already
    on the shell. A zero ``delta`` has no direction and goes to the point at distance ``r``
    along the diagonal ``(1, ..., 1)``; the search draws a random direction before that.

  Examples:
    >>> project_shell(jnp.array([0.0, 0.5]), radius=1.0, gamma=2.0)  # too near
    Array([0., 1.], dtype=float32)
    >>> project_shell(jnp.array([0.0, 1.5]), radius=1.0, gamma=2.0)  # on the shell
    Array([0. , 1.5], dtype=float32)
    >>> project_shell(jnp.array([0.0, 9.0]), radius=1.0, gamma=2.0)  # too far
    Array([0., 2.], dtype=float32)

  References:
    DROCC (Goyal et al., 2020), section 3, "Gradient-ascent to generate negatives" (the case
    distinction printed there compares with ``gamma r`` on both lines; this is its meaning).
  """
  norm = optax.safe_norm(delta, 0.0)
  target = jnp.clip(norm, radius, gamma * radius)
  diagonal = jnp.full_like(delta, radius / jnp.sqrt(jnp.asarray(delta.size, delta.dtype)))
  moved = unit(delta) * target
  return jnp.where(norm == 0.0, diagonal, jnp.where(norm == target, delta, moved))


def weighted_norm(delta: jax.Array, sigma: jax.Array) -> jax.Array:
  r"""Length of a displacement where each coordinate has its own weight.

  .. math:: |\delta|_\Sigma = \sqrt{\sum_j \sigma_j \delta_j^2}

  Args:
    delta: any shape of ``d`` coordinates.
    sigma: weights >= 0, shaped like ``delta``.

  Examples:
    >>> float(weighted_norm(jnp.array([3.0, 100.0]), jnp.array([4.0, 0.0])))
    6.0
  """
  return optax.safe_norm(jnp.sqrt(sigma) * delta, 0.0)


def project_weighted_shell(
  delta: jax.Array,
  sigma: jax.Array,
  radius: jax.typing.ArrayLike,
  gamma: jax.typing.ArrayLike,
  solver: str = "secular",
  points: int = 100,
) -> jax.Array:
  r"""Nearest point, in the Euclidean sense, of the weighted shell ``r <= |delta|_S <= gamma r``.

  For one scalar tau, and ``t`` the nearer of the two bounds,

  .. math::
    \tilde\delta = (I + \tau \Sigma)^{-1} \delta, \qquad
    \phi(\tau) = \sum_j \frac{\sigma_j \delta_j^2}{(1 + \tau \sigma_j)^2} = t^2

  On ``(-1 / max sigma, inf)`` phi falls strictly and the way that delta moves grows with
  ``|tau|``, so the root of the secular equation ``phi(tau) = t^2`` is the nearest point.

  Args:
    delta: displacement from one example, any shape of ``d`` coordinates.
    sigma: weights >= 0, shaped like ``delta``. Where all are 0 (below 1e-30) the shell is
      Euclidean, as in ``project_shell``.
    radius: ``r`` > 0, in the units of ``sqrt(sigma) * delta``.
    gamma: ratio of the outer to the inner radius, >= 1.
    solver: "secular": Newton's method on phi, to float32 precision. "grid": the paper's search
      over ``points`` values of tau; it takes the least moved one that is feasible and, where it
      overshoots the shell or none is feasible, scales it onto the shell.
    points: number of grid points, >= 1.

  Returns:
    The projection, shaped like ``delta``; ``delta`` itself, to the bit, where it is already on the
    shell. Hard case: where delta is 0 in the coordinates of the largest sigma and no tau reaches
    ``r``, the missing length is added along the first of them.

  Raises:
    ValueError: an unknown solver.

  Examples:
    A coordinate without weight costs no distance, and is left where it is:

    >>> delta, sigma = jnp.array([0.5, 7.0]), jnp.array([1.0, 0.0])
    >>> project_weighted_shell(delta, sigma, radius=1.0, gamma=2.0)
    Array([1., 7.], dtype=float32)

  References:
    DROCC (Goyal et al., 2020), Proposition 1 and Appendix A.1. The proposition prints
    ``sigma_j^2`` where its proof has ``sigma_j delta_j^2``, and ``gamma r`` in the first condition
    where ``r`` is meant. Newton's method on ``1 / sqrt(phi)``, from the left of the root: Moré and
    Sorensen, Computing a Trust Region Step, 1983.
  """
  if solver not in SOLVERS:
    raise ValueError(f"solver must be one of {', '.join(SOLVERS)}; got {solver!r}.")
  largest = jnp.max(sigma)
  dead = largest < 1e-30
  largest = jnp.where(dead, 1.0, largest)
  norm = weighted_norm(delta, sigma)
  target = jnp.clip(norm, radius, gamma * radius)
  # In units where the largest weight and the length to reach are 1.
  share = jnp.where(sigma == largest, 1.0, jnp.minimum(sigma / largest, 1.0))
  length = target / jnp.sqrt(largest)
  scaled, far = delta / length, norm > target
  if solver == "grid":
    found = _on_grid(scaled, share, far, gamma, points)
    low, high = jnp.where(far, 1.0 / gamma, 1.0), jnp.where(far, 1.0, gamma)
  else:
    found = _secular(scaled, share, far)
    low = high = jnp.ones(())
  reached = weighted_norm(found, share)
  nowhere = _first(share == 1.0).astype(delta.dtype)
  found = jnp.where(reached > 0.0, found / jnp.where(reached > 0.0, reached, 1.0), nowhere)
  moved = found * jnp.clip(reached, low, high) * length
  moved = jnp.where(norm == target, delta, moved)
  return jnp.where(dead, project_shell(delta, radius, gamma), moved)


def _secular(delta: jax.Array, share: jax.Array, far: jax.Array) -> jax.Array:
  """The point of weighted length 1 nearest to ``delta``, the largest weight being 1.

  Unknown is tau where delta is too far, and 1 + tau where it is too near, so that neither is
  rounded away: ``1 + tau share`` is ``base + unknown * share``.
  """
  heaviest = share == 1.0
  base = jnp.where(far, 1.0, 1.0 - share)
  weight = share * delta**2
  lowest = jnp.sqrt(jnp.sum(jnp.where(heaviest, weight, 0.0)))
  start = jnp.where(far, 0.0, jnp.clip(lowest, SMALLEST, 1.0))

  def sums(unknown: jax.Array) -> tuple[jax.Array, jax.Array]:
    factor = base + unknown * share
    terms = weight / factor**2
    return jnp.sum(terms), jnp.sum(terms * share / factor)

  def newton(carry: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
    unknown, _, count = carry
    phi, slope = sums(unknown)
    step = jnp.where(slope > 0.0, phi * (jnp.sqrt(phi) - 1.0) / slope, 0.0)
    # From the left of the root 1 / sqrt(phi) is concave: a step never passes it.
    new = unknown + jnp.maximum(step, 0.0)
    return new, jnp.abs(new - unknown) > 1e-7 * jnp.abs(new), count + 1

  def unfinished(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    return carry[1] & (carry[2] < MAX_STEPS)

  carry = start, jnp.ones((), bool), jnp.zeros((), jnp.int32)
  unknown, _, _ = jax.lax.while_loop(unfinished, newton, carry)
  found = delta / (base + unknown * share)
  rest = jnp.where(heaviest, 0.0, delta / (base + start * share))
  along = jnp.where(heaviest, delta, 0.0)
  along = jnp.where(jnp.any(along != 0.0), unit(along), _first(heaviest).astype(delta.dtype))
  missing = jnp.sqrt(jnp.maximum(1.0 - jnp.sum(share * rest**2), 0.0))
  hard = ~far & (sums(start)[0] < 1.0)
  return jnp.where(hard, rest + missing * along, found)


def _first(where: jax.Array) -> jax.Array:
  """True in the first of the coordinates where ``where`` is, and nowhere else."""
  return jnp.arange(where.size).reshape(where.shape) == jnp.argmax(where)


def _on_grid(
  delta: jax.Array, share: jax.Array, far: jax.Array, gamma: jax.typing.ArrayLike, points: int
) -> jax.Array:
  """The least moved feasible point of Proposition 1's grid, in the units of ``_secular``.

  Too near: tau over (-1, 0], feasible where ``phi >= 1``; the grid stops short of -1, where it
  divides by zero. Too far: nu = 1 / tau over ``(0, alpha / (1 - alpha)]`` with ``alpha = 1 /
  |delta|``, feasible where ``phi <= 1``. It is walked from the least moved end; where no point is
  feasible its last one is taken.
  """
  norm = weighted_norm(delta, share)
  highest = 1.0 / jnp.maximum(norm - 1.0, jnp.finfo(delta.dtype).tiny)

  def tau_of(index: jax.Array) -> jax.Array:
    part = (index + 1.0) / points
    return jnp.where(far, 1.0 / (highest * (1.0 - index / points)), -part * LEAST_TAU)

  def feasible(index: jax.Array) -> jax.Array:
    phi = jnp.sum(share * (delta / (1.0 + tau_of(index) * share)) ** 2)
    return jnp.where(far, phi <= 1.0, phi >= 1.0)

  good = jax.lax.map(feasible, jnp.arange(points, dtype=delta.dtype))
  index = jnp.where(jnp.any(good), jnp.argmax(good), points - 1).astype(delta.dtype)
  return delta / (1.0 + tau_of(index) * share)
