"""The commands as a user types them: exit codes, one-line errors, files whole or not at all."""

import pathlib
import subprocess

import jax.numpy as jnp
import numpy as np
from pyarrow import parquet
import pytest

import detector_jax
from detector_jax.preprocessing import Identity
from drocc_jax import DROCC
from tests.helpers import python

pytestmark = pytest.mark.slow


def call(*arguments: str) -> subprocess.CompletedProcess:
  return python("-m", *arguments)


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
    ("--config.drocc.gamma=x", "could not convert string to float: 'x'. Valid: calibration_size="),
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
    "launch.score",
    f"--detector={detector}",
    f"--input={tmp_path / 'x.csv'}",
    f"--output={output}",
    "--header=no",
  )
  assert result.returncode == 1
  assert "trained on [n, 3], got [2, 2]" in error_of(result)
  assert list(tmp_path.iterdir()) == [tmp_path / "x.csv"]


def brightness(variables, x):
  return jnp.abs(x.mean(axis=(1, 2, 3)) - variables)


def brightness_report(variables, x, threshold):
  mean = x.mean(axis=(1, 2, 3))
  return {"layer": (mean > 0.9).astype(jnp.int32), "side": jnp.sign(mean - variables)}


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_images_are_scored_and_layers_named(tmp_path, name):
  detector = detector_jax.Detector.create(
    brightness,
    jnp.asarray(0.5),
    Identity(),
    (8, 8, 3),
    threshold=0.2,
    metadata={"layers": ["conv1", "dense1"]},
    report_fn=brightness_report,
  )
  detector.save(tmp_path / "detector")
  x = np.array([0.1, 0.6, 1.0])[:, None, None, None] * np.ones((8, 8, 3))
  if name == "x.npy":
    np.save(tmp_path / name, x)
  else:
    np.savez(tmp_path / name, x=x)
  output = tmp_path / "scores.parquet"
  result = call(
    "launch.score",
    f"--detector={tmp_path / 'detector'}",
    f"--input={tmp_path / name}",
    f"--output={output}",
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout == f"2 of 3 records are anomalous: {output}\n"
  table = parquet.read_table(output).to_pydict()
  assert table.pop("score") == pytest.approx([0.4, 0.1, 0.5])
  assert table == {
    "decision": [1, 0, 1],
    "layer": ["conv1", "conv1", "dense1"],
    "side": ["low", "high", "high"],
  }


def test_train_points_to_evaluate_where_there_is_a_test_file(tmp_path):
  rng = np.random.default_rng(0)
  np.savetxt(tmp_path / "train.csv", rng.normal(size=(60, 3)), delimiter=",")
  rows = np.column_stack([rng.normal(size=(20, 3)), np.arange(20) % 2])
  np.savetxt(tmp_path / "test.csv", rows, delimiter=",")
  result = call(
    "launch.train",
    "--config=configs/drocc_files.py",
    f"--workdir={tmp_path / 'run'}",
    f"--config.data.train={tmp_path / 'train.csv'}",
    f"--config.data.test={tmp_path / 'test.csv'}",
    "--config.data.label=3",
    "--config.epochs=20",
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout.splitlines() == [
    f"detector: {tmp_path / 'run' / 'detector'}",
    f"next:     python -m launch.evaluate --workdir={tmp_path / 'run'}",
  ]
