"""The chart of all speed records.

  python -m benchmarks.speed_figure

Reads benchmarks/results/speed_*.json, one file per case, and draws speed.png beside them;
``benchmarks.speed --case=all`` draws what it has just measured.
"""

from collections.abc import Sequence
import json
import pathlib

from matplotlib.figure import Figure
import numpy as np

from benchmarks.records import SpeedRecord
from launch import flags as common

RESULTS = pathlib.Path(__file__).parent / "results"
OURS, FLOOR = "#2a6fb0", "#b9cfe4"


def at_floor(record: SpeedRecord) -> float | None:
  """The ratio that a program would have which took no longer than the floor; None without one."""
  return record.peer_seconds / record.floor_seconds if record.floor_seconds > 0 else None


def figure_of(found: Sequence[SpeedRecord]) -> Figure:
  """Bars of peer's seconds / ours, on a logarithmic axis, and the ratio at the floor behind each.

  Args:
    found: at least one record, drawn from the top down.
  """
  figure = Figure(figsize=(9.0, 1.2 + 0.42 * len(found)), layout="constrained")
  axes = figure.subplots()
  axes.spines[["top", "right"]].set_visible(False)
  places = np.arange(len(found))[::-1]
  for place, record in zip(places, found, strict=True):
    floor = at_floor(record)
    if floor is not None:
      label = "at the floor" if record is _first_with_floor(found) else None
      axes.barh(place, floor - 1.0, left=1.0, height=0.72, color=FLOOR, label=label)
    label = "ours" if record is found[0] else None
    axes.barh(place, record.ratio - 1.0, left=1.0, height=0.36, color=OURS, label=label)
    x = max(record.ratio, 1.0)
    axes.annotate(
      f"{record.ratio:.3g}", (x, place), (3, 0), textcoords="offset points", va="center", fontsize=8
    )
  axes.axvline(1.0, color="#555555", lw=0.8)
  axes.set(xscale="log", xlabel="times as fast as the peer (seconds of the peer / ours)")
  axes.set_yticks(places, [f"{record.case}\nagainst {record.peer}" for record in found])
  axes.tick_params(axis="y", labelsize=7)
  figure.legend(frameon=False, fontsize=8, ncols=2, loc="outside lower center")
  return figure


def _first_with_floor(found: Sequence[SpeedRecord]) -> SpeedRecord | None:
  return next((record for record in found if at_floor(record) is not None), None)


def read(folder: pathlib.Path) -> list[SpeedRecord]:
  """The records of all files speed_*.json of a folder, in the order of their names.

  Raises:
    ValueError: there are none.
  """
  found = [
    SpeedRecord(**record)
    for path in sorted(folder.glob("speed_*.json"))
    for record in json.loads(path.read_text())["records"]
  ]
  if not found:
    raise ValueError(f"{folder} has no speed_*.json: run python -m benchmarks.speed first.")
  return found


def write(path: pathlib.Path, found: Sequence[SpeedRecord]) -> None:
  """Draws the chart into a file and says where it is."""
  figure_of(found).savefig(path, dpi=144)
  print(f"figure: {path}")


def main() -> None:
  """Draws what was measured before."""
  write(RESULTS / "speed.png", read(RESULTS))


if __name__ == "__main__":
  common.run(main)
