"""The sets that come with scikit-learn: nothing is downloaded."""

import dataclasses
from typing import ClassVar

import numpy as np

from launch.data import corruptions, negatives, splits
from launch.data.source import Source

NOISE_STRENGTH = 3


@dataclasses.dataclass(kw_only=True)
class Digits(Source):
  """Handwritten digits, one of them typical; see ``digits``.

  Attributes:
    typical: the typical digit, 0..9.
    negatives: digits whose training images are given as labelled negatives. Records are then images
      ``[8, 8, 1]``, and test records are of the typical digit, of these, and masked ones of the
      typical digit; see ``negatives.masked_classes``. () gives none.
    masked: share of masked pixels of the latter, in (0, 1).
  """

  names: ClassVar[tuple[str, ...]] = ("digits",)

  name: str = "digits"
  typical: int = 0
  negatives: tuple[int, ...] = ()
  masked: float = 0.5

  def read(self) -> splits.Splits:
    """A half split, or with ``negatives`` two thirds of each digit to train."""
    if not self.negatives:
      return digits(self.typical, self.seed)
    split = negatives.masked_classes(
      *digit_images(self.seed), self.typical, self.negatives, self.masked, self.seed
    )
    return dataclasses.replace(split, description=f"scikit-learn's digits; {split.description}")


@dataclasses.dataclass(kw_only=True)
class ShiftedDigits(Source):
  """All handwritten digits against the same images made atypical; see ``digits_shifted``."""

  names: ClassVar[tuple[str, ...]] = ("digits_shifted",)

  name: str = "digits_shifted"

  def read(self) -> splits.Splits:
    """See ``digits_shifted``."""
    return digits_shifted(self.seed)


@dataclasses.dataclass(kw_only=True)
class BreastCancer(Source):
  """Breast cancer Wisconsin (diagnostic); see ``breast_cancer``."""

  names: ClassVar[tuple[str, ...]] = ("breast_cancer",)

  name: str = "breast_cancer"

  def read(self) -> splits.Splits:
    """See ``breast_cancer``."""
    return breast_cancer(self.seed)


def digits(typical: int, seed: int) -> splits.Splits:
  """Handwritten digits, one of them typical.

  1,797 images of 8 x 8 pixels, flattened to ``[n, 64]``, with values 0..16. A random half of the
  typical digit's images trains; its other half and all other digits test.

  Args:
    typical: the typical digit, 0..9.
    seed: of the half split, >= 0.

  Raises:
    ValueError: ``typical`` is no digit.
  """
  if typical not in range(10):
    raise ValueError(f"typical must be a digit from 0 to 9, got {typical!r}.")
  from sklearn import datasets  # slow to import

  data = datasets.load_digits()
  split = splits.half(data.data, (data.target != typical).astype(np.int64), seed)
  return dataclasses.replace(
    split,
    feature_names=tuple(map(str, data.feature_names)),
    image_shape=(8, 8),
    description=f"scikit-learn's digits, {typical} typical; {split.description}",
  )


def digits_shifted(seed: int) -> splits.Splits:
  """Handwritten digits, all ten typical, against the same test images made atypical.

  Images float32 ``[n, 8, 8, 1]`` in [0, 1], the values 0..16 over 16. Of each class a random two
  thirds train (1,198 in all) and one third tests (599), source "digits". Out of distribution are,
  by source:

  - "rotated": the test images turned by 90 degrees counter-clockwise. A turned 0 is much like a 0,
    so that not all of these can be told from typical ones.
  - "inverted": one minus the test images.
  - "noisy": the test images with ``corruptions.gaussian_noise`` of strength 3.
  - "blank": 17 constant images, one for each value 0, 1/16, ..., 1.
  - "noise": as many images as there are test images, each pixel uniform on [0, 1].

  Args:
    seed: of the split and the noise, >= 0.

  Returns:
    Splits with classes and sources; see ``splits.out_of_distribution``.
  """
  (x_train, y_train), (x_test, y_test) = digit_images(seed)
  levels = np.linspace(0.0, 1.0, 17, dtype=np.float32)
  others = {
    "rotated": np.rot90(x_test, axes=(1, 2)),
    "inverted": 1.0 - x_test,
    "noisy": corruptions.gaussian_noise(x_test, NOISE_STRENGTH, seed),
    "blank": np.broadcast_to(levels[:, None, None, None], (len(levels), *x_test.shape[1:])),
    "noise": np.random.default_rng([seed, 1]).random(x_test.shape, np.float32),
  }
  split = splits.out_of_distribution((x_train, y_train), (x_test, y_test), others, "digits")
  return dataclasses.replace(
    split,
    description=f"scikit-learn's digits, all typical, against {', '.join(others)}; two thirds of "
    f"each class train, seed {seed}",
  )


def digit_images(
  seed: int,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
  """Handwritten digits as images, two thirds of each class to train and a third to test.

  Args:
    seed: of the split, >= 0.

  Returns:
    Training images float32 ``[1198, 8, 8, 1]`` in [0, 1] with their classes, and ``[599, ...]``
    test images with theirs.
  """
  from sklearn import datasets, model_selection  # slow to import

  data = datasets.load_digits()
  x = (data.images / 16.0).astype(np.float32)[..., None]
  rows = model_selection.train_test_split(
    np.arange(len(x)), test_size=1 / 3, stratify=data.target, random_state=seed
  )
  train, test = map(np.sort, rows)
  return (x[train], data.target[train]), (x[test], data.target[test])


def breast_cancer(seed: int) -> splits.Splits:
  """Breast cancer Wisconsin (diagnostic): 357 benign records typical, 212 malignant anomalous.

  30 features ``[n, 30]``. A random half of the benign records trains; the rest tests.

  Args:
    seed: of the half split, >= 0.
  """
  from sklearn import datasets  # slow to import

  data = datasets.load_breast_cancer()
  malignant = (data.target == list(data.target_names).index("malignant")).astype(np.int64)
  split = splits.half(data.data, malignant, seed)
  return dataclasses.replace(
    split,
    feature_names=tuple(map(str, data.feature_names)),
    description=f"scikit-learn's breast cancer, benign typical; {split.description}",
  )
