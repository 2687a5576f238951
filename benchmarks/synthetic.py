"""Tables 6 and 7, Figures 1b and 5 of the DROCC paper: a ball and a sine curve."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from benchmarks import protocol, sine_figure
from benchmarks.baselines import generative
from benchmarks.records import TableRecord, by_method
from configs import drocc_sine, drocc_sphere
from detector_jax import metrics
from launch.methods.drocc import Config
from launch.reporting import figures

# AUROC in percent, from the paper's Tables 6 and 7.
PAPER_SPHERE = {
  "DROCC": (99.44, 99.99, 100.0, 100.0, 100.0),
  "nearest neighbour": (100.0, 100.0, 100.0, 100.0, 100.0),
  "OC-SVM": (92.0, 92.97, 92.97, 91.87, 91.83),
}
PAPER_SINE = {
  "DROCC": (96.8, 99.31, 99.92, 99.98, 100.0, 100.0),
  "nearest neighbour": (100.0, 100.0, 100.0, 100.0, 100.0, 100.0),
  "OC-SVM": (56.99, 68.84, 76.95, 81.73, 88.18, 98.56),
}
RADII = (1.2, 1.4, 1.6, 1.8, 2.0)
DISPLACEMENTS = (0.2, 0.4, 0.6, 0.8, 1.0, 2.0)

Advance = Callable[..., None]


def count(seeds: int) -> int:
  """Number of trainings in either table."""
  return seeds


def table6(seeds: int, advance: Advance) -> tuple[list[TableRecord], dict[str, Figure]]:
  """The ball: anomalies on the surface of spheres of five radii; one training per seed."""
  make = functools.partial(_with, drocc_sphere.get_config(), "radius")
  records, _ = _measure("6", "radius", RADII, make, PAPER_SPHERE, seeds, advance)
  return records, {"table6": _lines(records, RADII, "radius of the sphere of anomalies")}


def table7(seeds: int, advance: Advance) -> tuple[list[TableRecord], dict[str, Figure]]:
  """The sine: anomalies displaced vertically by six distances; one training per seed."""
  make = functools.partial(_with, drocc_sine.get_config(), "displacement")
  records, trained = _measure("7", "displacement", DISPLACEMENTS, make, PAPER_SINE, seeds, advance)
  lines = _lines(records, DISPLACEMENTS, "vertical displacement of the anomalies")
  return records, {"table7": lines, "figure5": sine_figure.figure(*trained)}


def _with(config: Config, field: str, value: float, seed: int) -> Config:
  """The experiment with one setting of its data; every value has the same training set."""
  setting: dict[str, Any] = {field: value}
  chosen = dataclasses.replace(config.data, seed=seed, **setting)
  return dataclasses.replace(config, data=chosen, seed=seed)


def _measure(
  table: str,
  field: str,
  values: Sequence[float],
  make: Callable[[float, int], Config],
  paper: Mapping[str, tuple[float, ...]],
  seeds: int,
  advance: Advance,
) -> tuple[list[TableRecord], Any]:
  results: dict[tuple[float, str], dict[str, list[float]]] = {}
  trained = None
  for seed in range(seeds):
    splits = [make(value, seed).data.load() for value in values]
    x_train = splits[0].x_train
    tests = [split.labelled_test() for split in splits]
    x_tests = [x for x, _ in tests]
    config = make(values[0], seed)
    trajectory = protocol.train(config, x_train, np.concatenate(x_tests))
    advance(1, f"seed {seed}")
    ours = np.split(trajectory.scores, np.cumsum([len(x) for x in x_tests])[:-1], axis=1)
    theirs = protocol.baseline_scores(x_train, x_tests, seed, scaling="none")
    if protocol.all_methods():
      theirs |= protocol.deep_baseline_scores(config, x_train, x_tests)
      theirs |= generative.scores(config, x_train, x_tests)
    for place, (value, (_, labels)) in enumerate(zip(values, tests, strict=True)):
      auroc = functools.partial(metrics.auroc, labels)
      columns = {"DROCC": dataclasses.replace(trajectory, scores=ours[place]).columns(auroc)}
      columns |= {name: {"last": auroc(parts[place])} for name, parts in theirs.items()}
      for method, by_column in columns.items():
        for column, result in by_column.items():
          results.setdefault((value, method), {}).setdefault(column, []).append(result)
    if trained is None:
      trained = trajectory.score, x_train
  records = []
  for (value, method), measured in results.items():
    published = paper[method][values.index(value)] if method in paper else None
    row = f"{field} {value:g}"
    records += protocol.summarise(table, row, method, "auroc", measured, published)
  return records, trained


def _lines(records: list[TableRecord], values: Sequence[float], xlabel: str) -> Figure:
  last = by_method(record for record in records if record.column == "last")
  series = {method: (values, *found) for method, found in last.items()}
  return figures.lines_with_spread(series, xlabel, "AUROC, %, last epoch")
