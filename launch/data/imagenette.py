"""Images one at a time: imagenette from a tfds folder, made-up ones, and how they are cropped."""

import io
import pathlib
from typing import Any, Protocol

import numpy as np
from PIL import Image

from detector_jax.table import reason_of
from launch.data import folders
from launch.data.formats import DataError

CLASSES = (
  "tench",
  "english_springer",
  "cassette_player",
  "chain_saw",
  "church",
  "french_horn",
  "garbage_truck",
  "gas_pump",
  "golf_ball",
  "parachute",
)
PARTS = ("train", "validation")


class Source(Protocol):
  """Images by their number, decoded one at a time.

  Attributes:
    labels: int64 ``[n]``, places in ``CLASSES``.
    description: one line for people.
  """

  labels: np.ndarray
  description: str

  def image(self, row: int) -> Image.Image:
    """Image number ``row`` in RGB.

    Raises:
      DataError: it is damaged.
    """
    ...


class Synthetic:
  """Waves with noise; their frequency tells the class, and all of it follows from the number.

  Attributes are those of ``Source``.
  """

  def __init__(self, part: str, records: int, side: int):
    self.labels = np.arange(records, dtype=np.int64) % len(CLASSES)
    self.description = f"synthetic {part}, {records:,} images of {side} x {side}"
    self._part, self._side = PARTS.index(part), side

  def image(self, row: int) -> Image.Image:
    """Image number ``row``."""
    rng = np.random.default_rng([self._part, row])
    phase = np.linspace(0.0, 2.0 * np.pi, self._side)
    frequency = 1.0 + self.labels[row]
    start = rng.uniform(0.0, 2.0 * np.pi, (2, 3))
    across = np.sin(frequency * phase[:, None] + start[0])
    along = np.cos(phase[:, None] + start[1])
    waves = 110.0 + 90.0 * across[None] * along[:, None]
    noise = rng.integers(0, 50, waves.shape, np.uint8)
    return Image.fromarray(waves.astype(np.uint8) + noise)


class Imagenette:
  """One part of imagenette from a tfds folder of array_record; TensorFlow is not needed.

  Attributes are those of ``Source``.

  Args:
    part: "train" or "validation".
    variant: see ``StreamConfig``.

  Raises:
    DataError: the part is not there, or cannot be read.
  """

  def __init__(self, part: str, variant: str):
    path = _tfds_folder(part, variant)
    self._what = f"the {part} part of imagenette in {path}"
    self._records = _open(path, part, self._what)
    try:
      self.labels = np.array([record["label"] for record in self._records], np.int64)
    except Exception as error:  # array_record and protocol buffers raise anything
      raise _damaged(self._what, error) from error
    if not np.isin(self.labels, np.arange(len(CLASSES))).all():
      raise DataError(
        f"{_sentence(self._what)} has labels beyond 0 to {len(CLASSES) - 1}; prepare it again."
      )
    self.description = f"imagenette/{variant} {part} (tfds {path.name})"

  def image(self, row: int) -> Image.Image:
    """Image number ``row`` in RGB."""
    try:
      with Image.open(io.BytesIO(self._records[row]["image"])) as image:
        return image.convert("RGB")
    except Exception as error:  # Pillow raises anything over a damaged file
      raise _damaged(f"image {row} of {self._what}", error) from error


def _tfds_folder(part: str, variant: str) -> pathlib.Path:
  name = f"imagenette/{variant}"
  path = folders.newest_of_tfds(name, part)
  if path is None:
    raise DataError(
      f"The tfds folder {folders.tfds_root()} has no {part} part of {name} as array_record: with "
      'TensorFlow installed (drocc-jax[tensorflow]) run python -c "import tensorflow_datasets as '
      f"tfds; tfds.builder('{name}', file_format='array_record').download_and_prepare()\", or set "
      f"{folders.TFDS_FOLDER} to the tfds folder that has it."
    )
  return path


def _open(path: pathlib.Path, part: str, what: str) -> Any:
  import tensorflow_datasets as tfds

  try:
    return tfds.data_source(
      f"imagenette/{path.parent.name}:{path.name}",
      split=part,
      data_dir=str(path.parent.parent.parent),
      download=False,
      decoders={"image": tfds.decode.SkipDecoding()},
    )
  except Exception as error:  # tfds raises anything over a damaged folder
    raise _damaged(what, error) from error


def _damaged(what: str, error: Exception) -> DataError:
  reason = reason_of(error)
  return DataError(
    f"{_sentence(what)} cannot be read, it is damaged ({reason}); prepare the set again."
  )


def _sentence(text: str) -> str:
  return text[0].upper() + text[1:]


def resized(image: Image.Image, size: int) -> Image.Image:
  """The image with ``size`` pixels along its shorter side, by Pillow's bilinear filter."""
  scale = size / min(image.size)
  width, height = (max(size, round(scale * side)) for side in image.size)
  return image.resize((width, height), Image.Resampling.BILINEAR)


def centre_crop(image: Image.Image, size: int) -> np.ndarray:
  """The middle of an image, uint8 ``[size, size, 3]``; an odd pixel is left over right or below."""
  left, top = ((side - size) // 2 for side in image.size)
  return np.asarray(image.crop((left, top, left + size, top + size)))


def random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> np.ndarray:
  """A piece of an image from anywhere, mirrored in every second case; uint8 ``[size, size, 3]``."""
  left, top = (int(rng.integers(side - size + 1)) for side in image.size)
  pixels = np.asarray(image.crop((left, top, left + size, top + size)))
  return pixels[:, ::-1] if rng.integers(2) else pixels
