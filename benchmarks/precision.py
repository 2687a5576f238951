"""What bfloat16 in the search costs: AUROC of DROCC() on four sets of ADBench, in both precisions.

Parts and preprocessing are those of ``benchmarks.adbench``; both precisions have the same seeds,
so the same start, order of records and noise.
"""

from collections.abc import Callable
import functools

import jax
from matplotlib.figure import Figure
import numpy as np

from benchmarks import adbench
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import metrics
from drocc_jax import networks, recipe
from drocc_jax.drocc import Config
from drocc_jax.settings import Training
from launch.data import real

TITLE, MEAN, DIFFERENCE = "precision", "mean", "bf16 minus float32"
SETS = ("cardio", "letter", "thyroid", "satellite")


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(SETS) * len(networks.PRECISIONS)


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC of each precision on every set, their means over the sets, and the differences.

  Args:
    seeds: how many, from 0.
    advance: told of every training that is done.
    ledger: of trainings that are done already.

  Returns:
    Records, those of ``DIFFERENCE`` in percent points; and no figure.
  """
  found: dict[tuple[str, str], list[float]] = {}
  for name in SETS:
    x, y = real.load(f"adbench/{name}")
    for seed in range(seeds):
      parts = adbench.parts_of(x, y, seed)
      for precision in networks.PRECISIONS:
        measure = functools.partial(_cell, parts, seed, precision)
        cell = ledger.cell((name, seed, precision), measure)[precision]
        found.setdefault((name, precision), []).append(cell["auroc"])
        advance(1, f"{name}, seed {seed}, {precision}")
  for precision in networks.PRECISIONS:
    found[MEAN, precision] = np.mean([found[name, precision] for name in SETS], axis=0).tolist()
  for name in (*SETS, MEAN):
    apart = np.subtract(found[name, "bf16"], found[name, "float32"])
    found[name, DIFFERENCE] = apart.tolist()
  return [_record(*key, values) for key, values in found.items()], {}


def _cell(parts: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int, precision: str) -> Cell:
  train, x_test, labels = parts
  return {precision: {"auroc": metrics.auroc(labels, scores(train, x_test, seed, precision))}}


def scores(train: np.ndarray, x_test: np.ndarray, seed: int, precision: str) -> np.ndarray:
  """What DROCC with its defaults, trained on ``[n, d]``, gives to the test records ``[m, d]``."""
  prepared = recipe.build_training(train, Config.automatic(precision=precision), Training())
  init_key, train_key = recipe.keys(seed)
  state, _ = prepared.program.train_epochs(
    prepared.init(init_key), prepared.data, train_key, 0, prepared.epochs
  )
  score = jax.jit(functools.partial(recipe.NegativeLogit(prepared.network), state.average))
  return np.asarray(score(prepared.preprocessing.transform(x_test)))


def _record(row: str, method: str, values: list[float]) -> TableRecord:
  return TableRecord.from_values(TITLE, row, method, "auroc", values, factor=100.0)
