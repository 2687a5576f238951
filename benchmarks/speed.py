"""How long things take, side by side in one run.

  python -m benchmarks.speed --case=thyroid

thyroid, arrhythmia   a training of DROCC on tabular data against plain PyTorch
cifar_lenet, lstm     an epoch of DROCC on a larger network against plain PyTorch
fingerprint           what NeuralFP costs beside the network that it watches; also -fashion
projection            DROCC-LF's against the released method
scoring               rows per second, against isolation forest and PyTorch
neighbours            seconds and bytes beside five nearest neighbours, over training records
search, mobilenet     how close to the matrix-product rate; larger on an accelerator
startup               from the command ``launch.score`` to its scores
all                   each of them; with --output=FILE.json, one JSON, and a chart beside it

Runs of both sides alternate in one process, and the ratio is the median over pairs; compilation
is timed apart or left out. Needs the extra ``torch``. On cores that are busy with other work
PyTorch's threads wait for one another and it may slow down manyfold: OMP_NUM_THREADS=1 then gives
the fairer number, and cifar_lenet and lstm choose the number by a trial.
"""

import dataclasses
import os
import pathlib
import statistics
import time
from typing import Any

from absl import flags
import jax
import numpy as np

from benchmarks import (
  records,
  speed_figure,
  speed_fingerprint,
  speed_neighbours,
  speed_networks,
  speed_projection,
  speed_scoring,
  speed_search,
  speed_startup,
  speed_timing,
  torch_drocc,
)
from detector_jax import Standardizer, training
from drocc_jax import drocc, fit, networks, recipe
from launch import data
from launch import flags as common
from launch.reporting import progress


@dataclasses.dataclass(frozen=True)
class Case:
  """One training.

  Attributes:
    rows: number of training rows.
    features: of a row.
    epochs: of the training.
    radius: of the search.
    learning_rate: of Adam.
  """

  rows: int
  features: int
  epochs: int
  radius: float
  learning_rate: float


CASES = {
  "thyroid": Case(rows=3586, features=6, epochs=100, radius=2.5, learning_rate=1e-3),
  "arrhythmia": Case(rows=320, features=274, epochs=200, radius=16.0, learning_rate=1e-4),
}
HIDDEN, BATCH_SIZE, NUM_STEPS = 128, 256, 50

MODULES: tuple[Any, ...] = (
  speed_networks,
  speed_scoring,
  speed_fingerprint,
  speed_search,
  speed_startup,
  speed_neighbours,
)
ALL_CASES = sorted(
  [*CASES, *speed_projection.CASES, *(name for module in MODULES for name in module.CASES)]
)
EVERY = "all"

_CASE = flags.DEFINE_enum("case", "thyroid", [*ALL_CASES, EVERY], "What to time.")
_RUNS = flags.DEFINE_integer("runs", 3, "Interleaved pairs of runs.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file.")


def rows_of(name: str, case: Case) -> tuple[np.ndarray, str]:
  """Standardised training rows: the real set where OOD_DATA_DIR has it, else random ones."""
  if not os.environ.get("OOD_DATA_DIR"):
    x = np.random.default_rng(0).normal(size=(case.rows, case.features))
    return x.astype(np.float32), "standard-normal rows of the real set's size"
  splits = data.RealTable(name=name, split="released").load()
  preprocessing = Standardizer.fit(splits.x_train, constant="clip")
  return preprocessing.transform(splits.x_train), f"{name}, released split"


def measure(name: str, runs: int, rate: float) -> tuple[records.SpeedRecord, dict[str, object]]:
  """Times one case; returns its record and further facts."""
  case = CASES[name]
  x, source = rows_of(name, case)
  config = drocc.Config(
    radius=case.radius,
    step_size=0.01,
    num_steps=NUM_STEPS,
    project_every=10,
    learning_rate=case.learning_rate,
    average_decay=0.0,
  )
  program = fit.compile_program(networks.MLP((HIDDEN,)), config.static(), BATCH_SIZE)
  rows = training.to_device(x)
  init_key, train_key = recipe.keys(0)

  def ours(epochs: int) -> float:
    state = program.init(config.hyper(), rows.inputs[:1], init_key)
    jax.block_until_ready(state)
    start = time.perf_counter()
    jax.block_until_ready(program.train_epochs(state, rows, train_key, 0, epochs))
    return time.perf_counter() - start

  def peer(epochs: int) -> float:
    start = time.perf_counter()
    torch_drocc.train(x, config, HIDDEN, BATCH_SIZE, epochs)
    return time.perf_counter() - start

  compile_seconds = ours(1)
  peer(1)
  pairs = []
  with progress.bar(f"{name}, pairs of runs", runs) as advance:
    for _ in range(runs):
      pairs.append((ours(case.epochs), peer(case.epochs)))
      advance(1, f"ours {pairs[-1][0]:.2f} s, PyTorch {pairs[-1][1]:.2f} s")
  record = records.SpeedRecord(
    case=name,
    ours_seconds=round(statistics.median(mine for mine, _ in pairs), 3),
    peer="PyTorch eager",
    peer_seconds=round(statistics.median(theirs for _, theirs in pairs), 3),
    ratio=round(statistics.median(theirs / mine for mine, theirs in pairs), 2),
    floor_seconds=round(operations(case, x.shape[1]) / rate, 3),
  )
  return record, {
    "data": source,
    "peer_threads": torch_drocc.threads(),
    "compile_and_first_epoch_seconds": round(compile_seconds, 2),
    "matrix_product_gflops": round(rate / 1e9, 1),
    "pairs_seconds": [[round(mine, 3), round(theirs, 3)] for mine, theirs in pairs],
  }


def operations(case: Case, features: int) -> float:
  """Floating-point operations of the matrix products of one training.

  An ascent step needs the forward pass and the gradient of the input, an outer step the forward
  pass and both gradients of twice the batch (the input's gradient is not needed). With more
  features than hidden units a step of our search has one product with the first layer's Gram
  matrix instead, and a search that matrix, the images of example and noise, and the way back.
  """
  product = 2.0 * BATCH_SIZE * HIDDEN * features
  search = NUM_STEPS * 2.0 * product
  if features >= HIDDEN:
    gram = 2.0 * HIDDEN * HIDDEN
    search = gram * (NUM_STEPS * BATCH_SIZE + features) + 3.0 * product
  steps = case.epochs * training.steps_per_epoch(case.rows, BATCH_SIZE)
  return steps * (search + 2.0 * 2.0 * product)


def measured(
  name: str, runs: int, rate: float
) -> tuple[list[records.SpeedRecord], dict[str, object]]:
  """Times any of the cases; returns its records and further facts.

  Args:
    name: one of ``ALL_CASES``.
    runs: interleaved runs.
    rate: operations per second of a large matrix product, for the floor.

  Raises:
    ValueError: the case needs PyTorch, and there is none.
  """
  if name in (*CASES, *speed_networks.CASES):
    check_torch()
  for module in MODULES:
    if name in module.CASES:
      return module.measure(name, runs, rate)
  if name in speed_projection.CASES:
    return speed_projection.measure(runs)
  record, facts = measure(name, runs, rate)
  return [record], facts


def main() -> None:
  """Measures one case, or all of them one after the other."""
  output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else None
  if output is not None:
    records.check_writable(output)
  every = _CASE.value == EVERY
  if every or _CASE.value in speed_networks.CASES:
    speed_networks.emulate()
  if every:
    check_torch()
  rate, found, facts = speed_timing.matrix_product_rate(), [], {}
  for name in ALL_CASES if every else (_CASE.value,):
    own, facts[name] = measured(name, _RUNS.value, rate)
    found += own
    if output is not None:  # after every case, as one that fails must not cost the others
      records.write(output, found, **({"facts": facts} if every else facts[name]))
  if output is None:
    records.show(found)
    for name, value in (facts if every else facts[_CASE.value]).items():
      print(f"{name}: {value}")
    return
  print(f"records: {output}")
  if every:
    speed_figure.write(output.with_suffix(".png"), found)


def check_torch() -> None:
  """Raises a ValueError that names the extra where PyTorch is missing."""
  try:
    import torch  # noqa: F401
  except ImportError:
    raise ValueError(
      "The comparison needs PyTorch: install it with pip install -e '.[torch]'."
    ) from None


if __name__ == "__main__":
  common.run(main)
