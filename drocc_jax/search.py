"""The adversarial search: gradient ascent for the worst negative on an example's shell.

Written for ONE example; the train steps apply ``jax.vmap`` to it once.
"""

from collections.abc import Callable
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

from drocc_jax import losses, projections

Logit = Callable[[jax.Array], jax.Array]
Projection = Callable[[jax.Array], jax.Array]


@struct.dataclass
class SearchInfo:
  """What one search did.

  Attributes:
    gain: loss ``l(f(x + h), -1)`` at the end minus at the start of the ascent.
    travel: Euclidean distance between the first and the last point of the search.
    projected: 1.0 where the last projection moved the point, else 0.0.
    norm: ``|h|_2`` at the end, the distance of the negative from its example.
  """

  gain: jax.Array
  travel: jax.Array
  projected: jax.Array
  norm: jax.Array


def ascent(
  ascend: Callable[[Any], Any],
  project: Callable[[Any], Any],
  start: Any,
  num_steps: jax.Array | int,
  project_every: int,
) -> Any:
  """The loop of Algorithm 1, on any representation of a displacement.

  Args:
    ascend: one normalised gradient step, ``h -> h + step_size * g / |g|_2``.
    project: onto the shell.
    start: the first displacement, a pytree.
    num_steps: ``m`` >= 0, may be traced.
    project_every: project after every so many steps; the last projection is left to the caller.
  """

  def step(number: jax.Array, h: Any) -> Any:
    h = ascend(h)
    due = ((number + 1) % project_every == 0) & (number + 1 < num_steps)
    return jax.lax.cond(due, project, lambda h: h, h)

  return jax.lax.fori_loop(0, num_steps, step, start)


def search(
  logit: Logit,
  x: jax.Array,
  noise: jax.Array,
  project: Projection,
  step_size: jax.typing.ArrayLike,
  num_steps: jax.Array | int,
  project_every: int = 1,
) -> tuple[jax.Array, SearchInfo]:
  """Finds the point round ``x`` that the network most takes for typical.

  Algorithm 1 of the paper, "Adversarial search", for one example::

    h <- noise
    num_steps times:
      g <- grad_h l(f(x + h), -1)
      h <- h + step_size * g / |g|_2
      h <- project(h)                   every ``project_every``-th step, and after the last

  Two guards that the released code lacks: where the gradient is zero ``h`` stays, and where
  ``h`` is zero it restarts from ``noise``, so that the projection always has a direction. And
  ``g / |g|_2`` is taken of the logit, which the loss grows with: the same direction, but the
  loss's own gradient underflows where the logit is below -44 or so, and the search would stop.

  Args:
    logit: ``f``, from an input shaped like ``x`` to a scalar; positive means typical. Pass it
      with frozen batch statistics, so that one search does not depend on its neighbours.
    x: the example, any shape of ``d`` coordinates.
    noise: the start of ``h``, shaped like ``x``; the paper draws it from Normal(0, I_d).
    project: maps a displacement onto the shell, see ``projections``.
    step_size: ascent step ``eta`` > 0, in units of the inputs.
    num_steps: number of ascent steps ``m`` >= 0, may be traced. With 0 the negative is a random
      point of the shell: DROCC-Rand (Table 8).
    project_every: project after every so many steps; the paper has 1, the released code 10.

  Returns:
    The negative ``x + h``, shaped like ``x``, a constant for any outer gradient, and a
    ``SearchInfo`` of scalars.

  References:
    DROCC (Goyal et al., 2020), Algorithm 1.
  """

  def loss(h: jax.Array) -> jax.Array:
    return losses.logistic(logit(x + h), -1.0)

  def restart(h: jax.Array) -> jax.Array:
    return jnp.where(jnp.any(h != 0.0), h, noise)

  def ascend(h: jax.Array) -> jax.Array:
    return h + step_size * projections.unit(jax.grad(lambda h: logit(x + h))(h))

  x, noise = jax.lax.stop_gradient((x, noise))
  start = project(restart(noise))
  last = restart(ascent(ascend, lambda h: project(restart(h)), noise, num_steps, project_every))
  h = jnp.where(num_steps > 0, project(last), start)
  info = SearchInfo(
    gain=loss(h) - loss(start),
    travel=optax.safe_norm(h - start, 0.0),
    projected=jnp.any(h != last).astype(x.dtype),
    norm=optax.safe_norm(h, 0.0),
  )
  return jax.lax.stop_gradient((x + h, info))
