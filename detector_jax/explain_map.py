"""Why a picture or a series is flagged: a map of where.

The search of ``explain`` with cells (blocks, stretches of a channel) in the place of columns: the
fewest cells whose typical values let the record pass, taken back towards the record as far as it
still does. A cell of typical values among others that are not is no picture that anybody took; the
map says what the detector objects to, which need not be all that is wrong.
"""

import dataclasses
from typing import Any

import numpy as np

from detector_jax.explain import SHOWN, Described, Search
from detector_jax.typical import Typical


@dataclasses.dataclass(frozen=True, eq=False)
class MapExplanation(Described):
  """Why records are flagged, place by place.

  Attributes:
    cells: names of the cells.
    x: float64 ``[n, ...]``, the records.
    moved: ``[n, ...]``, each after the move that was found; one that is not flagged is not moved.
    map: ``[n, ...]``, by how much the score falls when the cell of a place takes the best of its
      typical values (exact occlusion), 0 where none lowers it; a cell's fall is shared out over its
      places by how far they are from the typical median, so that the places of a cell add up to it.
    changed: bool ``[n, cells]``, which cells the move changes.
    contribution: ``[n, cells]``, the falls.
    score: ``[n]`` before the move.
    moved_score: ``[n]`` after it.
    p_value: ``[n]`` after it, NaN of a detector that is not calibrated.
    flagged: bool ``[n]``, whether the detector calls the record anomalous.
    passes: bool ``[n]``, whether it calls the moved record typical.
  """

  cells: tuple[str, ...]
  x: np.ndarray
  moved: np.ndarray
  map: np.ndarray
  changed: np.ndarray
  contribution: np.ndarray
  score: np.ndarray
  moved_score: np.ndarray
  p_value: np.ndarray
  flagged: np.ndarray
  passes: np.ndarray

  def _words(self, row: int) -> str:
    sure = "" if np.isnan(self.p_value[row]) else f" (p {self.p_value[row]:.2g})"
    if not self.flagged[row]:
      return f"typical{sure}"
    places = np.flatnonzero(self.changed[row])
    if not len(places):
      return "no typical values at any single place lower its score"
    places = places[np.argsort(-self.contribution[row, places], kind="stable")]
    told = "; ".join(self.cells[place] for place in places[:SHOWN].tolist())
    told += f"; and {len(places) - SHOWN} more places" if len(places) > SHOWN else ""
    would = "it would pass" if self.passes[row] else "it would not pass yet"
    return f"{told}: with typical values there {would}{sure if self.passes[row] else ''}"


def explain_map(detector: Any, x: np.ndarray) -> MapExplanation:
  """Explains records; see ``MapExplanation``.

  Args:
    detector: a ``Detector`` of pictures or series.
    x: float32 ``[n, height, width, channels]`` or ``[n, time, channels]``, as its program takes
      them.

  Raises:
    ValueError: the detector keeps no typical values.
  """
  typical = Typical.from_detector(detector)
  search, rows = Search(detector, typical), x.reshape(len(x), -1)
  score = search.score(rows)
  moved, rank, _, contribution = search.grow(rows, score)
  needed = search.prune(rows, moved, rank)
  moved = search.pull(rows, moved, needed)
  moved_score = search.score(moved)
  fall, member = np.maximum(contribution, 0.0), typical.member.astype(np.float32)
  apart = np.abs(rows - typical.values[len(typical.values) // 2])
  whole = apart @ member.T
  size = member.sum(axis=1)
  even = whole <= 0.0  # a cell that is as typical ones are: each of its places has the same part
  share = apart * ((np.where(even, 0.0, 1.0) / np.where(even, 1.0, whole)) @ member)
  share += (even / size) @ member
  calibration, offset = detector.calibration, np.asarray(detector.input_offset or 0.0, np.float64)
  known = calibration.scores.size > 0
  return MapExplanation(
    cells=tuple(group.name for group in typical.groups),
    x=x.astype(np.float64) + offset,
    moved=moved.reshape(x.shape).astype(np.float64) + offset,
    map=((fall @ member) * share).reshape(x.shape),
    changed=needed,
    contribution=contribution,
    score=score,
    moved_score=moved_score,
    p_value=calibration.p_value(moved_score) if known else np.full(len(x), np.nan),
    flagged=score > np.float32(detector.threshold),
    passes=moved_score <= np.float32(detector.threshold),
  )
