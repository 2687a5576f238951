"""Runs of DROCC: resume to the same bits, what they leave behind, evaluation."""

import json
import pathlib
import re

import numpy as np
import pytest

import detector_jax
from detector_jax import health
from drocc_jax import cross
from launch import evaluation, run
from launch.data import BreastCancer, Digits
from launch.methods import drocc
from launch.reporting import progress
from tests.helpers import arrays, assert_same_bits, interrupted_at


def small(**changes) -> drocc.Config:
  settings = {"epochs": 6, "checkpoints": 3, "calibration": "split", **changes}
  return drocc.Config(data=BreastCancer(), **settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
  workdir = tmp_path_factory.mktemp("runs") / "finished"
  run.train(small(), workdir)
  return workdir


def test_train_leaves_a_calibrated_detector(finished):
  detector = detector_jax.load(finished / "detector")
  assert detector.fpr == pytest.approx(0.05)
  assert detector.metadata["epochs"] == 6
  assert detector.input_shape == (30,)


def test_scalars_are_logged_at_every_checkpoint(finished):
  records = progress.read_scalars(finished)
  assert [record["epoch"] for record in records] == [2, 4, 6]
  assert all(record.pop("stage") == "training" for record in records)
  assert all(np.isfinite(list(record.values())).all() for record in records)
  assert list((finished / "tensorboard" / "training").glob("events.*"))


def test_finished_run_given_again_gives_the_same_detector(finished):
  before = arrays(finished)
  run.train(small(), finished)
  for name, value in arrays(finished).items():
    np.testing.assert_array_equal(value, before[name])


def test_interrupted_run_ends_with_the_same_bits(finished, tmp_path):
  with interrupted_at(2, health, "check_loss"):
    run.train(small(), tmp_path)
  assert not (tmp_path / "detector").exists()
  with pytest.raises(ValueError, match="not finished"):
    evaluation.load_detector(tmp_path)
  run.train(small(), tmp_path)
  assert_same_bits(finished, tmp_path)
  assert [record["epoch"] for record in progress.read_scalars(tmp_path)] == [2, 4, 6]


def test_another_configuration_is_refused_by_name(finished):
  with pytest.raises(ValueError, match=r"another configuration \(seed was 0, is 1\)"):
    run.train(small(seed=1), finished)


def test_workdir_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError, match=r"workdir .*file/run cannot be written"):
    run.train(small(), tmp_path / "file" / "run")


def test_bad_setting_leaves_no_workdir(tmp_path):
  config = small()
  config.drocc.gamma = 0.5
  with pytest.raises(ValueError, match="gamma must be >= 1"):
    run.train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_divergence_stops_with_step_and_cause(tmp_path):
  config = small()
  config.drocc.learning_rate = 1e30
  with pytest.raises(health.HealthError, match=r"diverged: .* at step \d+"):
    run.train(config, tmp_path)


@pytest.mark.parametrize("checkpoints", [0, -1])
def test_no_checkpoints_are_refused(tmp_path, checkpoints):
  config = small()
  config.checkpoints = checkpoints
  with pytest.raises(ValueError, match=f"checkpoints must be >= 1, got {checkpoints}"):
    run.train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_config_of_no_method_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"Digits configures no method: get_config\(\) must"):
    run.train(Digits(), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_summary_says_what_was_trained(finished):
  metadata = detector_jax.load(finished / "detector").metadata
  assert metadata["summary"] == (
    f"DROCC with radius {metadata['radius']:.3g}, trained for 6 epochs on 142 typical records; 36 "
    "more were held out for the threshold."
  )


def test_a_stated_share_of_anomalies_is_left_out_of_a_run(tmp_path):
  run.train(small(contamination="0.1"), tmp_path)  # a flag is text
  detector = detector_jax.load(tmp_path / "detector")
  assert detector.metadata["contamination"] == 0.1
  assert detector.metadata["training_records"] == 85  # of 142, less four times the share
  assert len(detector.calibration.scores) == 35  # of 36, less half of the share
  assert detector.metadata["summary"].endswith(
    "epochs on 85 typical records; 36 more were held out for the threshold. Of the records given "
    "as typical 10 % may be anomalies: the most extreme do not train, and half of that share of "
    "the held-out records does not count."
  )
  assert run.read_config(tmp_path).contamination == "0.1"


def test_evaluate_before_train_says_what_to_run(tmp_path):
  with pytest.raises(ValueError, match=r"train first, python -m launch\.train"):
    evaluation.evaluate(tmp_path)


def test_evaluate_writes_metrics_figures_and_report(finished):
  result = evaluation.evaluate(finished)
  assert json.loads((finished / "metrics.json").read_text()) == json.loads(json.dumps(result))
  assert result["labels"] == {"typical": 179, "anomalous": 212}
  assert 0.0 <= result["decision"]["realised_fpr"] <= 0.2
  assert "sources" not in result
  page = (finished / "report.html").read_text()
  assert result["detector"]["summary"] in page
  assert page.count("data:image/png;base64,") == 4
  text = re.sub(r"base64,[^\"]*", "", page)  # a picture may spell anything
  assert "http" not in text.replace("http-equiv", "")
  for name in ("scores.png", "roc.png", "training.png"):
    assert (finished / name).stat().st_size > 1000


def test_evaluation_uses_the_detector_alone(finished):
  """Whoever computes the metrics by hand from the saved folder gets the same number."""
  x, labels = small().data.load().labelled_test()
  scores = detector_jax.load(finished / "detector").score(x)
  typical, anomalous = scores[labels == 0], scores[labels == 1]
  by_hand = np.mean(anomalous[:, None] > typical) + 0.5 * np.mean(anomalous[:, None] == typical)
  assert evaluation.evaluate(finished)["metrics"]["auroc"] == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("records", [60, 150])
def test_a_warm_up_is_of_the_epochs_of_one_fold(records, rng):
  x = rng.normal(size=(records, 3)).astype(np.float32)
  config = drocc.Config(warmup_epochs=3, batch_size=128)
  roles = cross.divide(x, config, 0, plain=True)
  prepared = drocc.prepare(config, x, without=roles.without(roles.rows))
  # A fold leaves at most 120 records, one step; of 150 there would be two.
  assert prepared.config.warmup_steps == 3
