"""Small defects on made textures: where the whole picture says little, and one patch says all.

Typical pictures are ``SIDE x SIDE``, grey, of one kind of texture; of an anomalous one a scratch
makes some pixels lighter or darker.

stripes  waves of one length, in nearly one direction, of any phase
grain    smoothed noise, as of leather or stone
tiles    bricks of different greys with dark joints, anywhere
weave    threads that cross, over and under one another
pebbles  discs of different sizes and greys that hide one another

A scratch is a straight stroke ``WIDTH`` pixels wide at a random place and in a random direction,
``LENGTHS`` pixels long, and lighter or darker than what is below it by one of ``DEPTHS``. The map
was developed on stripes, grain and tiles (distances of patches whose contrast is divided out, which
came first, told scratches on stripes, and were near chance on tiles), how the two parts are joined
on these, MNIST's 3 and CIFAR-10's airplane. Weave and pebbles were written down before, and
measured once.

DROCC, joined         ``DROCC(features=Patches(defects=True))``, as configs/drocc_pictures.py has it
DROCC                 the part of its score that looks at means over many patches
strangest patch       the other part, the largest distance of a patch from all centroids
5 nearest neighbours  mean distance to the five nearest training pictures, on pixels

"flagged" is the share of pictures above the threshold of the first one, which states 5 %.
"""

from collections.abc import Callable
import functools
import itertools

from matplotlib.figure import Figure
import numpy as np
from scipy import ndimage

from benchmarks import protocol
from benchmarks.baselines import nearest_neighbour
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import metrics
from detector_jax.features import Patches
from drocc_jax import DROCC

SIDE = 64
KINDS = ("stripes", "grain", "tiles", "weave", "pebbles")
LENGTHS, DEPTHS = (6, 12, 24), (0.25, 0.1)
WIDTH = 2.0
TRAINED, TESTED = 200, 100
JOINED, POOLED, PATCH, PIXELS = "DROCC, joined", "DROCC", "strangest patch", "5 nearest neighbours"


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(KINDS)


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger, patches: Patches = Patches(defects=True)
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC of every length of scratch on every kind of texture, and what is flagged."""
  values: dict[tuple[str, str, str], list[float]] = {}
  for seed in range(seeds):
    for kind in KINDS:
      cell = ledger.cell((kind, seed), functools.partial(measured, kind, seed, patches))
      for method, found in cell.items():
        for key, value in found.items():
          metric, row = key.split(" ", 1)
          values.setdefault((f"{kind}, {row}", method, metric), []).append(value)
      advance(1, f"{kind}, seed {seed}")
  records = [
    record
    for (row, method, metric), each in sorted(values.items(), key=_place)
    for record in protocol.summarise("defects", row, method, metric, {"last": each})
  ]
  return records, {}


def _place(item: tuple[tuple[str, str, str], list[float]]) -> int:
  """Kind by kind."""
  return KINDS.index(item[0][0].split(",")[0])


def measured(kind: str, seed: int, patches: Patches) -> Cell:
  """``{method: {"METRIC ROW": value}}`` of one kind of texture."""
  rng = np.random.default_rng([seed, KINDS.index(kind)])
  x = textures(kind, TRAINED, rng)
  tests = {"typical": textures(kind, TESTED, rng)}
  for depth, length in itertools.product(DEPTHS, LENGTHS):
    x_scratched = scratched(textures(kind, TESTED, rng), length, depth, rng)
    tests[f"scratch of {length}, depth {depth:g}"] = x_scratched
  x_test, rows = np.concatenate(list(tests.values())), np.repeat(list(tests), TESTED)
  detector = DROCC(features=patches, random_state=seed).fit(x).detector_
  told = detector.report(x_test)
  flat = [part.reshape(len(part), -1) for part in (x, x_test)]
  scores = {
    JOINED: told["score"],
    POOLED: told["group_deviation"][:, 0],
    PATCH: told["group_deviation"][:, 1],
    PIXELS: nearest_neighbour.make(seed, 5).fit(flat[0]).score(flat[1]),
  }
  typical = rows == "typical"
  cell: Cell = {method: {} for method in scores}
  for row in list(tests)[1:]:
    of = typical | (rows == row)
    for method, score in scores.items():
      cell[method][f"auroc {row}"] = metrics.auroc(~typical[of], score[of])
  flagged = told["score"] > np.float32(detector.threshold)
  cell[JOINED] |= {f"flagged {row}": float(flagged[rows == row].mean()) for row in tests}
  return cell


def textures(kind: str, number: int, rng: np.random.Generator) -> np.ndarray:
  """Typical pictures, float32 ``[number, SIDE, SIDE, 1]`` in [0, 1]."""
  found = np.stack([_MADE[kind](rng) for _ in range(number)])
  return np.clip(found, 0.0, 1.0)[..., None].astype(np.float32)


def scratched(x: np.ndarray, length: float, depth: float, rng: np.random.Generator) -> np.ndarray:
  """The same pictures ``[n, SIDE, SIDE, 1]``, each with a scratch."""
  place = np.stack(np.meshgrid(*[np.arange(SIDE)] * 2, indexing="ij"), axis=-1)
  found = x.copy()
  for picture in found[..., 0]:
    angle = rng.uniform(0.0, np.pi)
    along = np.array([np.sin(angle), np.cos(angle)])
    about = place - rng.uniform(length / 2.0, SIDE - length / 2.0, size=2)
    beyond = np.maximum(np.abs(about @ along) - length / 2.0, 0.0)
    away = np.abs(about @ np.array([along[1], -along[0]]))
    picture[np.hypot(beyond, away) <= WIDTH / 2.0] += depth * rng.choice([-1.0, 1.0])
  return np.clip(found, 0.0, 1.0)


def _stripes(rng: np.random.Generator) -> np.ndarray:
  rows, columns = np.mgrid[:SIDE, :SIDE]
  angle = rng.normal(0.0, 0.1)
  wave = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) / 1.3 + rng.uniform(0.0, 6.3))
  return 0.5 + 0.2 * wave + rng.normal(0.0, 0.04, (SIDE, SIDE))


def _grain(rng: np.random.Generator) -> np.ndarray:
  smooth = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 1.2, mode="wrap")
  return 0.5 + 0.14 * smooth / smooth.std() + rng.normal(0.0, 0.02, (SIDE, SIDE))


def _tiles(rng: np.random.Generator) -> np.ndarray:
  rows, columns = np.mgrid[:SIDE, :SIDE] + rng.integers(32, size=2)[:, None, None]
  courses, row = np.divmod(rows, 8)
  bricks, column = np.divmod(columns + 8 * (courses % 2), 16)
  greys = rng.normal(0.6, 0.07, (courses.max() + 1, bricks.max() + 1))[courses, bricks]
  return np.where((row == 0) | (column == 0), 0.25, greys) + rng.normal(0.0, 0.03, (SIDE, SIDE))


def _weave(rng: np.random.Generator) -> np.ndarray:
  rows, columns = np.mgrid[:SIDE, :SIDE] + rng.integers(12, size=2)[:, None, None]
  over = (rows // 6 + columns // 6) % 2 == 0
  across = np.where(over, rows % 6, columns % 6) - 2.5
  threads = np.where(over, 0.7, 0.55) - 0.04 * across**2
  return threads + rng.normal(0.0, 0.04, (SIDE, SIDE))


def _pebbles(rng: np.random.Generator) -> np.ndarray:
  rows, columns = np.mgrid[:SIDE, :SIDE]
  found = np.full((SIDE, SIDE), 0.3)
  for row, column in rng.uniform(-4.0, SIDE + 4.0, size=(250, 2)):
    away = np.hypot(rows - row, columns - column) / rng.uniform(3.0, 6.0)
    found = np.where(away < 1.0, rng.normal(0.6, 0.08) - 0.25 * away**2, found)
  return found + rng.normal(0.0, 0.02, (SIDE, SIDE))


_MADE = {
  "stripes": _stripes,
  "grain": _grain,
  "tiles": _tiles,
  "weave": _weave,
  "pebbles": _pebbles,
}
