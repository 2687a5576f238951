"""AUROC over the epochs of a training on ADBench sets: --table=adbench-epochs.

Where the former default of tables is unstable, and what the present one does about it. On thyroid,
whose columns have heavy tails, and on letter, which has none; both are sets of
``benchmarks.adbench_sets``. Half of the typical records train, see ``benchmarks.adbench``.

The figure alone, from the JSON of results: python -m benchmarks.epochs
"""

from collections.abc import Callable, Sequence
import functools
import json
import pathlib
from typing import Any

import jax
from matplotlib.figure import Figure
import numpy as np

from benchmarks import adbench
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import metrics
from drocc_jax import drocc, recipe
from drocc_jax.settings import Training
from launch import flags as common
from launch.data import real
from launch.reporting import figures

RESULTS = pathlib.Path(__file__).parent / "results" / "adbench_epochs.json"
SETS, POINTS = ("thyroid", "letter"), 16
COSINE = {**adbench.FORMER, "schedule": "cosine"}
SETTINGS: dict[str, dict[str, Any]] = {
  "former default, network of the epoch": {**adbench.FORMER, "average_decay": 0.0},
  "former default, moving average": adbench.FORMER,
  "the same, rate falling to 0": COSINE,
  "the same, isolated records left out": {**COSINE, "trim": recipe.TRIM},
  "DROCC()": {},
}


def curve(name: str, seed: int, settings: dict[str, Any]) -> dict[str, float]:
  """AUROC by the share of the training that is over, in percent.

  Args:
    name: of the set.
    seed: of split and training.
    settings: of ``drocc.Config``, with "network" and "trim" of ``recipe.build_training``.
  """
  x, x_test, labels = adbench.parts_of(*real.load(f"adbench/{name}"), seed)
  rest = {key: value for key, value in settings.items() if key not in ("network", "trim")}
  prepared = recipe.build_training(
    x,
    drocc.Config.automatic(**rest),
    Training(trim=settings.get("trim")),
    network=settings.get("network"),
  )
  init_key, train_key = recipe.keys(seed)
  state, z = prepared.init(init_key), prepared.preprocessing.transform(x_test)
  score = jax.jit(recipe.NegativeLogit(prepared.network))
  ends = np.unique(np.linspace(0, prepared.epochs, POINTS + 1).round().astype(int))
  found = {}
  for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
    state, _ = prepared.program.train_epochs(state, prepared.data, train_key, first, last)
    share = f"{100.0 * last / prepared.epochs:.1f}"
    found[share] = metrics.auroc(labels, np.asarray(score(state.average, z)))
  return found


def count(seeds: int) -> int:
  """Number of trainings."""
  return seeds * len(SETS) * len(SETTINGS)


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC along the training of every setting on every set and seed."""
  records = []
  for name in SETS:
    for seed in range(seeds):
      for method, settings in SETTINGS.items():
        measure = functools.partial(_cell, method, name, seed, settings)
        found = ledger.cell((name, seed, method), measure)[method]
        records += [
          TableRecord.from_values(
            "adbench-epochs",
            f"{name}, seed {seed}, {share} %",
            method,
            "auroc",
            [value],
            factor=100.0,
          )
          for share, value in found.items()
        ]
        advance(1, f"{name}, seed {seed}, {method}")
  return records, {"adbench-epochs": figure_of(records)}


def _cell(method: str, name: str, seed: int, settings: dict[str, Any]) -> Cell:
  return {method: curve(name, seed, settings)}


def figure_of(records: Sequence[TableRecord]) -> Figure:
  """One panel for each set, one line for each setting and seed."""
  lines: dict[str, dict[tuple[str, str], list[tuple[float, float]]]] = {}
  for record in records:
    name, seed, share = record.row.removesuffix(" %").split(", ")
    points = lines.setdefault(name, {}).setdefault((record.method, seed), [])
    points.append((float(share), record.mean))
  figure = Figure(figsize=(9.6, 4.2), layout="constrained")
  panels = figure.subplots(1, len(lines), squeeze=False)[0]
  methods = list(dict.fromkeys(record.method for record in records))
  for axes, (name, by) in zip(panels, lines.items(), strict=True):
    named = set()
    for (method, _), points in by.items():
      place = methods.index(method)
      label = None if method in named else method
      named.add(method)
      axes.plot(
        *zip(*points, strict=True),
        color=figures.COLOURS[place],
        lw=2.2 if place == 4 else 1.1,
        label=label,
        alpha=0.9,
      )
    lowest = min(value for points in by.values() for _, value in points)
    axes.set(title=name, xlabel="share of the training, %", ylabel="AUROC, %")
    axes.set_ylim(max(60.0, lowest - 1.0), 100.3)
    axes.spines[["top", "right"]].set_visible(False)
  handles, labels = panels[0].get_legend_handles_labels()
  figure.legend(handles, labels, frameon=False, fontsize=9, ncols=2, loc="outside lower center")
  return figure


def main() -> None:
  """Draws the figure of the results at hand."""
  found = json.loads(RESULTS.read_text())["records"]
  path = RESULTS.with_name("adbench-epochs.png")
  figure_of([TableRecord(**record) for record in found]).savefig(path, dpi=144)
  print(f"figure: {path.relative_to(pathlib.Path.cwd())}")


if __name__ == "__main__":
  common.run(main)
