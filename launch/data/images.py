"""Image sets as arrays of bytes: from a tfds folder, or from .npz files in OOD_DATA_DIR.

Nothing is downloaded and nothing needs TensorFlow.
"""

import dataclasses
import logging
import os
import pathlib

import numpy as np
from PIL import Image
from scipy import ndimage

from detector_jax.table import reason_of
from launch.data import folders
from launch.data.folders import FOLDER, TFDS_FOLDER
from launch.data.formats import DataError

logger = logging.getLogger(__name__)

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class _Set:
  title: str
  shape: tuple[int, int, int]
  sizes: dict[str, int]
  file: str


MNIST_SIZES = {"train": 60_000, "test": 10_000}
CIFAR10_SIZES = {"train": 50_000, "test": 10_000}
SVHN_SIZES = {"train": 73_257, "test": 26_032}
GREY_FILE = "svhn_gray.npz"
SETS = {
  "mnist": _Set("MNIST", (28, 28, 1), MNIST_SIZES, "mnist.npz"),
  "fashion_mnist": _Set("Fashion-MNIST", (28, 28, 1), MNIST_SIZES, "fashion_mnist.npz"),
  "cifar10": _Set("CIFAR-10", (32, 32, 3), CIFAR10_SIZES, "cifar10.npz"),
  "svhn_cropped": _Set("SVHN", (32, 32, 3), SVHN_SIZES, GREY_FILE),
}
NAMES = tuple(SETS)


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
  """One part of an image set.

  Attributes:
    x: uint8 ``[n, h, w, c]``, c = 1 (grey) or 3 (RGB).
    y: int64 ``[n]``, classes 0..9.
    description: one line for people, e.g. "MNIST train", "MNIST test (tfds 3.0.1)" or "SVHN test,
      grey subset of 12,000".
  """

  x: np.ndarray
  y: np.ndarray
  description: str


def load(name: str, split: str, folder: str | os.PathLike[str] | None = None) -> Images:
  """Reads one part of an image set, in the order of its source.

  The source is the first of these that has the part:

  1. the tfds folder (the environment variable TFDS_DATA_DIR, else ~/tensorflow_datasets), if the
     part lies there as array_record;
  2. the folder of .npz files that the environment variable OOD_DATA_DIR names: mnist.npz,
     fashion_mnist.npz and cifar10.npz with x_train, y_train, x_test and y_test; svhn_gray.npz with
     x_test and y_test, which is no train part and only a grey subset of the test part.

  Args:
    name: "mnist", "fashion_mnist", "cifar10" or "svhn_cropped".
    split: "train" or "test".
    folder: a folder of .npz files to read instead of both sources; None: the sources above.

  Returns:
    The images: of 28 x 28 x 1 for the two MNISTs, 32 x 32 x 3 for CIFAR-10 and SVHN, 32 x 32 x 1
    for SVHN from svhn_gray.npz.

  Raises:
    DataError: no such set or part, no source that has it, or a source that is damaged or holds
      something else.
  """
  if name not in SETS:
    raise DataError(f"There is no image set {name!r}; there are: {', '.join(SETS)}.")
  if split not in SETS[name].sizes:
    raise DataError(f"There is no part {split!r} of {name}; there are: train, test.")
  shape = SETS[name].shape
  path = None if folder else folders.newest_of_tfds(name, split)
  if path is not None:
    x, y = _read_tfds(path, name, split)
    source = f" (tfds {path.name})"
  else:
    path = _npz(name, split, folder)
    x, y = folders.arrays_of(path, f"x_{split}", f"y_{split}")
    source = ""
    if path.name == GREY_FILE:
      shape = (*shape[:2], 1)
  x, y = _checked(x, y, shape, f"The {split} part of {name} in {path}")
  logger.info("Read the %s part of %s from %s.", split, name, path)
  return Images(x, y, _describe(name, split, x) + source)


def to_gray(x: np.ndarray) -> np.ndarray:
  """Grey images: ITU-R 601 luma ``0.299 R + 0.587 G + 0.114 B``, rounded to whole numbers.

  Args:
    x: uint8 ``[n, h, w, c]``, c = 1 or 3; one channel is returned as it is.

  Returns:
    uint8 ``[n, h, w, 1]``.

  Raises:
    ValueError: ``x`` is not such an array.
  """
  _check_images(x)
  if x.shape[-1] == 1:
    return x
  red, green, blue = (weight * x[..., i] for i, weight in enumerate(LUMA))
  return np.rint(red + green + blue).astype(np.uint8)[..., None]


def resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Images of another size: Pillow's bilinear filter, which averages where it shrinks.

  Args:
    x: uint8 ``[n, h, w, c]``, c = 1 or 3.
    size: the new height and width, each >= 1; the present ones return ``x`` as it is.

  Returns:
    uint8 ``[n, *size, c]``.

  Raises:
    ValueError: ``x`` is not such an array, or ``size`` is out of its range.
  """
  _check_images(x)
  height, width = size
  if min(height, width) < 1:
    raise ValueError(f"The new size must be at least 1 x 1, got {height} x {width}.")
  if x.shape[1:3] == (height, width):
    return x
  channels = x.shape[-1]
  result = np.empty((len(x), height, width, channels), np.uint8)
  for row, image in enumerate(x):
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    result[row] = resized.reshape(height, width, channels)
  return result


def turned(x: np.ndarray, degrees: float, seed: int) -> np.ndarray:
  """Images flipped left to right with probability 1/2, then turned by an angle of their own.

  What comes in at the corners is the image mirrored at its border, so that no black corner tells
  that it was turned.

  Args:
    x: uint8 ``[n, h, w, c]``, c = 1 or 3.
    degrees: each angle is uniform in [-degrees, degrees], counter-clockwise; 0 < degrees <= 180.
    seed: of flips and angles, >= 0.

  Returns:
    uint8 ``[n, h, w, c]``.

  Raises:
    ValueError: ``x`` is not such an array, or ``degrees`` is out of its range.
  """
  _check_images(x)
  if not 0.0 < degrees <= 180.0:
    raise ValueError(f"The angle must be in (0, 180] degrees, got {degrees!r}.")
  rng = np.random.default_rng(seed)
  flipped, angles = rng.random(len(x)) < 0.5, rng.uniform(-degrees, degrees, len(x))
  result = np.where(flipped[:, None, None, None], x[:, :, ::-1], x)
  for row, angle in enumerate(angles):
    result[row] = ndimage.rotate(
      result[row], angle, axes=(0, 1), reshape=False, order=1, mode="mirror"
    )
  return result


def as_shape(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Images in the shape of another set's records: greyed or grey repeated, then resized.

  Args:
    x: uint8 ``[n, h, w, c]``, c = 1 or 3.
    shape: of one record: ``(h, w, 1)`` or ``(h, w)`` for grey, ``(h, w, 3)`` for colour.

  Returns:
    uint8 ``[n, h, w, c]``; c = 1 for a ``shape`` of ``(h, w)``.

  Raises:
    ValueError: ``x`` or ``shape`` is no such thing.
  """
  _check_images(x)
  if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
    raise ValueError(f"An image has shape (h, w), (h, w, 1) or (h, w, 3), got {tuple(shape)}.")
  if shape[2:] != (3,):
    x = to_gray(x)
  x = resize(x, (shape[0], shape[1]))
  return np.repeat(x, 3, axis=-1) if shape[2:] == (3,) and x.shape[-1] == 1 else x


def _read_tfds(path: pathlib.Path, name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
  import tensorflow_datasets as tfds

  try:
    root = str(path.parent.parent)
    source = tfds.data_source(f"{name}:{path.name}", split=split, data_dir=root, download=False)
    pairs = [(record["image"], record["label"]) for record in source]
    return np.stack([x for x, _ in pairs]), np.array([y for _, y in pairs])
  except Exception as error:  # tfds, array_record and Pillow raise anything
    raise DataError(
      f"{path} cannot be read by tfds ({reason_of(error)}); write it again, or set {TFDS_FOLDER} "
      f"to another folder so that {SETS[name].file} in {FOLDER} is read."
    ) from error


def _npz(name: str, split: str, folder: str | os.PathLike[str] | None) -> pathlib.Path:
  chosen = folder or os.environ.get(FOLDER)
  if name == "svhn_cropped" and split == "train":
    raise DataError(
      f"The train part of svhn_cropped is read from tfds alone: set {TFDS_FOLDER} to a folder that "
      "holds it as array_record."
    )
  ways = (
    f"set {FOLDER} to the folder that holds {SETS[name].file}, or {TFDS_FOLDER} to a tfds folder "
    "that holds the set as array_record"
  )
  if not chosen:
    raise DataError(f"The image set {name!r} is not in the tfds folder: {ways}.")
  path = pathlib.Path(chosen).expanduser() / SETS[name].file
  if not path.is_file():
    raise DataError(f"There is no file {path}: {ways}.")
  return path


def _checked(
  x: np.ndarray, y: np.ndarray, shape: tuple[int, int, int], what: str
) -> tuple[np.ndarray, np.ndarray]:
  """Images as ``[n, h, w, c]`` and classes as int64, or one sentence on what they are instead."""
  if shape[2] == 1 and x.ndim == 3:
    x = x[..., None]
  if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1:] != shape:
    raise DataError(
      f"{what} holds images {x.dtype} {list(x.shape)} where uint8 [n, "
      f"{', '.join(map(str, shape))}] belong; get the right file."
    )
  if not len(x):
    raise DataError(f"{what} holds no images; get the right file.")
  if y.shape != (len(x),) or y.dtype.kind not in "iu":
    raise DataError(
      f"{what} holds labels {y.dtype} {list(y.shape)} for {len(x)} images; get the right file."
    )
  if y.min() < 0 or y.max() >= CLASSES:
    raise DataError(
      f"{what} holds labels from {y.min()} to {y.max()} where 0 to {CLASSES - 1} belong; get the "
      "right file."
    )
  return x, y.astype(np.int64)


def _describe(name: str, split: str, x: np.ndarray) -> str:
  known = SETS[name]
  grey = "grey " if x.shape[-1] < known.shape[-1] else ""
  subset = f"subset of {len(x):,}" if len(x) != known.sizes[split] else ""
  return f"{known.title} {split}" + (f", {grey}{subset}".rstrip() if grey or subset else "")


def _check_images(x: np.ndarray) -> None:
  if x.ndim != 4 or x.dtype != np.uint8 or x.shape[-1] not in (1, 3):
    raise ValueError(
      f"Images must be uint8 [n, h, w, 1] or [n, h, w, 3], got {x.dtype} {list(x.shape)}."
    )
