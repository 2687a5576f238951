"""Features of series by fixed random kernels: MiniRocket's (Dempster, Schmidt and Webb, 2021).

Each of 84 kernels has nine weights, -1 but for three that are 2, and sums to 0. It is laid over a
series at several dilations; a feature is the share of places at which the result is above a bias, a
quantile of what the kernel makes of a training series drawn at random. It does not matter where in
the series something happens, while distances value by value know hardly anything else: the map has
both, apart, since which of them says more differs from data to data.

A share of T places that is near 0 or 1 varies less than one near a half. Its angle,
``arcsin(sqrt(share))``, varies equally everywhere (Anscombe, 1948), and is what is compared.

References:
  Anscombe, The transformation of Poisson, binomial and negative-binomial data, Biometrika 1948.
  Dempster, Schmidt and Webb, MiniRocket: a very fast (almost) deterministic transform for time
  series classification, KDD 2021.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import batching
from detector_jax.features.base import batches_of, in_turn, rows_for
from detector_jax.features.whitening import Whitening

LENGTH, MOST_DILATIONS = 9, 32
TWOS = list(itertools.combinations(range(LENGTH), 3))  # the places of the weights of 2
GOLDEN = (math.sqrt(5.0) + 1.0) / 2.0
KERNELS = np.full((LENGTH, len(TWOS)), -1.0, np.float32)
KERNELS[np.transpose(TWOS), np.arange(len(TWOS))] = 2.0
LEAST, TINY = 1e-3, 1e-12
MOST_VALUES = 1024  # beside the shares
COMPARED = 1000  # series that say how much the angles of shares vary
NEAREST_END = 1e-4  # of 0 and of 1 that a share comes to its angle with, which has a slope there
SOFT = 0.1  # width of the step at a bias, in deviations of what the kernel makes of series


def dilations(time: int, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Dilations for series of ``time`` steps, and how many biases each kernel has at each.

  Args:
    time: >= 9.
    number: of features in all, of which each kernel has ``number // 84``.
  """
  each = number // len(TWOS)
  most = min(each, MOST_DILATIONS)
  largest = math.log2((time - 1) / (LENGTH - 1))
  steps = np.logspace(0.0, largest, most, base=2.0).astype(np.int64)
  found, counts = np.unique(steps, return_counts=True)
  counts = (counts * (each / most)).astype(np.int64)
  counts[: min(each - counts.sum(), len(counts))] += 1
  return tuple(found.tolist()), tuple(counts.tolist())


def order(place: int) -> np.ndarray:
  """Numbers of the kernels at the dilation of so many before it: 42 that are padded, then others.

  The authors pad every other kernel, beginning with the first at one dilation and with the second
  at the next.
  """
  return np.argsort((np.arange(len(TWOS)) + place) % 2, kind="stable")


def spread(x: jax.Array, dilation: int) -> jax.Array:
  """What the nine weights of a kernel lie on at every place, with zeros beyond both ends.

  Args:
    x: ``[batch, time, channels]``.
    dilation: steps between the weights.

  Returns:
    ``[batch, time, 9 * channels]``.
  """
  time, reach = x.shape[1], (LENGTH // 2) * dilation
  nothing = 0.0 * x[:, :reach]  # jnp.pad does not convert to ONNX with an open batch size
  wide = jnp.concatenate([nothing, x, nothing], axis=1)
  parts = [wide[:, place * dilation : place * dilation + time] for place in range(LENGTH)]
  return jnp.concatenate(parts, axis=-1)


def shares(values: jax.Array, biases: jax.Array, slopes: jax.Array) -> jax.Array:
  """Shares of places above biases, ``[batch, kernels * number]``, of steps that are a little soft.

  Args:
    values: ``[batch, time, kernels]``.
    biases: ``[kernels, number]``.
    slopes: ``[kernels]``, of the step: a value counts for a half at the bias.
  """
  scaled, at = values * slopes[None, None], (0.5 - biases * slopes[:, None]).T
  counted = [
    jnp.mean(jnp.clip(scaled + each[None, None], 0.0, 1.0), axis=1) for each in jnp.unstack(at)
  ]
  return jnp.stack(counted, axis=-1).reshape(values.shape[0], -1)


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=[
    *("center", "scale", "weights", "biases", "slopes", "deviations"),
    *("of_values", "of_shares"),
  ],
  meta_fields=["dilations", "counts", "rows"],
)
@dataclasses.dataclass(frozen=True)
class KernelMap:
  """``x [batch, time, channels] -> [batch, features]``, as ``RandomKernels`` fits it.

  Attributes:
    center: ``[time, channels]``, means of the training series.
    scale: ``[time, channels]``, their deviations.
    weights: ``[dilations, 9 * channels, 84]`` of the kernels in their ``order``, for the channels
      that each of them sums, over the deviation of these.
    biases: ``[84, shares of a kernel]``, those of the first dilation first.
    slopes: ``[dilations, 84]``, see ``shares``.
    deviations: ``[84 * shares of a kernel]`` of the angles of shares.
    of_values: whitening of the standardised values; None gives the shares alone, as they are.
    of_shares: whitening of the angles over their deviations, or None.
    dilations: of the kernels.
    counts: of biases at each dilation.
    rows: see ``FeatureMap``.
  """

  center: jax.Array
  scale: jax.Array
  weights: jax.Array
  biases: jax.Array
  slopes: jax.Array
  deviations: jax.Array
  of_values: Whitening | None
  of_shares: Whitening | None
  dilations: tuple[int, ...]
  counts: tuple[int, ...]
  rows: int

  @property
  def whitening(self) -> Whitening | None:
    """Of the shares: None where features are as they come."""
    return self.of_shares

  @property
  def parts(self) -> tuple[int, ...]:
    """How many features are of values, and how many of shares: distances are to be taken apart."""
    return tuple(each.size for each in (self.of_values, self.of_shares) if each is not None)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Features ``[batch, features]`` of raw series ``[batch, time, channels]``."""
    if self.of_values is None or self.of_shares is None:
      return self.shares(x)
    return jnp.concatenate([self.of_values(self.values(x)), self.of_shares(self.angles(x))], axis=1)

  def angles(self, x: jax.Array) -> jax.Array:
    """Angles of the shares over their deviations, ``[batch, 84 * shares of a kernel]``."""
    shares = jnp.clip(self.shares(x), NEAREST_END, 1.0 - NEAREST_END)
    return jnp.arcsin(jnp.sqrt(shares)) / self.deviations[None]

  def values(self, x: jax.Array) -> jax.Array:
    """Standardised values, ``[batch, time * channels]``; of more than 1,024 means over steps."""
    z = (x - self.center[None]) / self.scale[None]
    every = min(-(-math.prod(z.shape[1:]) // MOST_VALUES), z.shape[1])
    whole = z.shape[1] // every * every
    z = z[:, :whole].reshape(z.shape[0], -1, every, z.shape[2]).mean(axis=2)
    return z.reshape(z.shape[0], -1)

  def shares(self, x: jax.Array) -> jax.Array:
    """Shares in [0, 1], ``[batch, 84 * shares of a kernel]``."""
    x = x - jnp.mean(self.center, axis=0)[None, None]
    ends, found = np.cumsum(self.counts), []
    for place, (dilation, count) in enumerate(zip(self.dilations, self.counts, strict=True)):
      values = spread(x, dilation) @ self.weights[place]
      half, reach = values.shape[2] // 2, (LENGTH // 2) * dilation
      biases = self.biases[:, ends[place] - count : ends[place]]
      for part, inner in ((slice(half), values), (slice(half, None), values[:, reach:-reach])):
        found.append(shares(inner[:, :, part], biases[part], self.slopes[place, part]))
    return jnp.concatenate(found, axis=1)


_values, _angles = jax.jit(KernelMap.values), jax.jit(KernelMap.angles)


@dataclasses.dataclass(frozen=True)
class RandomKernels:
  """Settings of the kernels' features; ``fit`` draws the kernels and makes the map.

  Attributes:
    shares: how many, >= 84, of which each kernel has an 84th; the paper: 9,996.
    components: at most so many features of the values, and of the shares, >= 1; the length of what
      they leave out is one more of each.
    noise: see ``Whitening.fit``; the more, the more of the differences between eigenvalues is left.
  """

  shares: int = 1008
  components: int = 256
  noise: float = 30.0

  def fit(self, x: Any, seed: int = 0) -> KernelMap:
    """Draws kernels and biases, and learns the whitening from typical series, a batch at a time.

    Args:
      x: ``[n, time, channels]``, raw; anything with a length and slices, e.g. a memory map.
      seed: of the channels and of the series that give the biases.

    Raises:
      ValueError: series of another shape, of fewer than 9 steps, or that are all the same.
    """
    batching.whole("components", self.components)
    raw = self.drawn(x, seed)
    some = np.sort(np.random.default_rng(seed).permutation(len(x))[:COMPARED]).tolist()
    compared = np.stack([np.asarray(x[row], np.float32) for row in some])
    deviations = np.concatenate(list(self._made(_angles, raw, compared))).std(axis=0, dtype=float)
    deviations = np.where(deviations > LEAST, deviations, 1.0)
    raw = dataclasses.replace(raw, deviations=jnp.asarray(deviations, jnp.float32))
    of_values, of_shares = (
      Whitening.fit(
        self._made(each, raw, x), self.components, self.noise, residual=True, left_out=False
      )
      for each in (_values, _angles)
    )
    return dataclasses.replace(raw, of_values=of_values, of_shares=of_shares)

  @staticmethod
  def _made(function: Any, raw: KernelMap, x: Any) -> Iterator[np.ndarray]:
    """What a function of the map makes of series ``[n, time, channels]``, a batch at a time."""
    return in_turn(lambda batch: function(raw, batch), x, raw.rows)

  def rebuilt(self, arrays: Mapping[str, Any], rows: int) -> KernelMap:
    """The map of arrays that a detector was saved with; see ``Patches.rebuilt``.

    Raises:
      ValueError: an earlier release saved it, whose map had one whitening for all features.
    """
    if "factors" in arrays:
      raise ValueError(
        "The detector has the random kernels of an earlier release, which this one scores with "
        "from the folder and cannot rebuild: export it with that release, or train it anew."
      )
    sizes, counts = dilations(len(arrays["center"]), self.shares)
    whitenings = {name: Whitening(**arrays[name]) for name in ("of_values", "of_shares")}
    return KernelMap(**{**arrays, **whitenings}, dilations=sizes, counts=counts, rows=rows)

  def drawn(self, x: Any, seed: int = 0) -> KernelMap:
    """The map that gives the shares alone, without whitening; arguments and errors as ``fit``."""
    batching.whole("shares", self.shares, len(TWOS))
    if len(x.shape) != 3 or x.shape[1] < LENGTH:
      raise ValueError(
        f"Kernels are of [n, time, channels] with {LENGTH} steps or more, got {list(x.shape)}."
      )
    rng, (time, channels) = np.random.default_rng(seed), x.shape[1:]
    mean, deviation = _moments(x)
    sizes, counts = dilations(time, self.shares)
    units = np.sqrt(np.mean(np.square(deviation) + np.square(mean - mean.mean(axis=0)), axis=0))
    units = np.where(units > 0, units, 1.0)
    weights, biases, slopes, drawn = [], [], [], 0
    for place, (dilation, count) in enumerate(zip(sizes, counts, strict=True)):
      summed = _channels(channels, rng)
      kernels = KERNELS[:, None, order(place)] * (summed / units[:, None])[None]
      kernels = kernels.reshape(-1, len(TWOS))
      rows = rng.integers(len(x), size=len(TWOS)).tolist()
      series = np.stack([np.asarray(x[row], np.float32) for row in rows]) - mean.mean(axis=0)
      made = np.einsum("ktc,ck->kt", np.asarray(spread(series, dilation)), kernels)
      quantiles = np.arange(drawn + 1, drawn + made.shape[0] * count + 1) * GOLDEN % 1.0
      pairs = zip(made, quantiles.reshape(-1, count), strict=True)
      biases.append(np.stack([np.quantile(each, at) for each, at in pairs]))
      slopes.append(1.0 / (SOFT * np.maximum(made.std(axis=1), LEAST * made.std() + TINY)))
      weights.append(kernels)
      drawn += len(quantiles)
    as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
    return KernelMap(
      as_float32(mean),
      as_float32(np.where(deviation > 0, deviation, 1.0)),
      as_float32(np.stack(weights)),
      as_float32(np.concatenate(biases, axis=1)),
      as_float32(np.stack(slopes)),
      jnp.ones(drawn),
      None,
      None,
      sizes,
      counts,
      rows_for(time * max(LENGTH * channels, len(TWOS))),
    )


def _channels(channels: int, rng: np.random.Generator) -> np.ndarray:
  """``[channels, 84]``, 1 for those that a kernel sums: a few, at most 9."""
  summed, most = np.zeros((channels, len(TWOS))), min(channels, LENGTH)
  for kernel in range(len(TWOS)):
    some = min(most, int(2.0 ** rng.uniform(0.0, np.log2(most + 1))))
    summed[rng.choice(channels, some, replace=False), kernel] = 1.0
  return summed


def _moments(x: Any) -> tuple[np.ndarray, np.ndarray]:
  """Means and deviations ``[time, channels]`` of series, in float64.

  Raises:
    ValueError: all series are the same.
  """
  count, total, squares, origin = 0, np.zeros(()), np.zeros(()), np.zeros(())
  for batch in batches_of(x, 1024):
    rows = batch.astype(np.float64)
    origin = origin if count else rows.mean(axis=0)
    rows = rows - origin
    count, total = count + len(rows), total + rows.sum(axis=0)
    squares = squares + np.square(rows).sum(axis=0)
  variance = np.maximum(squares / count - np.square(total / count), 0.0)
  if not variance.max() > 0:
    raise ValueError("Every series is the same; there is nothing to learn from.")
  return origin + total / count, np.sqrt(variance)
