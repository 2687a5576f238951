"""How far AUROC moves on ADBench where nothing of substance does: --table=adbench-chaos.

On every set and seed ``DROCC()`` is fitted as it is and again with

inputs moved        every value of training and test records changed at random by one part in 10^6
batches of another  order of the batches and noise of the searches from another seed, the initial
  seed                weights from the same
one thread          in a process of its own with one processor; here there are all of the machine,
                    as "hardware" in the results has them

What is recorded is by how many points AUROC moves, without its sign: the mean over seeds and, in
the column "worst", the most.

The processes are: python -m benchmarks.chaos --set=thyroid --fits=5
"""

from collections.abc import Callable
import functools
import json
import os
import pathlib
import subprocess
import sys

from absl import flags
from matplotlib.figure import Figure
import numpy as np
from sklearn.utils import check_random_state

from benchmarks import adbench
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import metrics
from drocc_jax import drocc, recipe
from drocc_jax.settings import Training
from launch import flags as common
from launch.data import real
from launch.reporting import figures

RELATIVE = 1e-6
PLAIN = "as it is"
MOVED, ORDER, THREAD = "inputs moved by 1e-6", "batches of another seed", "one thread"
REPEATS = (MOVED, ORDER, THREAD)

_SET = flags.DEFINE_string("set", "thyroid", "Set of ADBench.")
_FITS = flags.DEFINE_integer("fits", 1, "Seeds of split and training.", lower_bound=1)


def auroc(name: str, seed: int, repeat: str = PLAIN) -> float:
  """AUROC of ``DROCC()`` on one set, or of one of its repeats in this process."""
  x, x_test, labels = adbench.parts_of(*real.load(f"adbench/{name}"), seed)
  if repeat == MOVED:
    rng = np.random.default_rng(seed)
    x, x_test = (
      part * (1.0 + RELATIVE * rng.uniform(-1.0, 1.0, part.shape))
      for part in (x.astype(np.float64), x_test.astype(np.float64))
    )
  if repeat != ORDER:
    return metrics.auroc(labels, adbench.drocc(x, seed)[0](x_test))
  return metrics.auroc(labels, scores_of(x, x_test, seed, seed + 1000))


def scores_of(x: np.ndarray, x_test: np.ndarray, seed: int, order: int) -> np.ndarray:
  """Scores of ``DROCC()`` with the weights of one seed and batches and noise of another."""
  prepared = recipe.build_training(x, drocc.Config.automatic(), Training())
  init_key, _ = recipe.keys(_drawn(seed))
  _, train_key = recipe.keys(_drawn(order))
  state, _ = prepared.program.train_epochs(
    prepared.init(init_key), prepared.data, train_key, 0, prepared.epochs
  )
  detector = recipe.build_detector(
    prepared.network, state, prepared.preprocessing, x, x[:0], None, {}
  )
  return detector.score(x_test)


def _drawn(seed: int) -> int:
  """The seed that an estimator draws from its random state."""
  return int(check_random_state(seed).randint(2**31 - 1))


def in_process(name: str, seeds: int) -> list[float]:
  """``auroc`` of a new process with one processor, for the seeds from 0 on."""
  command = (sys.executable, "-m", "benchmarks.chaos", f"--set={name}", f"--fits={seeds}")
  root = pathlib.Path(__file__).parents[1]
  found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
  return json.loads(found.stdout.splitlines()[-1])["auroc"]


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(adbench.names()) * (1 + len(REPEATS))


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """By how many points the AUROC of ``DROCC()`` moves on every set, and the mean over the sets."""
  moved: dict[str, dict[str, list[float]]] = {}
  for name in adbench.names():
    found = {}
    for repeat in (PLAIN, *REPEATS):
      measure = functools.partial(_cell, name, seeds, repeat)
      by_seed = ledger.cell((name, seeds, repeat), measure)[repeat]
      found[repeat] = np.array([by_seed[str(seed)] for seed in range(seeds)])
      advance(seeds, f"{name}, {repeat}")
    moved[name] = {r: (100.0 * abs(found[r] - found[PLAIN])).tolist() for r in REPEATS}
  for repeat in REPEATS:
    values = np.mean([moved[name][repeat] for name in adbench.names()], axis=0)
    moved.setdefault(adbench.MEAN, {})[repeat] = values.tolist()
  records = [
    TableRecord.from_values(
      "adbench-chaos",
      name,
      repeat,
      "movement of AUROC",
      values,
      column=column,
      digits=3,
      middle=middle,
    )
    for name, by in moved.items()
    for repeat, values in by.items()
    for column, middle in (("last", np.mean), ("worst", np.max))
  ]
  series = {r: [float(np.mean(by[r])) for by in moved.values()] for r in REPEATS}
  figure = figures.dots([*moved], series, "movement of AUROC, points")
  figure.axes[0].axvline(0.5, color="#bbbbbb", lw=0.8, ls="--")
  return records, {"adbench-chaos": figure}


def _cell(name: str, seeds: int, repeat: str) -> Cell:
  if repeat == THREAD:
    values = in_process(name, seeds)
  else:
    values = [auroc(name, seed, repeat) for seed in range(seeds)]
  return {repeat: {str(seed): value for seed, value in enumerate(values)}}


def main() -> None:
  """Prints the AUROC of fits with one processor, as JSON."""
  # XLA takes as many threads, since nothing has been computed yet.
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
  print(json.dumps({"auroc": [auroc(_SET.value, seed) for seed in range(_FITS.value)]}))


if __name__ == "__main__":
  common.run(main)
