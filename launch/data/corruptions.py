"""Typical images made atypical: pure functions of images, a strength and a seed.

Each takes float32 ``[n, h, w, c]`` in [0, 1], a strength of 1, 2 or 3 and a seed >= 0, and returns
images of the same shape, float32, clipped to [0, 1]. The seed matters where something is drawn;
the strengths are:

================  ==========================================  =====  =====  =====
corruption        what the strength sets                          1      2      3
================  ==========================================  =====  =====  =====
gaussian_noise    standard deviation of the noise               0.1    0.2    0.4
blur              standard deviation of the filter, pixels      0.5    1.0    2.0
rotation          angle, degrees counter-clockwise               15     30     60
contrast          factor on the distance from the mean          0.6    0.4    0.2
occlusion         side of the square over the shorter side    0.250  0.375  0.500
================  ==========================================  =====  =====  =====
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

NOISE = (0.1, 0.2, 0.4)
BLUR = (0.5, 1.0, 2.0)
DEGREES = (15.0, 30.0, 60.0)
CONTRAST = (0.6, 0.4, 0.2)
SIDE = (0.25, 0.375, 0.5)
OCCLUDER = 0.5

Corruption = Callable[[np.ndarray, int, int], np.ndarray]


def gaussian_noise(images: np.ndarray, strength: int, seed: int) -> np.ndarray:
  """Adds independent normal noise to each pixel and channel.

  Raises:
    ValueError: images or strength are not as the module says; so for all corruptions.
  """
  sd = _setting(images, strength, NOISE)
  noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
  return _clipped(images + np.float32(sd) * noise)


def blur(images: np.ndarray, strength: int, seed: int) -> np.ndarray:
  """Filters each image with a Gaussian; the border pixels go on beyond the border."""
  sd = _setting(images, strength, BLUR)
  return _clipped(ndimage.gaussian_filter(images, (0.0, sd, sd, 0.0), mode="nearest"))


def rotation(images: np.ndarray, strength: int, seed: int) -> np.ndarray:
  """Turns each image round its centre, bilinearly; what comes in at the corners is black."""
  degrees = _setting(images, strength, DEGREES)
  turned = ndimage.rotate(images, degrees, axes=(1, 2), reshape=False, order=1, cval=0.0)
  return _clipped(turned)


def contrast(images: np.ndarray, strength: int, seed: int) -> np.ndarray:
  """Draws all values of an image towards their mean over its pixels and channels."""
  factor = np.float32(_setting(images, strength, CONTRAST))
  mean = images.mean(axis=(1, 2, 3), keepdims=True)
  return _clipped(mean + factor * (images - mean))


def occlusion(images: np.ndarray, strength: int, seed: int) -> np.ndarray:
  """Lays a square of grey 0.5 on each image, at a place of its own, whole within the image.

  Its side is rounded to whole pixels and at least one.
  """
  share = _setting(images, strength, SIDE)
  n, height, width, _ = images.shape
  side = max(1, round(share * min(height, width)))
  rng = np.random.default_rng(seed)
  tops, lefts = rng.integers(height - side + 1, size=n), rng.integers(width - side + 1, size=n)
  result = images.copy()
  for image, top, left in zip(result, tops, lefts, strict=True):
    image[top : top + side, left : left + side] = OCCLUDER
  return result


CORRUPTIONS: dict[str, Corruption] = {
  "gaussian_noise": gaussian_noise,
  "blur": blur,
  "rotation": rotation,
  "contrast": contrast,
  "occlusion": occlusion,
}


def _setting(images: np.ndarray, strength: int, settings: tuple[float, float, float]) -> float:
  if images.ndim != 4 or images.dtype != np.float32:
    raise ValueError(
      f"Images must be float32 [n, h, w, c], got {images.dtype} {list(images.shape)}."
    )
  if images.size and not (images.min() >= 0.0 and images.max() <= 1.0):
    raise ValueError(
      f"Images must lie in [0, 1], got values from {images.min():g} to {images.max():g}."
    )
  if strength not in (1, 2, 3):
    raise ValueError(f"strength must be 1, 2 or 3, got {strength!r}.")
  return settings[strength - 1]


def _clipped(images: np.ndarray) -> np.ndarray:
  return np.clip(images, 0.0, 1.0).astype(np.float32, copy=False)
