"""Projections of a displacement onto the shell that the adversarial search lives on."""

import jax
import jax.numpy as jnp
import optax


def unit(vector: jax.Array) -> jax.Array:
  """Scales a vector to Euclidean length 1; a zero vector stays zero.

  Args:
    vector: any shape, read as one vector of ``d`` coordinates.

  Returns:
    ``vector / |vector|_2``, same shape. Neither value nor gradient is NaN at zero.
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

  References:
    DROCC (Goyal et al., 2020), section 3, "Gradient-ascent to generate negatives" (the case
    distinction printed there compares with ``gamma r`` on both lines; this is its meaning).
  """
  norm = optax.safe_norm(delta, 0.0)
  target = jnp.clip(norm, radius, gamma * radius)
  diagonal = jnp.full_like(delta, radius / jnp.sqrt(jnp.asarray(delta.size, delta.dtype)))
  moved = unit(delta) * target
  return jnp.where(norm == 0.0, diagonal, jnp.where(norm == target, delta, moved))
