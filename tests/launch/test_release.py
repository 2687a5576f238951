"""What an earlier release wrote still loads, scores to the same numbers, and goes on."""

import csv
import pathlib
import tarfile

import numpy as np
import pytest

import detector_jax
from launch import evaluation, exporting, run

FIXTURE = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "release_0_1.tar.gz"


@pytest.fixture
def release(tmp_path, monkeypatch) -> pathlib.Path:
  """A finished and a half-finished run of 0.1, its scores, and the files that it trained on."""
  with tarfile.open(FIXTURE) as archive:
    archive.extractall(tmp_path, filter="data")
  monkeypatch.chdir(tmp_path)  # the configuration names its files without a folder
  return tmp_path


def scores_of(release: pathlib.Path) -> np.ndarray:
  with (release / "scores.csv").open() as file:
    return np.array([float(row["score"]) for row in csv.DictReader(file)])


def test_its_detector_scores_to_the_same_numbers(release):
  detector = detector_jax.load(release / "finished" / "detector")
  test = np.loadtxt(release / "test.csv", delimiter=",", skiprows=1)[:, :4]
  np.testing.assert_allclose(detector.score(test), scores_of(release), rtol=1e-6, atol=1e-6)
  assert detector.feature_names == ("height", "width", "depth", "kind")
  assert (detector.fpr, detector.confidence, detector.input_offset) == (0.05, None, None)
  detector.save(release / "again")
  again = detector_jax.load(release / "again")
  np.testing.assert_array_equal(again.score(test), detector.score(test))


def test_its_finished_run_is_evaluated_and_exported(release):
  result = evaluation.evaluate(release / "finished")
  assert result["labels"] == {"typical": 20, "anomalous": 10}
  assert 0.0 <= result["metrics"]["auroc"] <= 1.0
  exporting.live(release / "finished")


def test_its_half_finished_run_goes_on_to_the_same_bits(release):
  folder = run.train(run.read_config(release / "half"), release / "half")
  with (
    np.load(folder / "arrays.npz") as got,
    np.load(release / "finished" / "detector" / "arrays.npz") as want,
  ):
    # What a detector keeps today beside them is for its explanations.
    assert [name for name in got.files if not name.startswith("typical/")] == want.files
    for name in want.files:
      np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-6, err_msg=name)
  assert (release / "half" / "metrics.jsonl").read_text().count("\n") == 3
