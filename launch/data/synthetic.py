"""The synthetic sets of the DROCC paper, in raw coordinates: their scale is their meaning.

For one seed, training and typical test records are the same whatever the displacement or radius.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from launch.data.source import Source
from launch.data.splits import Labelled, Splits


@dataclasses.dataclass(kw_only=True)
class Sphere(Source):
  """A ball in a shell of anomalies; see ``sphere``.

  Attributes:
    radius: of the anomalies, > 1.
  """

  names: ClassVar[tuple[str, ...]] = ("sphere",)

  name: str = "sphere"
  radius: float = 1.2

  def read(self) -> Splits:
    """See ``sphere``."""
    return sphere(self.seed, self.radius)


@dataclasses.dataclass(kw_only=True)
class Sine(Source):
  """A sine wave against itself shifted; see ``sine``.

  Attributes:
    displacement: of the anomalies, > 0.
  """

  names: ClassVar[tuple[str, ...]] = ("sine",)

  name: str = "sine"
  displacement: float = 0.5

  def read(self) -> Splits:
    """See ``sine``."""
    return sine(self.seed, self.displacement)


@dataclasses.dataclass(kw_only=True)
class NoisySine(Sine):
  """The sine wave among coordinates of noise, with given negatives; see ``noisy_sine``."""

  names: ClassVar[tuple[str, ...]] = ("noisy_sine",)

  name: str = "noisy_sine"

  def read(self) -> Splits:
    """See ``noisy_sine``."""
    return noisy_sine(self.seed, self.displacement)


def sphere(seed: int, radius: float, num: int = 1000, dim: int = 3) -> Splits:
  """A ball of typical records in a shell of anomalies (section B.2, Table 6).

  Typical records are uniform in the volume of the unit ball, anomalies uniform on the surface of
  the sphere of ``radius`` round the same centre. The test set is half of each. The paper does not
  state the dimension; Figure 4 draws a sphere, so it is 3 here. Nor does it state the number of
  records; it has 1,000 for the other synthetic set.

  Args:
    seed: of all draws, >= 0.
    radius: of the anomalies, > 1; Table 6 has 1.2, 1.4, 1.6, 1.8 and 2.0.
    num: training records, and test records; even, >= 2.
    dim: dimension, >= 1.

  Returns:
    Records ``[num, dim]``, float64.

  Raises:
    ValueError: an argument is out of its range.

  References:
    DROCC (Goyal et al., 2020), Appendix B.2, Figure 4 and Table 6.
  """
  _check_num(num)
  if not 1.0 < radius < np.inf:
    raise ValueError(f"radius must be > 1, outside the unit ball of typical data, got {radius!r}.")
  if dim < 1:
    raise ValueError(f"dim must be at least 1, got {dim!r}.")
  rng = np.random.default_rng(seed)

  def surface(count: int) -> np.ndarray:
    x = rng.standard_normal((count, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  def volume(count: int) -> np.ndarray:
    return surface(count) * rng.uniform(size=(count, 1)) ** (1.0 / dim)

  train, typical = volume(num), volume(num // 2)
  return _splits(
    train,
    typical,
    radius * surface(num // 2),
    tuple(f"x{i}" for i in range(dim)),
    f"unit ball in {dim} dimensions against the sphere of radius {radius:g}, seed {seed}",
  )


def sine(seed: int, displacement: float, num: int = 1000) -> Splits:
  r"""A sine wave in the plane, and the same wave shifted up and down (section B.1, Table 7).

  Typical records are :math:`(t, \sin t)` with t uniform on [-2 pi, 2 pi], two periods without
  noise; anomalies are :math:`(t, \sin t \pm \mathit{displacement})` with fresh t. The test set is
  half typical; of its anomalies half are above and half below (one more above, where their number
  is odd). The paper gives the wave as a drawing only, so amplitude 1 and two periods are choices
  made here. It speaks of 1,000 points in section 5.1 and of 1,024 in Appendix B.1.

  Args:
    seed: of all draws, >= 0.
    displacement: vertical, > 0; Table 7 has 0.2, 0.4, 0.6, 0.8, 1.0 and 2.0.
    num: training records, and test records; even, >= 2.

  Returns:
    Records ``[num, 2]``, float64, columns ``t`` and ``y``.

  Raises:
    ValueError: an argument is out of its range.

  References:
    DROCC (Goyal et al., 2020), section 5.1, Appendix B.1, Figures 1 and 6, Table 7.
  """
  _check_num(num)
  if not 0.0 < displacement < np.inf:
    raise ValueError(f"displacement must be > 0, got {displacement!r}.")
  rng = np.random.default_rng(seed)

  def wave(count: int) -> np.ndarray:
    t = rng.uniform(-2.0 * np.pi, 2.0 * np.pi, count)
    return np.stack([t, np.sin(t)], axis=1)

  train, typical, anomalous = wave(num), wave(num // 2), wave(num // 2)
  anomalous[0::2, 1] += displacement
  anomalous[1::2, 1] -= displacement
  name = f"sine wave against itself shifted by {displacement:g} up and down, seed {seed}"
  return _splits(train, typical, anomalous, ("t", "y"), name)


def noisy_sine(
  seed: int, displacement: float, num: int = 1024, noise: int = 8, given: float = 2.0
) -> Splits:
  r"""A sine wave in two coordinates among coordinates of noise, with given far negatives.

  Typical records are those of ``sine``, followed by ``noise`` coordinates of Normal(0, 1); so are
  anomalies and given negatives, but that their wave is shifted up or down: the anomalies by
  ``displacement``, the given negatives by ``given``. The paper states the typical records only; it
  does not say which negatives DROCC-LF was given. Here they are as far as the farthest anomalies of
  Table 7, so that all nearer ones are unseen.

  Args:
    seed: of all draws, >= 0.
    displacement: of the anomalies, vertical, > 0.
    num: training records, given negatives, test and validation records, each; even, >= 2.
    noise: number of coordinates that say nothing, >= 0; the paper has 8.
    given: displacement of the given negatives, > 0.

  Returns:
    Records ``[num, 2 + noise]``, float64, with ``negatives``; ``validation`` tells typical records
    from such given negatives.

  Raises:
    ValueError: an argument is out of its range.

  References:
    DROCC (Goyal et al., 2020), section 5.2.1, Figures 1c and 1d.
  """
  if noise < 0:
    raise ValueError(f"noise must be at least 0, got {noise!r}.")
  if not 0.0 < given < np.inf:
    raise ValueError(f"given must be > 0, got {given!r}.")
  plain, negative = sine(seed, displacement, num), sine(seed + 1_000_003, given, 2 * num)
  held_out = sine(seed + 2_000_003, given, num)
  rng = np.random.default_rng((seed, noise))

  def with_noise(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, rng.standard_normal((len(x), noise))], axis=1)

  x_test, y_test = plain.labelled_test()
  x_given, y_given = negative.labelled_test()
  x_held_out, y_held_out = held_out.labelled_test()
  return Splits(
    with_noise(plain.x_train),
    with_noise(x_test),
    y_test,
    ("t", "y", *(f"noise {i}" for i in range(noise))),
    description=(
      f"{plain.description}, with {noise} coordinates of noise and {num:,} given negatives shifted "
      f"by {given:g}"
    ),
    negatives=with_noise(x_given[y_given == 1]),
    validation=Labelled(
      with_noise(x_held_out), y_held_out, np.where(y_held_out == 1, "negative", "typical")
    ),
  )


def _check_num(num: int) -> None:
  if num < 2 or num % 2:
    raise ValueError(f"num must be even and at least 2, got {num!r}.")


def _splits(
  train: np.ndarray,
  typical: np.ndarray,
  anomalous: np.ndarray,
  names: tuple[str, ...],
  description: str,
) -> Splits:
  labels = np.repeat(np.array([0, 1], np.int64), [len(typical), len(anomalous)])
  x_test = np.concatenate([typical, anomalous])
  return Splits(train, x_test, labels, names, description=description)
