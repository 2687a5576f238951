r"""The adversarial search of ``search.search`` for a network that begins with a wide linear layer.

Where ``f(x) = rest(W^T x + b)`` with more inputs than units, the ascent never needs the inputs:
every gradient is ``W g`` for some ``g`` of as many coordinates as there are units, so that

.. math::
    h = a\\, n + W c, \\qquad W^T h = z, \\qquad |h|_2^2 = a^2 |n|_2^2 + a\\, c^T W^T n + c^T z

for the noise ``n``, a scalar ``a`` and a vector ``c``. A step costs one product with the Gram
matrix ``W^T W`` in place of two with ``W``: a quarter of the operations at twice as many inputs
as units. The numbers are those of ``search.search`` up to rounding.
"""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp
import optax

from drocc_jax import losses
from drocc_jax.search import Projection, SearchInfo, ascent


@struct.dataclass
class Layer:
  """The first layer, ``x -> W^T x + b``.

  Attributes:
    kernel: ``W``, ``[inputs, units]``.
    bias: ``b``, ``[units]``.
    gram: ``W^T W``, ``[units, units]``.
  """

  kernel: jax.Array
  bias: jax.Array
  gram: jax.Array

  @classmethod
  def from_parameters(cls, kernel: jax.Array, bias: jax.Array) -> "Layer":
    """The layer of these parameters."""
    return cls(kernel, bias, kernel.T @ kernel)

  def image(self, x: jax.Array) -> jax.Array:
    """``W^T x`` of one input of any shape."""
    return x.reshape(-1) @ self.kernel


def pays(kernel: jax.Array) -> bool:
  """Whether a first layer ``[inputs, units]`` is wide enough for this to be the faster search."""
  inputs, units = kernel.shape
  return inputs >= units


@struct.dataclass
class _Displacement:
  """``h = a n + W c`` and its image: ``scale`` is a, ``units`` is c, ``image`` is ``W^T h``."""

  scale: jax.Array
  units: jax.Array
  image: jax.Array


def search(
  rest: Callable[[jax.Array], jax.Array],
  layer: Layer,
  x: jax.Array,
  noise: jax.Array,
  project: Projection,
  step_size: jax.typing.ArrayLike,
  num_steps: jax.Array | int,
  project_every: int = 1,
) -> tuple[jax.Array, SearchInfo]:
  """As ``search.search``, on another representation of the displacement.

  Args:
    rest: from the first layer's outputs ``[units]`` to the logit, a scalar.
    layer: the first layer.
    x: the example, any shape of ``inputs`` coordinates.
    noise: as for ``search.search``, like the three others below.
    project: a projection that only scales a displacement, by a factor that hangs on its length
      alone: ``projections.project_shell``, not the weighted shell of DROCC-LF.
    step_size: of the ascent.
    num_steps: of the ascent.
    project_every: project after every so many of them.

  Returns:
    The negative and what the search did, as ``search.search`` has them.

  References:
    DROCC (Goyal et al., 2020), Algorithm 1.
  """
  x, noise = jax.lax.stop_gradient((x, noise))
  noise_image = layer.image(noise)
  outputs = layer.image(x) + layer.bias
  noise_square = jnp.sum(noise * noise)
  first = _Displacement(jnp.ones_like(noise_square), jnp.zeros_like(outputs), noise_image)

  def length(h: _Displacement) -> jax.Array:
    cross = jnp.vdot(h.units, h.scale * noise_image + h.image)
    return _root(h.scale**2 * noise_square + cross)

  def restart(h: _Displacement) -> _Displacement:
    return _choose(length(h) > 0.0, h, first)

  def shell(h: _Displacement) -> _Displacement:
    norm = length(h)
    factor = project(norm[None])[0] * _inverse(norm)
    return jax.tree.map(lambda part: factor * part, h)

  def ascend(h: _Displacement) -> _Displacement:
    gradient = jax.grad(rest)(outputs + h.image)
    image = gradient @ layer.gram
    step = step_size * _inverse(_root(jnp.vdot(gradient, image)))
    return _Displacement(h.scale, h.units + step * gradient, h.image + step * image)

  def loss(h: _Displacement) -> jax.Array:
    return losses.logistic(rest(outputs + h.image), -1.0)

  found = restart(ascent(ascend, lambda h: shell(restart(h)), first, num_steps, project_every))
  last = found.scale * noise + (layer.kernel @ found.units).reshape(x.shape)
  start = project(noise)
  h = jnp.where(num_steps > 0, project(last), start)
  info = SearchInfo(
    gain=loss(shell(found)) - loss(shell(first)),
    travel=optax.safe_norm(h - start, 0.0),
    projected=jnp.any(h != last).astype(x.dtype),
    norm=optax.safe_norm(h, 0.0),
  )
  return jax.lax.stop_gradient((x + h, info))


def _choose(first: jax.Array, one: _Displacement, other: _Displacement) -> _Displacement:
  return jax.tree.map(lambda left, right: jnp.where(first, left, right), one, other)


def _root(square: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.maximum(square, 0.0))


def _inverse(length: jax.Array) -> jax.Array:
  """1 / length, and 0 for 0: without a direction nothing moves."""
  return jnp.where(length > 0.0, 1.0 / jnp.where(length > 0.0, length, 1.0), 0.0)
