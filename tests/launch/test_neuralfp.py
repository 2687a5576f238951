"""NeuralFP through the launcher: three stages, each resumable; evaluation and scoring."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

import detector_jax
from detector_jax import health
from fingerprint_jax.classifiers import Config as TrainingConfig
from fingerprint_jax.train import Config as FingerprintConfig
from launch import evaluation, exporting, run, scoring
from launch.data import Digits, ShiftedDigits, image_sets
from launch.methods import classifier, neuralfp
from launch.reporting import progress
from tests.helpers import assert_same_bits, interrupted_at

TRAINING = TrainingConfig(epochs=4, batch_size=64, learning_rate=5e-3)


def small(**changes) -> neuralfp.Config:
  config = neuralfp.Config(
    data=ShiftedDigits(),
    classifier=neuralfp.ClassifierConfig(training=TRAINING),
    fingerprint=FingerprintConfig(epochs=4, batch_size=128),
    held_out=0.4,
    fpr=0.05,
    checkpoints=2,
  )
  return dataclasses.replace(config, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
  workdir = tmp_path_factory.mktemp("runs") / "finished"
  run.train(small(), workdir)
  return workdir


def test_what_is_trained_is_logged_and_a_calibrated_detector_is_left(finished):
  logged = [(record["stage"], record["epoch"]) for record in progress.read_scalars(finished)]
  assert logged == [("classifier", 2), ("classifier", 4)]  # fingerprints are in closed form
  detector = detector_jax.load(finished / "detector")
  assert detector.fpr == pytest.approx(0.05)
  assert detector.metadata["layers"] == [f"layer_{i}" for i in range(1, 6)]
  assert detector.metadata["training_records"] == 1198 - 480
  assert detector.metadata["classifier_test_accuracy"] > 0.5
  assert detector.input_range == (0.0, 1.0)


def test_taps_are_printed_before_anything_is_trained(tmp_path, monkeypatch, capsys):
  def fit(*_):
    raise RuntimeError("reached")

  monkeypatch.setattr(classifier, "fit", fit)
  with pytest.raises(RuntimeError, match="reached"):
    run.train(small(), tmp_path)
  assert "taps: layer_1 [8, 8, 16], layer_2 [4, 4, 32], layer_3 [64], " in capsys.readouterr().out


def test_interrupted_in_its_second_stage_it_ends_with_the_same_bits(tmp_path):
  config, whole, stopped = small(combine="one_out"), tmp_path / "whole", tmp_path / "stopped"
  run.train(config, whole)
  logged = [(record["stage"], record["epoch"]) for record in progress.read_scalars(whole)]
  assert logged == [("classifier", 2), ("classifier", 4), ("fingerprints", 2), ("fingerprints", 4)]
  with interrupted_at(4, health, "check_loss"):
    run.train(config, stopped)
  assert not (stopped / "detector").exists()
  run.train(config, stopped)
  assert_same_bits(whole, stopped)


def test_evaluation_tells_sources_and_layers_apart(finished):
  result = evaluation.evaluate(finished)
  assert set(result["sources"]) == {"rotated", "inverted", "noisy", "blank", "noise"}
  assert result["sources"]["noise"]["auroc"] > 0.9
  page = (finished / "report.html").read_text()
  assert "NeuralFP of a network" in page
  for name in ("layers.png", "error_maps.png", "precision_recall.png"):
    assert (finished / name).stat().st_size > 1000
  assert page.count("data:image/png;base64,") == 26


def test_columns_of_scored_records_name_layer_and_side(finished):
  detector = evaluation.load_detector(finished)
  x, labels = small().data.load().labelled_test()
  columns = scoring.columns_of(detector, x[labels == 1][:50])
  assert set(columns) == {"score", "p_value", "decision", "group", "layer", "side"}
  assert set(columns["layer"]) <= set(detector.metadata["layers"])
  assert set(columns["side"]) <= {"high", "low"}
  assert set(columns["group"]) <= set(detector.metadata["groups"])


def test_a_run_from_before_the_setting_keeps_the_papers_rule(finished, tmp_path):
  shutil.copytree(finished, tmp_path / "former")
  settings = json.loads((finished / "config.json").read_text())
  del settings["combine"]
  (tmp_path / "former" / "config.json").write_text(json.dumps(settings))
  config = run.read_config(tmp_path / "former")
  assert (config.combine, neuralfp.Config().combine) == ("one_out", "fingerprint")
  run.train(config, tmp_path / "former")
  detector = detector_jax.load(tmp_path / "former" / "detector")
  assert "groups" not in detector.metadata
  live = exporting.live(tmp_path / "former").report(small().data.load().x_test[:9])
  np.testing.assert_array_equal(live["score"], live["layer_extremeness"].max(axis=1))


@pytest.mark.long
def test_given_classifier_is_taken_as_it_is(tmp_path, caplog):
  config = classifier.Config(data=ShiftedDigits(), training=TRAINING, held_out=0.4, checkpoints=1)
  run.train(config, tmp_path / "classifier")
  told = json.loads((tmp_path / "classifier" / "metrics.json").read_text())
  assert told["test_accuracy"] > 0.5
  given = neuralfp.ClassifierConfig(workdir=str(tmp_path / "classifier"))
  run.train(small(classifier=given, combine="one_out"), tmp_path / "fp")
  assert "may have seen" not in caplog.text
  detector = detector_jax.load(tmp_path / "fp" / "detector")
  assert detector.metadata["classifier_test_accuracy"] == told["test_accuracy"]
  assert {r["stage"] for r in progress.read_scalars(tmp_path / "fp")} == {"fingerprints"}
  run.train(small(classifier=given, seed=1), tmp_path / "other")
  assert "may have seen the records that set the threshold" in caplog.text


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    (
      {"data": Digits(), "fpr": 0.4, "held_out": 0.5},
      "needs records with classes",
    ),
    ({"fpr": 0.001}, "A false-positive rate of 0.001 needs 1998 held-out records"),
    ({"combine": "all"}, "combine must be one of fingerprint, one_out, got 'all'"),
    ({"held_out": 1.0}, r"calibration_size must be in \(0, 1\)"),
    ({"layers": ("layer_9",)}, "no layer 'layer_9'; the network has: layer_1, layer_2"),
    (
      {"classifier": neuralfp.ClassifierConfig(network="resnet")},
      "There is no classifier 'resnet'; set the network to one of mnist",
    ),
    ({"fingerprint": FingerprintConfig(epochs=0)}, "epochs must be >= 1"),
    ({"classifier": neuralfp.ClassifierConfig(workdir="nowhere")}, "nowhere holds no run"),
  ],
)
def test_a_bad_setting_is_one_sentence(tmp_path, changes, said):
  with pytest.raises(ValueError, match=said):
    run.train(small(**changes), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_unfinished_classifier_is_refused(tmp_path):
  config = classifier.Config(data=ShiftedDigits(), training=TRAINING)
  with interrupted_at(1, health, "check_loss"):
    run.train(config, tmp_path)
  with pytest.raises(ValueError, match=r"'classifier' of .* is not finished"):
    classifier.load(tmp_path)
  with pytest.raises(ValueError, match=r"no detector|not finished"):
    evaluation.load_detector(tmp_path)


def test_classifiers_of_all_image_sets_can_be_restored():
  assert set(image_sets.NAMES) <= set(classifier.SHAPES)
