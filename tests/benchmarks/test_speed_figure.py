"""The chart of speed records."""

import json

import pytest

from benchmarks import speed_figure
from benchmarks.records import SpeedRecord

FOUND = [
  SpeedRecord("slow", 4.0, "peer", 2.0, 0.5, 0.0),
  SpeedRecord("fast", 1.0, "peer", 8.0, 8.0, 0.4),
]


def test_bars_end_at_the_ratio_and_at_the_floors():
  (axes,) = speed_figure.figure_of(FOUND).axes
  ends = [
    (bar.get_y() + bar.get_height() / 2, bar.get_x() + bar.get_width()) for bar in axes.patches
  ]
  assert ends == [(1.0, 0.5), (0.0, pytest.approx(20.0)), (0.0, 8.0)]
  assert all(bar.get_x() == 1.0 or bar.get_width() < 0 for bar in axes.patches)
  assert [text.get_text() for text in axes.texts] == ["0.5", "8"]
  assert [text.get_text() for text in axes.get_yticklabels()] == [
    "slow\nagainst peer",
    "fast\nagainst peer",
  ]
  assert axes.get_xscale() == "log"


def test_records_of_single_cases_are_read_by_name(tmp_path):
  for name, record in zip(("b", "a"), FOUND, strict=True):
    (tmp_path / f"speed_{name}.json").write_text(json.dumps({"records": [vars(record)]}))
  (tmp_path / "speed.json").write_text("of all, and not read")
  assert speed_figure.read(tmp_path) == FOUND[::-1]
  speed_figure.write(tmp_path / "speed.png", FOUND)
  assert (tmp_path / "speed.png").stat().st_size > 5000


def test_an_empty_folder_says_what_to_run(tmp_path):
  with pytest.raises(ValueError, match=r"benchmarks\.speed"):
    speed_figure.read(tmp_path)
