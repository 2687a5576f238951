"""The sets that come with scikit-learn: nothing is downloaded."""

import dataclasses

import numpy as np
from sklearn import datasets

from launch.data import splits


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
  data = datasets.load_digits()
  split = splits.half(data.data, (data.target != typical).astype(np.int64), seed)
  return dataclasses.replace(
    split,
    feature_names=tuple(map(str, data.feature_names)),
    image_shape=(8, 8),
    description=f"scikit-learn's digits, {typical} typical; {split.description}",
  )


def breast_cancer(seed: int) -> splits.Splits:
  """Breast cancer Wisconsin (diagnostic): 357 benign records typical, 212 malignant anomalous.

  30 features ``[n, 30]``. A random half of the benign records trains; the rest tests.

  Args:
    seed: of the half split, >= 0.
  """
  data = datasets.load_breast_cancer()
  malignant = (data.target == list(data.target_names).index("malignant")).astype(np.int64)
  split = splits.half(data.data, malignant, seed)
  return dataclasses.replace(
    split,
    feature_names=tuple(map(str, data.feature_names)),
    description=f"scikit-learn's breast cancer, benign typical; {split.description}",
  )
