"""What DROCC does on features unless told otherwise; ``recipe`` has the rest."""

import dataclasses
from typing import Any

from flax import linen as nn
import numpy as np

from detector_jax import batching
from detector_jax.combination import with_strangest
from detector_jax.detector import Detector
from detector_jax.features import Patches, RandomKernels
from detector_jax.features.kernels import LENGTH
from drocc_jax import networks, prototypes, recipe

SMALLEST_IMAGE, FEWEST_IMAGES, FEWEST_SERIES = 16, 20, 10
LEARNING_RATE = 3e-4  # of prototypes, which start at the data
UNITS = 512  # of one hidden layer, which given negatives are told from the data with
RADIUS = 0.5  # the radius in units of sqrt(features)


def automatic(x: np.ndarray) -> Any:
  """Settings of the features that DROCC takes where none are stated.

  ``Patches()`` for images of ``SMALLEST_IMAGE`` pixels a side or more, where there are at least
  ``FEWEST_IMAGES``; ``RandomKernels()`` for ``FEWEST_SERIES`` series or more that are as long as a
  kernel; None for others.

  With 20 images of a class of Fashion-MNIST patches are ahead of an MLP on the pixels, and take a
  fraction of its time; with 10 they are behind. See ``--table=features --feature_images``.

  A convolutional network that learns to tell an image from the same image with a perturbation
  measures how smooth the image is; no radius mends that, features do. See docs/choosing.md.

  Args:
    x: ``[n, ...]`` raw typical training records.
  """
  if x.ndim == 3:
    return RandomKernels() if len(x) >= FEWEST_SERIES and x.shape[1] >= LENGTH else None
  images = x.ndim == 4 and min(x.shape[1:3]) >= SMALLEST_IMAGE
  return Patches() if images and len(x) >= FEWEST_IMAGES else None


def held_out_parts(features: Any) -> int:
  """Into how many parts the held-out records go, see ``splits.calibration_rows``.

  Args:
    features: settings of a map, a fitted one, or anything else.
  """
  return 2 if getattr(features, "defects", False) else 1


def behind(
  detector: Detector,
  features: Any,
  x_calibration: batching.Records,
  fpr: float | None,
  confidence: float | None,
) -> Detector:
  """The detector of features as one of records, with what else their map has to say of these.

  Args:
    detector: of features.
    features: the fitted map.
    x_calibration: ``[m, ...]`` the held-out records.
    fpr: see ``Detector.calibrate``.
    confidence: likewise.

  Raises:
    ValueError: none is held out, and the map wants some.
  """
  found = detector.behind(features, x_calibration.shape[1:])
  if held_out_parts(features) == 1:
    return found
  return with_strangest(found, np.asarray(x_calibration), fpr, confidence)


def run_settings(settings: Any, features: Any) -> Any:
  """Settings of the training behind a fitted map.

  Whitened features have a common scale, which scaling each of them would undo, and no records are
  left out unless ``trim`` says so.

  Args:
    settings: ``settings.Training`` or what has its fields.
    features: the fitted map.
  """
  scaling = settings.scaling if getattr(features, "whitening", None) is None else "none"
  return dataclasses.replace(settings, scaling=scaling, trim=settings.trim or 0.0)


def settled(
  config: Any, network: nn.Module | None, dim: int, features: Any = None
) -> tuple[Any, nn.Module]:
  """Settings and network for ``dim`` features, where none are stated.

  Nothing that was tried learned more from the negatives of its own search than the distance to the
  data says, see docs/choosing.md: the network begins there. Given negatives are another matter.
  Chosen on Fashion-MNIST and a sample of CIFAR-100.

  Args:
    config: settings of one of the algorithms.
    network: that was asked for, or None.
    dim: how many features there are.
    features: the map that makes them; one of several kinds of features has ``parts``, see
      ``prototypes.Prototypes``.
  """
  if config.radius is None:
    config = dataclasses.replace(config, radius=RADIUS * float(np.sqrt(dim)))
  given = recipe.algorithm_of(config).needs_negatives
  if network is None and config.learning_rate is None and not given:
    config = dataclasses.replace(config, learning_rate=LEARNING_RATE)
  unset = {name: value for name, value in recipe.USUAL.items() if getattr(config, name) is None}
  config = dataclasses.replace(config, **unset)
  if network is None:
    parts = tuple(getattr(features, "parts", ()))
    network = networks.MLP((UNITS,)) if given else prototypes.Prototypes(parts=parts)
  return config, network
