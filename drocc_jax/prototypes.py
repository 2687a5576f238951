"""A network that begins at the data: soft distances to points that k-means finds."""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp

MOST_NUMBERS = 2**23  # that the points of one network hold, 32 MiB


class Prototypes(nn.Module):
  """Soft distance to the nearest of learned points, a network of radial basis functions.

  With the points ``c_k``, and ``D`` the mean squared distance of an example to its nearest one at
  the start::

      s(x) = -tau log sum_k exp(v_k - |x - c_k|^2 / (tau D))
      f(x) = gain (1 - s(x)) + offset

  The points start at the centroids that k-means finds in the examples that ``init`` is given, see
  ``networks.sample_for``: before it is trained the network ranks records by their distance to the
  data. It is for features whose Euclidean distances mean something.

  Attributes:
    count: how many points, at most as many as training records, see ``for_records``, and as hold
      ``MOST_NUMBERS`` coordinates.
    tau: initial temperature > 0 of the minimum, in units of ``D``.
    init_rows: how many examples ``init`` is best given.
    train_steps: after how many steps training ends where no epochs are stated; more change nothing
      there, see docs/choosing.md.
  """

  count: int = 4096
  tau: float = 0.1
  init_rows: int = 8192
  train_steps: int = 300

  def for_records(self, records: int) -> "Prototypes":
    """The same for so many training records: no more points than these."""
    return self.clone(count=min(self.count, records))

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, ...]`` to logits ``[batch]``."""
    x = x.reshape(x.shape[0], -1)
    count = max(1, min(self.count, MOST_NUMBERS // x.shape[1]))
    shape = (count, x.shape[1])  # all that Flax asks for once there are parameters

    def start(key: jax.Array) -> jax.Array:
      return k_means(key, x, count) if self.is_initializing() else jnp.zeros(shape)

    centres = self.param("centres", start)
    weights = self.param("weights", nn.initializers.zeros_init(), (count,))
    scale = self.variable("constants", "scale", lambda: _least_squared(x, centres))
    scalar = {"gain": 5.0, "offset": 0.0, "log_tau": math.log(self.tau)}
    gain, offset, log_tau = (
      self.param(name, nn.initializers.constant(value), ()) for name, value in scalar.items()
    )
    tau = jnp.exp(log_tau)
    exponents = weights[None] - squared_distances(x, centres) / (tau * scale.value)
    return gain * (1.0 + tau * jax.nn.logsumexp(exponents, axis=-1)) + offset


def squared_distances(x: jax.Array, centres: jax.Array) -> jax.Array:
  """``|x - c|_2^2``, ``[batch, count]``, of ``[batch, d]`` and ``[count, d]``."""
  norms = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(centres * centres, axis=1)[None]
  return norms - 2.0 * x @ centres.T


def _least_squared(x: jax.Array, centres: jax.Array) -> jax.Array:
  """Mean over ``x`` of the squared distance to the nearest of ``centres``, and more than 0."""
  floor = 1e-3 * jnp.mean(jnp.var(x, axis=0)) * x.shape[1] + 1e-12
  return jnp.maximum(jnp.mean(jnp.min(squared_distances(x, centres), axis=1)), floor)


def k_means(key: jax.Array, x: jax.Array, count: int, rounds: int = 10) -> jax.Array:
  """Centroids ``[count, d]`` of ``x`` ``[n, d]`` by Lloyd's algorithm, from rows that are drawn.

  Where ``n < count`` rows stand several times.
  """
  rows = jax.random.permutation(key, x.shape[0])[jnp.arange(count) % x.shape[0]]

  def improve(_: int, centres: jax.Array) -> jax.Array:
    nearest = jnp.argmin(squared_distances(x, centres), axis=1)
    sizes = jnp.zeros(count).at[nearest].add(1.0)[:, None]
    sums = jnp.zeros_like(centres).at[nearest].add(x)
    return jnp.where(sizes > 0, sums / jnp.maximum(sizes, 1.0), centres)

  return jax.lax.fori_loop(0, rounds, improve, x[rows])
