"""Whether explanations name the columns that make a record anomalous: --table=explain.

Planted columns: four kinds of typical data of 8, 30 and 100 columns, 2,000 records each train
``DROCC()``; then 1, 2 or 3 columns of a fresh record, as often each, are moved by 4 to 8 standard
deviations to either side. A case is such a record that the detector flags, 10,000 of them for each
seed; the share that it flags is told, too. Measured is how often the planted columns are the first,
as many as were planted, and how often they are among the first three. "exact score" is a detector
that is not learned: the Mahalanobis distance with the covariance that the data were drawn with.

Deletion: five sets of ADBench, the first of ``adbench.REPORT``, named before anything was measured.
The columns of flagged anomalies are set to the median of training in the order that a method
gives, the first ten of them; the area is the mean excess of the score over that of the medians
alone, in percent of the excess at the start. Lower is better. "columns" is how many it took until
the detector called the record typical (all and one more where it never did).

detector.explain     the order that ``Explanation.order`` gives
occlusion            by how much the score falls when the column alone is set to its median
gradients            size of the gradient in a column, times its standard deviation
gradient x distance  the gradient times the distance from the median
KernelSHAP           Shapley values by the weighted regression of Lundberg and Lee (2017), with
                     2,048 + 2 d coalitions, the medians in place of columns that are out
"""

from collections.abc import Callable
import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np

from benchmarks import adbench
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import Detector
from detector_jax.preprocessing import Identity, shifted
from detector_jax.typical import Typical, with_typical
from drocc_jax import DROCC
from launch.data import real
from launch.reporting import figures

WIDTHS, TRAINING, CASES, PLANTED = (8, 30, 100), 2000, 10_000, (1, 2, 3)
SETS, RECORDS, DELETED, TIMED = adbench.REPORT[:5], 100, 10, 256
OURS, SAMPLES = "detector.explain", 2048
Draw = Callable[[np.random.Generator, int], np.ndarray]
Ranking = Callable[[Detector, np.ndarray, np.ndarray], np.ndarray]


def gaussian(width: int, seed: int) -> tuple[Draw, np.ndarray]:
  """Correlated normal columns of unit variance, a quarter as many factors; and their covariance."""
  rng, factors = np.random.default_rng(seed), max(2, width // 4)
  loads = rng.normal(size=(factors, width))
  size = np.sqrt(np.sum(loads**2, axis=0) + 0.25 * factors)
  loads, noise = loads / size, 0.5 * np.sqrt(factors) / size

  def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=(n, factors)) @ loads + noise * rng.normal(size=(n, width))

  return draw, loads.T @ loads + np.diag(noise**2)


def mixture(width: int, seed: int) -> Draw:
  """Three clusters, each correlated in its own way."""
  rng, factors = np.random.default_rng(seed), max(2, width // 4)
  loads = rng.normal(size=(3, factors, width)) / np.sqrt(factors)
  means = 1.5 * rng.normal(size=(3, width))

  def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    cluster = rng.integers(3, size=n)
    common = np.einsum("nk,nkd->nd", rng.normal(size=(n, factors)), loads[cluster])
    return common + means[cluster] + 0.5 * rng.normal(size=(n, width))

  return draw


def heavy(width: int, seed: int) -> Draw:
  """The normal columns, every other one lognormal and every fourth squared with its sign."""
  normal, _ = gaussian(width, seed)

  def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    x = normal(rng, n)
    x[:, ::2] = np.exp(0.7 * x[:, ::2])
    x[:, 1::4] *= np.abs(x[:, 1::4])
    return x

  return draw


def manifold(width: int, seed: int) -> Draw:
  """Sines of an eighth as many factors, with noise."""
  rng, factors = np.random.default_rng(seed), max(2, width // 8)
  turns, phases = rng.normal(size=(factors, width)), rng.uniform(0.0, 2.0 * np.pi, size=width)

  def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    angles = rng.uniform(-1.5, 1.5, size=(n, factors)) @ turns + phases
    return np.sin(angles) + 0.2 * rng.normal(size=(n, width))

  return draw


KINDS: dict[str, Callable[[int, int], Draw]] = {
  "gaussian": lambda width, seed: gaussian(width, seed)[0],
  "mixture": mixture,
  "heavy": heavy,
  "manifold": manifold,
}
EXACT = "gaussian, exact score"


@dataclasses.dataclass(frozen=True)
class Mahalanobis:
  """Score of the exact detector; its variables are the inverse covariance."""

  def __call__(self, variables: jax.Array, x: jax.Array) -> jax.Array:
    """Maps ``[batch, width]`` to ``[batch]``."""
    return jnp.sum((x @ variables) * x, axis=1)


def detector_of(kind: str, width: int, seed: int) -> tuple[Detector, np.ndarray, Draw]:
  """A detector of one kind of data, its training records, and how fresh ones are drawn."""
  rng = np.random.default_rng([1, seed])
  if kind == EXACT:
    draw, covariance = gaussian(width, seed)
    inverse = jnp.asarray(np.linalg.inv(covariance), jnp.float32)
    x = draw(rng, TRAINING)
    plain = Detector.create(Mahalanobis(), inverse, Identity(), (width,))
    return with_typical(plain, x).calibrate(draw(rng, 400), 0.05), x, draw
  draw = KINDS[kind](width, seed)
  x = draw(rng, TRAINING)
  return DROCC(random_state=seed).fit(x).detector_, x, draw


def plant(
  detector: Detector, x: np.ndarray, draw: Draw, seed: int, cases: int
) -> tuple[np.ndarray, np.ndarray, float]:
  """Records that are flagged with columns planted.

  Returns:
    ``cases`` records ``[cases, width]``, as many for each number of columns; bool ``[cases,
    width]``, which ones; and the share of all records with planted columns that were flagged.
  """
  rng, deviation = np.random.default_rng([2, seed]), x.std(axis=0)
  kept, which, drawn, found = [], [], 0, 0
  for count in PLANTED:
    have = 0
    while have < cases // len(PLANTED):
      rows = draw(rng, 1000)
      chosen = rng.random(rows.shape).argsort(axis=1) < count
      side = rng.choice([-1.0, 1.0], size=rows.shape)
      rows = np.where(chosen, rows + side * rng.uniform(4.0, 8.0, rows.shape) * deviation, rows)
      flagged = np.flatnonzero(detector.predict(rows))
      drawn, found = drawn + len(rows), found + len(flagged)
      taken = flagged[: cases // len(PLANTED) - have]
      have += len(taken)
      kept.append(rows[taken])
      which.append(chosen[taken])
  return np.concatenate(kept), np.concatenate(which), found / drawn


def explained(detector: Detector, x: np.ndarray, median: np.ndarray) -> np.ndarray:
  """The order of ``Explanation``; int64 ``[n, width]``, the most telling column first."""
  del median
  return detector.explain(x).order


def occlusion(detector: Detector, x: np.ndarray, median: np.ndarray) -> np.ndarray:
  """By how much the score falls when a column is set to its median."""
  width = x.shape[1]
  rows = np.where(np.eye(width, dtype=bool), median, x[:, None])
  scores = detector.score(rows.reshape(-1, width), warn=False).reshape(len(x), width)
  return np.argsort(scores, axis=1, kind="stable")


def gradients(
  detector: Detector, x: np.ndarray, median: np.ndarray, *, distance: bool
) -> np.ndarray:
  """By the gradient of the score, times deviations or the distance from the median."""
  slope = _slope(detector.program, detector.arrays, shifted(x, detector.input_offset))
  scale = x - median if distance else Typical.from_detector(detector).scale
  told = np.asarray(slope) * scale
  return np.argsort(-(told if distance else np.abs(told)), axis=1, kind="stable")


@functools.partial(jax.jit, static_argnums=0)
def _slope(program: Any, arrays: Any, x: jax.Array) -> jax.Array:
  return jax.grad(lambda rows: jnp.sum(program(arrays, rows)["score"]))(x)


def kernel_shap(detector: Detector, x: np.ndarray, median: np.ndarray) -> np.ndarray:
  """Shapley values by regression on coalitions, the same for all records; largest first."""
  rng, width = np.random.default_rng(0), x.shape[1]
  sizes = np.arange(1, width)
  weights = (width - 1.0) / (sizes * (width - sizes))
  drawn = rng.choice(sizes, size=SAMPLES // 2 + width, p=weights / weights.sum())
  inside = rng.random((len(drawn), width)).argsort(axis=1) < drawn[:, None]
  inside = np.concatenate([inside, ~inside])
  # The values add up to the whole excess: the last one is what the others leave.
  design = inside[:, :-1].astype(float) - inside[:, -1:]
  solve = np.linalg.pinv(design)
  empty = float(detector.score(median[None], warn=False)[0])
  values = []
  for row in x:
    scores = detector.score(np.where(inside, row, median), warn=False).astype(np.float64)
    excess = float(detector.score(row[None], warn=False)[0]) - empty
    first = solve @ (scores - empty - inside[:, -1] * excess)
    values.append(np.append(first, excess - first.sum()))
  return np.argsort(-np.array(values), axis=1, kind="stable")


METHODS: dict[str, Ranking] = {
  OURS: explained,
  "occlusion": occlusion,
  "gradients": functools.partial(gradients, distance=False),
  "gradient x distance": functools.partial(gradients, distance=True),
}
SHAP = "KernelSHAP"


def planted_first(order: np.ndarray, planted: np.ndarray) -> dict[str, np.ndarray]:
  """Of each case, whether the planted columns are the first, and whether they are in the first 3.

  Args:
    order: int ``[n, width]``, columns, the most telling first.
    planted: bool ``[n, width]``.
  """
  last = np.where(planted, np.argsort(order, axis=1), -1).max(axis=1)
  return {"planted first": last < planted.sum(axis=1), "planted in first 3": last < 3}


def deletion(
  detector: Detector, x: np.ndarray, order: np.ndarray, median: np.ndarray
) -> dict[str, float]:
  """The area of the deletion curve, in percent, and columns until a record passes."""
  count = x.shape[1]
  rank = np.argsort(order, axis=1)
  rows = np.where(rank[:, None] < np.arange(count + 1)[:, None], median, x[:, None])
  scores = detector.score(rows.reshape(-1, count), warn=False).reshape(len(x), count + 1)
  excess = scores.astype(np.float64) - scores[:, -1:]
  passes = scores <= np.float32(detector.threshold)
  taken = np.where(passes.any(axis=1), passes.argmax(axis=1), count + 1)
  most = min(DELETED, count)
  return {
    "area": 100.0 * float(excess[:, 1 : most + 1].sum() / (most * excess[:, 0].sum())),
    "columns": float(taken.mean()),
  }


def _planted_cell(kind: str, width: int, seed: int, cases: int) -> Cell:
  detector, x, draw = detector_of(kind, width, seed)
  rows, planted, share = plant(detector, x, draw, seed, cases)
  median, cell = np.median(x, axis=0), Cell()
  for method, rank in METHODS.items():
    hits = planted_first(rank(detector, rows, median), planted)
    cell[method] = {metric: 100.0 * float(hit.mean()) for metric, hit in hits.items()}
    for count in PLANTED:
      chosen = planted.sum(axis=1) == count
      share_of = 100.0 * float(hits["planted first"][chosen].mean())
      cell[method][f"planted first, {count} planted"] = share_of
  batch = np.resize(rows, (TIMED, width))
  detector.explain(batch)
  began = time.perf_counter()
  detector.explain(batch)
  seconds = time.perf_counter() - began
  cell[OURS] |= {"flagged": 100.0 * share, "milliseconds": 1e3 * seconds / TIMED}
  return cell


def _deletion_cell(name: str, seed: int) -> Cell:
  x, y = real.load(f"adbench/{name}")
  train, test, labels = adbench.parts_of(x, y, seed)
  detector = DROCC(random_state=seed).fit(train).detector_
  anomalies = test[labels == 1]
  rows = anomalies[detector.predict(anomalies) == 1][:RECORDS]
  median, cell = np.median(train, axis=0), Cell()
  for method, rank in (METHODS | {SHAP: kernel_shap}).items():
    cell[method] = deletion(detector, rows, rank(detector, rows, median), median)
  detector.explain(np.resize(rows, (TIMED, x.shape[1])))
  began = time.perf_counter()
  got = detector.explain(np.resize(rows, (TIMED, x.shape[1])))
  cell[OURS] |= {
    "milliseconds": 1e3 * (time.perf_counter() - began) / TIMED,
    "passes": 100.0 * float(got.passes.mean()),
    "columns moved": float(got.changed[got.passes].sum(axis=1).mean()) if got.passes.any() else 0.0,
  }
  return cell


def count(seeds: int) -> int:
  """Number of trainings."""
  return seeds * (len(WIDTHS) * (len(KINDS) + 1) + len(SETS))


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """Planted columns that were found, and deletion curves."""
  cases = len(PLANTED) * -(-CASES // (len(KINDS) * len(WIDTHS) * len(PLANTED)))
  cells: dict[str, Callable[..., Cell]] = {
    f"{kind}, {width} columns": functools.partial(_planted_cell, kind, width, cases=cases)
    for kind in (*KINDS, EXACT)
    for width in WIDTHS
  }
  cells |= {name: functools.partial(_deletion_cell, name) for name in SETS}
  found = ledger.gather(cells, seeds, lambda row, seed: cells[row](seed=seed), advance)
  learned = [f"{kind}, {width} columns" for kind in KINDS for width in WIDTHS]
  for rows, mean in ((learned, "all cases"), (list(SETS), "mean of the sets")):
    for method, metric in dict.fromkeys(key[1:] for key in found if key[0] in rows):
      kept = [found[row, method, metric] for row in rows if (row, method, metric) in found]
      found[mean, method, metric] = np.mean(np.array(kept), axis=0).tolist()
  records = [
    TableRecord.from_values("explain", row, method, metric, values)
    for (row, method, metric), values in found.items()
  ]
  return records, {
    "explain-planted": _dots(
      records, "planted in first 3", "cases with all planted columns among the first three, %"
    ),
    "explain-deletion": _dots(records, "area", "area of the deletion curve, %"),
  }


def _dots(records: list[TableRecord], metric: str, label: str) -> Figure:
  kept = [record for record in records if record.metric == metric]
  rows = list(dict.fromkeys(record.row for record in kept))
  series = {
    method: [record.mean for record in kept if record.method == method]
    for method in dict.fromkeys(record.method for record in kept)
  }
  return figures.dots(rows, series, label)
