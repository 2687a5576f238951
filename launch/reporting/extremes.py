"""The most anomalous records of a test set: images drawn, rows with their most unusual columns."""

import dataclasses

import numpy as np

import detector_jax
from launch.data.splits import Splits
from launch.reporting import patch_maps, reasons, report

SHOWN = 10
COLUMNS = 3
NORMAL_IQR = 1.349  # interquartile range of a standard normal


@dataclasses.dataclass(frozen=True, eq=False)
class Typical:
  """How each column of the training records is distributed.

  Attributes:
    center: ``[d]`` medians.
    scale: ``[d]`` interquartile ranges over 1.349, which is the standard deviation of normal data;
      the standard deviation where a column's quartiles are the same, and 0 where it is constant.
    low: ``[d]`` 5 % quantiles.
    high: ``[d]`` 95 % quantiles.
  """

  center: np.ndarray
  scale: np.ndarray
  low: np.ndarray
  high: np.ndarray

  @classmethod
  def from_records(cls, x_train: np.ndarray) -> "Typical":
    """Of typical records ``[n, d]``."""
    low, first, center, third, high = np.percentile(
      np.asarray(x_train, np.float64), [5.0, 25.0, 50.0, 75.0, 95.0], axis=0
    )
    # float32 has no exact standard deviation of a constant column, so spread is looked at first.
    spread = np.ptp(x_train, axis=0) > 0
    deviation = np.where(spread, np.std(x_train, axis=0, dtype=np.float64), 0.0)
    return cls(center, np.where(third > first, (third - first) / NORMAL_IQR, deviation), low, high)

  def deviations(self, x: np.ndarray) -> np.ndarray:
    """By how many scales values ``[m, d]`` differ from the median; >= 0.

    Infinite where a column that is constant in training has another value.
    """
    apart = np.abs(x - self.center)
    beyond = np.where(apart > 0, np.inf, 0.0)
    return np.where(self.scale > 0, apart / np.where(self.scale > 0, self.scale, 1.0), beyond)

  def describe(self, name: str, column: int, value: float, deviation: float) -> str:
    """One value in words, with what is typical."""
    if np.isinf(deviation):
      return f"{name} = {value:.4g} (always {self.center[column]:.4g} in training)"
    return (
      f"{name} = {value:.4g} (typical {self.low[column]:.4g} to {self.high[column]:.4g}; "
      f"{deviation:.1f} deviations)"
    )


def add(
  page: report.Report, splits: Splits, scores: np.ndarray, detector: detector_jax.Detector
) -> None:
  """Adds the most anomalous test records, drawn where they can be, else listed.

  Args:
    page: to add to.
    splits: whose test records ``[n, ...]`` have labels.
    scores: ``[n]`` of these.
    detector: for p-values, where it is calibrated.
  """
  x, labels = splits.labelled_test()
  order = np.argsort(-scores, kind="stable")
  truth = np.where(labels == 1, "anomaly", "typical")
  names = truth if splits.sources is None else splits.sources
  page.heading("Most anomalous records")
  shape = splits.image_shape or _map_shape(x)
  if shape is not None:
    _pictures(page, x, shape, scores, names if splits.names is None else splits.names, order)
    patch_maps.add(page, splits, scores, detector)
    return
  _rows(page, splits, scores, names, order[:SHOWN], detector)


def _map_shape(x: np.ndarray) -> tuple[int, ...] | None:
  """Shape in which records of two axes are drawn, unless there is next to nothing along one."""
  return x.shape[1:] if x.ndim == 3 and min(x.shape[1:]) >= 8 else None


def _pictures(
  page: report.Report,
  x: np.ndarray,
  shape: tuple[int, ...],
  scores: np.ndarray,
  names: np.ndarray,
  order: np.ndarray,
) -> None:
  def shown(rows: np.ndarray) -> list[tuple[np.ndarray, str]]:
    return [(x[row].reshape(shape), f"{names[row]}: {scores[row]:.4g}") for row in rows]

  page.gallery(shown(order[:SHOWN]))
  page.text("Captions give what a record truly is and its score.")
  page.heading("Least anomalous records")
  page.gallery(shown(order[::-1][:SHOWN]))


def _rows(
  page: report.Report,
  splits: Splits,
  scores: np.ndarray,
  names: np.ndarray,
  rows: np.ndarray,
  detector: detector_jax.Detector,
) -> None:
  x, _ = splits.labelled_test()
  calibrated = detector.calibration.scores.size > 0
  p_values = detector.calibration.p_value(scores[rows]) if calibrated else np.zeros(len(rows))
  cells: list[tuple[str, ...]] = [
    (f"{row}", f"{scores[row]:.4g}", f"{p:.2g}" if calibrated else "none", str(names[row]))
    for row, p in zip(rows, p_values, strict=True)
  ]
  head = ("test row", "score", "p value", "truly")
  if x.ndim != 2:
    page.table(head, cells)
    return
  try:
    told = reasons.texts(detector, x[rows])
  except ValueError:  # of an earlier release, or behind a feature map
    told = []
  if told:
    page.table(
      (*head, "why"), [(*cell, why) for cell, why in zip(cells, told, strict=True)], prose=True
    )
    page.text(
      "Why: the fewest columns that were found whose typical values make the detector call the "
      "record typical, the most telling first, and the values nearest to its own that do. Typical "
      "is what 98 % of the training records lie between, each column by itself."
    )
    return
  typical = Typical.from_records(splits.x_train)
  columns = splits.feature_names or tuple(f"column {place}" for place in range(x.shape[1]))
  count = min(COLUMNS, len(columns))
  for place, (row, deviations) in enumerate(zip(rows, typical.deviations(x[rows]), strict=True)):
    unusual = np.argsort(-deviations, kind="stable")[:count]
    cells[place] += tuple(
      typical.describe(columns[j], j, x[row, j], deviations[j]) for j in unusual
    )
  ordinals = ("most unusual column", "second", "third")[:count]
  page.table((*head, *ordinals), cells, prose=True)
  page.text(
    "Unusual is a column by itself, against the training records: its distance from their median "
    "in deviations (interquartile range / 1.349); typical is what nine in ten of them lie between. "
    "The detector looks at all columns together, so what it objects to may be another thing."
  )
