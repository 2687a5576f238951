"""launch.sweep as a user types it: what it prints, what it leaves, and errors in one line."""

import csv
import io

import pytest

from tests.helpers import python

pytestmark = pytest.mark.slow


def test_the_command_prints_the_ranking_and_refuses_in_one_line(tmp_path):
  def call(*arguments):
    config = "--config=configs/drocc_digits.py"
    return python("-m", "launch.sweep", config, f"--workdir={tmp_path / 'sweep'}", *arguments)

  result = call("--sweep.optimizer=adam,sgd")
  assert result.returncode == 2
  assert result.stderr.startswith("error: flag --sweep.optimizer=adam,sgd: optimizer cannot be ")
  assert len(result.stderr.strip().splitlines()) == 1
  assert not (tmp_path / "sweep").exists()
  result = call(
    "--sweep.radius=2,4",
    "--sweep.seed=0:2",
    "--config.epochs=30",
    "--config.network.name=mlp",
    "--config.drocc.num_steps=2",
  )
  assert result.returncode == 0, result.stderr
  lines = result.stdout.splitlines()
  assert lines[-2:] == [
    f"detector:  {tmp_path / 'sweep' / 'detector'}",
    f"next:      python -m launch.evaluate --workdir={tmp_path / 'sweep'}",
  ]
  rows = list(csv.DictReader(io.StringIO((tmp_path / "sweep" / "sweep.csv").read_text())))
  assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
  assert sorted((row["radius"], row["seed"]) for row in rows) == [
    (radius, seed) for radius in ("2.0", "4.0") for seed in ("0", "1")
  ]
  criteria = [float(row["criterion"]) for row in rows]
  assert criteria == sorted(criteria, reverse=True)
  assert (tmp_path / "sweep" / "sweep.png").read_bytes().startswith(b"\x89PNG")
