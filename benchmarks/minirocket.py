"""Features of series by fixed kernels: MiniRocket's transform, and five neighbours on them.

Each of 84 kernels has nine weights, -1 but for three that are 2, and sums to 0. It is laid over a
series at several dilations; a feature is the share of places at which the result is above a bias, a
quantile of what the kernel makes of a training series drawn at random. The deviations from the
paper: of several channels each kernel at each dilation sums a random subset, as the authors' code
for them does; the quantiles are drawn from the same low-discrepancy sequence, and the rest by
NumPy's generator.

References:
  Dempster, Schmidt and Webb, MiniRocket: a very fast (almost) deterministic transform for time
  series classification (2021).
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import numpy as np

LENGTH, FEATURES, MOST_DILATIONS = 9, 9996, 32
KERNELS = list(itertools.combinations(range(LENGTH), 3))  # the places of the weights of 2
GOLDEN = (np.sqrt(5.0) + 1.0) / 2.0


class Laid(NamedTuple):
  """A kernel at a dilation: places of its 2s, channels it sums, whether it is padded, biases."""

  kernel: tuple[int, ...]
  dilation: int
  channels: np.ndarray
  padded: bool
  biases: np.ndarray


def dilations(time: int, features: int = FEATURES) -> tuple[np.ndarray, np.ndarray]:
  """Dilations for series of ``time`` steps, and how many features each kernel has at each."""
  per_kernel = features // len(KERNELS)
  most = min(per_kernel, MOST_DILATIONS)
  largest = max(0.0, np.log2((time - 1) / (LENGTH - 1)))
  found, counts = np.unique(
    np.logspace(0.0, largest, most, base=2.0).astype(np.int64), return_counts=True
  )
  counts = (counts * (per_kernel / most)).astype(np.int64)
  left = per_kernel - counts.sum()
  counts[: min(left, len(counts))] += 1
  return found, counts


def convolved(x: np.ndarray, kernel: tuple[int, ...], dilation: int) -> np.ndarray:
  """``[n, time]``: a kernel laid over series ``[n, time]``, with zeros beyond both ends."""
  time, reach = x.shape[1], (LENGTH // 2) * dilation
  wide = np.pad(x, ((0, 0), (reach, reach)))
  parts = [wide[:, place * dilation : place * dilation + time] for place in range(LENGTH)]
  return 3.0 * np.sum([parts[place] for place in kernel], axis=0) - np.sum(parts, axis=0)


@dataclasses.dataclass(frozen=True, eq=False)
class Transform:
  """The kernels with their biases; ``fit`` draws them."""

  laid: list[Laid]

  @classmethod
  def fit(cls, x: np.ndarray, seed: int, features: int = FEATURES) -> "Transform":
    """Draws biases for training series ``[n, time, channels]``."""
    rng, laid, count = np.random.default_rng(seed), [], 0
    sizes, counts = dilations(x.shape[1], features)
    channels, most = x.shape[2], min(x.shape[2], LENGTH)
    for d, (dilation, number) in enumerate(zip(sizes.tolist(), counts.tolist(), strict=True)):
      for k, kernel in enumerate(KERNELS):
        summed = min(most, int(2.0 ** rng.uniform(0.0, np.log2(most + 1))))
        chosen = np.sort(rng.choice(channels, summed, replace=False))
        one = x[rng.integers(len(x)), :, chosen].sum(axis=0)[None]
        quantiles = np.arange(count + 1, count + number + 1) * GOLDEN % 1.0
        count += number
        biases = np.quantile(convolved(one, kernel, dilation), quantiles)
        laid.append(Laid(kernel, dilation, chosen, (d + k) % 2 == 0, biases))
    return cls(laid)

  def __call__(self, x: np.ndarray) -> np.ndarray:
    """Features float32 ``[n, features]`` in [0, 1] of series ``[n, time, channels]``."""
    found = []
    for kernel, dilation, channels, padded, biases in self.laid:
      values = convolved(x[:, :, channels].sum(axis=2), kernel, dilation)
      reach = (LENGTH // 2) * dilation
      if not padded and x.shape[1] > 2 * reach:
        values = values[:, reach:-reach]
      ordered = np.sort(values, axis=1)
      below = [np.searchsorted(row, biases, side="right") for row in ordered]
      found.append(1.0 - np.stack(below) / values.shape[1])
    return np.concatenate(found, axis=1).astype(np.float32)


def scores(x: np.ndarray, x_test: np.ndarray, seed: int, neighbours: Any) -> np.ndarray:
  """Scores ``[m]`` of a baseline on the features, each less its mean and by its deviation."""
  transform = Transform.fit(x, seed)
  train, test = transform(x), transform(x_test)
  mean, deviation = train.mean(axis=0), train.std(axis=0)
  scale = np.where(deviation > 0, deviation, 1.0)
  return neighbours.fit((train - mean) / scale).score((test - mean) / scale)
