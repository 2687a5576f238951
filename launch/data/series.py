"""Time series of the DROCC paper: one-second pieces of EEG recordings, some with a seizure."""

import csv
import dataclasses
import os
import pathlib
from typing import ClassVar

import numpy as np

from detector_jax.table import reason_of
from launch.data import folders, splits
from launch.data.formats import DataError
from launch.data.source import Source
from launch.data.splits import Splits

NPZ, CSV = "epilepsy.npz", "epilepsy.csv"
SAMPLES = 178
SEIZURE = 1
SPLITS = ("released", "recording")


@dataclasses.dataclass(kw_only=True)
class Epilepsy(Source):
  """Pieces of EEG, records ``[178, 1]``; see ``epilepsy``.

  Attributes:
    split: "released" or "recording".
  """

  names: ClassVar[tuple[str, ...]] = ("epilepsy",)

  name: str = "epilepsy"
  split: str = "released"

  def read(self) -> Splits:
    """See ``epilepsy``."""
    return epilepsy(self.split, self.seed)


def epilepsy(split: str, seed: int, folder: str | os.PathLike[str] | None = None) -> Splits:
  """The Epileptic Seizure Recognition set of UCI: class 1 is anomalous, 2 to 5 are typical.

  Its 11,500 records are one-second pieces, ``[178, 1]``, of 500 recordings of 23 pieces each.

  Args:
    split: "released": all 2,300 seizures and as many typical pieces, drawn at random, test, as in
      DROCC's released code; pieces of one recording lie on both sides. "recording": all seizures,
      and all pieces of a quarter of the typical recordings test; no recording is on both sides.
    seed: of the draw, >= 0.
    folder: where epilepsy.npz (``x`` ``[n, 178]``, ``y`` in 1..5, ``recording``) or epilepsy.csv
      (as UCI has it: id, X1 ... X178, y) is; None: what the environment variable OOD_DATA_DIR says.

  Raises:
    DataError: no folder or file, one that is damaged or holds something else, or another split.
  """
  if split not in SPLITS:
    raise DataError(f"epilepsy is split by one of {', '.join(SPLITS)}; got {split!r}.")
  x, y, recordings = _read(_path(folder))
  anomalous = (y == SEIZURE).astype(np.int64)
  if split == "released":
    found = splits.released(x, anomalous, seed)
  else:
    found = splits.by_group(x, anomalous, recordings, 0.25, seed)
  return Splits(
    found.x_train, found.x_test, found.y_test, description=f"epilepsy; {found.description}"
  )


def _path(folder: str | os.PathLike[str] | None) -> pathlib.Path:
  root = folders.folder_of("epilepsy", folder)
  for name in (NPZ, CSV):
    if (root / name).is_file():
      return root / name
  raise DataError(
    f"There is no file {root / NPZ} or {CSV}: put UCI's Epileptic Seizure Recognition there under "
    f"the latter name, or set {folders.FOLDER} to the folder that holds it."
  )


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  try:
    if path.suffix == ".npz":
      x, y, recordings = folders.arrays_of(path, "x", "y", "recording")
    else:
      x, y, recordings = _read_csv(path)
    x, y, recordings = np.asarray(x, np.float32), np.asarray(y, np.int64), np.asarray(recordings)
  except DataError:
    raise
  except Exception as error:  # a damaged file makes its parser raise anything
    reason = reason_of(error)
    raise DataError(f"{path} cannot be read ({reason}); write it again.") from error
  if x.ndim != 2 or x.shape[1] != SAMPLES or y.shape != (len(x),) or len(recordings) != len(x):
    raise DataError(
      f"{path} holds x {list(x.shape)}, y {list(y.shape)} and {len(recordings)} recordings where "
      f"x [n, {SAMPLES}] and n of both belong; get the right file."
    )
  if not np.isfinite(x).all() or not np.isin(y, range(1, 6)).all():
    raise DataError(
      f"{path} holds values that are not finite, or classes other than 1 to 5; get the right file."
    )
  return x[..., None], y, recordings


def _read_csv(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """UCI's form; an id like X21.V1.791 is piece 21 of the recording V1.791."""
  with path.open(newline="") as file:
    rows = list(csv.reader(file))[1:]
  values = np.array([row[1:] for row in rows], np.float32)
  return values[:, :-1], values[:, -1], np.array([row[0].split(".", 1)[1] for row in rows])
