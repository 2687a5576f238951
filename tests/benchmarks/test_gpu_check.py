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
