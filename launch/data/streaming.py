"""Image sets too large for memory: decoded by threads (grain) shortly before they are wanted.

Everything random is a function of the seed, the epoch and the image, so that a stream can be taken
up at any step; how many threads read, and how far ahead, changes nothing.
"""

from collections.abc import Callable, Generator, Iterator
import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import numpy as np

from detector_jax.features.base import batches_of
from launch.data.formats import DataError
from launch.data.imagenette import (
  CLASSES,
  PARTS,
  Imagenette,
  Source,
  Synthetic,
  centre_crop,
  random_crop,
  resized,
)
from launch.data.splits import Splits, unit

NAMES = ("imagenette", "synthetic")
ORDER, AUGMENTATION, SAMPLE = range(3)  # what random numbers are for, a part of their seed


@dataclasses.dataclass
class StreamConfig:
  """Which images, cropped how, and read how.

  Attributes:
    name: "imagenette", the ten classes of ImageNet that the DROCC paper calls ImageNet-10, from
      a tfds folder; or "synthetic", patterns that are a function of their number.
    typical: the typical class, its place in ``CLASSES``; the others are anomalous.
    variant: of imagenette: "full-size-v2", "320px-v2" or "160px-v2", or the same without "-v2",
      an earlier division into training and test images.
    resize: pixels of the shorter side before cropping.
    crop: height and width of a record, at most ``resize``: cut out at random and flipped in every
      second case for training, else from the centre.
    statistics: number of training images, drawn at random, that give mean and deviation of each
      channel.
    threads: that read and decode, >= 1.
    prefetch: images decoded ahead, >= 1.
    records: of "synthetic", training images in all; the validation part has half as many.
    side: of "synthetic", height and width of its images.
  """

  name: str = "imagenette"
  typical: int = 0
  variant: str = "full-size-v2"
  resize: int = 256
  crop: int = 224
  statistics: int = 512
  threads: int = 8
  prefetch: int = 128
  records: int = 1000
  side: int = 224

  is_tested: ClassVar[bool] = True

  def load(self) -> Splits:
    """One class against the rest, decoded as it is needed; see ``load``."""
    return load(self)

  def validate(self) -> None:
    """Raises a DataError that names the first setting out of its range."""
    if self.name not in NAMES:
      raise DataError(f"There is no stream {self.name!r}; there are: {', '.join(NAMES)}.")
    if self.typical not in range(len(CLASSES)):
      raise DataError(f"typical must be from 0 to {len(CLASSES) - 1}, got {self.typical!r}.")
    for name in ("crop", "statistics", "threads", "prefetch", "side"):
      if getattr(self, name) < 1:
        raise DataError(f"{name} must be at least 1, got {getattr(self, name)!r}.")
    if self.resize < self.crop:
      raise DataError(f"resize must be at least crop, {self.crop}, got {self.resize!r}.")
    if self.records < 2 * len(CLASSES):
      raise DataError(f"records must be at least {2 * len(CLASSES)}, got {self.records!r}.")


def open_source(config: StreamConfig, part: str) -> Source:
  """The images of one part, "train" or "validation".

  Raises:
    DataError: a setting out of its range, or a set that is not there or cannot be read.
  """
  config.validate()
  if config.name == "imagenette":
    return Imagenette(part, config.variant)
  return Synthetic(part, config.records // (1 if part == "train" else 2), config.side)


class Crops:
  """Centre crops of some images: an array ``[n, crop, crop, 3]`` that is read on demand.

  Indexing by a number, a slice or an array of numbers gives float32 in [0, 1].

  Attributes:
    source: of the images.
    rows: int64 ``[n]``, their numbers there.
    config: gives size and reading.
    shape: of the array.
  """

  def __init__(self, source: Source, rows: np.ndarray, config: StreamConfig):
    self.source, self.rows, self.config = source, np.asarray(rows, np.int64), config
    self.shape = (len(self.rows), config.crop, config.crop, 3)

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, places: Any) -> np.ndarray:
    if np.ndim(places) == 0 and not isinstance(places, slice):
      return unit(self._pixels(int(places)))
    chosen = self.subset(places)
    parts = list(chosen.batches(max(1, len(chosen))))
    return parts[0] if parts else np.zeros((0, *self.shape[1:]), np.float32)

  def subset(self, places: Any) -> "Crops":
    """The crops at some places, an array of numbers or a slice."""
    return Crops(self.source, self.rows[places], self.config)

  def batches(self, size: int) -> Iterator[np.ndarray]:
    """All records in their order, float32 ``[size, ...]``; the last batch may be smaller."""
    return map(unit, self.pixel_batches(size))

  def pixel_batches(self, size: int) -> Iterator[np.ndarray]:
    """As ``batches``, but bytes."""
    return _read(self._pixels, 0, len(self), size, self.config)

  def _pixels(self, place: int) -> np.ndarray:
    image = self.source.image(int(self.rows[place]))
    return centre_crop(resized(image, self.config.resize), self.config.crop)


def channel_statistics(crops: Crops, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each channel over a sample of images.

  Args:
    crops: typical training records.
    seed: of the draw of ``config.statistics`` of them, >= 0.

  Returns:
    Two float64 ``[3]``, for values in [0, 1].

  Raises:
    DataError: a channel is constant.
  """
  order = np.random.default_rng([seed, SAMPLE]).permutation(len(crops))
  count, total, squares = 0, np.zeros(3), np.zeros(3)
  for batch in crops.subset(np.sort(order[: crops.config.statistics])).pixel_batches(32):
    pixels = batch.reshape(-1, 3).astype(np.float64)
    count, total, squares = count + len(pixels), total + pixels.sum(0), squares + (pixels**2).sum(0)
  mean = total / count
  deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
  if not (deviation > 1e-3).all():
    raise DataError(
      f"A colour channel is constant over a sample of {crops.source.description}; look at the "
      "images."
    )
  return mean / 255.0, deviation / 255.0


class Batch(NamedTuple):
  """What one training step sees.

  Attributes:
    pixels: uint8 ``[batch, crop, crop, 3]``; zeros where there is padding.
    mask: float32 ``[batch]``, 1 for an image and 0 for padding.
    rows: int32 ``[batch]``, the images' numbers in their source.
  """

  pixels: np.ndarray
  mask: np.ndarray
  rows: np.ndarray


@dataclasses.dataclass(frozen=True)
class Stream:
  """Training images epoch after epoch, each in an order and with crops of its own.

  Attributes:
    source: of the images.
    rows: int64 ``[n]``, the numbers of those that train.
    batch_size: images per step; the last batch of an epoch is padded.
    seed: of orders and crops, >= 0.
    config: gives size and reading.
  """

  source: Source
  rows: np.ndarray
  batch_size: int
  seed: int
  config: StreamConfig

  @property
  def steps_per_epoch(self) -> int:
    """Steps that show every image once."""
    return -(-len(self.rows) // self.batch_size)

  def batches(self, first: int, last: int) -> Generator[Batch, None, None]:
    """The batches of the steps ``first, ..., last - 1``, counted from the start of training.

    A batch is a function of the number of its step. Close the iterator to stop its threads early.

    Raises:
      DataError: an image is damaged.
    """
    size = self.batch_size
    return _read(self._example, first * size, last * size, size, self.config)

  def _example(self, position: int) -> Batch:
    epoch, place = divmod(position, self.steps_per_epoch * self.batch_size)
    if place >= len(self.rows):
      nothing = np.zeros((self.config.crop, self.config.crop, 3), np.uint8)
      return Batch(nothing, np.zeros((), np.float32), np.zeros((), np.int32))
    row = int(self.rows[_order(self.seed, epoch, len(self.rows))[place]])
    rng = np.random.default_rng([self.seed, AUGMENTATION, epoch, row])
    image = resized(self.source.image(row), self.config.resize)
    pixels = random_crop(image, self.config.crop, rng)
    return Batch(pixels, np.ones((), np.float32), np.asarray(row, np.int32))


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
  return np.random.default_rng([seed, ORDER, epoch]).permutation(length)


def _read(
  read: Callable[[int], Any], start: int, stop: int, size: int, config: StreamConfig
) -> Generator[Any, None, None]:
  """Batches of ``read(start), ..., read(stop - 1)``, read ahead by threads, in their order."""
  import grain

  ahead = grain.ReadOptions(config.threads, max(config.threads, config.prefetch))
  numbers = grain.MapDataset.range(start, stop)
  batches = iter(numbers.map(read).to_iter_dataset(ahead).batch(size, drop_remainder=False))
  try:
    yield from batches
  finally:
    batches.close()


def load(config: StreamConfig) -> Splits:
  """One class against the rest: its training images train, the whole validation part tests.

  Returns:
    Splits whose ``x_train`` and ``x_test`` are ``Crops``.

  Raises:
    DataError: as ``open_source``, or there is no training image of the typical class.
  """
  train, test = (open_source(config, part) for part in PARTS)
  rows = np.flatnonzero(train.labels == config.typical)
  if not len(rows):
    raise DataError(f"{train.description} has no image of class {config.typical}; choose another.")
  x_train: Any = Crops(train, rows, config)
  x_test: Any = Crops(test, np.arange(len(test.labels)), config)
  return Splits(
    x_train,
    x_test,
    (test.labels != config.typical).astype(np.int64),
    image_shape=x_test.shape[1:],
    description=(
      f"{train.description}, {test.description}; class {config.typical} "
      f"({CLASSES[config.typical]}) against the rest"
    ),
  )


def score(detector: Any, x: Any) -> np.ndarray:
  """Scores ``[n]`` of records ``[n, ...]``, of ``Crops`` and memory maps as they are read.

  Args:
    detector: a ``detector_jax.Detector``.
    x: an array or ``Crops``, n >= 1.
  """
  size = detector.batch_size * -(-32 // detector.batch_size)
  if isinstance(x, np.memmap):
    batches = batches_of(x, size)
  elif isinstance(x, Crops):
    batches = x.batches(size)
  else:
    return detector.score(x, warn=False)
  return np.concatenate([detector.score(batch, warn=False) for batch in batches])
