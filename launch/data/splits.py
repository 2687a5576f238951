"""Which records train and which test: pure functions of the records and a seed."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from detector_jax import batching
from detector_jax.schema import Schema


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
  """Labelled records to measure on.

  Attributes:
    x: float ``[m, ...]``.
    y: int64 ``[m]``, 1 = anomalous.
    sources: str ``[m]``, what each record is, e.g. "typical", "negative" or "masked".

  Raises:
    ValueError: lengths that do not belong together.
  """

  x: np.ndarray
  y: np.ndarray
  sources: np.ndarray

  def __post_init__(self) -> None:
    if not len(self.x) == len(self.y) == len(self.sources):
      raise ValueError(
        f"There are {len(self.x)} records, {len(self.y)} labels and {len(self.sources)} sources."
      )


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
  """The records of one experiment.

  Attributes:
    x_train: float ``[n, ...]``, typical records only.
    x_test: float ``[m, ...]``, or None when there is no test set.
    y_test: int64 ``[m]``, 1 = anomalous, or None when the test set has no labels.
    feature_names: one name per column of ``[n, d]`` records, or channel of a series, or None.
    image_shape: shape in which to draw one record as an image, e.g. ``(8, 8)``, or None.
    description: one line for people: which data, split how.
    y_train: int64 ``[n]``, the class of each training record, or None.
    class_test: int64 ``[m]``, the class of each test record, -1 for one that is out of
      distribution, or None.
    sources: str ``[m]``, the set each test record comes from, e.g. "mnist", or None.
    names: str ``[m]``, what each test record is called, e.g. the name of its file, or None.
    negatives: float ``[k, ...]``, labelled negatives to train on, or None. Methods that learn from
      typical records alone leave them aside.
    validation: labelled records to choose settings and thresholds by, none of which trains or
      tests, or None.
    groups: ``[n]`` labels of what each training record belongs to (a patient, a machine): records
      of one group are never divided into training and calibration. Or None.
    stretches: int ``[n, 2]``, stretches of a series in which each training record begins and ends.
    schema: how a table of raw columns became these records, or None.

  Raises:
    ValueError: nothing to train on, or shapes that do not belong together.
  """

  x_train: np.ndarray
  x_test: np.ndarray | None = None
  y_test: np.ndarray | None = None
  feature_names: tuple[str, ...] | None = None
  image_shape: tuple[int, ...] | None = None
  description: str = ""
  y_train: np.ndarray | None = None
  class_test: np.ndarray | None = None
  sources: np.ndarray | None = None
  names: np.ndarray | None = None
  negatives: np.ndarray | None = None
  validation: Labelled | None = None
  groups: np.ndarray | None = None
  stretches: np.ndarray | None = None
  schema: Schema | None = None

  def __post_init__(self) -> None:
    if not len(self.x_train):
      raise ValueError("There are no typical records to train on.")
    shape = self.x_train.shape[1:]
    validation = None if self.validation is None else self.validation.x
    for name, x in (
      ("negatives", self.negatives),
      ("validation records", validation),
      ("test records", self.x_test),
    ):
      if x is not None and x.shape[1:] != shape:
        raise ValueError(f"Training records have shape {list(shape)}, {name} {list(x.shape[1:])}.")
    trained, tested = len(self.x_train), None if self.x_test is None else len(self.x_test)
    for what, values, count, part in (
      ("test labels", self.y_test, tested, "test"),
      ("classes", self.y_train, trained, "training"),
      ("groups", self.groups, trained, "training"),
      ("classes", self.class_test, tested, "test"),
      ("sources", self.sources, tested, "test"),
    ):
      if values is not None and len(values) != count:
        raise ValueError(f"There are {len(values)} {what} for {count} {part} records.")
    if self.feature_names is not None and len(self.feature_names) != shape[-1]:
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


def by_group(x: np.ndarray, y: np.ndarray, groups: np.ndarray, share: float, seed: int) -> Splits:
  """Whole groups test, such as all pieces of a recording.

  All anomalous records test. Of the groups without any, a share drawn at random tests with all its
  records, and the others train; typical records of the groups with anomalous ones are left out of
  both.

  Args:
    x: ``[n, ...]`` records.
    y: ``[n]`` labels, 1 = anomalous, 0 = typical.
    groups: ``[n]``, what each record is a part of.
    share: of the typical groups, in (0, 1), rounded to whole groups.
    seed: of the draw, >= 0.

  Raises:
    ValueError: labels other than 0 and 1, no anomalies, lengths that do not belong together, or
      too few typical groups to leave one on each side.
  """
  _, anomalous = _rows(x, y, seed)
  groups = np.asarray(groups)
  if groups.shape != (len(x),):
    raise ValueError(f"There are {len(x)} records, but groups of shape {list(groups.shape)}.")
  typical = np.setdiff1d(groups, groups[anomalous])
  number = round(share * len(typical))
  if not 0 < number < len(typical):
    raise ValueError(
      f"A share of {share:g} of {len(typical)} typical groups leaves none to test, or to train on."
    )
  drawn = np.random.default_rng(seed).permutation(typical)
  test = np.flatnonzero(np.isin(groups, drawn[:number]))
  train = np.flatnonzero(np.isin(groups, drawn[number:]))
  name = f"split by group ({number} of {len(typical)} typical ones test), seed {seed}"
  return _take(x, y, train, np.concatenate([test, anomalous]), name)


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


def out_of_distribution(
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  others: Mapping[str, np.ndarray],
  name: str = "typical",
) -> Splits:
  """All classes of one image set are typical; images of other sets are anomalous.

  Args:
    train: images ``[n, h, w, c]``, c = 1 or 3, and their classes ``[n]``. Images are bytes, or
      floating point in [0, 1]; see ``unit``.
    test: images ``[m, h, w, c]`` and their classes ``[m]``.
    others: images ``[k, h, w, c]`` by the name of their set.
    name: the source of ``test``.

  Returns:
    Splits of float32 records in [0, 1]: all of ``train`` trains; ``test`` (label 0), then the
    others in their order (label 1, class -1) test. ``y_train``, ``class_test`` and ``sources`` are
    set, and ``image_shape`` as ``image_shape`` has it.

  Raises:
    ValueError: no others, one with the name of the typical set, or shapes or values that do not
      belong together.
  """
  if not others:
    raise ValueError("There are no out-of-distribution images to test on.")
  if name in others:
    raise ValueError(f"{name!r} is the typical set, it cannot be out of distribution too.")
  (x_train, y_train), (x_test, y_test) = train, test
  shape = image_shape(x_train)
  for source, x in {name: x_test, **others}.items():
    if x.shape[1:] != x_train.shape[1:]:
      raise ValueError(
        f"Images of {source!r} have shape {list(x.shape[1:])}, training images "
        f"{list(x_train.shape[1:])}."
      )
  counts = [len(x_test), *map(len, others.values())]
  outside = sum(counts[1:])
  labels = np.repeat(np.array([0, 1], np.int64), [len(x_test), outside])
  return Splits(
    unit(x_train),
    np.concatenate([unit(x) for x in (x_test, *others.values())]),
    labels,
    image_shape=shape,
    description=f"all classes of {name} against {', '.join(others)}",
    y_train=np.asarray(y_train, np.int64),
    class_test=np.concatenate([np.asarray(y_test, np.int64), np.full(outside, -1, np.int64)]),
    sources=np.repeat(np.array([name, *others]), counts),
  )


def limited(split: Splits, limit: int, seed: int) -> Splits:
  """At most ``limit`` records of each part, drawn at random, in their order.

  The parts are the training records, the negatives, and the test and validation records of each
  source (all test records, where there are no sources). A larger limit keeps what a smaller one
  does.

  Args:
    split: what to draw from.
    limit: >= 0; 0 keeps all.
    seed: of the draw, >= 0.

  Raises:
    ValueError: ``limit`` is negative.
  """
  if limit < 0:
    raise ValueError(f"limit must be at least 0 (all records), got {limit!r}.")
  if not limit:
    return split
  tested = 0 if split.x_test is None else len(split.x_test)
  sources = np.zeros(tested) if split.sources is None else split.sources
  train = _drawn(np.arange(len(split.x_train)), limit, seed)
  test = _drawn_of_each(sources, limit, seed)

  negatives, validation = split.negatives, split.validation
  if negatives is not None:
    negatives = negatives[_drawn(np.arange(len(negatives)), limit, seed)]
  if validation is not None:
    rows = _drawn_of_each(validation.sources, limit, seed)
    parts = (validation.x, validation.y, validation.sources)
    validation = Labelled(*(values[rows] for values in parts))

  def taken(rows: np.ndarray, *names: str) -> dict[str, Any]:
    found = {name: getattr(split, name) for name in names}
    return {name: None if values is None else values[rows] for name, values in found.items()}

  return dataclasses.replace(
    split,
    **taken(train, "x_train", "y_train", "groups", "stretches"),
    **taken(test, "x_test", "y_test", "class_test", "sources", "names"),
    description=f"{split.description}; at most {limit:,} of each part, drawn with seed {seed}",
    negatives=negatives,
    validation=validation,
  )


def drawn(num_rows: int, limit: int, seed: int) -> np.ndarray:
  """Sorted numbers of at most ``limit`` of ``num_rows`` rows, drawn at random; 0 keeps all."""
  return _drawn(np.arange(num_rows), limit or num_rows, seed)


def taken(x: np.ndarray, rows: np.ndarray) -> Any:
  """Some of the records, of a memory map a ``Selection``, which reads them when they are wanted."""
  return batching.Selection(x, rows) if isinstance(x, np.memmap) else x[rows]


def image_shape(x: np.ndarray) -> tuple[int, ...]:
  """Shape to draw one of ``x`` ``[n, h, w, c]`` in: ``(h, w)`` for grey, ``(h, w, 3)`` for colour.

  Raises:
    ValueError: ``x`` has other axes, or c is neither 1 nor 3.
  """
  if x.ndim != 4 or x.shape[-1] not in (1, 3):
    raise ValueError(f"Images must be [n, h, w, 1] or [n, h, w, 3], got {list(x.shape)}.")
  return x.shape[1:3] if x.shape[-1] == 1 else x.shape[1:]


def unit(x: np.ndarray) -> np.ndarray:
  """Images in float32 on [0, 1]: bytes over 255, floating point as it is.

  Raises:
    ValueError: ``x`` is neither uint8 nor floating point in [0, 1].
  """
  if x.dtype == np.uint8:
    return x / np.float32(255.0)
  if x.dtype.kind != "f":
    raise ValueError(f"Images must be uint8, or floating point in [0, 1], got {x.dtype}.")
  if x.size and not (x.min() >= 0.0 and x.max() <= 1.0):
    raise ValueError(f"Images must lie in [0, 1], got values from {x.min():g} to {x.max():g}.")
  return x.astype(np.float32, copy=False)


def _drawn(rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
  return np.sort(np.random.default_rng(seed).permutation(rows)[:limit])


def _drawn_of_each(sources: np.ndarray, limit: int, seed: int) -> np.ndarray:
  parts = [np.flatnonzero(sources == source) for source in np.unique(sources)]
  return np.sort(np.concatenate([np.arange(0), *(_drawn(rows, limit, seed) for rows in parts)]))


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
