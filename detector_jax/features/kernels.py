"""Features of series by fixed random kernels: MiniRocket's (Dempster, Schmidt and Webb, 2021).

Each of 84 kernels has nine weights, -1 but for three that are 2, and sums to 0. It is laid over a
series at several dilations; a feature is the share of places at which the result is above a bias, a
quantile of what the kernel makes of a training series drawn at random. It does not matter where in
the series something happens, while distances value by value know hardly anything else.

References:
  Dempster, Schmidt and Webb, MiniRocket: a very fast (almost) deterministic transform for time
  series classification, KDD 2021.
"""

from collections.abc import Mapping
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
COMPARED = 1000  # series that say how large values and shares are
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
  data_fields=["center", "scale", "weights", "biases", "slopes", "factors", "whitening"],
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
    factors: ``[2]``, of the standardised values and of the shares.
    whitening: of both together; None gives the shares alone.
    dilations: of the kernels.
    counts: of biases at each dilation.
    rows: see ``FeatureMap``.
  """

  center: jax.Array
  scale: jax.Array
  weights: jax.Array
  biases: jax.Array
  slopes: jax.Array
  factors: jax.Array
  whitening: Whitening | None
  dilations: tuple[int, ...]
  counts: tuple[int, ...]
  rows: int

  def __call__(self, x: jax.Array) -> jax.Array:
    """Features ``[batch, features]`` of raw series ``[batch, time, channels]``."""
    return self.shares(x) if self.whitening is None else self.whitening(self.code(x))

  def code(self, x: jax.Array) -> jax.Array:
    """Values and shares by their factors, before they are whitened."""
    parts = self.values(x) * self.factors[0], self.shares(x) * self.factors[1]
    return jnp.concatenate(parts, axis=1)

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


_code = jax.jit(KernelMap.code)


@dataclasses.dataclass(frozen=True)
class RandomKernels:
  """Settings of the kernels' features; ``fit`` draws the kernels and makes the map.

  Attributes:
    shares: how many, >= 84, of which each kernel has an 84th; the paper: 9,996.
    components: features that are left after whitening, >= 1; the length of what they leave out is
      one more.
    noise: see ``Whitening.fit``.
    values: portion of the standardised values in the variance before it is whitened, in [0, 1]; the
      rest is of the shares.
  """

  shares: int = 1008
  components: int = 256
  noise: float = 0.1
  values: float = 0.05

  def fit(self, x: Any, seed: int = 0) -> KernelMap:
    """Draws kernels and biases, and learns the whitening from typical series, a batch at a time.

    Args:
      x: ``[n, time, channels]``, raw; anything with a length and slices, e.g. a memory map.
      seed: of the channels and of the series that give the biases.

    Raises:
      ValueError: series of another shape, of fewer than 9 steps, or that are all the same.
    """
    batching.whole("components", self.components)
    if not 0.0 <= self.values <= 1.0:
      raise ValueError(f"values must be in [0, 1], got {self.values!r}.")
    raw = self.drawn(x, seed)
    some = np.sort(np.random.default_rng(seed).permutation(len(x))[:COMPARED]).tolist()
    variances = _variances(raw, np.stack([np.asarray(x[row], np.float32) for row in some]))
    factors = np.sqrt(np.array([self.values, 1.0 - self.values]) / np.maximum(variances, TINY))
    raw = dataclasses.replace(raw, factors=jnp.asarray(factors, jnp.float32))
    codes = in_turn(lambda batch: _code(raw, batch), x, raw.rows)
    whitening = Whitening.fit(codes, self.components, self.noise, residual=True)
    return dataclasses.replace(raw, whitening=whitening)

  def rebuilt(self, arrays: Mapping[str, Any], rows: int) -> KernelMap:
    """The map of arrays that a detector was saved with; see ``Patches.rebuilt``."""
    sizes, counts = dilations(len(arrays["center"]), self.shares)
    fields = {**arrays, "whitening": Whitening(**arrays["whitening"])}
    return KernelMap(**fields, dilations=sizes, counts=counts, rows=rows)

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
      jnp.ones(2),
      None,
      sizes,
      counts,
      rows_for(time * max(LENGTH * channels, len(TWOS))),
    )


def _variances(raw: KernelMap, x: np.ndarray) -> np.ndarray:
  """Sums of the variances of values and of shares of series ``[n, time, channels]``."""
  codes = np.concatenate(list(in_turn(lambda batch: _code(raw, batch), x, raw.rows)))
  of_each = codes.astype(np.float64).var(axis=0)
  shares = raw.biases.size
  return np.array([of_each[:-shares].sum(), of_each[-shares:].sum()])


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
