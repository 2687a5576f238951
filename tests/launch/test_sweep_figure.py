"""A sweep as table, CSV and figure: what is shown is what was measured."""

import itertools

import numpy as np
import pytest
from rich.console import Console

from launch.reporting import sweeps


def result(axes, failed=(), oracle=True):
  members = []
  for number, values in enumerate(itertools.product(*axes.values())):
    bad = number in failed
    members.append(
      {
        "member": number,
        "settings": dict(zip(axes, values, strict=True)),
        "criterion": None if bad else 0.5 + 0.01 * number,
        "objective": 1.0,
        "seconds": 0.25,
        "oracle": 0.9 if oracle and not bad else None,
        "failed": "Training diverged." if bad else None,
      }
    )
  members.sort(key=lambda record: (bool(record["failed"]), -(record["criterion"] or 0.0)))
  return {"axes": axes, "ranked_by": "made up", "members": members}


RADII = {"radius": (1.0, 2.0, 4.0), "seed": (0, 1, 2)}


def printed(made) -> str:
  console = Console(width=200)
  with console.capture() as capture:
    console.print(sweeps.table(made))
  return capture.get()


def test_csv_has_a_row_for_every_member_in_order_of_rank():
  text = sweeps.csv_of(result({"radius": (1.0, 2.0), "seed": (0,)}))
  assert text.splitlines() == [
    "rank,member,radius,seed,criterion,objective,seconds,oracle",
    "1,1,2.0,0,0.51,1.0,0.25,0.9",
    "2,0,1.0,0,0.5,1.0,0.25,0.9",
  ]


def test_columns_that_no_member_has_are_left_out_and_failures_are_told():
  assert "oracle" not in sweeps.csv_of(result(RADII, oracle=False))
  assert "failed" not in sweeps.csv_of(result(RADII))
  lines = sweeps.csv_of(result(RADII, failed=(8,), oracle=False)).splitlines()
  assert lines[0].endswith("seconds,failed")
  assert lines[-1] == "9,8,4.0,2,,1.0,0.25,Training diverged."


def test_table_shows_the_best_forty():
  text = printed(result({"seed": tuple(range(50))}))
  assert "50 models, the best 40" in text
  assert "0.99" in text
  assert "0.59" not in text
  assert printed(result(RADII)).count("0.9 ") == 9


def test_figure_shows_means_and_ranges_over_seeds():
  axes = sweeps.figure(result(RADII)).axes[0]
  assert axes.get_xlabel() == "radius"
  assert axes.get_xscale() == "log"
  ((line, _, (bars,)),) = axes.containers
  np.testing.assert_allclose(np.asarray(line.get_xdata(), float), [1, 2, 4])
  np.testing.assert_allclose(line.get_ydata(), [0.51, 0.54, 0.57])
  ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
  np.testing.assert_allclose(ends, [[0.50, 0.52], [0.53, 0.55], [0.56, 0.58]])
  (best,) = [line for line in axes.lines if line.get_label() == "best"]
  assert (best.get_xdata()[0], best.get_ydata()[0]) == (4.0, pytest.approx(0.58))


def test_figure_has_a_panel_for_each_axis_and_a_line_for_each_choice_of_the_other():
  axes = {"radius": (1.0, 2.0, 3.0), "mu": (0.5, 1.0), "seed": (0, 1)}
  panels = sweeps.figure(result(axes)).axes
  assert [panel.get_xlabel() for panel in panels] == ["radius", "mu"]
  assert [len(panel.containers) for panel in panels] == [2, 3]
  assert panels[0].containers[1].get_label() == "mu 1"
  np.testing.assert_allclose(panels[0].containers[1][0].get_ydata(), [0.525, 0.565, 0.605])
  assert panels[0].get_xscale() == "linear"


def test_failed_members_are_crosses_and_enter_no_mean():
  axes = sweeps.figure(result(RADII, failed=(0, 3, 4, 5))).axes[0]
  (crosses,) = [line for line in axes.lines if line.get_label() == "failed"]
  np.testing.assert_array_equal(crosses.get_xdata(), [1, 2, 2, 2])
  line = axes.containers[0][0]
  np.testing.assert_allclose(np.asarray(line.get_xdata(), float), [1, 4])
  np.testing.assert_allclose(line.get_ydata(), [0.515, 0.57])
  sweeps.figure(result(RADII, failed=range(9))).canvas.draw()


def test_seeds_alone_have_a_panel():
  axes = sweeps.figure(result({"seed": (0, 1, 2)})).axes
  assert [panel.get_xlabel() for panel in axes] == ["seed"]
  sweeps.figure(result({"radius": (2.0,)})).canvas.draw()


@pytest.mark.parametrize(
  ("values", "wanted"),
  [
    ((1, 2, 4), True),
    ((1, 2, 3), False),
    ((4, 1, 2), True),
    ((1, 2), False),
    ((0, 1, 10), False),
    ((1e-4, 1e-3, 1e-2), True),
    ((10, 20, 30, 40), False),
  ],
)
def test_geometric(values, wanted):
  assert sweeps.geometric(values) is wanted
