"""What each method costs beside what it finds: training seconds, rows per second, parameters.

On Thyroid (the half split) and on one digit of MNIST at the scale of the image tables. Every method
has its defaults, about 1,500 steps for those that train a network; on images as many epochs as ours
there. At the scale "cpu" AnoGAN has its short search, GEOM its short training, and 1,000 test
images are drawn. The numbers are medians over seeds:

train_seconds        standardising not counted; with one seed compilation is in it
first_train_seconds  of the first seed: compilation is in it
rows_per_second      of at most 512 test records, after a first call that compiles
parameters           numbers that training found; of methods that train none, what scoring reads
"""

from collections.abc import Callable
import functools
import time
from typing import Any

from absl import flags
from matplotlib.figure import Figure
import numpy as np

from benchmarks import images, transformations
from benchmarks.baselines import (
  BASELINES,
  anogan,
  autoencoder,
  dagmm,
  dcn,
  deep_svdd,
  generative,
  geom,
  goad,
  rebm,
)
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import Standardizer, metrics
from detector_jax.batching import num_parameters
from drocc_jax import DROCC, networks
from launch import data

SOFT = functools.partial(deep_svdd.make, objective="soft-boundary")
METRICS = ("auroc", "train_seconds", "first_train_seconds", "rows_per_second", "parameters")
TIMED_ROWS, TIMES = 512, 3

_ROWS = flags.DEFINE_list(
  "costs", ["thyroid", "mnist 3"], 'Rows of the table costs: "thyroid", "arrhythmia", "mnist D".'
)

Make = Callable[[int], Any]


class Ours:
  """``DROCC()`` with the interface of a baseline; all rows train, as those of the baselines do.

  Args:
    seed: decides everything random.
    **settings: parameters of ``DROCC``.
  """

  def __init__(self, seed: int, **settings: Any) -> None:
    self._model = DROCC(random_state=seed, calibration_size=0.0, **settings)

  def fit(self, x: np.ndarray) -> "Ours":
    """Trains on typical records ``[n, ...]``."""
    self._model.fit(x)
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[m, ...]`` to ``[m]``; higher = more anomalous."""
    return -self._model.score_samples(x)

  @property
  def parameters(self) -> int:
    """Number of the network's parameters."""
    return num_parameters(self._model.detector_.arrays["variables"]["params"])


class Flat:
  """A baseline of tables on flattened records.

  Args:
    model: the baseline.
  """

  def __init__(self, model: Any) -> None:
    self._model = model

  def fit(self, x: np.ndarray) -> "Flat":
    """Learns from ``[n, ...]``."""
    self._model.fit(x.reshape(len(x), -1))
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[m, ...]`` to ``[m]``."""
    return self._model.score(x.reshape(len(x), -1))

  @property
  def parameters(self) -> int:
    """Of the baseline."""
    return self._model.parameters


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(_ROWS.value)


def methods(shape: tuple[int, ...], size: images.Scale) -> dict[str, Make]:
  """Every method for records of one shape, each made from a seed.

  Args:
    shape: of a record, standardised.
    size: of image tables; is unused on tables.
  """
  simple = {name: _flat(make) for name, make in BASELINES.items()}
  trained: dict[str, Callable[..., Any]] = {
    "autoencoder": autoencoder.make,
    "Deep SVDD": deep_svdd.make,
    "Deep SVDD, soft boundary": SOFT,
  }
  if len(shape) == 1:
    trained |= {"GOAD": goad.make, "DAGMM": dagmm.make, "DCN": dcn.make, "REBM": rebm.make}
    found: dict[str, Make] = {"DROCC": Ours}
    return simple | {name: _shaped(make, shape) for name, make in trained.items()} | found
  epochs = {"epochs": size.epochs, "batch_size": size.batch_size}
  longer = {**epochs, "pretrain_epochs": size.epochs}
  short = bool(size.train)
  visits = transformations.SHORT_VISITS if short else transformations.VISITS
  network = networks.mnist_lenet() if short else None
  return simple | {
    "autoencoder": _shaped(autoencoder.make, shape, **epochs),
    "Deep SVDD": _shaped(deep_svdd.make, shape, **longer),
    "Deep SVDD, soft boundary": _shaped(SOFT, shape, **longer),
    "AnoGAN": _shaped(anogan.make, shape, **(generative.CHEAP if short else {})),
    "GEOM": _shaped(geom.make, shape, network=network, epochs=visits, batch_size=128),
    "DROCC": functools.partial(Ours, num_steps=size.ascent, **epochs),
  }


def _flat(make: Make) -> Make:
  return lambda seed: Flat(make(seed))


def _shaped(make: Callable[..., Any], shape: tuple[int, ...], **settings: Any) -> Make:
  return lambda seed: make(seed, shape, **settings)


def measured(model: Any, x: np.ndarray, x_test: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  """Trains and scores one model; a value for every metric of ``METRICS``."""
  began = time.perf_counter()
  model.fit(x)
  seconds = time.perf_counter() - began
  scores = model.score(x_test)
  rows, rates = x_test[:TIMED_ROWS], []
  for _ in range(TIMES):
    began = time.perf_counter()
    model.score(rows)
    rates.append(len(rows) / max(time.perf_counter() - began, 1e-9))
  return {
    "auroc": 100.0 * metrics.auroc(labels, scores),
    "train_seconds": seconds,
    "first_train_seconds": seconds,
    "rows_per_second": float(np.median(rates)),
    "parameters": float(model.parameters),
  }


def cell(row: str, seed: int, size: images.Scale) -> Cell:
  """Every method on one row's records."""
  if row.startswith("mnist "):
    fewer = transformations.CPU if size == images.CPU else size
    x, x_test, labels = images.one_class("mnist", int(row.split(" ")[1]), seed, fewer)
  else:
    found = data.RealTable(name=row, split="half", seed=seed).load()
    x, (x_test, labels) = found.x_train, found.labelled_test()
  scale = Standardizer.fit(x)
  z, z_test = (scale.transform(part) for part in (x, x_test))
  return {
    method: measured(make(seed), z, z_test, labels)
    for method, make in methods(z.shape[1:], size).items()
  }


def table(
  seeds: int,
  advance: Callable[..., None],
  ledger: Ledger,
  size: images.Scale | None = None,
  rows: list[str] | None = None,
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """Medians over seeds of every metric; the spread is the standard deviation."""
  size = images.scale() if size is None else size
  rows = _ROWS.value if rows is None else rows
  values = ledger.gather(rows, seeds, functools.partial(cell, size=size), advance)
  records = []
  for (row, method, metric), found in values.items():
    found = found[:1] if metric == "first_train_seconds" else found
    records.append(
      TableRecord.from_values("costs", row, method, metric, found, digits=3, middle=np.median)
    )
  return records, {"costs": quality_and_seconds(records)}


def quality_and_seconds(records: list[TableRecord]) -> Figure:
  """AUROC over seconds of training, a panel for each row of data, seconds on a log axis."""
  by = {(r.row, r.method, r.metric): r.mean for r in records}
  rows = list(dict.fromkeys(record.row for record in records))
  figure = Figure(figsize=(5.6 * len(rows), 4.2), layout="constrained")
  panels = figure.subplots(1, len(rows), squeeze=False)[0]
  for axes, row in zip(panels, rows, strict=True):
    axes.spines[["top", "right"]].set_visible(False)
    found = dict.fromkeys(r.method for r in records if r.row == row)
    pairs = sorted((by[row, method, "auroc"], method) for method in found)
    gap = 0.045 * max(pairs[-1][0] - pairs[0][0], 1.0)
    named: list[tuple[float, float]] = []
    for y, method in pairs:
      x = by[row, method, "train_seconds"]
      below = [height for other, height in named if abs(np.log10(x / other)) < 1.3]
      height = max([y, *(other + gap for other in below)])  # names one above another
      named.append((x, height))
      colour = "#c8452f" if method == "DROCC" else "#2a6fb0"
      axes.plot([x], [y], "o", color=colour, ms=5)
      axes.annotate(
        method,
        (x, y),
        (1.6 * x, height),
        fontsize=7,
        va="center",
        arrowprops={"arrowstyle": "-", "color": "0.7", "lw": 0.6},
      )
    axes.set(xscale="log", xlabel="seconds of training", ylabel="AUROC, %", title=row)
    axes.margins(x=0.3, y=0.2)
  return figure
