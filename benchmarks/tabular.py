"""Table 2 of the DROCC paper: Thyroid, Arrhythmia and Abalone."""

from collections.abc import Callable
import dataclasses
import functools

from matplotlib.figure import Figure
import numpy as np

from benchmarks import protocol
from benchmarks.baselines import generative
from benchmarks.records import TableRecord, by_method
from configs import drocc_table2
from detector_jax import metrics
from drocc_jax.metrics import f1_released
from launch import data
from launch.methods.drocc import Config
from launch.reporting import figures

MEMBERS = 5
SETS = tuple(drocc_table2.SETTINGS)
# F1 in percent, the paper's Table 2; its split and F1 are not stated there.
PAPER = {
  "DROCC": {"thyroid": 78.0, "arrhythmia": 63.0, "abalone": 68.0},
  "OC-SVM": {"thyroid": 39.0, "arrhythmia": 46.0, "abalone": 48.0},
  "LOF": {"thyroid": 54.0, "arrhythmia": 51.0, "abalone": 33.0},
  "autoencoder": {"thyroid": 13.0, "arrhythmia": 45.0, "abalone": 33.0},
  "GOAD": {"thyroid": 72.0, "arrhythmia": 51.0, "abalone": 61.0},
  "DCN": {"thyroid": 33.0, "arrhythmia": 38.0, "abalone": 40.0},
  "DAGMM": {"thyroid": 49.0, "arrhythmia": 49.0, "abalone": 20.0},
  "Deep SVDD": {"thyroid": 73.0, "arrhythmia": 54.0, "abalone": 62.0},
}
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
  "auroc": metrics.auroc,
  "f1_drocc_released": f1_released,
  "f1_at_true_ratio": metrics.f1_at_true_ratio,
}


def table2(seeds: int, advance: Callable[..., None]) -> tuple[list[TableRecord], dict[str, Figure]]:
  """Both protocols: the released split and DAGMM's half split, every method on the same rows.

  Args:
    seeds: number of seeds, of split and training.
    advance: called after every training with a note.
  """
  records: list[TableRecord] = []
  for name in SETS:
    released = drocc_table2.get_config(name)
    for split in ("released", "half"):
      values: dict[tuple[str, str], dict[str, list[float]]] = {}
      for seed in range(seeds):
        chosen = data.RealTable(name=name, split=split, seed=seed)
        splits = chosen.load()
        x_test, labels = splits.labelled_test()
        default = Config(data=chosen, seed=seed, calibration_size=0.1)
        several = dataclasses.replace(default, members=MEMBERS)
        settings = {
          "DROCC, defaults": default,
          f"DROCC, {MEMBERS} members": several,
          "DROCC, released settings": dataclasses.replace(released, data=chosen, seed=seed),
        }
        for method, config in settings.items():
          trajectory = protocol.train(config, splits.x_train, x_test)
          for metric, function in METRICS.items():
            by_column = trajectory.columns(functools.partial(function, labels))
            _append(values, method, metric, by_column)
          advance(1, f"{name}, {split} split, seed {seed}, {method}")
        peers = protocol.baseline_scores(splits.x_train, [x_test], seed)
        if protocol.all_methods():
          peers |= protocol.deep_baseline_scores(default, splits.x_train, [x_test])
          peers |= generative.scores(default, splits.x_train, [x_test])
        for method, (scores,) in peers.items():
          for metric, function in METRICS.items():
            _append(values, method, metric, {"last": function(labels, scores)})
      for (method, metric), measured in values.items():
        paper = PAPER.get(method.split(",")[0], {}).get(name) if metric.startswith("f1") else None
        row = f"{name}, {split} split"
        records += protocol.summarise("2", row, method, metric, measured, paper)
  return records, {"table2": _figure(records)}


def count2(seeds: int) -> int:
  """Number of trainings in the table."""
  return len(SETS) * 2 * seeds * 3


def _append(
  values: dict[tuple[str, str], dict[str, list[float]]],
  method: str,
  metric: str,
  by_column: dict[str, float],
) -> None:
  columns = values.setdefault((method, metric), {})
  for column, value in by_column.items():
    columns.setdefault(column, []).append(value)


def _figure(records: list[TableRecord]) -> Figure:
  chosen = [r for r in records if r.metric == "auroc" and r.column == "last"]
  rows = list(dict.fromkeys(r.row for r in chosen))
  labels = [row.replace(", ", "\n") for row in rows]
  return figures.grouped_bars(labels, by_method(chosen), "AUROC, %, last epoch", bottom=40.0)
