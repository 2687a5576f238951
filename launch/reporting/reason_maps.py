"""Where in flagged pictures and series the detector objects, drawn for the most anomalous ones."""

import pathlib
from typing import Any

from matplotlib.figure import Figure
import numpy as np

import detector_jax
from detector_jax.explain_map import MapExplanation
from detector_jax.features import PatchMap
from detector_jax.program import flatten
from launch.reporting import figures, patch_maps

SHOWN, USUAL = 6, 200


class Drawing:
  """The most anomalous flagged records of an input, kept while it is scored.

  Args:
    detector: of pictures ``[height, width, 1 or 3]`` or series ``[time, channels]``.
  """

  def __init__(self, detector: detector_jax.Detector):
    self._detector = detector
    self._held: list[tuple[float, str, np.ndarray]] = []
    self._usual: list[np.ndarray] = []

  @staticmethod
  def suits(detector: detector_jax.Detector) -> bool:
    """Whether records of a detector can be drawn, and the detector says where they are unusual."""
    shape = detector.input_shape
    drawn = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    return (
      drawn and not detector.metadata.get("layers") and "typical/values" in flatten(detector.arrays)
    )

  def add(self, names: list[str], x: np.ndarray, scores: np.ndarray, flagged: np.ndarray) -> None:
    """Looks at records ``[n, ...]``, and keeps those that are to be drawn."""
    for row in np.flatnonzero(flagged)[np.argsort(-scores[flagged], kind="stable")][
      :SHOWN
    ].tolist():
      self._held.append((float(scores[row]), names[row], x[row].copy()))
    self._held = sorted(self._held, key=lambda held: -held[0])[:SHOWN]
    self._usual += [record.copy() for record in x[~flagged][: USUAL - len(self._usual)]]

  def write(self, path: pathlib.Path) -> bool:
    """Draws what was kept as a .png; False where nothing was flagged."""
    if not self._held:
      return False
    _, names, records = zip(*self._held, strict=True)
    x = np.stack(records)
    found = self._detector.explain(x)
    draw = _pictures if x.ndim == 4 else _series
    draw(list(names), found, self._patches(x)).savefig(path, dpi=130)
    return True

  def _patches(self, x: np.ndarray) -> dict[str, np.ndarray]:
    """How unlike those of training the patches are, where the detector looks at patches."""
    features: Any = self._detector.arrays.get("features")
    if not isinstance(features, PatchMap):
      features = patch_maps.map_of(self._detector)
    if features is None or x.ndim != 4 or not self._usual:
      return {}
    return {"patches": patch_maps.strengths(features, x, np.stack(self._usual))}


def _pictures(names: list[str], found: MapExplanation, more: dict[str, np.ndarray]) -> Figure:
  pictures = found.x if found.x.shape[-1] == 3 else found.x[..., 0]
  low, high = pictures.min(), pictures.max()
  places = found.map.sum(axis=-1)
  maps = {"where": places / np.maximum(places.max(axis=(1, 2), keepdims=True), 1e-12), **more}
  captions = {layer: [""] * len(names) for layer in maps}
  captions["where"] = [f"score {score:.4g}" for score in found.score]
  scaled = (pictures - low) / max(high - low, 1e-12)
  return figures.error_maps(names, scaled, maps, dict.fromkeys(maps, 1.0), captions)


def _series(names: list[str], found: MapExplanation, more: dict[str, np.ndarray]) -> Figure:
  """Each channel as a line, red where the detector objects to it."""
  del more
  figure = Figure(figsize=(8.0, 1.5 * len(names) + 0.4), layout="constrained")
  grid = figure.subplots(len(names), 1, squeeze=False, sharex=True)
  for axes, name, x, places, score in zip(
    grid[:, 0], names, found.x, found.map, found.score, strict=True
  ):
    strength = places / max(places.max(), 1e-12)
    for channel in range(x.shape[1]):
      axes.plot(x[:, channel], color=figures.NEUTRAL, lw=0.8)
      axes.scatter(
        np.arange(len(x)),
        x[:, channel],
        s=14,
        color=figures.ANOMALOUS,
        alpha=np.clip(strength[:, channel], 0.0, 1.0),
        lw=0,
        zorder=3,
      )
    axes.set_title(f"{name}, score {score:.4g}", fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
  grid[-1, 0].set_xlabel("step")
  return figure
