"""Where in the most anomalous pictures patches are unlike any that training had."""

import dataclasses

import jax
import numpy as np

import detector_jax
from detector_jax.features import Patches, PatchMap
from detector_jax.features.base import in_turn
from detector_jax.program import nested
from launch.data.splits import Splits
from launch.reporting import figures, reasons, report

SHOWN = 6
LOOKED_AT = 200  # training pictures that say what is usual
JOINED = "of all its patches together and of the one that is least like those of training."
USUAL, FULL = 50.0, 99.9  # per cent of their patches below no red, and below full red


def map_of(detector: detector_jax.Detector) -> PatchMap | None:
  """The patches in front of a detector that a run has trained, or None."""
  arrays = nested(detector.arrays, "features")
  settings = (detector.metadata.get("config") or {}).get("features")
  if "centroids" not in arrays or not settings:
    return None
  own = {field.name for field in dataclasses.fields(Patches)}
  known = {name: value for name, value in settings.items() if name in own}
  return Patches(**known).rebuilt(arrays, detector.batch_size)


def strengths(features: PatchMap, x: np.ndarray, x_train: np.ndarray) -> np.ndarray:
  """How unlike any centroid each patch is, ``[n, rows, columns]``; usually 0, and 1 is rare.

  Args:
    features: the patches.
    x: pictures ``[n, h, w, c]``.
    x_train: typical ones, which say what is usual.
  """
  compiled = jax.jit(PatchMap.unlikeness)

  def unlikeness(pictures: np.ndarray) -> np.ndarray:
    rows = min(features.rows, len(pictures))
    found = in_turn(lambda batch: compiled(features, batch), pictures, rows)
    return np.concatenate(list(found))

  low, high = np.percentile(unlikeness(x_train[:LOOKED_AT]), [USUAL, FULL])
  return np.clip((unlikeness(x) - low) / max(high - low, 1e-12), 0.0, 1.0)


def add(
  page: report.Report, splits: Splits, scores: np.ndarray, detector: detector_jax.Detector
) -> None:
  """Adds the maps, where the detector looks at patches of pictures."""
  x, _ = splits.labelled_test()
  features = map_of(detector)
  if features is None or x.ndim != 4 or splits.image_shape is None:
    return
  rows = np.argsort(-scores, kind="stable")[:SHOWN]
  names = [f"row {row}" if splits.names is None else str(splits.names[row]) for row in rows]
  figure = figures.error_maps(
    names,
    x[rows].reshape(len(rows), *splits.image_shape),
    {"patches": strengths(features, x[rows], splits.x_train)},
    {"patches": 1.0},
    {"patches": [f"{scores[row]:.4g}" for row in rows]},
  )
  joined = bool(detector.metadata.get("groups"))
  page.figure(
    "patch_maps",
    figure,
    "Red where a patch is unlike any that k-means found in training: none below the median of the "
    "training patches, full where one in a thousand of them is. Below: the score of the picture, "
    + (JOINED if joined else "which is of all its patches together."),
  )
  if joined:
    shown = [f"{scores[row]:.4g}" for row in rows]
    told = zip(names, shown, reasons.texts(detector, x[rows]), strict=True)
    page.table(("picture", "score", "what speaks"), list(told), prose=True)
