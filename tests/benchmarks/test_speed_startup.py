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
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE", "XDG_CACHE_HOME")
    seen.append((command[-1] == "import jax", *map(env.get, names)))
    return subprocess.CompletedProcess(command, 0, "", TOLD)

  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "somewhere")
  monkeypatch.setenv("XDG_CACHE_HOME", "home")
  monkeypatch.setattr(speed_startup.subprocess, "run", run)
  records, facts = speed_startup.measure("startup", 2, 1e9)
  score, scored_before, train, trained_before, bare = seen[:5]
  assert score == train == (False, None, "0", "home")
  assert bare == (True, None, "0", "home")
  assert scored_before == trained_before
  assert scored_before[:3] == (False, None, None)
  assert scored_before[3] != "home"
  assert seen[:5] == seen[5:10] == seen[10:15]
  assert [record.peer for record in records] == [speed_startup.PEER] * 4
  assert facts["import_seconds"] == {"jax": 0.7, "numpy": 0.13}
  assert all(len(each) == 2 for each in facts["seconds"].values())


def test_a_command_that_fails_is_named():
  failing = "import sys; sys.exit('error: it must be given')"
  with pytest.raises(RuntimeError, match=r"-c import sys; .* failed: error: it must be given"):
    speed_startup._run([speed_startup.sys.executable, "-c", failing])
