"""Where real data sets lie: in the folder that OOD_DATA_DIR names, or in that of tfds."""

import os
import pathlib
import re

import numpy as np

from detector_jax.table import listed, reason_of
from launch.data.formats.columns import DataError

FOLDER, TFDS_FOLDER = "OOD_DATA_DIR", "TFDS_DATA_DIR"


def folder_of(name: str, folder: str | os.PathLike[str] | None = None) -> pathlib.Path:
  """``folder``, or the one that OOD_DATA_DIR names, to read the data set ``name`` from.

  Raises:
    DataError: none is named, or there is no such folder.
  """
  chosen = folder or os.environ.get(FOLDER)
  if not chosen:
    raise DataError(
      f"The data set {name!r} is read from a folder: set {FOLDER} to the one that holds it."
    )
  root = pathlib.Path(chosen).expanduser()
  if not root.is_dir():
    raise DataError(
      f"There is no folder {root} to read the data set {name!r} from: set {FOLDER} to the one "
      "that holds it."
    )
  return root


def tfds_root() -> pathlib.Path:
  """The folder of tfds: what TFDS_DATA_DIR says, or its usual one."""
  return pathlib.Path(os.environ.get(TFDS_FOLDER) or "~/tensorflow_datasets").expanduser()


def newest_of_tfds(name: str, *parts: str) -> pathlib.Path | None:
  """Folder of the newest version of a set of tfds whose parts are all there as array_record.

  Args:
    name: of the set, with its variant where it has one: "imagenette/full-size-v2".
    *parts: that are wanted.
  """
  start = name.partition("/")[0]
  found = [
    path
    for path in (tfds_root() / name).glob("*")
    if re.fullmatch(r"\d+\.\d+\.\d+", path.name)
    and all(any(path.glob(f"{start}-{part}.array_record*")) for part in parts)
  ]
  return max(found, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def arrays_of(path: pathlib.Path, *names: str) -> list[np.ndarray]:
  """Arrays of a .npz file, by name; nothing is unpickled.

  Raises:
    DataError: the file is damaged, or lacks one.
  """
  try:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
      there = list(archive)
      if not set(names) - set(there):
        return [archive[name] for name in names]
  except Exception as error:  # a damaged file makes its parser raise anything
    raise DataError(
      f"{path} cannot be read, it is damaged or not a .npz file ({reason_of(error)}); write it "
      "again."
    ) from error
  lacking = next(name for name in names if name not in there)
  raise DataError(
    f"{path} has no array {lacking!r}, it has {listed(there)}: set {FOLDER} to the folder of the "
    "right file."
  )
