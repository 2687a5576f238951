"""Figure 5 of the DROCC paper, README's picture.

  python -m benchmarks.sine_figure

Trains on the sine of Table 7 with seed 0, as ``benchmarks.tables --table=7`` does, and draws what
each method takes for typical over one period of it.
"""

from collections.abc import Callable
import pathlib

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
import numpy as np

from benchmarks import protocol
from benchmarks.baselines import BASELINES
from configs import drocc_sine
from launch import flags as common

LIMITS = (-3.6, 3.6, -1.7, 1.7)  # where the data span [-6.3, 6.3] and [-1, 1]
POINTS = 120
TYPICAL, ANOMALOUS, BOUNDARY, DATA = "#8fbfe8", "#f6ddd8", "#1f4e79", "#111111"

PATH = pathlib.Path(__file__).parent / "results" / "figure5.png"


def figure(score: Callable[[np.ndarray], np.ndarray], x_train: np.ndarray) -> Figure:
  """What DROCC, an OC-SVM and an isolation forest take for typical.

  The threshold of each is the 95 % quantile of its scores on the training records.

  Args:
    score: DROCC's, ``[n, 2] -> [n]``.
    x_train: ``[n, 2]``.
  """
  scorers = {"DROCC": score}
  for name in ("OC-SVM", "isolation forest"):
    scorers[name] = BASELINES[name](0).fit(x_train).score
  drawn = Figure(figsize=(9.0, 3.1), layout="constrained")
  xs, ys = np.linspace(*LIMITS[:2], 720), np.linspace(*LIMITS[2:], 340)
  grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
  inside = x_train[np.abs(x_train[:, 0]) < LIMITS[1]]
  points = inside[:: max(1, len(inside) // POINTS)]
  panels = drawn.subplots(1, len(scorers), sharex=True, sharey=True)
  for axes, (name, each) in zip(panels, scorers.items(), strict=True):
    typical = each(grid).reshape(len(ys), len(xs)) <= np.quantile(each(x_train), 0.95)
    axes.contourf(xs, ys, typical, levels=[-0.5, 0.5, 1.5], colors=[ANOMALOUS, TYPICAL])
    axes.contour(xs, ys, typical, levels=[0.5], colors=[BOUNDARY], linewidths=1.0)
    axes.scatter(points[:, 0], points[:, 1], s=3.5, color=DATA, linewidths=0, zorder=3)
    axes.set_title(name, fontsize=11)
  drawn.legend(
    handles=[
      Line2D([], [], color=DATA, marker="o", ms=3, ls="none", label="training records"),
      Patch(facecolor=TYPICAL, label="taken for typical"),
      Line2D([], [], color=BOUNDARY, lw=1.0, label="boundary"),
      Patch(facecolor=ANOMALOUS, label="taken for anomalous"),
    ],
    loc="outside lower center",
    ncols=4,
    frameon=False,
    fontsize=10,
  )
  return drawn


def main() -> None:
  """Trains and draws."""
  config = drocc_sine.get_config()
  splits = config.data.load()
  trajectory = protocol.train(config, splits.x_train, splits.x_train[:1], points=1)
  figure(trajectory.score, splits.x_train).savefig(PATH, dpi=144)
  print(f"figure: {PATH}")


if __name__ == "__main__":
  common.run(main)
