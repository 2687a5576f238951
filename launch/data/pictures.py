"""A folder of pictures: typical ones to train on, others to test on."""

import collections
import dataclasses
import logging
import os
import pathlib
import tempfile
from typing import ClassVar

import numpy as np

from launch.data import splits
from launch.data.formats import Columns, DataError, opened
from launch.data.formats.pictures import files, is_grey
from launch.data.source import Source
from launch.data.splits import Splits

logger = logging.getLogger(__name__)

ROWS = 64  # pictures that are decoded at a time
LOOKED_AT = 100  # training pictures that say whether records are grey
IN_MEMORY = 2**28  # bytes of decoded pictures; more are in a temporary file


@dataclasses.dataclass(kw_only=True)
class Pictures(Source):
  """Pictures of a folder, as MVTec AD has them: ``train/good``, ``test/good``, ``test/scratch``.

  Records are float32 ``[size, size, channels]`` in [0, 1], of one channel where the first training
  pictures are grey; see ``formats.pictures.Pictures`` for what is read, and how. More than 256 MB
  of them are no array in memory but a memory map, of a file in the folder for temporary ones
  (``TMPDIR``) that has no name and goes with the process.

  Attributes:
    folder: of the pictures.
    train: which of them train, as ``pathlib.Path.glob`` has it: all of them are typical.
    test: which of them test; empty: none.
    typical: test pictures in a folder of that name are typical, all others anomalous, of the kind
      that their folder is called.
    size: height and width to which pictures are resized, >= 8.
    broken: what becomes of a picture that cannot be read: "fail", or "skip", which leaves it out
      and says so.
  """

  names: ClassVar[tuple[str, ...]] = ("pictures",)

  name: str = "pictures"
  folder: str = ""
  train: str = "train/good/*"
  test: str = "test/*/*"
  typical: str = "good"
  size: int = 64
  broken: str = "fail"

  @property
  def is_tested(self) -> bool:
    """Whether there are test pictures."""
    return bool(self.test) and bool(files(self._path, self.test))

  @property
  def _path(self) -> pathlib.Path:
    return pathlib.Path(self.folder).expanduser()

  def read(self) -> Splits:
    """Reads both parts.

    Raises:
      DataError: no folder, no pictures to train on, one that cannot be read, or a setting.
    """
    if not self.folder or not self._path.is_dir():
      raise DataError(f"There is no folder {self.folder!r} of pictures: set folder.")
    if self.size < 8 or self.broken not in ("fail", "skip"):
      raise DataError(
        f"size must be at least 8 and broken fail or skip, got {self.size!r} and {self.broken!r}."
      )
    found = files(self._path, self.train)
    if not found:
      held = collections.Counter(
        path.parent.relative_to(self._path).as_posix() for path in files(self._path, "**/*")
      )
      told = ", ".join(f"{count} in {name}" for name, count in held.most_common(5))
      raise DataError(
        f"{self.folder} has no pictures {self.train} to train on; it has {told or 'none'}: set "
        "train to a pattern such as '*.png'."
      )
    shape = (self.size, self.size, 1 if all(map(is_grey, found[:LOOKED_AT])) else 3)
    x, _ = self._part(self.train, shape)
    drawn = splits.image_shape(x)
    described = f"{self._path.name}, {len(x)} typical pictures of {self.size} x {self.size}"
    if not self.is_tested:
      return Splits(x, image_shape=drawn, description=described)
    x_test, names = self._part(self.test, shape)
    kinds = np.array([pathlib.PurePath(name).parent.name for name in names])
    if self.typical not in kinds:
      logger.warning(
        "No test picture is in a folder called %r, so that all of them count as anomalous: %s.",
        *(self.typical, ", ".join(dict.fromkeys(kinds.tolist()))),
      )
    return Splits(
      x,
      x_test,
      (kinds != self.typical).astype(np.int64),
      image_shape=drawn,
      description=f"{described}; tested on {len(x_test)}",
      sources=kinds,
      names=names,
    )

  def _part(self, pattern: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures ``[n, size, size, channels]`` and their names."""
    left_out: list[str] = []
    names: list[str] = []
    with opened(self._path, Columns(pattern=pattern, shape=shape)) as reader:
      x = room(len(files(self._path, pattern)), shape)
      for piece in reader.pieces(ROWS):
        assert piece.refused is not None
        assert piece.groups is not None
        rows = np.flatnonzero(piece.refused).tolist()
        if rows and self.broken == "fail":
          raise piece.refuse(rows[0], "replace it, or give --config.data.broken=skip")
        left_out += [piece.explain(row) for row in rows]
        kept = piece.x[~piece.refused]
        x[len(names) : len(names) + len(kept)] = kept
        names += piece.groups[~piece.refused].tolist()
    if left_out:
      logger.warning("Left out %d pictures; the first: %s.", len(left_out), left_out[0])
    if not names:
      raise DataError(f"No picture of {self.folder} can be read: {left_out[0]}.")
    return x[: len(names)], np.array(names)


def room(number: int, shape: tuple[int, ...]) -> np.ndarray:
  """Space for so many records float32 of a shape: a memory map where they are large.

  Raises:
    DataError: there is no room on the disk.
  """
  size = number * int(np.prod(shape)) * np.dtype(np.float32).itemsize
  if size <= IN_MEMORY:
    return np.empty((number, *shape), np.float32)
  with tempfile.TemporaryFile() as file:
    try:
      os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
      raise DataError(
        f"{number:,} pictures of {shape[0]} x {shape[1]} take {size / 1e9:.1f} GB in "
        f"{tempfile.gettempdir()}, which has no room for them ({error.strerror}): set TMPDIR to a "
        "folder that has, or a smaller size."
      ) from error
    return np.memmap(file, np.float32, "r+", shape=(number, *shape))
