"""Where records come from: one typed config in, one ``Splits`` out."""

import dataclasses

from launch.data import bundled, files, real, splits, synthetic
from launch.data.formats import DataError
from launch.data.splits import Splits

__all__ = ("DataConfig", "DataError", "Splits", "load")

NAMES = ("digits", "breast_cancer", "sine", "sphere", *real.NAMES, "files")
SPLITS = {"released": splits.released, "half": splits.half}


@dataclasses.dataclass
class DataConfig:
  """Which data, split how.

  Attributes:
    name: "digits" or "breast_cancer" (bundled with scikit-learn); "sine" or "sphere" (the DROCC
      paper's synthetic sets); "thyroid", "arrhythmia", "abalone" or "adbench/NAME" (real sets in
      the folder that the environment variable OOD_DATA_DIR names); "files" (your own).
    typical: the typical digit of "digits", 0..9.
    split: how real sets are split: "released" (DROCC's released code) or "half" (DAGMM, GOAD).
      Bundled sets always have "half".
    seed: of the split and of the synthetic records, >= 0.
    displacement: of the anomalies of "sine", > 0.
    radius: of the anomalies of "sphere", > 1.
    train: file of typical records for "files": .csv, .parquet, .npy, .npz or .mat.
    test: file of test records for "files"; empty: none.
    label: label column (or array, in .npz and .mat) for "files": name, or number from 0; 1 =
      anomalous. Empty: none, or the array ``y`` if there is one.
  """

  name: str = "digits"
  typical: int = 0
  split: str = "released"
  seed: int = 0
  displacement: float = 0.5
  radius: float = 1.2
  train: str = ""
  test: str = ""
  label: str = ""


def load(config: DataConfig) -> Splits:
  """Reads or makes the records that ``config`` names.

  Raises:
    ValueError: an unknown name or split, a setting out of its range, or data that cannot be used
      (``DataError``, which is a ValueError).
  """
  if config.split not in SPLITS:
    raise DataError(f"There is no split {config.split!r}; there are: {', '.join(SPLITS)}.")
  match config.name:
    case "digits":
      return bundled.digits(config.typical, config.seed)
    case "breast_cancer":
      return bundled.breast_cancer(config.seed)
    case "sine":
      return synthetic.sine(config.seed, config.displacement)
    case "sphere":
      return synthetic.sphere(config.seed, config.radius)
    case "files":
      if not config.train:
        raise DataError("The data set 'files' needs a file to train on: set train.")
      return files.load_files(config.train, config.test or None, config.label or None)
    case "thyroid" | "arrhythmia" | "abalone":
      return _real(config)
    case name if name.startswith("adbench/"):
      return _real(config)
  raise DataError(f"There is no data set {config.name!r}; there are: {', '.join(NAMES)}.")


def _real(config: DataConfig) -> Splits:
  split = SPLITS[config.split](*real.load(config.name), config.seed)
  return dataclasses.replace(split, description=f"{config.name}; {split.description}")
