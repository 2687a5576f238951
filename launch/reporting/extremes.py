"""The most anomalous records of a test set: images drawn, rows with the reason of each."""

import contextlib

import numpy as np

import detector_jax
from launch.data.splits import Splits
from launch.reporting import patch_maps, reasons, report

SHOWN = 10


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
  told = []
  if x.ndim == 2:
    with contextlib.suppress(ValueError):  # of an earlier release: it keeps no typical values
      told = reasons.texts(detector, x[rows])
  if not told:
    page.table(head, cells)
    return
  page.table(
    (*head, "why"), [(*cell, why) for cell, why in zip(cells, told, strict=True)], prose=True
  )
  page.text(
    "Why: the fewest columns that were found whose typical values make the detector call the "
    "record typical, the most telling first, and the values nearest to its own that do. Typical "
    "is what 98 % of the training records lie between, each column by itself."
  )
