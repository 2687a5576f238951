"""Precision of the search from the command to the run: both places, the refusal, resuming."""

import dataclasses
import json
import subprocess

import numpy as np
import pytest

from drocc_jax.drocc import Config as DroccConfig
from launch import run, workdirs
from launch.data import BreastCancer
from launch.methods import drocc, streamed
from tests.helpers import python


def small(**changes) -> drocc.Config:
  return drocc.Config(data=BreastCancer(), epochs=2, checkpoints=2, **changes)


def call(workdir, *overrides) -> subprocess.CompletedProcess:
  return python(
    "-m",
    "launch.train",
    "--config=configs/drocc_sphere.py",
    f"--workdir={workdir}",
    "--config.epochs=1",
    *overrides,
  )


@pytest.mark.slow
def test_the_flag_trains_in_it(tmp_path):
  result = call(tmp_path / "run", "--config.drocc.precision=bf16")
  assert result.returncode == 0, result.stderr
  stored = json.loads((tmp_path / "run" / "config.json").read_text())
  assert stored["drocc"]["precision"] == "bf16"


@pytest.mark.parametrize(
  "config", [small(precision="fp8"), small(drocc=DroccConfig(mu=None, precision="fp8"))]
)
def test_another_precision_is_refused_before_anything_is_written(tmp_path, config):
  with pytest.raises(ValueError, match=r"precision must be one of .*, got 'fp8'"):
    run.train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_the_outer_setting_decides_and_none_leaves_it():
  x = np.random.default_rng(0).normal(size=(20, 3))

  def trained(outer, inner):
    return (
      drocc.prepare(drocc.Config(precision=outer, drocc=DroccConfig(mu=None, precision=inner)), x)
      .config.static()
      .precision
    )

  assert trained(None, "float32") == "float32"
  assert trained(None, "bf16") == "bf16"
  assert trained("bf16", "float32") == "bf16"
  assert trained("float32", "bf16") == "float32"
  with pytest.raises(ValueError, match=r"precision must be one of .*, got 'fp8'"):
    streamed.prepare(streamed.Config(precision="fp8"))


@pytest.mark.long
def test_an_interrupted_run_resumes_in_it_and_in_no_other(tmp_path):
  once, twice = tmp_path / "once", tmp_path / "twice"
  run.train(small(precision="bf16"), once)
  run.train(small(precision="bf16"), twice)
  final = sorted(path for path in (twice / "checkpoints").rglob("*") if path.name == "2")
  assert final
  for path in final:
    path.rename(tmp_path / f"gone_{path.parent.name}")
  (twice / "detector").rename(tmp_path / "detector_gone")
  with pytest.raises(ValueError, match="precision was bf16, is None"):
    run.train(small(), twice)
  run.train(small(precision="bf16"), twice)
  with (
    np.load(once / "detector" / "arrays.npz") as want,
    np.load(twice / "detector" / "arrays.npz") as got,
  ):
    for name in want.files:
      np.testing.assert_array_equal(got[name], want[name], err_msg=name)


def test_a_run_from_before_there_were_precisions_is_of_float32(tmp_path):
  config = small(precision="bf16", drocc=DroccConfig(mu=None, precision="bf16"))
  values = dataclasses.asdict(config)
  assert workdirs.from_dict(tmp_path, drocc.Config, values) == config
  del values["precision"], values["drocc"]["precision"]
  old = workdirs.from_dict(tmp_path, drocc.Config, values)
  assert (old.precision, old.drocc.precision) == (None, "float32")
