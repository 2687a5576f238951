"""Real sets of ADBench, every method with one setting for all of them.

Half of the typical records train, at most 5,000; the others and all anomalies test, at most 5,000
of each. Features are standardised by the training records and clipped at 20 standard deviations;
nothing is up-sampled. No anomaly is seen before the test.

DROCC                     what DROCC() does, trained on all training records
DROCC, former default     what it did before: mu 10, a constant rate, 10 ascent steps, two layers of
                          256 ReLUs, no record left out
DROCC, released settings  one hidden layer of 128, 100 epochs in batches of 256 of which 50 see no
                          negatives, radius sqrt(d) / 2, 50 ascent steps of 0.01
DROCC, ...                in the table adbench-ablations: DROCC() with one thing changed

The last two, and baselines that train a network, run with --methods=all; with --methods=peers those
of ``baselines.pyod_detectors`` that are installed and DTE's estimator stand beside ours, under the
name adbench-peers, with the rank of each method by AUROC on each set (1 is best, ties share) and
its mean over the sets. Beside AUROC there is its margin over five nearest neighbours on the same
records: the mean, and in the column "worst" the least of all seeds.

A method that stops, as DROCC does at scores that are upside down, counts as one that guesses: 50.
"""

from collections.abc import Callable, Collection, Sequence
import functools
import logging
import time
from typing import Any

from absl import flags
import jax
from matplotlib.figure import Figure
import numpy as np
from scipy import stats

from benchmarks import protocol
from benchmarks.adbench_sets import DEVELOPMENT, MORE, REPORT
from benchmarks.baselines import (
  deep_svdd,
  diffusion_time,
  isolation_forest,
  local_outlier_factor,
  nearest_neighbour,
  one_class_svm,
  pyod_detectors,
)
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import HealthError, Standardizer, metrics
from detector_jax.batching import num_parameters
from drocc_jax import DROCC, networks, recipe
from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.settings import Training
from launch.data import real
from launch.reporting import figures

logger = logging.getLogger(__name__)

MOST, CLIP, MEAN = 5000, 20.0, "mean"
OURS, NEIGHBOURS = "DROCC", "5 nearest neighbours"

Score = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, int], tuple[Score, int]]

_SETS = flags.DEFINE_list("sets", [], "Sets of the table adbench; none: all of the folder.")


def parts_of(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Divides labelled records ``[n, d]``.

  Args:
    x: records.
    y: ``[n]``, 1 = anomalous.
    seed: of the draws.

  Returns:
    Training records, test records and the labels of these.
  """
  rng = np.random.default_rng(seed)
  typical, anomalous = (rng.permutation(np.flatnonzero(y == label)) for label in (0, 1))
  half = len(typical) // 2
  test = np.concatenate([typical[half:][:MOST], anomalous[:MOST]])
  return x[typical[:half][:MOST]], x[test], y[test]


def drocc(x: np.ndarray, seed: int, **change: Any) -> tuple[Score, int]:
  """``DROCC()`` on all records ``[n, d]``; ``change`` are its parameters."""
  model = DROCC(**{"calibration_size": 0.0, "random_state": seed, **change}).fit(x)
  params = model.detector_.arrays["variables"]["params"]
  return lambda rows: -model.score_samples(rows), num_parameters(params)


def released(x: np.ndarray, seed: int) -> tuple[Score, int]:
  """DROCC as the released code trains it on a table."""
  kept = int(np.sum(np.ptp(x, axis=0) > 0))
  per_epoch = -(-len(x) // min(256, len(x)))
  config = DroccConfig(
    radius=float(np.sqrt(kept)) / 2.0,
    step_size=0.01,
    num_steps=50,
    project_every=10,
    warmup_steps=50 * per_epoch,
    schedule="released",
    average_decay=0.0,
  )
  prepared = recipe.build_training(
    x,
    config,
    Training(batch_size=256, epochs=100, scaling="moments", trim=0.0),
    network=networks.MLP(),
  )
  init_key, train_key = recipe.keys(seed)
  state = prepared.init(init_key)
  state, _ = prepared.program.train_epochs(state, prepared.data, train_key, 0, prepared.epochs)
  score = jax.jit(functools.partial(recipe.NegativeLogit(prepared.network), state.average))
  size = num_parameters(state.params)
  return lambda rows: np.asarray(score(prepared.preprocessing.transform(rows))), size


def _baseline(make: Callable[..., Any]) -> Fit:
  """A baseline behind the same preprocessing as ours."""

  def fit(x: np.ndarray, seed: int) -> tuple[Score, int]:
    scale = Standardizer.fit(x, clip=CLIP)
    z = scale.transform(x)
    model = make(seed, z.shape[1:]).fit(z)
    return lambda rows: model.score(scale.transform(rows)), 0

  return fit


def _simple(make: Callable[..., Any], **settings: Any) -> Fit:
  return _baseline(lambda seed, shape: make(seed, **settings))


FORMER: dict[str, Any] = {
  "mu": 10.0,
  "num_steps": 10,
  "learning_rate": 1e-3,
  "schedule": "constant",
  "trim": 0.0,
  "network": networks.MLP((256, 256), input_gain=2.0, bias_range=2.0, squares=True),
}
METHODS: dict[str, Fit] = {
  OURS: drocc,
  NEIGHBOURS: _simple(nearest_neighbour.make, neighbours=5),
  "LOF": _simple(local_outlier_factor.make),
  "OC-SVM": _simple(one_class_svm.make),
  "isolation forest": _simple(isolation_forest.make),
}
SLOW: dict[str, Fit] = {
  "DROCC, former default": functools.partial(drocc, **FORMER),
  "DROCC, released settings": released,
  "Deep SVDD": _baseline(deep_svdd.make),
}

SMOOTH = networks.MLP((128, 128), input_gain=2.0, bias_range=2.0, squares=True, activation="silu")
ABLATIONS: dict[str, Fit] = {
  OURS: drocc,
  "former default": functools.partial(drocc, **FORMER),
  "no record left out": functools.partial(drocc, trim=0.0),
  "constant rate": functools.partial(drocc, schedule="constant"),
  "ReLU": functools.partial(drocc, network=SMOOTH.clone(activation="relu")),
  "no squares": functools.partial(drocc, network=SMOOTH.clone(squares=False)),
  "weight of the negatives 10": functools.partial(drocc, mu=10.0),
  "one layer of 128": functools.partial(drocc, network=SMOOTH.clone(hidden=(128,))),
  "no ascent (DROCC-Rand)": functools.partial(drocc, num_steps=0),
  "no moving average": functools.partial(drocc, average_decay=0.0),
  "half the radius": lambda x, seed: _radius(x, seed, 0.5),
  "twice the radius": lambda x, seed: _radius(x, seed, 2.0),
  "5 members": functools.partial(drocc, members=5),
}


def _radius(x: np.ndarray, seed: int, factor: float) -> tuple[Score, int]:
  kept = x[:, np.ptp(x, axis=0) > 0]
  return drocc(x, seed, radius=factor * recipe.VECTOR_RADIUS * recipe.auto_radius(kept))


def names() -> tuple[str, ...]:
  """The sets that the flag asks for, or all of the folder."""
  asked = _SETS.value if flags.FLAGS.is_parsed() else ()
  return tuple(asked) or real.adbench_names()


@functools.cache
def _peers() -> dict[str, Fit]:
  found = {name: _simple(pyod_detectors.make, name=name) for name in pyod_detectors.installed()}
  return {"DTE, non-parametric": _simple(diffusion_time.make), **found}


def _methods() -> dict[str, Fit]:
  slow = SLOW if protocol.all_methods() else {}
  return METHODS | (_peers() if protocol.peers() else {}) | slow


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(names()) * len(_methods())


def count_ablations(seeds: int) -> int:
  """Number of cells of the ablations."""
  return seeds * len(names()) * len(ABLATIONS)


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC, training time and size of every method on every set, and their means over the sets."""
  title = "adbench-peers" if protocol.peers() else "adbench"
  return _table(title, _methods(), seeds, advance, ledger, names())


def count_more(seeds: int) -> int:
  """Number of cells of the table adbench-more."""
  return seeds * len(MORE) * len(METHODS)


def table_more(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """The same on the sets of ADBench that nothing was chosen on."""
  return _table("adbench-more", METHODS, seeds, advance, ledger, MORE)


def table_ablations(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """The same for ``DROCC()`` and for what it would be with one thing changed."""
  return _table("adbench-ablations", ABLATIONS, seeds, advance, ledger, names())


SIZES = (30, 100, 300, 1000)
SIZED = ("cardio", "letter", "pendigits", "satellite")


def count_sizes(seeds: int) -> int:
  """Number of cells of the table adbench-sizes."""
  return seeds * len(SIZED) * len(SIZES) * 2


def table_sizes(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC over the number of training records, of DROCC and 5 nearest neighbours."""
  title, found = "adbench-sizes", dict[tuple[str, str], list[float]]()
  for name in SIZED:
    x, y = real.load(f"adbench/{name}")
    for seed in range(seeds):
      train, x_test, labels = parts_of(x, y, seed)
      for size in SIZES:
        for method in (OURS, NEIGHBOURS):
          parts = (train[:size], x_test, labels)
          measure = functools.partial(_cell, method, METHODS[method], parts, seed)
          cell = ledger.cell((name, seed, size, method), measure)[method]
          found.setdefault((f"{name}, {size} records", method), []).append(cell["auroc"])
          advance(1, f"{name}, seed {seed}, {size} records, {method}")
  records = [_record(title, *key, "auroc", values) for key, values in found.items()]
  series: dict[str, tuple[list[float], list[float], list[float]]] = {}
  for record in records:
    name, size_of = record.row.removesuffix(" records").split(", ")
    x_axis, mean, std = series.setdefault(f"{name}, {record.method}", ([], [], []))
    x_axis.append(float(size_of))
    mean.append(record.mean)
    std.append(record.std)
  figure = figures.lines_with_spread(series, "training records", "AUROC, %")
  figure.axes[0].set_xscale("log")
  return records, {title: figure}


def _table(
  title: str,
  methods: dict[str, Fit],
  seeds: int,
  advance: Callable[..., None],
  ledger: Ledger,
  sets: Sequence[str],
) -> tuple[list[TableRecord], dict[str, Figure]]:
  found: dict[tuple[str, str, str], list[float]] = {}
  for name in sets:
    x, y = real.load(f"adbench/{name}")
    for seed in range(seeds):
      parts = parts_of(x, y, seed)
      for method, fit in methods.items():
        measure = functools.partial(_cell, method, fit, parts, seed)
        for metric, value in ledger.cell((name, seed, method), measure)[method].items():
          found.setdefault((name, method, metric), []).append(value)
        advance(1, f"{name}, seed {seed}, {method}")
  if protocol.peers():
    _rank(found, methods, sets)
  measured = list(found)
  halves = {MEAN: sets, f"{MEAN}, development": DEVELOPMENT, f"{MEAN}, report": REPORT}
  for row, members in halves.items():
    for method, metric in dict.fromkeys(key[1:] for key in measured):
      keys = [key for key in measured if key[1:] == (method, metric) and key[0] in members]
      if keys:
        found[row, method, metric] = np.mean([found[key] for key in keys], axis=0).tolist()
  records = [_record(title, *key, values) for key, values in found.items()]
  figure = _figure([r for r in records if r.metric == "auroc"])
  return [*records, *_margins(title, found, [*dict.fromkeys(key[0] for key in found)])], {
    title: figure
  }


def _rank(
  found: dict[tuple[str, str, str], list[float]], methods: Collection[str], sets: Sequence[str]
) -> None:
  """Adds the rank of each method by AUROC, of each set and seed."""
  for name in sets:
    ranks = stats.rankdata([-np.array(found[name, each, "auroc"]) for each in methods], axis=0)
    found |= {(name, m, "rank"): row.tolist() for m, row in zip(methods, ranks, strict=True)}


def _margins(
  title: str, found: dict[tuple[str, str, str], list[float]], rows: Sequence[str]
) -> list[TableRecord]:
  """By how many points DROCC is above five neighbours: the mean and the least over the seeds."""
  records = []
  for row in rows:
    ours, theirs = (found.get((row, method, "auroc")) for method in (OURS, NEIGHBOURS))
    if ours is None or theirs is None:
      continue
    margin = 100.0 * np.subtract(ours, theirs)
    for column, value in (("last", margin.mean()), ("worst", margin.min())):
      records.append(
        TableRecord(
          title,
          row,
          OURS,
          column,
          "margin over 5 nearest neighbours",
          round(float(value), 2),
          round(float(margin.std()), 2),
          len(margin),
        )
      )
  return records


def _cell(
  method: str, fit: Fit, parts: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int
) -> Cell:
  x, x_test, labels = parts
  began = time.monotonic()
  try:
    score, size = fit(x, seed)
    seconds = time.monotonic() - began
    auroc = metrics.auroc(labels, score(x_test))
  except HealthError as error:
    logger.warning("%s stopped: %s", method, error)
    return {method: {"auroc": 0.5, "train_seconds": time.monotonic() - began}}
  facts = {"parameters": float(size)} if size else {}
  return {method: {"auroc": auroc, "train_seconds": seconds, **facts}}


def _record(table: str, row: str, method: str, metric: str, values: list[float]) -> TableRecord:
  factor = 100.0 if metric == "auroc" else 1.0
  return TableRecord(
    table,
    row,
    method,
    "last",
    metric,
    round(factor * float(np.mean(values)), 2),
    round(factor * float(np.std(values)), 2),
    len(values),
  )


def _figure(records: Sequence[TableRecord]) -> Figure:
  """AUROC of every method on every set; the last row is the mean over the sets."""
  series: dict[str, list[float]] = {}
  for record in records:
    series.setdefault(record.method, []).append(record.mean)
  rows = list(dict.fromkeys(record.row for record in records))
  return figures.dots(rows, series, "AUROC, %")
