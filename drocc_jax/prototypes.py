"""A network that begins at the data: soft distances to points that k-means finds."""

import itertools
import math

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

MOST_NUMBERS = 2**23  # that the points of one network hold, 32 MiB
COMPARED = 1024  # examples whose nearest others give the units of parts


class Prototypes(nn.Module):
  """Soft distance to the nearest of learned points, a network of radial basis functions.

  With the points ``c_k``, ``D`` the mean squared distance of an example to its nearest one at the
  start, and ``U`` that to the nearest other example::

      s(x) = -tau D / U log sum_k exp(v_k - |x - c_k|^2 / (tau D))
      f(x) = gain (1 - s(x)) + offset

  ``D`` falls to nothing where there are about as many points as examples; ``U`` hardly moves, so
  that networks of so many and of fewer records, of a fold say, have scores in the same unit.

  Of features in ``parts`` each part has distances of its own, so that a record may be near one
  record in one of them and near another in the other. With ``m`` and ``u``, the mean and the
  deviation of the squared distance of an example to the nearest other one in a part::

      s_part(x) = -tau log sum_k exp(v_k - (|x - c_k|^2 - m) / (tau u))

  and ``s`` is their mean: the part in which typical records are most alike has most to say.

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
    parts: how many features there are of each kind; empty where all are of one.
  """

  count: int = 4096
  tau: float = 0.1
  init_rows: int = 8192
  train_steps: int = 300
  parts: tuple[int, ...] = ()

  def for_records(self, records: int) -> "Prototypes":
    """The same for so many training records: no more points than these."""
    return self.clone(count=min(self.count, records))

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, ...]`` to logits ``[batch]``."""
    x = x.reshape(x.shape[0], -1)
    count = max(1, min(self.count, MOST_NUMBERS // x.shape[1]))
    sizes = self.parts or (x.shape[1],)
    if sum(sizes) != x.shape[1]:
      raise ValueError(f"parts={self.parts} are of {sum(sizes)} features, got {x.shape[1]}.")
    views = _divided(x, sizes)

    def start(key: jax.Array) -> jax.Array:
      if not self.is_initializing():  # all that Flax asks for once there are parameters
        return jnp.zeros((count, x.shape[1]))
      return jnp.concatenate([k_means(key, view, count) for view in views], axis=1)

    centres = self.param("centres", start)
    shape = (count, len(sizes)) if self.parts else (count,)
    weights = self.param("weights", nn.initializers.zeros_init(), shape).reshape(count, -1)
    scalar = {"gain": 5.0, "offset": 0.0, "log_tau": math.log(self.tau)}
    gain, offset, log_tau = (
      self.param(name, nn.initializers.constant(value), ()) for name, value in scalar.items()
    )
    units = self.variable("constants", "scale", lambda: self._units(views, centres)).value
    middles, scales = units if self.parts else (jnp.zeros(1), units[:1])
    tau, near = jnp.exp(log_tau), []
    for part, (view, points) in enumerate(zip(views, _divided(centres, sizes), strict=True)):
      squared = squared_distances(view, points) - middles[part]
      exponents = weights[None, :, part] - squared / (tau * scales[part])
      near.append(tau * jax.nn.logsumexp(exponents, axis=-1))
    unit = 1.0 if self.parts else units[0] / units[1]
    return gain * (1.0 + unit * sum(near) / len(near)) + offset

  def _units(self, views: list[jax.Array], centres: jax.Array) -> jax.Array:
    """``D`` and ``U``, or of ``parts`` their ``m`` and ``u``, ``[2, parts]``."""
    if not self.parts:
      least = _least_squared(views[0], centres)
      return jnp.stack([least, jnp.maximum(_to_others(views[0])[0], least)])
    return jnp.stack([_to_others(view) for view in views], axis=1)


def _divided(x: jax.Array, sizes: tuple[int, ...]) -> list[jax.Array]:
  """The columns of ``x`` ``[n, d]`` in groups of so many."""
  ends = list(itertools.accumulate(sizes))
  return [x[:, end - size : end] for size, end in zip(sizes, ends, strict=True)]


def squared_distances(x: jax.Array, centres: jax.Array) -> jax.Array:
  """``|x - c|_2^2``, ``[batch, count]``, of ``[batch, d]`` and ``[count, d]``."""
  norms = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(centres * centres, axis=1)[None]
  return norms - 2.0 * x @ centres.T


def _least_squared(x: jax.Array, centres: jax.Array) -> jax.Array:
  """Mean over ``x`` of the squared distance to the nearest of ``centres``, and more than 0."""
  floor = 1e-3 * jnp.mean(jnp.var(x, axis=0)) * x.shape[1] + 1e-12
  return jnp.maximum(jnp.mean(jnp.min(squared_distances(x, centres), axis=1)), floor)


def _to_others(x: jax.Array) -> jax.Array:
  """Mean and deviation of the squared distance of rows to the nearest other one, ``[2]``."""
  rows = np.linspace(0, x.shape[0] - 1, min(x.shape[0], COMPARED)).astype(int)
  squared = squared_distances(x[rows], x)
  others = jnp.where(rows[:, None] == np.arange(x.shape[0])[None], jnp.inf, squared)
  nearest = jnp.min(others, axis=1)
  nearest = jnp.where(jnp.isfinite(nearest), nearest, 0.0)  # of one row alone
  floor = 1e-3 * jnp.mean(jnp.var(x, axis=0)) * x.shape[1] + 1e-12
  return jnp.stack([jnp.mean(nearest), jnp.maximum(jnp.std(nearest), floor)])


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
