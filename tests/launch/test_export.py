"""Exporting a finished run: one folder, whole or not at all, that scores as the run does."""

import dataclasses
import pathlib

import numpy as np
import pytest

import detector_jax
from detector_jax import Detector, artifact
from drocc_jax import registry
from drocc_jax.drocc import Config as DroccConfig
from launch import evaluation, exporting, run, workdirs
from launch.data import BreastCancer
from launch.methods import classifier, drocc
from tests.helpers import contents, python

CONFIG = drocc.Config(
  data=BreastCancer(),
  network=registry.NetworkConfig("mlp", hidden=(4,)),
  epochs=4,
  checkpoints=2,
  drocc=DroccConfig(num_steps=1),
  calibration="split",
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("runs") / "finished"
  run.train(CONFIG, folder)
  return folder


@pytest.fixture(scope="module")
def test_set() -> tuple[np.ndarray, np.ndarray]:
  return CONFIG.data.load().labelled_test()


@pytest.mark.slow
def test_command_writes_one_folder_and_says_what_it_is(workdir, test_set, tmp_path):
  output = tmp_path / "elsewhere" / "detector"
  result = python("-m", "launch.export", f"--workdir={workdir}", f"--output={output}")
  assert result.returncode == 0, result.stderr
  assert sorted(contents(output)) == ["arrays.npz", "detector.json", "program.bin"]
  detector = detector_jax.load(output)
  size = sum(map(len, contents(output).values()))
  records = detector.calibration.scores.size
  assert result.stdout.splitlines() == [
    f"detector: {output}, {size / 1000:.1f} kB",
    "input:    float32 [n, 30]",
    f"rate:     at most {100 * detector.fpr:.4g} % false alarms in expectation over calibration "
    f"draws, above {detector.threshold:.4g}; from {records} held-out records",
  ]
  own = detector_jax.load(workdir / "detector")
  np.testing.assert_array_equal(detector.score(test_set[0]), own.score(test_set[0]))
  assert detector.metadata == own.metadata


def test_export_keeps_every_fact_of_the_run(workdir, tmp_path):
  exporting.export(workdir, tmp_path / "detector")
  facts = artifact.read_description(tmp_path / "detector")
  assert facts["metadata"]["method"] == "DROCC"
  assert facts["metadata"]["config"]["epochs"] == 4
  assert facts["metadata"]["training_records"] + facts["calibration_records"] == len(
    CONFIG.data.load().x_train
  )
  assert facts == artifact.read_description(workdir / "detector")


def from_checkpoint(workdir: pathlib.Path) -> Detector:
  """The Detector that the last checkpoint of a run stands for, never written to a folder."""
  made: list[Detector] = []
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Detector, "save", lambda self, folder: made.append(self))
    run.train(CONFIG, workdir)  # restores the finished run and trains nothing
  (detector,) = made
  assert not isinstance(detector.program, artifact.ExportedProgram)
  return detector


def test_evaluation_from_an_export_equals_evaluation_from_the_checkpoint(
  workdir, test_set, tmp_path
):
  live, exported = (
    from_checkpoint(workdir),
    exporting.export(workdir, tmp_path / "detector"),
  )
  x, labels = test_set
  want, got = live.score(x), exported.score(x)
  assert np.abs(want - got).max() <= 1e-6 * np.abs(want).max()
  np.testing.assert_allclose(exported.p_value(x), live.p_value(x), atol=1e-9)
  np.testing.assert_array_equal(exported.predict(x), live.predict(x))
  result = evaluation.evaluate(workdir)
  assert result["metrics"] == evaluation.summary(labels, got) == evaluation.summary(labels, want)
  decision = result["decision"]
  assert (decision["threshold"], decision["stated_fpr"]) == (live.threshold, live.fpr)
  assert decision["recall"] == exported.predict(x)[labels == 1].mean()
  assert decision["realised_fpr"] == exported.predict(x)[labels == 0].mean()


def test_an_empty_folder_is_taken(workdir, tmp_path):
  assert exporting.export(workdir, tmp_path).fpr is not None
  assert sorted(contents(tmp_path)) == ["arrays.npz", "detector.json", "program.bin"]


def test_what_is_there_is_not_overwritten(workdir, tmp_path):
  output = tmp_path / "detector"
  exporting.export(workdir, output)
  before = contents(output)
  with pytest.raises(ValueError, match="detector is not empty: give an --output that is new"):
    exporting.export(workdir, output)
  assert contents(output) == before
  (tmp_path / "file").write_text("mine")
  with pytest.raises(ValueError, match="file is a file: give an --output that is new"):
    exporting.export(workdir, tmp_path / "file")
  assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_one_sentence(workdir, tmp_path):
  (tmp_path / "file").write_text("mine")
  with pytest.raises(OSError, match=r"The folder .*detector cannot be written: ") as error:
    exporting.export(workdir, tmp_path / "file" / "detector")
  assert str(error.value).endswith(".")


def test_a_failing_export_leaves_nothing_behind(workdir, tmp_path, monkeypatch):
  def fail(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(artifact, "check_parity", fail)
  with pytest.raises(OSError, match="cannot be written: No space left on device"):
    exporting.export(workdir, tmp_path / "detector")
  assert not list(tmp_path.iterdir())


def test_a_damaged_run_is_refused(workdir, tmp_path):
  damaged = tmp_path / "run"
  workdirs.claim(damaged, CONFIG)
  detector_jax.load(workdir / "detector").save(damaged / "detector")
  program = damaged / "detector" / "program.bin"
  program.write_bytes(program.read_bytes()[:-1])
  with pytest.raises(ValueError, match=r"program\.bin is damaged: its checksum is not the one"):
    exporting.export(damaged, tmp_path / "detector")
  assert not (tmp_path / "detector").exists()


@pytest.mark.parametrize(
  ("config", "said"),
  [
    (None, "holds no run: train first"),
    (CONFIG, "is not finished: give its launch.train"),
    (classifier.Config(), "has no detector, its method 'classifier' makes none"),
  ],
)
def test_a_run_without_a_detector_is_refused(tmp_path, config, said):
  if config is not None:
    workdirs.claim(tmp_path / "run", config)
  with pytest.raises(ValueError, match=said):
    exporting.export(tmp_path / "run", tmp_path / "detector")
  assert not (tmp_path / "detector").exists()


def test_range_and_a_missing_rate_are_told(workdir, tmp_path):
  detector = dataclasses.replace(
    detector_jax.load(workdir / "detector"), fpr=None, threshold=0.25, input_range=(0.0, 255.0)
  )
  (tmp_path / "file").write_bytes(bytes(2_340_000))
  assert exporting.described(detector, tmp_path) == [
    ("detector", f"{tmp_path}, 2.3 MB"),
    ("input", "float32 [n, 30], values from 0 to 255"),
    ("rate", "none; anomalous above 0.25, which no held-out record defends"),
  ]
