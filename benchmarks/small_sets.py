"""Few training records: --table=small-sets and --table=small-sets-alarms.

small-sets         AUROC of ``DROCC()`` on the sets of ADBench with fewer than 200 training records,
                   divided as in ``adbench``, in three forms: "cross" is what it does there, "split"
                   holds a fifth of the records out, "no threshold" trains one network on all. glass
                   is one of ``adbench_sets.DEVELOPMENT``; the others are reported.
small-sets-alarms  the rate of false alarms that a detector with a stated rate of 5 or 10 % realises
                   on fresh typical records, over training sets of 50 and of 100 records, which are
                   drawn from normal columns, from columns with heavy tails (t, 3 degrees of
                   freedom) and from the typical records of two development sets. "counted" takes
                   the same networks and Vovk's cross-conformal p-value, for which the rate has a
                   bound, see ``drocc_jax.cross``. A rate above the stated one by no more than two
                   standard errors, std / sqrt(seeds), is one that the simulation does not tell from
                   it.
"""

from collections.abc import Callable
import functools
import time
from typing import Any

import jax
from matplotlib.figure import Figure
import numpy as np
from sklearn.utils import check_random_state

from benchmarks import adbench
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import metrics
from drocc_jax import DROCC, cross, ensemble
from drocc_jax.settings import Training
from launch.data import real
from launch.reporting import figures

SETS = ("glass", "hepatitis", "lymphography", "stamps", "vertebral", "wine", "wpbc")
FORMS: dict[str, dict[str, Any]] = {
  "DROCC, cross": {},
  "DROCC, split": {"calibration": cross.SPLIT},
  "DROCC, no threshold": {"calibration_size": 0.0},
}
SOURCES = ("normal", "heavy tails", "letter", "pendigits")
SIZES, COLUMNS, FRESH, RATES = (50, 100), 8, 1000, (0.05, 0.10)
COUNTED = "DROCC, counted"
ALARMS = ("DROCC, cross", COUNTED, "DROCC, split")
SHOWN = {rate: f"false alarms at a stated {100 * rate:g} %" for rate in RATES}


def count(seeds: int) -> int:
  """Number of cells of small-sets."""
  return seeds * len(SETS) * (len(FORMS) + 1)


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC and training time on every set, and their means over the sets."""
  found: dict[tuple[str, str, str], list[float]] = {}
  for name in SETS:
    x, y = real.load(f"adbench/{name}")
    for seed in range(seeds):
      parts = adbench.parts_of(x, y, seed)
      for method in (*FORMS, adbench.NEIGHBOURS):
        measure = functools.partial(_auroc, method, parts, seed)
        for metric, value in ledger.cell((name, seed, method), measure)[method].items():
          found.setdefault((name, method, metric), []).append(value)
        advance(1, f"{name}, seed {seed}, {method}")
  for method, metric in dict.fromkeys(key[1:] for key in list(found)):
    values = [found[name, method, metric] for name in SETS]
    found[adbench.MEAN, method, metric] = np.mean(values, axis=0).tolist()
  records = [_record("small-sets", *key, values) for key, values in found.items()]
  return records, {}


def _auroc(method: str, parts: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int) -> Cell:
  x, x_test, labels = parts
  began = time.monotonic()
  score: adbench.Score
  if method in FORMS:
    score = DROCC(random_state=seed, **FORMS[method]).fit(x).detector_.score
  else:
    score, _ = adbench.METHODS[method](x, seed)
  seconds = time.monotonic() - began
  return {method: {"auroc": metrics.auroc(labels, score(x_test)), "train_seconds": seconds}}


def count_alarms(seeds: int) -> int:
  """Number of cells of small-sets-alarms."""
  return seeds * len(SOURCES) * len(SIZES)


def table_alarms(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """Realised rates of false alarms; ``seeds`` training sets of each size and source."""
  found: dict[tuple[str, str, str], list[float]] = {}
  for size in SIZES:
    for source in SOURCES:
      for seed in range(seeds):
        measure = functools.partial(_alarms, source, size, seed)
        for method, rates in ledger.cell((source, size, seed), measure).items():
          for metric, value in rates.items():
            for row in (f"{source}, {size} records", f"all, {size} records"):
              found.setdefault((row, method, metric), []).append(value)
        advance(1, f"{source}, {size} records, seed {seed}")
  records = [_record("small-sets-alarms", *key, values) for key, values in found.items()]
  rows = list(dict.fromkeys(record.row for record in records))
  drawn = {}
  for rate, metric in SHOWN.items():
    series = {
      method: [float(100.0 * np.mean(found[row, method, metric])) for row in rows]
      for method in ALARMS
    }
    figure = figures.dots(rows, series, f"{metric}, %")
    figure.axes[0].axvline(100.0 * rate, color="#bbbbbb", lw=0.8, ls="--")
    drawn[f"small-sets-alarms-{100 * rate:.0f}"] = figure
  return records, drawn


def drawn_from(source: str, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Typical records of one source: ``[size, d]`` to train on, and at most ``FRESH`` others."""
  rng = np.random.default_rng((SOURCES.index(source), size, seed))
  if source in SOURCES[:2]:
    shape = (size + FRESH, COLUMNS)
    x = rng.normal(size=shape) if source == SOURCES[0] else rng.standard_t(3, size=shape)
    x = x @ np.random.default_rng(0).normal(size=(COLUMNS, COLUMNS))
  else:
    records, y = real.load(f"adbench/{source}")
    x = records[rng.permutation(np.flatnonzero(y == 0))]
  return x[:size], x[size:][:FRESH]


def _alarms(source: str, size: int, seed: int) -> Cell:
  """Shares of fresh typical records with p-values of at most the stated rates."""
  x, fresh = drawn_from(source, size, seed)
  model = DROCC(random_state=seed).fit(x)
  split = DROCC(random_state=seed, calibration=cross.SPLIT).fit(x)
  p_values = (model.p_value(fresh), counted(model, x, fresh, seed), split.p_value(fresh))
  return {
    method: {SHOWN[rate]: float(np.mean(p <= rate * (1.0 + 1e-9))) for rate in RATES}
    for method, p in zip(ALARMS, p_values, strict=True)
  }


def counted(model: DROCC, x: np.ndarray, fresh: np.ndarray, seed: int) -> np.ndarray:
  """Vovk's cross-conformal p-values ``[m]`` of a ``DROCC(random_state=seed)`` fitted on ``x``."""
  drawn = int(check_random_state(seed).randint(2**31 - 1))
  roles = cross.divide(x, Training(), drawn, plain=True)
  program: Any = model.detector_.program
  arrays = model.detector_.arrays
  variables = arrays["variables"]

  def scores(rows: np.ndarray) -> np.ndarray:
    z = arrays["preprocessing"].transform(rows)
    each = jax.jit(ensemble.each_logit, static_argnums=0)
    network = program.score_fn.network
    return -np.asarray(each(network, variables["params"], variables["stats"], z))

  without = roles.without(roles.held_out)
  assert without is not None
  own, new = scores(x[roles.held_out]), scores(fresh)
  above = sum(
    np.sum(one[fold][:, None] >= other[None], axis=0)
    for one, other, fold in zip(own, new, without, strict=True)
  )
  return (1.0 + above) / (len(roles.held_out) + 1.0)


def _record(table: str, row: str, method: str, metric: str, values: list[float]) -> TableRecord:
  factor = 1.0 if metric == "train_seconds" else 100.0
  mean, std = (round(factor * float(f(values)), 2) for f in (np.mean, np.std))
  return TableRecord(table, row, method, "last", metric, mean, std, len(values))
