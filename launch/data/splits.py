"""Which records train and which test: pure functions of the records and a seed."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
  """The records of one experiment.

  Attributes:
    x_train: float ``[n, ...]``, typical records only.
    x_test: float ``[m, ...]``, or None when there is no test set.
    y_test: int64 ``[m]``, 1 = anomalous, or None when the test set has no labels.
    feature_names: one name per column of ``[n, d]`` records, or None.
    image_shape: shape in which to draw one record as an image, e.g. ``(8, 8)``, or None.
    description: one line for people: which data, split how.

  Raises:
    ValueError: nothing to train on, or shapes that do not belong together.
  """

  x_train: np.ndarray
  x_test: np.ndarray | None = None
  y_test: np.ndarray | None = None
  feature_names: tuple[str, ...] | None = None
  image_shape: tuple[int, ...] | None = None
  description: str = ""

  def __post_init__(self) -> None:
    if not len(self.x_train):
      raise ValueError("There are no typical records to train on.")
    shape = self.x_train.shape[1:]
    if self.x_test is not None and self.x_test.shape[1:] != shape:
      raise ValueError(
        f"Training records have shape {list(shape)}, test records {list(self.x_test.shape[1:])}."
      )
    tested = None if self.x_test is None else len(self.x_test)
    if self.y_test is not None and len(self.y_test) != tested:
      raise ValueError(f"There are {len(self.y_test)} test labels for {tested} test records.")
    if self.feature_names is not None and (len(self.feature_names),) != shape:
      raise ValueError(f"{len(self.feature_names)} feature names for records {list(shape)}.")

  def labelled_test(self) -> tuple[np.ndarray, np.ndarray]:
    """Test records ``[m, ...]`` and their labels ``[m]``.

    Raises:
      ValueError: there are none.
    """
    if self.x_test is None or self.y_test is None:
      raise ValueError(
        "There is no labelled test set to evaluate on: set data.test and data.label, or score "
        "records with python -m launch.score."
      )
    return self.x_test, self.y_test


def released(x: np.ndarray, y: np.ndarray, seed: int) -> Splits:
  """The split of DROCC's released code for tabular sets.

  All anomalies and as many typical records, drawn at random, test; the other typical ones train.

  Args:
    x: ``[n, ...]`` records.
    y: ``[n]`` labels, 1 = anomalous, 0 = typical.
    seed: of the draw, >= 0.

  Returns:
    Training and test records, each in their order in ``x``.

  Raises:
    ValueError: labels other than 0 and 1, no anomalies, or no more typical records than those.
  """
  typical, anomalous = _rows(x, y, seed)
  number = len(anomalous)
  if len(typical) <= number:
    raise ValueError(
      f"The released split tests on all {number} anomalies and as many typical records, which "
      f"leaves none of {len(typical)} to train on; take the split 'half'."
    )
  train, test = typical[number:], np.concatenate([typical[:number], anomalous])
  return _take(x, y, train, test, f"released split, seed {seed}")


def half(x: np.ndarray, y: np.ndarray, seed: int) -> Splits:
  """The split of DAGMM and GOAD.

  A random half of the typical records (the smaller, where their number is odd) trains; the other
  half and all anomalies test.

  Args:
    x: ``[n, ...]`` records.
    y: ``[n]`` labels, 1 = anomalous, 0 = typical.
    seed: of the draw, >= 0.

  Returns:
    Training and test records, each in their order in ``x``.

  Raises:
    ValueError: labels other than 0 and 1, no anomalies, or fewer than two typical records.
  """
  typical, anomalous = _rows(x, y, seed)
  if len(typical) < 2:
    raise ValueError(f"A half split needs at least 2 typical records, got {len(typical)}.")
  number = len(typical) // 2
  train, test = typical[:number], np.concatenate([typical[number:], anomalous])
  return _take(x, y, train, test, f"half split, seed {seed}")


def one_vs_rest(
  x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, typical: int
) -> Splits:
  """One class is typical: its train part trains, the whole test part tests.

  Args:
    x_train: ``[n, ...]`` records of the train part.
    y_train: ``[n]`` classes.
    x_test: ``[m, ...]`` records of the test part.
    y_test: ``[m]`` classes.
    typical: the class that is typical; all others are anomalous.

  Returns:
    Splits whose records are floating point, float32 for images of bytes.

  Raises:
    ValueError: the train part has no record of that class.
  """
  rows = np.asarray(y_train) == typical
  if not rows.any():
    classes = ", ".join(map(str, np.unique(y_train)[:20]))
    raise ValueError(f"No training record is of class {typical}; classes are: {classes}.")
  return Splits(
    _floating(x_train[rows]),
    _floating(x_test),
    (np.asarray(y_test) != typical).astype(np.int64),
    description=f"class {typical} against the rest",
  )


def _rows(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Typical rows in random order, anomalous rows in theirs."""
  y = np.asarray(y)
  if y.shape != (len(x),):
    raise ValueError(f"There are {len(x)} records, but labels of shape {list(y.shape)}.")
  if not np.isin(y, (0, 1)).all():
    raise ValueError("Labels must be 0 (typical) or 1 (anomalous).")
  anomalous = np.flatnonzero(y == 1)
  if not len(anomalous):
    raise ValueError("There are no anomalous records to test on.")
  return np.random.default_rng(seed).permutation(np.flatnonzero(y == 0)), anomalous


def _take(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, name: str) -> Splits:
  train, test = np.sort(train), np.sort(test)
  labels = np.asarray(y)[test].astype(np.int64)
  return Splits(_floating(x[train]), _floating(x[test]), labels, description=name)


def _floating(x: np.ndarray) -> np.ndarray:
  return x.astype(np.result_type(x.dtype, np.float32), copy=False)
