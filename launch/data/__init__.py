"""Where records come from: one typed config in, one ``Splits`` out."""

import dataclasses

import numpy as np

from launch.data import bundled, files, images, negatives, real, series, speech, splits, synthetic
from launch.data.formats import DataError
from launch.data.splits import Splits

__all__ = ("DataConfig", "DataError", "Splits", "load")

IMAGE_SETS = ("mnist", "fashion_mnist", "cifar10")
NAMES = (
  "digits",
  "digits_shifted",
  "breast_cancer",
  "sine",
  "noisy_sine",
  "sphere",
  *IMAGE_SETS,
  "speech",
  "epilepsy",
  *real.NAMES,
  "files",
)
SPLITS = {"released": splits.released, "half": splits.half}


@dataclasses.dataclass
class DataConfig:
  """Which data, split how.

  Attributes:
    name: "digits", "digits_shifted" or "breast_cancer" (bundled with scikit-learn); "sine" or
      "sphere" (the DROCC paper's synthetic sets); "noisy_sine" (the sine among coordinates of
      noise, with given negatives); "thyroid", "arrhythmia", "abalone" or "adbench/NAME" (real sets
      in the folder that the environment variable OOD_DATA_DIR names);
      "mnist", "fashion_mnist" or "cifar10" (image sets, see ``images.load`` for where they are
      read from; records float32 ``[h, w, c]`` in [0, 1]); "speech" (a wake word against other and
      close words, records ``[98, 32]``); "epilepsy" (pieces of EEG, records ``[178, 1]``, see
      ``series``); "files" (your own).
    typical: the typical class of "digits", and of an image set without ``ood``, 0..9; the other
      classes are anomalous.
    split: how real sets are split: "released" (DROCC's released code) or "half" (DAGMM, GOAD);
      "epilepsy" by "released" or "recording".
      Bundled sets always have "half", but for "digits_shifted"; image sets have parts of their
      own.
    seed: of the split, of the synthetic records and of the draw of ``limit``, >= 0.
    displacement: of the anomalies of "sine" and "noisy_sine", > 0.
    radius: of the anomalies of "sphere", > 1.
    train: file of typical records for "files": .csv, .parquet, .npy, .npz or .mat.
    test: file of test records for "files"; empty: none.
    label: label column (or array, in .npz and .mat) for "files": name, or number from 0; 1 =
      anomalous. Empty: none, or the array ``y`` if there is one.
    group: column (or array, in .npz and .mat) for "files" that says what each training record
      belongs to (a patient, a machine, a recording; text or numbers): records of one group are
      never divided into training and calibration. Empty: none; equal records never are.
    header: whether a .csv of "files" begins with names: "yes", "no", or "auto", which takes a first
      line of numbers alone for a record unless they are 0, 1, 2, ..., and says so.
    ood: for an image set, the names of out-of-distribution sets: "mnist", "fashion_mnist",
      "cifar10" or "svhn_cropped". Their test parts, greyed and resized to the typical set's shape,
      are the anomalies, and all classes of the typical set are typical. Empty: one class is
      typical.
    unseen: for an image set, classes that are left out of training; their test images are
      anomalous too (sources "mnist 4" and the like), a shift much nearer than another set.
    negatives: for "digits" and image sets without ``ood`` and ``unseen``, classes whose training
      records are given as labelled negatives. Test records are then of the typical class, of these,
      and masked ones of the typical class; see ``negatives.masked_classes``. () gives none.
    masked: share of masked pixels of the latter, in (0, 1).
    keyword: typical word of "speech"; see ``speech.wake_word``.
    features: of "speech", "log_mel" or "mfcc".
    synthesised: whether espeak-ng speaks close words for "speech"; without it only "go" has some.
    rotation: for an image set with one typical class, both parts are flipped at random and turned
      by up to that many degrees, see ``images.turned`` (Table 4 has 30); 0: as they are.
    limit: at most that many records of each part (training records; test records of each source),
      drawn at random; 0: all.
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
  group: str = ""
  header: str = "auto"
  ood: tuple[str, ...] = ()
  unseen: tuple[int, ...] = ()
  negatives: tuple[int, ...] = ()
  masked: float = 0.5
  keyword: str = "go"
  features: str = "log_mel"
  synthesised: bool = True
  rotation: float = 0.0
  limit: int = 0


def load(config: DataConfig) -> Splits:
  """Reads or makes the records that ``config`` names.

  Raises:
    ValueError: an unknown name or split, a setting out of its range, or data that cannot be used
      (``DataError``, which is a ValueError).
  """
  if config.split not in SPLITS and config.name != "epilepsy":
    raise DataError(f"There is no split {config.split!r}; there are: {', '.join(SPLITS)}.")
  if config.limit < 0:
    raise DataError(f"limit must be at least 0 (all records), got {config.limit!r}.")
  if (config.ood or config.unseen) and config.name not in IMAGE_SETS:
    raise DataError(
      f"The data set {config.name!r} takes no out-of-distribution sets: leave ood and unseen "
      f"empty, or choose one of {', '.join(IMAGE_SETS)}."
    )
  others = config.ood or config.unseen
  if config.rotation and (others or config.negatives or config.name not in IMAGE_SETS):
    raise DataError(
      f"The data set {config.name!r} takes no rotation: leave it 0, or choose one of "
      f"{', '.join(IMAGE_SETS)} without ood, unseen and negatives."
    )
  if config.negatives and (others or config.name not in ("digits", *IMAGE_SETS)):
    raise DataError(
      f"The data set {config.name!r} takes no classes as negatives: leave negatives empty, or "
      f"choose one of {', '.join(('digits', *IMAGE_SETS))} without ood and unseen."
    )
  return splits.limited(_load(config), config.limit, config.seed)


def _load(config: DataConfig) -> Splits:
  match config.name:
    case "digits" | "mnist" | "fashion_mnist" | "cifar10" if config.negatives:
      return _limited_negatives(config)
    case "digits":
      return bundled.digits(config.typical, config.seed)
    case "digits_shifted":
      return bundled.digits_shifted(config.seed)
    case "breast_cancer":
      return bundled.breast_cancer(config.seed)
    case "sine":
      return synthetic.sine(config.seed, config.displacement)
    case "noisy_sine":
      return synthetic.noisy_sine(config.seed, config.displacement)
    case "speech":
      return speech.wake_word(
        config.keyword, config.seed, config.features, synthesised=config.synthesised
      )
    case "epilepsy":
      return series.epilepsy(config.split, config.seed)
    case "sphere":
      return synthetic.sphere(config.seed, config.radius)
    case "files":
      if not config.train:
        raise DataError("The data set 'files' needs a file to train on: set train.")
      return files.load_files(
        config.train, config.test or None, config.label or None,
        group=config.group or None, header=config.header,
      )  # fmt: skip
    case "thyroid" | "arrhythmia" | "abalone":
      return _real(config)
    case name if name in IMAGE_SETS:
      return _ood(config) if config.ood or config.unseen else _one_vs_rest(config)
    case name if name.startswith("adbench/"):
      return _real(config)
  raise DataError(f"There is no data set {config.name!r}; there are: {', '.join(NAMES)}.")


def _real(config: DataConfig) -> Splits:
  split = SPLITS[config.split](*real.load(config.name), config.seed)
  return dataclasses.replace(split, description=f"{config.name}; {split.description}")


def _one_vs_rest(config: DataConfig) -> Splits:
  if config.typical not in range(images.CLASSES):
    raise DataError(
      f"typical must be a class of {config.name} from 0 to {images.CLASSES - 1}, got "
      f"{config.typical!r}."
    )
  train, test = images.load(config.name, "train"), images.load(config.name, "test")
  rows = train.y == config.typical
  x_train, x_test = train.x[rows], test.x
  if config.rotation:
    x_train = images.turned(x_train, config.rotation, config.seed)
    x_test = images.turned(x_test, config.rotation, config.seed + 1)
  split = splits.one_vs_rest(
    splits.unit(x_train), train.y[rows], splits.unit(x_test), test.y, config.typical
  )
  return dataclasses.replace(
    split,
    image_shape=splits.image_shape(test.x),
    description=f"{train.description}, {test.description}; {split.description}",
  )


def _limited_negatives(config: DataConfig) -> Splits:
  if config.name == "digits":
    train, test = bundled.digit_images(config.seed)
    described = "scikit-learn's digits"
  else:
    parts = [images.load(config.name, part) for part in ("train", "test")]
    train, test = [(part.x, part.y) for part in parts]
    described = ", ".join(part.description for part in parts)
  split = negatives.masked_classes(
    train, test, config.typical, config.negatives, config.masked, config.seed
  )
  return dataclasses.replace(split, description=f"{described}; {split.description}")


def _ood(config: DataConfig) -> Splits:
  for place, name in enumerate(config.ood):
    if name not in images.NAMES:
      raise DataError(
        f"There is no out-of-distribution set {name!r}; there are: {', '.join(images.NAMES)}."
      )
    if name == config.name or name in config.ood[:place]:
      raise DataError(
        f"ood names {name!r}, which is the typical set or named before: leave it out."
      )
  train, test = images.load(config.name, "train"), images.load(config.name, "test")
  others, described = {}, []
  for unseen in config.unseen:
    if unseen not in np.unique(train.y):
      raise DataError(f"unseen names {unseen!r}, which is no class of {config.name}.")
    others[f"{config.name} {unseen}"] = test.x[test.y == unseen]
    described.append(f"its class {unseen}")
  known = [
    (part.x[rows], part.y[rows])
    for part, rows in (
      (train, ~np.isin(train.y, config.unseen)),
      (test, ~np.isin(test.y, config.unseen)),
    )
  ]
  if not len(known[0][0]):
    raise DataError(f"unseen names every class of {config.name}; leave some to train on.")
  for name in config.ood:
    other = images.load(name, "test")
    others[name] = images.as_shape(other.x, train.x.shape[1:])
    described.append(other.description)
  split = splits.out_of_distribution(known[0], known[1], others, config.name)
  description = f"{train.description}, {test.description}; against {'; '.join(described)}"
  return dataclasses.replace(split, description=description)
