"""The commands as a user types them: exit codes, one-line errors, files whole or not at all."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from drocc_jax import DROCC

ROOT = pathlib.Path(__file__).resolve().parents[2]


def call(*arguments: str) -> subprocess.CompletedProcess:
  environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
  return subprocess.run(
    [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
    check=False,
  )  # fmt: skip


def error_of(result: subprocess.CompletedProcess) -> str:
  lines = result.stderr.strip().splitlines()
  assert len(lines) == 1, result.stderr
  assert lines[0].startswith("error: ")
  return lines[0]


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("detectors") / "detector"
  x = np.random.default_rng(0).normal(size=(200, 3))
  DROCC(epochs=5, random_state=0).fit(x).save(folder)
  return folder


@pytest.mark.parametrize(
  ("override", "said"),
  [
    ("--config.drocc.radus=4", "config.drocc.radus is not a setting. Did you mean drocc.radius?"),
    ("--config.drocc.gamma=x", "could not convert string to float: 'x'. Valid: data.name="),
    ("--confg=x", "Unknown command line flag 'confg'"),
    ("extra", "unexpected argument 'extra'"),
  ],
)
def test_bad_override_is_one_line_and_exit_2(tmp_path, override, said):
  result = call(
    "launch.train", "--config=configs/drocc_digits.py", f"--workdir={tmp_path / 'run'}", override
  )
  assert result.returncode == 2
  assert said in error_of(result)
  assert not (tmp_path / "run").exists()


def test_missing_config_file_is_one_line():
  result = call("launch.train", "--config=configs/none.py", "--workdir=runs/none")
  assert result.returncode == 2
  assert "configs/none.py" in error_of(result)


def test_missing_flags_are_named():
  result = call("launch.train")
  assert result.returncode == 2
  assert error_of(result) == "error: --config and --workdir must be given."


def test_score_writes_a_row_for_every_record(detector, tmp_path):
  x = np.array([[0.0, 0.0, 0.0], [9.0, -9.0, 9.0]])
  np.save(tmp_path / "x.npy", x)
  output = tmp_path / "scores.csv"
  result = call(
    "launch.score", f"--detector={detector}", f"--input={tmp_path / 'x.npy'}", f"--output={output}"
  )
  assert result.returncode == 0, result.stderr
  table = np.genfromtxt(output, delimiter=",", names=True)
  assert table.dtype.names == ("score", "p_value", "decision")
  expected = DROCC.load(detector)
  np.testing.assert_allclose(table["score"], -expected.score_samples(x), rtol=1e-6)
  np.testing.assert_allclose(table["p_value"], expected.p_value(x))
  np.testing.assert_array_equal(table["decision"], expected.predict(x) == -1)


def test_score_of_another_width_writes_nothing(detector, tmp_path):
  (tmp_path / "x.csv").write_text("1,2\n3,4\n")
  output = tmp_path / "scores.csv"
  result = call(
    "launch.score", f"--detector={detector}", f"--input={tmp_path / 'x.csv'}", f"--output={output}"
  )
  assert result.returncode == 1
  assert "trained on [n, 3], got [2, 2]" in error_of(result)
  assert list(tmp_path.iterdir()) == [tmp_path / "x.csv"]
