"""The start-up benchmark runs the command that it says, and reads what Python tells of imports."""

import subprocess

import pytest

from benchmarks import speed_startup

TOLD = """\
import time: self [us] | cumulative | imported package
import time:       120 |        120 |     numpy._core
import time:      1000 |     130000 |   numpy
import time:      2000 |     700000 | jax
import time:        10 |         10 | numpy
score 100/100 300 rows
"""


def test_imports_of_top_level_packages_slowest_first():
  assert list(speed_startup.import_seconds(TOLD).items()) == [("jax", 0.7), ("numpy", 0.13)]


@pytest.mark.slow
def test_the_command_scores_its_records(tmp_path):
  command = speed_startup.score_command(tmp_path)
  told = speed_startup._run(command)
  assert "300 rows" in told
  assert len((tmp_path / "scores.csv").read_text().splitlines()) == 301


def test_each_side_has_its_cache_and_no_other(monkeypatch):
  seen = []

  def run(command, env, **_):
    directory, least = (
      env.get(f"JAX_{name}")
      for name in ("COMPILATION_CACHE_DIR", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    )
    seen.append((command[-1] == "import jax", directory, least))
    return subprocess.CompletedProcess(command, 0, "", TOLD)

  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "somewhere")
  monkeypatch.setattr(speed_startup.subprocess, "run", run)
  records, facts = speed_startup.measure("startup", 2, 1e9)
  plain, cached, bare = seen[:3]
  assert plain == (False, None, None)
  assert bare == (True, None, None)
  assert cached[2] == "0"
  assert cached[1] not in (None, "somewhere")
  assert seen[:3] == seen[3:6] == seen[6:9]
  assert [record.peer for record in records] == [speed_startup.PEER] * 2
  assert facts["import_seconds"] == {"jax": 0.7, "numpy": 0.13}
  assert all(len(each) == 2 for each in facts["seconds"].values())


@pytest.mark.slow
def test_a_command_that_fails_is_named():
  with pytest.raises(RuntimeError, match=r"launch\.score failed.*must be given"):
    speed_startup._run([speed_startup.sys.executable, "-m", "launch.score"])
