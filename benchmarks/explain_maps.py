"""Do maps of explanation point at what was planted? --table=explain-maps.

Pictures of one made texture (see ``defects``) train DROCC behind ``Patches()``, and behind
``Patches(defects=True)``; of a test picture a square of ``PATCH x PATCH`` pixels at a random place
is taken from a picture of another texture. "share found" is how often the largest value of a map
lies inside the square, among pictures that are flagged; "share flagged" is the share of those.

explanation      ``detector.explain(x).map``: by how much the score falls where a block is typical
unlike patches   the map of the reports: distance of patches to the nearest centroid
anywhere         the share of the picture that the square takes up
"""

from collections.abc import Callable
from typing import Any

import jax
from matplotlib.figure import Figure
import numpy as np

from benchmarks import defects, protocol
from benchmarks.records import TableRecord
from detector_jax.features import Patches, PatchMap
from drocc_jax import DROCC

KINDS = ("stripes", "tiles", "weave")
PATCH, TRAINED, TESTED = 12, 200, 20
FEATURES = {"": Patches(), ", defects": Patches(defects=True)}
ANYWHERE, FOUND = "anywhere", "share found"


def count(seeds: int) -> int:
  """Number of trainings."""
  return seeds * len(KINDS)


def table(seeds: int, advance: Callable[..., None]) -> tuple[list[TableRecord], dict[str, Figure]]:
  """Shares of planted squares that are found, and of pictures that are flagged."""
  values: dict[tuple[str, str, str], list[float]] = {}
  for seed in range(seeds):
    for kind in KINDS:
      for key, value in measured(kind, seed).items():
        values.setdefault((kind, *key), []).append(value)
      advance(1, f"{kind}, seed {seed}")
  records = [
    record
    for (row, method, metric), found in values.items()
    for record in protocol.summarise("explain-maps", row, method, metric, {"last": found})
  ]
  return records, {}


def planted(
  x: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Pictures with a square of the others, and bool masks ``[n, height, width]`` of the squares.

  Args:
    x: ``[n, height, width, 1]``.
    others: likewise.
    rng: of the places.
  """
  inside = np.zeros(x.shape[:3], bool)
  for mask, (row, column) in zip(
    inside, rng.integers(x.shape[1] - PATCH + 1, size=(len(x), 2)).tolist(), strict=True
  ):
    mask[row : row + PATCH, column : column + PATCH] = True
  return np.where(inside[..., None], others, x), inside


def pointed(maps: np.ndarray, inside: np.ndarray) -> float:
  """Share of maps ``[n, height, width]`` whose largest value is inside ``[n, height, width]``."""
  places = maps.reshape(len(maps), -1).argmax(axis=1)
  return float(inside.reshape(len(inside), -1)[np.arange(len(maps)), places].mean())


def measured(kind: str, seed: int) -> dict[tuple[str, str], float]:
  """``(method, metric) -> value`` of one kind of texture."""
  rng = np.random.default_rng([seed, defects.KINDS.index(kind)])
  other = KINDS[(KINDS.index(kind) + 1) % len(KINDS)]
  train = defects.textures(kind, TRAINED, rng)
  x, inside = planted(
    defects.textures(kind, TESTED, rng), defects.textures(other, TESTED, rng), rng
  )
  found = {(ANYWHERE, FOUND): float(inside.mean())}
  for name, settings in FEATURES.items():
    detector = DROCC(features=settings, random_state=seed).fit(train).detector_
    flagged = detector.predict(x) == 1
    found[f"explanation{name}", "share flagged"] = float(flagged.mean())
    if flagged.any():
      maps = {
        "explanation": detector.explain(x[flagged]).map[..., 0],
        "unlike patches": _unlike(detector.arrays["features"], x[flagged]),
      }
      for method, each in maps.items():
        found[f"{method}{name}", FOUND] = pointed(each, inside[flagged])
  return found


def _unlike(features: Any, x: np.ndarray) -> np.ndarray:
  """``[n, height, width]``, each patch at its middle; no place is cut off at a full red."""
  unlike = jax.jit(PatchMap.unlikeness)(features, x)
  wide = np.zeros(x.shape[:3])
  places = unlike.shape[1]
  reach = (defects.SIDE - places) // 2
  wide[:, reach : reach + places, reach : reach + places] = unlike
  return wide
