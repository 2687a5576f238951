"""DROCC on a stream of images: resume to the same bits, calibration, evaluation, configurations."""

import dataclasses
import json
import pathlib
import runpy

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from detector_jax import calibration
from detector_jax.batching import Batch
from drocc_jax import drocc, mobilenet, networks, recipe, registry
from drocc_jax.drocc import Config as DroccConfig
from launch import evaluation, exporting, run, scoring
from launch.data import DataError, streaming
from launch.data.imagenette import CLASSES, Synthetic
from launch.data.streaming import StreamConfig
from launch.methods import streamed
from launch.reporting import progress
from tests.helpers import arrays, assert_same_bits

ROOT = pathlib.Path(__file__).resolve().parents[2]
EPOCHS, BATCH = 4, 8


class Tiny(nn.Module):
  """Batch normalisation and two dense layers, which compile in a second."""

  @nn.compact
  def __call__(self, x, train=False, mask=None):
    x = networks.MaskedBatchNorm(name="BatchNorm")(x, train, mask)
    return nn.Dense(1)(nn.leaky_relu(nn.Dense(8)(x.reshape(x.shape[0], -1))))


@pytest.fixture(autouse=True, scope="module")
def tiny_network():
  """The network "cifar_lenet" is ``Tiny`` here."""
  patch = pytest.MonkeyPatch()
  patch.setitem(registry.NETWORKS, "cifar_lenet", Tiny)
  yield
  patch.undo()


def small(**changes) -> streamed.Config:
  """30 images of 12 x 12 that train, 10 held out; the last batch of an epoch has padding."""
  settings = {
    "data": StreamConfig("synthetic", resize=14, crop=12, side=16, records=400, threads=2),
    "network": registry.NetworkConfig("cifar_lenet"),
    "drocc": DroccConfig(
      radius=8.0, gamma=1.0, step_size=1.0, num_steps=3, learning_rate=0.01, average_decay=0.0
    ),
    "epochs": EPOCHS,
    "batch_size": BATCH,
    "calibration_size": 0.25,
    "checkpoints": 2,
  }
  return streamed.Config(**{**settings, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_network) -> pathlib.Path:
  workdir = tmp_path_factory.mktemp("runs") / "finished"
  run.train(small(), workdir)
  return workdir


def test_train_leaves_a_calibrated_detector(finished):
  detector = detector_jax.load(finished / "detector")
  facts = detector.metadata
  assert (facts["training_records"], facts["calibration_records"]) == (30, 10)
  assert facts["summary"] == (
    "DROCC with radius 8, trained for 4 epochs on 30 typical images, cropped at random; 10 more "
    "were held out for the threshold."
  )
  assert detector.input_shape == (12, 12, 3)
  assert detector.fpr == pytest.approx(1 / 11)
  records = progress.read_scalars(finished)
  assert [record["epoch"] for record in records] == [2, 4]
  assert all(record["distance"] == pytest.approx(8.0, rel=1e-4) for record in records)
  losses = [record["positive_loss"] + record["negative_loss"] for record in records]
  assert losses[1] < losses[0]


def test_the_threshold_is_of_held_out_images(finished):
  prepared = streamed.prepare(small())
  held_out, training = set(prepared.held_out.rows), set(prepared.training.rows)
  assert (len(held_out), len(training), held_out & training) == (10, 30, set())
  assert set(prepared.stream.rows) == training
  assert {row % 10 for row in held_out | training} == {0}
  detector = detector_jax.load(finished / "detector")
  scores = detector.score(prepared.held_out[:])
  np.testing.assert_allclose(detector.calibration.scores, np.sort(scores), rtol=1e-6, atol=1e-6)
  want = calibration.conformal_threshold(scores, 1 / 11)
  assert detector.threshold == pytest.approx(want, rel=1e-6, abs=1e-6)


def test_preprocessing_is_of_training_images_alone(finished, monkeypatch):
  x = streamed.prepare(small()).training[:].astype(np.float64)
  got = arrays(finished)
  np.testing.assert_allclose(got["preprocessing/center"], x.mean(axis=(0, 1, 2)), rtol=1e-5)
  np.testing.assert_allclose(got["preprocessing/scale"], x.std(axis=(0, 1, 2)), rtol=1e-5)
  read = set()

  class Spy(Synthetic):
    def image(self, row):
      read.add((self.description.split(",")[0], row))
      return super().image(row)

  monkeypatch.setattr(streaming, "Synthetic", Spy)
  prepared = streamed.prepare(small())
  assert read == {("synthetic train", row) for row in prepared.training.rows}


@pytest.mark.parametrize("moment", ["between checkpoints", "within an epoch"])
def test_an_interrupted_run_ends_with_the_same_bits(finished, tmp_path, monkeypatch, moment):
  calls, on_device = [], streamed.on_device

  def interrupted(batches):
    calls.append(None)
    for number, batch in enumerate(on_device(batches)):
      if len(calls) == 3 and number == {"between checkpoints": 0, "within an epoch": 2}[moment]:
        raise KeyboardInterrupt
      yield batch

  monkeypatch.setattr(streamed, "on_device", interrupted)
  with pytest.raises(KeyboardInterrupt):
    run.train(small(), tmp_path)
  assert not (tmp_path / "detector").exists()
  assert [record["epoch"] for record in progress.read_scalars(tmp_path)] == [2]
  monkeypatch.setattr(streamed, "on_device", on_device)
  run.train(small(), tmp_path)
  assert_same_bits(finished, tmp_path)


def test_epochs_may_be_divided_otherwise(finished, tmp_path):
  data = dataclasses.replace(small().data, threads=1, prefetch=2)
  run.train(small(checkpoints=4, data=data), tmp_path)
  assert [record["epoch"] for record in progress.read_scalars(tmp_path)] == [1, 2, 3, 4]
  assert_same_bits(finished, tmp_path)
  assert progress.read_scalars(tmp_path)[-1] == progress.read_scalars(finished)[-1]


def test_a_step_is_that_of_the_algorithm_on_standardised_images():
  """Two steps by ``drocc.make_train_step`` on images that NumPy standardised."""
  config = small()
  prepared = streamed.prepare(config)
  init_key, key = recipe.keys(0)
  start = prepared.program.init(prepared.config.hyper(), prepared.sample, init_key)
  step = jax.jit(drocc.make_train_step(prepared.network, prepared.config.static()))
  want = start
  center, scale = (
    np.asarray(value) for value in (prepared.preprocessing.center, prepared.preprocessing.scale)
  )
  for images in prepared.stream.batches(0, 4):
    x = (images.pixels / np.float32(255.0) - center) / scale
    batch = Batch(
      jnp.asarray(x), jnp.ones(BATCH), jnp.asarray(images.mask), jnp.asarray(images.rows)
    )
    want, info = step(want, batch, jax.random.fold_in(key, want.step))
  got, means = streamed.train_epochs(prepared, key, start, 0, 1)
  assert int(got.step) == 4
  for a, b in zip(jax.tree.leaves(got.params), jax.tree.leaves(want.params), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
  assert means.keys() == drocc.means(info).keys()


def test_means_are_of_the_last_epoch():
  class Program:
    @staticmethod
    def step(state, preprocessing, batch, key):
      number = jnp.asarray(float(state), jnp.float32)
      info = drocc.Info(*[streamed_mean(number)] * 7)
      return state + 1, info

  def streamed_mean(value):
    return drocc.Mean(value, jnp.ones(()))

  prepared = dataclasses.replace(streamed.prepare(small()), program=Program())
  state, means = streamed.train_epochs(prepared, jax.random.key(0), 0, 1, 3)
  assert state == 8
  assert means["positive_loss"] == np.mean([4, 5, 6, 7])


def test_batches_wait_on_the_device():
  taken = []

  def batches():
    for number in range(5):
      taken.append(number)
      yield np.full(2, number)

  ahead = streamed.on_device(batches(), 2)
  first = next(ahead)
  assert isinstance(first, jax.Array)
  assert taken == [0, 1, 2]
  assert [int(batch[0]) for batch in (first, *ahead)] == [0, 1, 2, 3, 4]


def test_evaluation_reads_the_test_images_in_pieces(finished, monkeypatch):
  sizes = []
  scored = detector_jax.Detector.score

  def score(self, x, **how):
    sizes.append(len(x))
    return scored(self, x, **how)

  monkeypatch.setattr(detector_jax.Detector, "score", score)
  load = evaluation.load_detector
  monkeypatch.setattr(
    evaluation, "load_detector", lambda path: dataclasses.replace(load(path), batch_size=16)
  )
  result = evaluation.evaluate(finished)
  assert sizes == [32] * 6 + [8]
  assert result["labels"] == {"typical": 20, "anomalous": 180}
  splits = streaming.load(small().data)
  scores = detector_jax.load(finished / "detector").score(splits.x_test[:])
  typical, anomalous = scores[splits.y_test == 0], scores[splits.y_test == 1]
  by_hand = np.mean(anomalous[:, None] > typical) + 0.5 * np.mean(anomalous[:, None] == typical)
  assert result["metrics"]["auroc"] == pytest.approx(by_hand, abs=1e-3)
  assert json.loads((finished / "metrics.json").read_text())["labels"] == result["labels"]
  page = (finished / "report.html").read_text()
  assert result["detector"]["summary"] in page
  assert page.count("<img") >= 4 + 20


def test_images_of_a_file_are_scored(finished, tmp_path):
  x = streaming.load(small().data).x_test[:9]
  np.save(tmp_path / "x.npy", x)
  detector = evaluation.load_detector(finished)
  tally = scoring.score_input(detector, str(tmp_path / "x.npy"), tmp_path / "scores.csv")
  assert (tally.rows, tally.bad) == (9, 0)
  written = np.genfromtxt(tmp_path / "scores.csv", delimiter=",", names=True)
  np.testing.assert_allclose(written["score"], detector.score(x), rtol=1e-6, atol=1e-6)


def test_bytes_are_refused(finished):
  detector = detector_jax.load(finished / "detector")
  x = 255.0 * streaming.load(small().data).x_test[:2]
  with pytest.raises(ValueError, match=r"training records from 0 to 1: .*divide bytes by 255"):
    detector.score(x)


def test_without_held_out_images_there_is_no_rate(tmp_path):
  config = small(calibration_size=0.0, epochs=1, checkpoints=1)
  run.train(config, tmp_path / "run")
  detector = detector_jax.load(tmp_path / "run" / "detector")
  assert (detector.fpr, detector.threshold, detector.calibration.scores.size) == (None, 0.0, 0)
  assert "none was held out" in detector.metadata["summary"]
  with pytest.raises(ValueError, match=r"fpr=0\.1 needs held-out records: set calibration_size"):
    run.train(dataclasses.replace(config, fpr=0.1), tmp_path / "other")


def test_a_network_that_ranks_nothing_is_refused():
  prepared = streamed.prepare(small())
  key, _ = recipe.keys(0)
  state = prepared.program.init(prepared.config.hyper(), prepared.sample, key)
  dead = dataclasses.replace(state, average=jax.tree.map(jnp.zeros_like, state.average))
  with pytest.raises(detector_jax.HealthError, match=r"All 30 scores are .*0: the network is dead"):
    streamed.finish(small(), prepared, dead)


BAD = {
  "epochs": ({"epochs": 0}, "epochs must be >= 1, got 0"),
  "batch": ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
  "checkpoints": ({"checkpoints": 0}, "checkpoints must be >= 1"),
  "network": ({"network": registry.NetworkConfig("resnet")}, r"network\.name must be one of auto"),
  "width": ({"network": registry.NetworkConfig(width=0.0)}, r"network\.width must be > 0, got 0"),
  "gamma": ({"drocc": DroccConfig(gamma=0.5)}, "gamma must be >= 1"),
  "data": ({"data": StreamConfig("cifar")}, "no stream 'cifar'"),
  "share": ({"calibration_size": 1.0}, r"calibration_size must be in \[0, 1\)"),
  "contamination": ({"contamination": "auto"}, "state a share instead"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_leave_no_workdir(tmp_path, case):
  changes, message = BAD[case]
  with pytest.raises(ValueError, match=message):
    run.train(small(**changes), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_missing_images_leave_no_workdir(tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  with pytest.raises(DataError, match="has no train part of imagenette/320px-v2"):
    run.train(small(data=StreamConfig(variant="320px-v2")), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_the_paper_s_network_is_the_default():
  assert streamed.Config().network.make() == mobilenet.MobileNetV2(1.0)


def test_configurations_have_the_settings_of_table_12():
  make = runpy.run_path(str(ROOT / "configs" / "drocc_imagenette.py"))["get_config"]
  for place, name in enumerate(CLASSES):
    config = make(name)
    config.drocc.validate()
    config.data.validate()
    assert run.method_of(config).train is streamed.train
    assert (config.data.name, config.data.typical) == ("imagenette", place)
    assert (config.drocc.gamma, config.drocc.mu) == (1.0, 1.0)
    assert (config.data.resize, config.data.crop, config.network.width) == (256, 224, 1.0)
  horn, church = make("french_horn").drocc, make("church").drocc
  assert (horn.radius, horn.optimizer, horn.learning_rate) == (20.0, "sgd", 0.05)
  assert (church.radius, church.optimizer, church.learning_rate) == (40.0, "adam", 0.01)
  with pytest.raises(ValueError, match=r"one of tench, english_springer, .* got 'goldfish'"):
    make("goldfish")


def test_the_configuration_of_a_run_is_read_back(finished):
  assert run.read_config(finished) == small()
  other = small(data=dataclasses.replace(small().data, typical=3))
  with pytest.raises(ValueError, match=r"another configuration \(data\.typical was 0, is 3\)"):
    run.train(other, finished)


def test_a_run_comes_back_to_life_and_is_exported_to_onnx(finished, tmp_path):
  loaded, alive = detector_jax.load(finished / "detector"), exporting.live(finished)
  x = np.random.default_rng(0).uniform(size=(7, *loaded.input_shape)).astype(np.float32)
  np.testing.assert_allclose(alive.score(x), loaded.score(x), rtol=1e-5, atol=1e-5)
  pytest.importorskip("jax2onnx")
  runtime = pytest.importorskip("onnxruntime")
  exporting.export(finished, tmp_path / "detector.onnx", "onnx")
  score, _ = runtime.InferenceSession(str(tmp_path / "detector.onnx")).run(None, {"x": x})
  np.testing.assert_allclose(score, loaded.score(x), rtol=1e-4, atol=1e-4)
