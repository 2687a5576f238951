"""Folders of pictures: PNG, JPEG and what else Pillow reads, decoded a few at a time."""

from collections.abc import Iterator
from concurrent import futures
import logging
import pathlib

import numpy as np
from PIL import Image, ImageOps

from detector_jax.table import reason_of
from launch.data.formats.columns import Columns, DataError
from launch.data.formats.reader import Fault, Input, Piece, Reader

logger = logging.getLogger(__name__)

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
DEEP = ("I", "I;16", "I;16B", "I;16L")  # modes of 16 bits
GREY = ("1", "L", "LA", "F", *DEEP)
THREADS = 4
ENLARGED = 8  # times at most


class Pictures(Reader):
  """Pictures below a folder, in the order of their paths, float32 ``[h, w, channels]`` in [0, 1].

  Grey pictures have 8 or 16 bits. Palettes become colours, what is transparent white, and pictures
  are turned as their EXIF says. Colours become grey by their luma where the records are grey. Other
  sizes than that of the records are resized, without regard to their proportions. The first of
  another size is named in a warning, and so is the first that is grey where the records have
  colours, or the other way round.
  """

  ending = "/"
  names = None

  def __init__(self, source: Input, columns: Columns):
    super().__init__(source, columns)
    if columns.shape is None or len(columns.shape) != 3 or columns.shape[2] not in (1, 3):
      raise DataError(
        f"{source.name} is a folder, which is read as pictures: the records that are wanted have "
        f"shape {list(columns.shape or ())}, no [height, width, 1 or 3]."
      )
    self._shape = columns.shape
    self.files = files(source.path, columns.pattern)
    if not self.files:
      raise DataError(f"{source.name} holds no pictures ({', '.join(ENDINGS)}) {columns.pattern}.")
    self._resized = self._recoloured = False

  def pieces(self, rows: int) -> Iterator[Piece]:
    """See ``Reader``."""
    with futures.ThreadPoolExecutor(THREADS) as pool:
      for start in range(0, len(self.files), rows):
        paths = self.files[start : start + rows]
        yield self._piece(list(pool.map(self._read, paths)), start)

  def _piece(self, read: list[np.ndarray | str], start: int) -> Piece:
    x = np.full((len(read), *self._shape), np.nan, np.float32)
    for row, picture in enumerate(read):
      if not isinstance(picture, str):
        x[row] = picture

    here = self.files[start : start + len(read)]
    names = np.array([path.relative_to(self.source.path).as_posix() for path in here])

    def fault(row: int) -> Fault:
      return Fault(f"picture {names[row]}", str(read[row]))

    refused = np.array([isinstance(picture, str) for picture in read])
    done = (start + len(read)) / len(self.files)
    return Piece(x, start, done, self.source.name, fault, refused, groups=names)

  def _read(self, path: pathlib.Path) -> np.ndarray | str:
    """A picture, or what is wrong with it."""
    try:
      with Image.open(path) as image:
        grey, mode = image.mode in GREY, image.mode
        x = as_array(ImageOps.exif_transpose(image), self._shape[2])
    except Exception as error:  # a damaged file makes Pillow raise anything
      return f"cannot be read, it is damaged or no picture ({reason_of(error)})"
    if mode == "F" or x.min() < 0.0 or x.max() > 1.0:
      return "holds numbers of 32 bits, whose range nobody knows, where 8 or 16 are read"
    height, width, _ = self._shape
    if min(x.shape[0] * ENLARGED / height, x.shape[1] * ENLARGED / width) < 1.0:
      return f"is only {x.shape[1]} x {x.shape[0]} pixels where records are {width} x {height}"
    if grey != (self._shape[2] == 1) and not self._recoloured:
      self._recoloured = True
      said = (
        ("Pictures with colours", "grey") if self._shape[2] == 1 else ("Grey pictures", "colours")
      )
      logger.warning("%s are read where records are in %s, such as %s.", *said, path)
    if x.shape == self._shape:
      return x
    if not self._resized:
      self._resized = True
      logger.warning(
        "Pictures of another size than %d x %d are resized, such as %s of %d x %d.",
        *(width, height, path, x.shape[1], x.shape[0]),
      )
    return resized(x, height, width)


def files(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
  """The pictures of a folder that a pattern such as "train/good/*" or "**/*" matches, sorted.

  Raises:
    DataError: it is no pattern.
  """
  try:
    found = sorted(folder.glob(pattern))
  except (ValueError, NotImplementedError) as error:
    raise DataError(
      f"{pattern!r} is no pattern of pictures below {folder}: give one such as 'train/good/*'."
    ) from error
  return [path for path in found if path.suffix.lower() in ENDINGS and not path.is_dir()]


def is_grey(path: pathlib.Path) -> bool:
  """Whether a picture has no colours; True of what is no picture."""
  try:
    with Image.open(path) as image:
      return image.mode in GREY
  except Exception:  # whoever reads it says what is wrong
    return True


def as_array(image: Image.Image, channels: int) -> np.ndarray:
  """A picture as float32 ``[h, w, channels]`` in [0, 1] where it has 16 bits at most."""
  if image.mode in DEEP:
    grey = np.asarray(image, np.float32)[..., None] / 65535.0
    return np.repeat(grey, channels, axis=2)
  if image.has_transparency_data:
    colours = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
  x = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.float32) / 255.0
  return x.reshape(*x.shape[:2], channels)


def resized(x: np.ndarray, height: int, width: int) -> np.ndarray:
  """A picture ``[h, w, channels]`` at another size: means of what a pixel covers, or between."""
  size, bilinear = (width, height), Image.Resampling.BILINEAR
  channels = (Image.fromarray(x[..., c]).resize(size, bilinear) for c in range(x.shape[2]))
  return np.stack([np.asarray(channel) for channel in channels], axis=2)
