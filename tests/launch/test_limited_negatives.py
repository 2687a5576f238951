"""Runs of DROCC-OE and DROCC-LF: what they leave, resume to the same bits, configurations."""

import dataclasses
import importlib
import logging
import pathlib

import numpy as np
import pytest

import detector_jax
from detector_jax import health, metrics
from drocc_jax import registry
from launch import evaluation, run, workdirs
from launch.data import Digits
from launch.methods import METHODS, drocc
from launch.reporting import progress
from tests.helpers import assert_same_bits, interrupted_at

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("negatives_*.py"))


def small(kind="lf", **changes) -> drocc.Config:
  """Digit 0 against given ones, with a network that is cheap to train."""
  settings = {
    "data": Digits(negatives=(1,), limit=60),
    "network": registry.NetworkConfig("mlp", hidden=(8,)),
    "epochs": 6,
    "checkpoints": 3,
    "batch_size": 32,
    "drocc": drocc.usual(kind),
  }
  config = drocc.Config(**{**settings, **changes})
  config.drocc.learning_rate, config.drocc.num_steps = 0.01, 3
  return config


def uncalibrated() -> drocc.Config:
  """DROCC-LF that holds no records out, which spares the compilation of the validation."""
  return small(calibration_size=0.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
  """A run of DROCC-LF."""
  workdir = tmp_path_factory.mktemp("runs") / "lf"
  run.train(uncalibrated(), workdir)
  return workdir


@pytest.fixture(scope="module")
def finished_oe(tmp_path_factory) -> pathlib.Path:
  """A run of DROCC-OE."""
  workdir = tmp_path_factory.mktemp("runs") / "oe"
  run.train(small("oe"), workdir)
  return workdir


def test_drocc_lf_leaves_a_detector(finished):
  detector = detector_jax.load(finished / "detector")
  facts = detector.metadata
  assert (facts["method"], facts["negatives"], facts["training_records"]) == ("DROCC-LF", 60, 60)
  assert facts["config"]["drocc"]["solver"] == "secular"
  assert facts["data"].startswith("scikit-learn's digits; class 0 against")
  assert facts["summary"] == (
    f"DROCC-LF with radius {facts['radius']:.3g}, trained for 6 epochs on 60 typical records and "
    "60 given negatives; none was held out, so the threshold is the network's own boundary."
  )
  assert detector.input_shape == (8, 8, 1)
  assert known_auroc(detector) > 0.9


def known_auroc(detector) -> float:
  """Of test records of the typical class and of that of the given negatives."""
  splits = small().data.load()
  x, labels = splits.labelled_test()
  known = splits.sources != "masked"
  return metrics.auroc(labels[known], detector.score(x[known]))


def test_drocc_oe_leaves_a_calibrated_detector(finished_oe):
  detector = detector_jax.load(finished_oe / "detector")
  facts = detector.metadata
  assert (facts["method"], facts["negatives"], facts["training_records"]) == ("DROCC-OE", 60, 48)
  assert facts["calibration_records"] == 12
  assert detector.fpr == pytest.approx(1 / 13)
  assert facts["summary"].startswith("DROCC-OE with radius")
  assert known_auroc(detector) > 0.9


def test_scalars_of_the_given_negatives_are_logged(finished, finished_oe):
  records = progress.read_scalars(finished)
  assert [record["epoch"] for record in records] == [2, 4, 6]
  assert all(1.0 <= record["effective_coordinates"] <= 64.0 for record in records)
  assert records[-1]["given_loss"] < records[0]["given_loss"]
  records = progress.read_scalars(finished_oe)
  assert all(np.isfinite(record["validation_objective"]) for record in records)
  assert records[-1]["given_loss"] < records[0]["given_loss"]
  assert "effective_coordinates" not in records[0]


def test_an_interrupted_run_ends_with_the_same_bits(finished, tmp_path):
  with interrupted_at(2, health, "check_loss"):
    run.train(uncalibrated(), tmp_path)
  assert not (tmp_path / "detector").exists()
  run.train(uncalibrated(), tmp_path)
  assert_same_bits(finished, tmp_path)


def test_close_negatives_are_evaluated_apart(finished_oe):
  result = evaluation.evaluate(finished_oe)
  assert result["sources"].keys() == {"negative", "masked"}
  assert result["labels"] == {"typical": 29, "anomalous": 60 + 30}


def test_another_method_is_refused_by_name(finished_oe):
  with pytest.raises(ValueError, match=r"configuration \(method was drocc_oe, is drocc_lf\)"):
    run.train(small(), finished_oe)


@pytest.mark.parametrize(("kind", "title"), [("oe", "DROCC-OE"), ("lf", "DROCC-LF")])
def test_data_without_negatives_are_refused(kind, title, tmp_path):
  with pytest.raises(ValueError) as caught:  # noqa: PT011
    run.train(small(kind, data=Digits()), tmp_path / "run")
  described = Digits().load().description
  assert str(caught.value) == (
    f"{title} needs labelled negatives, and {described!r} has none: give files whose label column "
    "holds 1 for some training records, set data.negatives to classes of an image set, or train "
    "DROCC."
  )
  assert not (tmp_path / "run").exists()


def test_drocc_leaves_negatives_aside_and_says_so(caplog):
  splits = small().data.load()
  with caplog.at_level(logging.WARNING):
    assert drocc.negatives_for(small("drocc"), splits) is None
  assert [record.getMessage() for record in caplog.records] == [
    "60 training records labelled 1 (anomalous) are left aside: DROCC learns from typical records "
    "alone; DROCC-OE and DROCC-LF learn from both."
  ]
  np.testing.assert_array_equal(drocc.negatives_for(small(), splits), splits.negatives)


def test_bad_settings_leave_no_workdir(tmp_path):
  config = small()
  config.drocc.sigma_from = "weights"
  with pytest.raises(ValueError, match="sigma_from must be one of"):
    run.train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


# Configurations.


@pytest.mark.parametrize("kind", drocc.KINDS)
def test_a_configuration_comes_back_from_its_workdir(kind, tmp_path):
  config = small(kind, fpr=0.1)
  config.drocc = dataclasses.replace(config.drocc, gamma=2.5, radius=3.0, noise_scale=None)
  workdirs.claim(tmp_path, config)
  back = run.read_config(tmp_path)
  assert back == config
  assert type(back.drocc) is drocc.KINDS[kind]
  assert back.data.negatives == (1,)
  assert back.method == {"drocc": "drocc", "oe": "drocc_oe", "lf": "drocc_lf"}[kind]
  assert run.method_of(back).detects
  workdirs.check(tmp_path, config)


def test_settings_of_another_algorithm_than_named_are_refused(tmp_path):
  workdirs.claim(tmp_path, small("oe"))
  file = tmp_path / "config.json"
  file.write_text(file.read_text().replace('"drocc_oe"', '"drocc_lf"'))
  with pytest.raises(
    ValueError, match=r"settings are of the method 'drocc_oe', and it names 'droc"
  ):
    run.read_config(tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", drocc.KINDS)
def test_every_configuration_is_valid(name, kind):
  config = importlib.import_module(f"configs.{name}").get_config(kind)
  assert (type(config), type(config.drocc)) == (drocc.Config, drocc.KINDS[kind])
  config.drocc.validate()
  config.network.make()
  assert config.data.reads(config.data.name)
  assert run.method_of(config) is METHODS[config.method]


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_are_of_drocc_lf_unless_told_otherwise(name):
  get_config = importlib.import_module(f"configs.{name}").get_config
  assert get_config().method == "drocc_lf"
  assert get_config() == get_config("lf")
  with pytest.raises(ValueError, match="goes one of drocc, oe, lf; got 'deep_sad'"):
    get_config("deep_sad")


def test_wake_words_are_named_after_the_method():
  get_config = importlib.import_module("configs.negatives_speech").get_config
  for keyword in importlib.import_module("configs.negatives_speech").KEYWORDS:
    config = get_config(f"oe,{keyword}")
    assert config == get_config("oe", keyword)
    assert config.data.keyword == keyword
    config.drocc.validate()
  with pytest.raises(ValueError, match=r"keyword must be one of marvin, .*, zero; got alexa"):
    get_config("lf,alexa")


def test_there_are_configurations():
  assert {"negatives_mnist", "negatives_sine", "negatives_speech"} <= set(CONFIGS)
