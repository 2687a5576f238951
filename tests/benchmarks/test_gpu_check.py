"""The command for a machine with a GPU, on one without."""

import json
import os
import subprocess
import sys

import jax
import pytest

from benchmarks import accelerators, gpu_check
from drocc_jax import networks
from tests.helpers import ROOT


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_without_a_gpu_one_sentence_says_so_before_anything_is_run(monkeypatch):
  monkeypatch.setattr(gpu_check, "tested", lambda: pytest.fail("tests were run"))
  with pytest.raises(
    RuntimeError, match=r"^There is no GPU that JAX can use: it computes on cpu\."
  ):
    gpu_check.main()


def test_a_step_is_timed_beside_its_prediction_and_its_memory():
  step = accelerators.drocc_step(networks.MLP((4,)), (3,), 4, 2)
  found = gpu_check.timed("small", step, 2)
  assert found["milliseconds"] > 0.0
  assert found["megabytes"] >= 0.0
  assert found["predicted"]["turns"] == 2
  json.dumps(found)


def test_table_1_comes_last_in_a_file_of_its_own(monkeypatch, tmp_path):
  done, commands = [], []

  class Given:
    output, runs, table1 = str(tmp_path / "found.json"), 1, True

  def run(command, **_):
    commands.append(command)
    return subprocess.CompletedProcess(command, len(commands) - 1)

  monkeypatch.setattr(gpu_check, "FLAGS", Given)
  monkeypatch.setattr(gpu_check, "check_gpu", lambda: None)
  monkeypatch.setattr(gpu_check, "timed", lambda case, step, runs: done.append(case))
  monkeypatch.setattr(gpu_check.accelerators, "STEPS", {"one": lambda: None})
  monkeypatch.setattr(gpu_check.speed_search, "CASES", ())
  monkeypatch.setattr(gpu_check.speed_timing, "matrix_product_rate", lambda: 1.0)
  monkeypatch.setattr(gpu_check.records, "write", lambda output, found, **_: done.append(output))
  monkeypatch.setattr(gpu_check.subprocess, "run", run)
  with pytest.raises(RuntimeError, match="Table 1 was not measured; see above"):
    gpu_check.main()
  assert done == ["one", tmp_path / "found.json"]
  assert [command[2] for command in commands] == ["pytest", "benchmarks.tables"]
  assert {"--table=1", "--scale=full"} <= set(commands[1])
  assert commands[1][-1] == f"--output={tmp_path / 'found_table1.json'}"
  Given.table1 = False
  commands.clear()
  gpu_check.main()
  assert len(commands) == 1


@pytest.mark.slow
def test_the_make_target_ends_with_the_exit_code_of_the_command():
  recipe = (ROOT / "Makefile").read_text().partition("\ngpu-check:")[2].split("\n\n")[0]
  command = recipe.splitlines()[1].strip().removeprefix("$(RUN) ").split()
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  ended = subprocess.run(
    [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
  )
  assert ended.returncode == 1
  assert ended.stderr.count("\n") == 1
  assert not (ROOT / "gpu_check.json").exists()
