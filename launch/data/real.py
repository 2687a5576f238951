"""The real tabular sets of the papers' tables, from the folder that OOD_DATA_DIR names."""

import dataclasses
import os
import pathlib
from typing import ClassVar

import numpy as np

from detector_jax.table import listed
from launch.data import splits
from launch.data.files import read_table
from launch.data.folders import FOLDER, folder_of
from launch.data.formats import DataError
from launch.data.source import Source

NAMES = ("thyroid", "arrhythmia", "abalone", "adbench/NAME")
SEX = {"M": 0.0, "F": 1.0, "I": 2.0}
SPLITS = {"released": splits.released, "half": splits.half}


@dataclasses.dataclass(kw_only=True)
class RealTable(Source):
  """A tabular set of the papers, from the folder that the environment variable OOD_DATA_DIR names.

  Attributes:
    name: "thyroid", "arrhythmia", "abalone" or "adbench/NAME".
    split: "released" (DROCC's released code) or "half" (DAGMM, GOAD).
  """

  names: ClassVar[tuple[str, ...]] = NAMES

  name: str = "thyroid"
  split: str = "released"

  @classmethod
  def reads(cls, name: str) -> bool:
    """Whether it is one of ``names``; any NAME may follow adbench/."""
    return name in cls.names or (name.startswith("adbench/") and len(name) > len("adbench/"))

  def read(self) -> splits.Splits:
    """Reads and splits the set.

    Raises:
      DataError: no such split, folder or set.
    """
    if self.split not in SPLITS:
      raise DataError(f"There is no split {self.split!r}; there are: {', '.join(SPLITS)}.")
    split = SPLITS[self.split](*load(self.name), self.seed)
    return dataclasses.replace(split, description=f"{self.name}; {split.description}")


def load(name: str, folder: str | os.PathLike[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Reads one set.

  "thyroid" (3,772 records of 6 features, 93 anomalous) and "arrhythmia" (452 of 274, 66) are the
  sets of ODDS; "abalone" is described at ``read_abalone``; "adbench/NAME" is a set of ADBench.

  Args:
    name: one of ``NAMES``.
    folder: where the files are; None: what the environment variable OOD_DATA_DIR says.

  Returns:
    ``x`` float64 ``[n, d]`` and ``y`` int64 ``[n]``, 1 = anomalous, in the order of the file.

  Raises:
    DataError: no folder, no such set, or a file that cannot be used.
  """
  kind, _, member = name.partition("/")
  if name not in NAMES[:3] and (kind != "adbench" or not member):
    raise DataError(f"There is no data set {name!r}; there are: {', '.join(NAMES)}.")
  root = folder_of(name, folder)
  if kind == "adbench":
    return _read(_adbench(root / kind, member))
  if name == "abalone":
    return read_abalone(_existing(root / "abalone.data"))
  return _read(_existing(root / f"{name}.mat"))


def read_abalone(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
  """Reads UCI's abalone.data as an anomaly-detection set of 1,920 records.

  Animals of 3 or 21 rings (29) are anomalous, those of 8, 9 or 10 typical (1,891), and all others
  are left out. The features are the sex as a number, as in the released code (M 0, F 1, I 2), and
  the seven measurements.

  Returns:
    ``x`` float64 ``[n, 8]`` and ``y`` int64 ``[n]``, 1 = anomalous.

  Raises:
    DataError: the file is not abalone.data.
  """
  try:
    data = np.loadtxt(path, delimiter=",", converters={0: SEX.__getitem__}, ndmin=2)
  except (KeyError, ValueError, OSError) as error:
    raise DataError(
      f"{path} is not UCI's abalone.data, nine columns of which the first is M, F or I ({error})."
    ) from error
  if data.shape[1] != 9:
    raise DataError(f"{path} has {data.shape[1]} columns where UCI's abalone.data has 9.")
  rings = data[:, 8]
  anomalous, typical = np.isin(rings, (3, 21)), np.isin(rings, (8, 9, 10))
  used = anomalous | typical
  return data[used, :8], anomalous[used].astype(np.int64)


def adbench_names(folder: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
  """The sets of ADBench that the folder has, in alphabetical order.

  Raises:
    DataError: no folder, or none in it.
  """
  found = folder_of("adbench/NAME", folder) / "adbench"
  names = tuple(sorted(path.stem for path in found.glob("*.npz")))
  if not names:
    raise DataError(
      f"{found} has no .npz file: set {FOLDER} to the folder whose adbench/ has some."
    )
  return names


def _existing(path: pathlib.Path) -> pathlib.Path:
  if not path.is_file():
    raise DataError(f"There is no file {path}: put it there, or set {FOLDER} to where it is.")
  return path


def _adbench(folder: pathlib.Path, member: str) -> pathlib.Path:
  members = sorted(path.stem for path in folder.glob("*.npz"))
  if member not in members:
    raise DataError(
      f"{folder} has no set {member!r}, it has {listed(members)}: choose another, or set {FOLDER} "
      "to the folder whose adbench/ holds it."
    )
  return folder / f"{member}.npz"


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  table = read_table(path, "y")
  assert table.labels is not None
  return table.x, table.labels
