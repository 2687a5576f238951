"""A sweep as a table, as CSV, and as a figure.

Each takes what ``sweep.json`` holds: ``axes``, setting -> values; ``ranked_by``; ``members``,
records in their order of rank.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import io
import itertools
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from rich import box
from rich.table import Table

from launch.reporting.figures import ANOMALOUS, COLOURS, NEUTRAL

SHOWN = 40
MEASURED = ("criterion", "objective", "seconds", "oracle", "failed")


def _columns(result: Mapping[str, Any]) -> tuple[str, ...]:
  """The measured columns; ``oracle`` and ``failed`` where some member has them."""
  members = result["members"]
  return tuple(
    name
    for name in MEASURED
    if name not in ("oracle", "failed") or any(record[name] is not None for record in members)
  )


def _rows(result: Mapping[str, Any], columns: Sequence[str]) -> Iterator[list[Any]]:
  for rank, record in enumerate(result["members"], 1):
    settings = [record["settings"][name] for name in result["axes"]]
    yield [rank, record["member"], *settings, *(record[name] for name in columns)]


def table(result: Mapping[str, Any]) -> Table:
  """The best 40 members, for a terminal."""
  columns, number = _columns(result), len(result["members"])
  title = f"{number} models" + (f", the best {SHOWN}" if number > SHOWN else "")
  made = Table("rank", "member", *result["axes"], *columns, title=title, box=box.SIMPLE)
  for row in itertools.islice(_rows(result, columns), SHOWN):
    made.add_row(*map(_cell, row))
  return made


def _cell(value: Any) -> str:
  if value is None:
    return ""
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def csv_of(result: Mapping[str, Any]) -> str:
  """All members, with a line of names."""
  columns, text = _columns(result), io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(["rank", "member", *result["axes"], *columns])
  writer.writerows(_rows(result, columns))
  return text.getvalue()


def figure(result: Mapping[str, Any]) -> Figure:
  """The criterion over each swept setting: a panel each, a line for each choice of the others.

  Points are means over seeds, bars go from the lowest seed to the highest. Failed models are
  crosses at the lower edge and enter no mean. Seeds have a panel where nothing else is swept.
  """
  swept = [name for name, values in result["axes"].items() if len(values) > 1]
  panels = [name for name in swept if name != "seed"] or swept or list(result["axes"])[:1]
  figure = Figure(figsize=(0.6 + 4.4 * len(panels), 3.6), layout="constrained")
  row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
  best = result["members"][0]
  for axes, name in zip(row, panels, strict=True):
    others = [other for other in swept if other not in (name, "seed")]
    _panel(axes, result, name, others)
    if best["criterion"] is not None:
      axes.plot(
        [best["settings"][name]],
        [best["criterion"]],
        "o",
        ms=10,
        mfc="none",
        mec="black",
        label="best",
      )
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(name, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(
      frameon=False,
      fontsize=8,
      loc="lower left",
      bbox_to_anchor=(0.0, 1.0),
      ncols=2,
      borderaxespad=0.2,
      title=_mean_label(result) if others else None,
      title_fontsize=8,
      alignment="left",
    )
  row[0].set_ylabel("criterion (higher = better)", fontsize=9)
  return figure


def _panel(axes: Axes, result: Mapping[str, Any], name: str, others: Sequence[str]) -> None:
  values = result["axes"][name]
  combinations = list(itertools.product(*(result["axes"][other] for other in others)))
  few = len(combinations) <= len(COLOURS)
  for place, chosen in enumerate(combinations):
    fixed = dict(zip(others, chosen, strict=True))
    groups = [_criteria(result, {**fixed, name: value}) for value in values]
    found = [(value, group) for value, group in zip(values, groups, strict=True) if group]
    if not found:
      continue
    means = np.array([np.mean(group) for _, group in found])
    low = np.array([min(group) for _, group in found])
    high = np.array([max(group) for _, group in found])
    label = ", ".join(f"{other} {value:g}" for other, value in fixed.items())
    axes.errorbar(
      [value for value, _ in found],
      means,
      np.maximum([means - low, high - means], 0.0),
      fmt="o-" if name != "seed" else "o",
      color=COLOURS[place] if few else NEUTRAL,
      ms=4,
      lw=1.4,
      elinewidth=1.0,
      capsize=2.5,
      alpha=1.0 if few else 0.5,
      label=(label or _mean_label(result)) if few else None,
    )
  _failures(axes, result, name)
  if geometric(values):
    axes.set_xscale("log")
  if len(values) <= 10:
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xticks([], minor=True)


def _mean_label(result: Mapping[str, Any]) -> str:
  seeds = len(result["axes"].get("seed", ()))
  return f"mean and range of {seeds} seeds" if seeds > 1 else "one model"


def _failures(axes: Axes, result: Mapping[str, Any], name: str) -> None:
  failed = [record["settings"][name] for record in result["members"] if record["failed"]]
  if failed:
    axes.plot(
      failed,
      [0.02] * len(failed),
      "x",
      color=ANOMALOUS,
      ms=6,
      label="failed",
      transform=axes.get_xaxis_transform(),
    )


def _criteria(result: Mapping[str, Any], fixed: Mapping[str, float]) -> list[float]:
  """Criteria of the members with these settings that did not fail."""
  return [
    record["criterion"]
    for record in result["members"]
    if record["criterion"] is not None and fixed.items() <= record["settings"].items()
  ]


def geometric(values: Sequence[float]) -> bool:
  """Whether at least 3 positive values grow by factors rather than by steps."""
  ordered = np.sort(np.asarray(values, float))
  if len(ordered) < 3 or ordered[0] <= 0.0:
    return False
  factors, steps = np.diff(np.log(ordered)), np.diff(ordered)
  return bool(np.std(factors) / np.mean(factors) < np.std(steps) / np.mean(steps))
