"""Evaluation by source and by layer, with a detector that was made rather than trained."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from detector_jax import metrics
from detector_jax.preprocessing import Identity
from launch import data, evaluation, scoring, workdirs
from launch.methods import drocc
from launch.reporting import intervals, layers, progress

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
    Brightness(),
    middle,
    Identity(),
    shape,
    threshold=0.1,
    metadata=metadata,
    report_fn=Report(),
    batch_size=16,
  )


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
    monkeypatch.setattr(evaluation.data.Source, "load", lambda config: splits)
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
  cells = re.sub(r"<td[^>]*>", "<td>", "".join(page.split("\n")))
  assert "<td>dark</td><td>50</td>" in cells
  assert not (workdir / "layers.png").exists()


def test_layers_are_drawn_with_their_thresholds(finished, monkeypatch):
  drawn = []
  draw = layers.figures.layer_histograms
  monkeypatch.setattr(
    layers.figures, "layer_histograms", lambda *given: drawn.append(given) or draw(*given)
  )
  workdir = finished(images(1), layers=LAYERS)
  evaluation.evaluate(workdir)
  ((names, typical, by_source, thresholds),) = drawn
  errors = np.asarray(_errors(images(1).x_test))
  assert names == LAYERS
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
  told = layers.reported(detector, x, "layer", "layer_error")
  assert set(told) == {"layer", "layer_error"}
  for name, values in told.items():
    np.testing.assert_array_equal(values, detector.report(x)[name])


def test_score_names_layer_and_side():
  columns = scoring.columns_of(made((8, 8, 1), {"layers": LAYERS}), images(1).x_test)
  assert list(columns) == ["score", "decision", "layer", "side"]
  assert set(columns["side"][50:100]) == {"low"}
  assert set(columns["side"][100:]) == {"high"}
  errors = np.abs(np.asarray(_errors(images(1).x_test)) - [0.5, 0.3])
  assert columns["layer"].tolist() == [LAYERS[i] for i in errors.argmax(axis=1)]


def test_score_without_layers_has_no_such_columns():
  columns = scoring.columns_of(made((8, 8, 1), {}), images(1).x_test)
  assert list(columns) == ["score", "decision"]


def drawn_sets(values: np.ndarray, number: int):
  """Random counts of each score, typical and anomalous, with as many of each in every set."""
  rng = np.random.default_rng(3)
  return [
    np.stack(
      [
        np.bincount(rng.integers(len(values), size=total), minlength=len(values))
        for _ in range(number)
      ]
    )
    for total in (23, 41)
  ]


@pytest.mark.parametrize("different", [1, 4, 500])
def test_metrics_of_counts_are_the_metrics_of_the_records(different):
  values = np.sort(np.random.default_rng(different).normal(size=different))
  typical, anomalous = drawn_sets(values, 40)
  flagged = values > 0.5
  got = intervals.of_counts(values, typical, anomalous, flagged)
  labels = np.repeat([0, 1], [23, 41])
  for row in range(40):
    scores = np.concatenate([np.repeat(values, typical[row]), np.repeat(values, anomalous[row])])
    want = evaluation.summary(labels, scores)
    want["realised_fpr"] = np.mean(scores[labels == 0] > 0.5)
    want["recall"] = np.mean(scores[labels == 1] > 0.5)
    assert {name: value[row] for name, value in got.items()} == pytest.approx(want, abs=1e-12)


def test_the_interval_of_a_rate_is_that_of_the_binomial():
  # 200 typical records of which 40 are flagged: a drawn share has a standard deviation of 0.0283.
  scores = np.concatenate([np.arange(200.0) - 159.5, np.full(50, 300.0)])
  ends = intervals.bootstrap(np.repeat([0, 1], [200, 50]), scores, 0.0, draws=4000)
  assert ends["realised_fpr"] == pytest.approx(
    [0.2 - 1.96 * 0.0283, 0.2 + 1.96 * 0.0283], abs=0.006
  )
  assert ends["recall"] == [1.0, 1.0]
  assert ends["auroc"] == [1.0, 1.0]


def test_intervals_hold_the_true_value_as_often_as_they_say():
  # AUROC of normal scores one standard deviation apart; 200 test sets, so 95 % is 190 +- 3.1.
  rng, true, held = np.random.default_rng(0), 0.7602499, 0
  labels = np.repeat([0, 1], [60, 60])
  for seed in range(200):
    low, high = intervals.bootstrap(
      labels, rng.normal(size=120) + labels, 0.0, draws=200, seed=seed
    )["auroc"]
    held += low <= true <= high
  assert 178 <= held <= 198


def test_the_same_seed_gives_the_same_interval_however_it_is_divided(monkeypatch):
  rng = np.random.default_rng(1)
  labels, scores = np.repeat([0, 1], [30, 20]), rng.normal(size=50).astype(np.float32)
  whole = intervals.bootstrap(labels, scores, 0.3)
  assert whole == intervals.bootstrap(labels, scores, 0.3)
  assert whole["auroc"] != intervals.bootstrap(labels, scores, 0.3, seed=1)["auroc"]
  monkeypatch.setattr(intervals, "CELLS", 7 * 50)
  assert intervals.bootstrap(labels, scores, 0.3) == whole


@pytest.mark.parametrize(("level", "draws"), [(0.0, 10), (1.0, 10), (0.95, 0)])
def test_settings_of_the_bootstrap_out_of_their_range_are_refused(level, draws):
  with pytest.raises(ValueError, match=r"level must be in \(0, 1\) and draws >= 1"):
    intervals.bootstrap(np.array([0, 1]), np.array([0.0, 1.0]), 0.5, level=level, draws=draws)


def test_metrics_json_has_an_interval_for_everything_measured(finished, monkeypatch):
  monkeypatch.setattr(evaluation.evaluated, "write", lambda *given: None)
  workdir = finished(images(1))
  result = evaluation.evaluate(workdir)
  ends = json.loads((workdir / "metrics.json").read_text())["intervals"]
  assert (ends["level"], ends["draws"], ends["seed"]) == (0.95, 1000, 0)
  assert ends["metrics"].keys() == result["metrics"].keys()
  for name, (low, high) in ends["metrics"].items():
    assert low <= result["metrics"][name] <= high, name
  for name in ("realised_fpr", "recall"):
    low, high = ends["decision"][name]
    assert low <= result["decision"][name] <= high
  assert list(ends["sources"]) == sorted(result["sources"])
  for source, measured in result["sources"].items():
    for name, (low, high) in ends["sources"][source].items():
      assert low <= measured[name] <= high
