"""Arrays of numbers: .npy, .npz and .mat, never unpickled.

.npy is memory-mapped, each piece anew; .npz is unpacked as it is read. Arrays in Fortran order in
an .npz, and .mat, are read whole.
"""

from collections.abc import Iterator, Mapping, Sequence
import subprocess
import sys
from typing import Any
import zipfile

import numpy as np
import scipy.io

from detector_jax.table import listed
from launch.data.formats.columns import Columns, DataError
from launch.data.formats.reader import Input, Piece, Reader

# SciPy's reader can crash on a damaged file, and takes its process along.
LOAD = "import io, sys, scipy.io; scipy.io.loadmat(io.BytesIO(sys.stdin.buffer.read()))"


class Array(Reader):
  """An array ``[n, ...]`` of which ``_parts`` gives some records at a time."""

  def _learn(self, shape: tuple[int, ...], columns: Columns | None = None) -> None:
    """Checks the shape of the records, and learns which columns are wanted."""
    if len(shape) < 2:
      raise DataError(
        f"{self.source.name} has shape {list(shape)}; save records as [n, d], and a series of one "
        "channel as [time, 1]."
      )
    if not shape[0]:
      raise self.no_records()
    self._shape, self.names, self._chosen = shape, None, None
    if len(shape) == 2:
      every = [str(i) for i in range(shape[1])]
      self._chosen = (columns or self.columns).choose(self.source.name, every, False)
      self.names = tuple(every[i] for i in self._chosen.features)

  def pieces(self, rows: int) -> Iterator[Piece]:
    """See ``Reader``."""
    start = 0
    for part in self._parts(rows):
      x, beside = part, {}
      if self._chosen is not None and len(self._chosen.features) < self._shape[1]:
        features, label, group = self._chosen
        x = part[:, features]
        beside["labels"] = None if label is None else part[:, label]
        beside["groups"] = None if group is None else part[:, group]
      beside = beside or self._beside(start, len(part))
      yield self.piece(x, start, start + len(part), self._shape[0], **beside)
      start += len(part)

  def _parts(self, rows: int) -> Iterator[np.ndarray]:
    raise NotImplementedError

  def _beside(self, start: int, count: int) -> dict[str, Any]:
    """Labels and groups of some records that are arrays of their own."""
    del start, count
    return {}


class Npy(Array):
  """One array of records; ``[n, d]`` may hold columns of labels and groups."""

  ending = ".npy"

  def __init__(self, source: Input, columns: Columns):
    super().__init__(source, columns)
    shape, _, dtype = _header(source.stream)
    _check_real(f"{source.name} holds", dtype)
    if len(shape) != 2 and (columns.group or (columns.label and "label" in columns.required)):
      raise DataError(
        f"{source.name} has shape {list(shape)}, and only [n, d] can hold a label column; save "
        "records x and labels y as .npz."
      )
    self._learn(shape)

  def _parts(self, rows: int) -> Iterator[np.ndarray]:
    # Mapped anew for every piece: pages that were read stay in memory as long as their map does.
    for start in range(0, self._shape[0], rows):
      array = np.lib.format.open_memmap(self.source.path, mode="r")
      yield np.array(array[start : start + rows])


class Archive(Array):
  """Records in an array x or X, labels in y or ``label``, groups in ``group``."""

  def _find(self, names: Sequence[str]) -> None:
    """Finds the array of records among ``names``, and those of labels and groups.

    Raises:
      DataError: there is none of records, or one that is asked for; or it cannot be used.
    """
    path, columns = self.source.name, self.columns
    key = next((name for name in ("x", "X") if name in names), None)
    if key is None:
      raise DataError(f"{path} has no array 'x' or 'X' of records; it has {listed(names)}.")
    label = columns.label if "label" in columns.required else None
    for wanted, what in ((label, "labels"), (columns.group, "groups")):
      if wanted and wanted not in names:
        raise DataError(f"{path} has no array {wanted!r} of {what}; it has {listed(names)}.")
    self._key = key
    shape, dtype = self._described(key)
    _check_real(f"Array {key!r} of {path} holds", dtype)
    self._learn(shape, Columns())
    self._arrays: dict[str, np.ndarray] = {}
    beside = {"labels": self.columns.label or "y", "groups": self.columns.group}
    for role, name in beside.items():
      if name is None or name not in names or (role == "labels" and not self.columns.labelled):
        continue
      self._arrays[role] = values = self._whole(name).reshape(-1)
      if role == "labels":
        _check_real(f"Array {name!r} of {path} holds", values.dtype)
      if len(values) != self._shape[0]:
        raise DataError(
          f"{path} has {len(values)} {role} {name!r} for {self._shape[0]} records; give each "
          "record one."
        )

  def _described(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array."""
    raise NotImplementedError

  def _whole(self, name: str) -> np.ndarray:
    raise NotImplementedError

  def _beside(self, start: int, count: int) -> dict[str, Any]:
    return {role: values[start : start + count] for role, values in self._arrays.items()}


class Npz(Archive):
  """Arrays by name, unpacked as they are read."""

  ending = ".npz"

  def __init__(self, source: Input, columns: Columns):
    super().__init__(source, columns)
    self._archive = zipfile.ZipFile(source.stream)
    self._find([name.removesuffix(".npy") for name in self._archive.namelist()])

  def _described(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with self._archive.open(f"{name}.npy") as member:
      shape, _, dtype = _header(member)
    return shape, dtype

  def _whole(self, name: str) -> np.ndarray:
    with self._archive.open(f"{name}.npy") as member:
      return np.lib.format.read_array(member, allow_pickle=False)

  def _parts(self, rows: int) -> Iterator[np.ndarray]:
    with self._archive.open(f"{self._key}.npy") as member:
      shape, fortran, dtype = _header(member)
      if fortran:
        yield np.frombuffer(member.read(), dtype).reshape(shape, order="F")
        return
      size = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
      for start in range(0, shape[0], rows):
        count = min(rows, shape[0] - start)
        yield np.frombuffer(member.read(count * size), dtype).reshape(count, *shape[1:])


class Mat(Archive):
  """A MATLAB file up to version 7."""

  ending = ".mat"

  def __init__(self, source: Input, columns: Columns):
    super().__init__(source, columns)
    tried = subprocess.run(
      [sys.executable, "-c", LOAD], input=source.stream.read(), capture_output=True
    )
    if tried.returncode < 0:  # an exception is raised again below
      raise DataError(f"{source.name} cannot be read, it is damaged: SciPy's reader crashes on it.")
    source.stream.seek(0)
    try:
      self._content: Mapping[str, Any] = scipy.io.loadmat(source.stream)
    except NotImplementedError as error:
      raise DataError(
        f"{source.name} is a MATLAB 7.3 file; save it with the option -v7."
      ) from error
    self._find([name for name in self._content if not name.startswith("__")])

  def _described(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
    return self._whole(name).shape, self._whole(name).dtype

  def _whole(self, name: str) -> np.ndarray:
    return np.asarray(self._content[name])

  def _parts(self, rows: int) -> Iterator[np.ndarray]:
    del rows
    yield self._whole(self._key)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Shape, whether in Fortran order, and type of the array that a .npy stream begins."""
  version = np.lib.format.read_magic(file)
  if version == (1, 0):
    header = np.lib.format.read_array_header_1_0(file)
  else:
    header = np.lib.format.read_array_header_2_0(file)
  if header[2].hasobject:
    raise ValueError("Object arrays cannot be loaded")
  return header


def _check_real(what: str, dtype: np.dtype) -> None:
  """Raises a DataError, which begins with ``what``, for values that are not real numbers."""
  if dtype.kind not in "buif":
    raise DataError(f"{what} {dtype}; save real numbers.")
