"""Evaluation by source and by layer, with a detector that was made rather than trained."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from detector_jax import metrics
from detector_jax.preprocessing import Identity
from launch import data, evaluation, workdirs
from launch.methods import drocc
from launch.reporting import progress

LAYERS = ["conv1", "dense1"]


@dataclasses.dataclass(frozen=True)
class Brightness:
  """Scores an image by its distance from grey; its layers are mean and mean square."""

  def __call__(self, variables, x):
    return jnp.max(jnp.abs(_errors(x) - variables[None]), axis=1)


@dataclasses.dataclass(frozen=True)
class Report:
  def __call__(self, variables, x, threshold):
    errors = _errors(x)
    apart = errors - variables[None]
    layer = jnp.argmax(jnp.abs(apart), axis=1).astype(jnp.int32)
    return {
      "layer_error": errors,
      "layer_low": jnp.broadcast_to((variables - threshold)[None], errors.shape),
      "layer_high": jnp.broadcast_to((variables + threshold)[None], errors.shape),
      "layer": layer,
      "side": jnp.sign(jnp.take_along_axis(apart, layer[:, None], axis=1)[:, 0]),
    }


def _errors(x):
  return jnp.stack([x.mean(axis=(1, 2, 3)), jnp.square(x).mean(axis=(1, 2, 3))], axis=1)


def made(shape, metadata) -> detector_jax.Detector:
  middle = jnp.asarray([0.5, 0.3])
  return detector_jax.Detector.create(
    Brightness(), middle, Identity(), shape, threshold=0.1, metadata=metadata, report_fn=Report(),
    batch_size=16,
  )  # fmt: skip


def images(channels: int) -> data.Splits:
  """Grey noise is typical; dark and bright noise are two sources of anomalies."""
  rng = np.random.default_rng(0)
  typical, dark, bright = (
    rng.uniform(low, high, size=(n, 8, 8, channels)).astype(np.float32)
    for low, high, n in ((0, 1, 90), (0.0, 0.6, 50), (0.2, 1.0, 40))
  )
  return data.Splits(
    typical[:40],
    np.concatenate([typical[40:], dark, bright]),
    np.repeat([0, 1], [50, 90]),
    image_shape=(8, 8) if channels == 1 else (8, 8, 3),
    description="grey against dark and bright",
    sources=np.repeat(["grey", "dark", "bright"], [50, 50, 40]),
  )


@pytest.fixture
def finished(tmp_path, monkeypatch):
  """Makes the workdir of a finished run on the given records."""

  def finish(splits: data.Splits, **metadata) -> None:
    monkeypatch.setattr(evaluation.data, "load", lambda config: splits)
    workdirs.claim(tmp_path, drocc.Config())
    facts = {"method": "Brightness", "summary": "Made by hand.", **metadata}
    made(splits.x_train.shape[1:], facts).save(tmp_path / "detector")
    return tmp_path

  return finish


@pytest.mark.parametrize("channels", [1, 3])
def test_every_source_is_measured_against_all_typical_records(finished, channels):
  splits = images(channels)
  workdir = finished(splits)
  result = evaluation.evaluate(workdir)
  assert json.loads((workdir / "metrics.json").read_text())["sources"] == result["sources"]
  assert list(result["sources"]) == ["dark", "bright"]
  scores = detector_jax.load(workdir / "detector").score(splits.x_test)
  typical = scores[:50]
  for name, own in (("dark", scores[50:100]), ("bright", scores[100:])):
    measured = result["sources"][name]
    labels, both = np.repeat([0, 1], [50, len(own)]), np.concatenate([typical, own])
    assert measured == {
      "records": len(own),
      "auroc": pytest.approx(np.mean(own[:, None] > typical), abs=1e-3),
      "fpr_at_95tpr_anomaly_positive": metrics.fpr_at_tpr(labels, both),
      "flagged": pytest.approx(np.mean(own > np.float32(0.1))),
    }
  page = (workdir / "report.html").read_text()
  assert "Made by hand. Test: 50 typical, 90 anomalous." in page
  assert "<td>dark</td><td>50</td>" in "".join(page.split("\n"))
  assert "Captions give the source." in page
  assert not (workdir / "layers.png").exists()


def test_layers_are_drawn_with_their_thresholds(finished, monkeypatch):
  drawn = []
  draw = evaluation.figures.layer_histograms
  monkeypatch.setattr(
    evaluation.figures, "layer_histograms", lambda *given: drawn.append(given) or draw(*given)
  )
  workdir = finished(images(1), layers=LAYERS)
  evaluation.evaluate(workdir)
  ((layers, typical, by_source, thresholds),) = drawn
  errors = np.asarray(_errors(images(1).x_test))
  assert layers == LAYERS
  np.testing.assert_allclose(typical, errors[:50], rtol=1e-5)
  assert list(by_source) == ["dark", "bright"]
  np.testing.assert_allclose(by_source["bright"], errors[100:], rtol=1e-5)
  np.testing.assert_allclose(thresholds, [(0.4, 0.6), (0.2, 0.4)], rtol=1e-5)
  assert (workdir / "layers.png").stat().st_size > 1000
  page = (workdir / "report.html").read_text()
  assert page.index("Scores of the test set") < page.index("Errors of the test set by layer")


def test_without_sources_the_anomalies_are_one(finished):
  splits = dataclasses.replace(images(1), sources=None)
  workdir = finished(splits, layers=LAYERS)
  assert "sources" not in evaluation.evaluate(workdir)
  page = (workdir / "report.html").read_text()
  assert "Captions give the true label." in page
  assert (workdir / "layers.png").exists()


def test_every_stage_has_its_curves(finished):
  workdir = finished(images(1))
  for stage, epochs in (("classifier", (1, 2)), ("autoencoders", (1, 2, 3)), ("short", (1,))):
    scalars = progress.Scalars(workdir, stage)
    for epoch in epochs:
      scalars.write(epoch, {"loss": 1.0 / epoch, "accuracy": 0.5})
    scalars.close()
  evaluation.evaluate(workdir)
  assert sorted(path.name for path in workdir.glob("training*.png")) == [
    "training_autoencoders.png",
    "training_classifier.png",
  ]


def test_report_in_parts_is_the_report():
  detector, x = made((8, 8, 1), {}), images(1).x_test
  told = evaluation.reported(detector, x, "layer", "layer_error")
  assert set(told) == {"layer", "layer_error"}
  for name, values in told.items():
    np.testing.assert_array_equal(values, detector.report(x)[name])


def test_score_names_layer_and_side():
  columns = evaluation.columns_of(made((8, 8, 1), {"layers": LAYERS}), images(1).x_test)
  assert list(columns) == ["score", "decision", "layer", "side"]
  assert set(columns["side"][50:100]) == {"low"}
  assert set(columns["side"][100:]) == {"high"}
  errors = np.abs(np.asarray(_errors(images(1).x_test)) - [0.5, 0.3])
  assert columns["layer"].tolist() == [LAYERS[i] for i in errors.argmax(axis=1)]


def test_score_without_layers_has_no_such_columns():
  columns = evaluation.columns_of(made((8, 8, 1), {}), images(1).x_test)
  assert list(columns) == ["score", "decision"]
