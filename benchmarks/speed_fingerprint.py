"""What fingerprints cost, beside the network that they watch: --case=fingerprint[-fashion]."""

from collections.abc import Callable
import os
import pathlib
import statistics
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.records import SpeedRecord
from configs import neuralfp_fashion_mnist, neuralfp_mnist
from detector_jax import training
from detector_jax.batching import num_parameters
from fingerprint_jax import classifiers, recipe
from launch import data
from launch.methods import classifier
from launch.reporting import progress

MODELS = {
  "mnist": neuralfp_mnist.get_config,
  "fashion_mnist": neuralfp_fashion_mnist.get_config,
}
CASES = {"fingerprint": "mnist", "fingerprint-fashion": "fashion_mnist"}
BATCHES = (256, 1)
CALLS = {256: 8, 1: 200}


def measure(case: str, runs: int, rate: float) -> tuple[list[SpeedRecord], dict[str, Any]]:
  """Scoring against the forward pass, fitting against an epoch of the classifier, and size.

  Args:
    case: one of ``CASES``.
    runs: interleaved pairs.
    rate: operations per second of a large matrix product, for the floor.

  Returns:
    Records, whose ratio is peer / ours (at least 0.5 where ours costs at most twice as much), and
    further facts.
  """
  with progress.bar(case, 1) as advance:
    measured = _model(CASES[case], runs, rate)
    advance(1, "done")
  return measured


def _model(name: str, runs: int, rate: float) -> tuple[list[SpeedRecord], dict[str, Any]]:
  config = MODELS[name]()
  x, y, source = _images(name)
  network = classifier.make("auto", name)
  settings = config.classifier.training
  total = training.steps_per_epoch(len(x), settings.batch_size)
  optimizer = classifiers.make_optimizer(settings, settings.epochs * total)
  state = classifiers.init(network, optimizer, x.shape[1:], jax.random.key(0))
  step = classifiers.make_train_step(network, optimizer, settings)
  train_epochs = training.compile_train_epochs(step, settings.batch_size)
  rows = training.to_device(x, y)
  state, _ = train_epochs(state, rows, jax.random.key(1), 0, 1)
  start = time.perf_counter()
  state, _ = train_epochs(state, rows, jax.random.key(1), 1, 2)
  jax.block_until_ready(state)
  epoch_seconds = time.perf_counter() - start
  start = time.perf_counter()
  parts = np.split(np.arange(len(x)), [len(x) - 6000, len(x) - 3000])
  prepared = recipe.build_training(
    network, {"params": state.params}, x[parts[0]], config.fingerprint, jax.random.key(0)
  )
  trained, _ = prepared.advance(prepared.state, jax.random.key(1), 0, prepared.epochs)
  detector = recipe.build_detector(
    prepared, trained, x[parts[0]], x[parts[1]], x[parts[2]], 0.01, {}
  )
  fit_seconds = time.perf_counter() - start
  records = [
    _record(f"{name}, batch {n}", detector, network, state.params, x[:n], runs, rate)
    for n in BATCHES
  ]
  records.append(
    SpeedRecord(
      case=f"{name}, fit of the fingerprints, {prepared.epochs} epochs and calibration",
      ours_seconds=round(fit_seconds, 2),
      peer="one training epoch of the classifier",
      peer_seconds=round(epoch_seconds, 2),
      ratio=round(epoch_seconds / fit_seconds, 3),
      floor_seconds=0.0,
    )
  )
  with tempfile.TemporaryDirectory() as folder:
    saved = pathlib.Path(folder) / "detector"
    detector.save(saved)
    sizes = {path.name: path.stat().st_size for path in saved.iterdir()}
  return records, {
    "images": f"{len(x):,} {source}",
    "detector_bytes": {**sizes, "total": sum(sizes.values())},
    "parameters": {
      "network": num_parameters(state.params),
      "fingerprints": num_parameters(prepared.state.params),
    },
  }


def _record(
  case: str, detector: Any, network: Any, params: Any, x: np.ndarray, runs: int, rate: float
) -> SpeedRecord:
  """Scores of one batch, as the Detector computes them, against the bare network."""
  rows = jnp.asarray(x)
  forward = jax.jit(lambda params, rows: network.apply({"params": params}, rows))
  score = jax.jit(lambda arrays, rows: detector.program(arrays, rows)["score"])
  calls = CALLS[len(x)]
  pairs = []
  for run in range(runs + 1):
    pair = (
      _seconds(lambda: score(detector.arrays, rows), calls),
      _seconds(lambda: forward(params, rows), calls),
    )
    if run:  # the first compiles
      pairs.append(pair)
  cost: Any = score.lower(detector.arrays, rows).compile().cost_analysis()
  return SpeedRecord(
    case=f"score, {case}",
    ours_seconds=round(statistics.median(mine for mine, _ in pairs), 6),
    peer="forward pass of the network alone",
    peer_seconds=round(statistics.median(theirs for _, theirs in pairs), 6),
    ratio=round(statistics.median(theirs / mine for mine, theirs in pairs), 3),
    floor_seconds=round(float(cost["flops"]) / rate, 6),
  )


def _seconds(function: Callable[[], jax.Array], calls: int) -> float:
  start = time.perf_counter()
  for _ in range(calls):
    function().block_until_ready()
  return (time.perf_counter() - start) / calls


def _images(name: str) -> tuple[np.ndarray, np.ndarray, str]:
  """Training images and classes: the real set where OOD_DATA_DIR has it, else random ones."""
  if os.environ.get("OOD_DATA_DIR"):
    config: Any = MODELS[name]().data
    splits = data.OpenSetImages(name=name, ood=config.ood[:1]).load()
    assert splits.y_train is not None
    return splits.x_train, splits.y_train, name
  rng = np.random.default_rng(0)
  x = rng.random((60000, 28, 28, 1), dtype=np.float32)
  return x, rng.integers(10, size=60000), "random images of the real set's size"
