"""ONNX: programs simplified for jax2onnx, and models that onnxruntime runs to the same scores."""

from collections.abc import Iterator
import dataclasses
import functools
import json
import pathlib
import sys

from flax import linen as nn
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from detector_jax import artifact
from detector_jax.preprocessing import Identity, Standardizer
import drocc_jax
from drocc_jax import networks, recipe, registry
from drocc_jax.drocc import Config as DroccConfig
from fingerprint_jax import NeuralFP
from launch import data, exporting, onnx_model, run, workdirs
from launch.data import BreastCancer
from launch.methods import drocc, neuralfp

NETWORKS = {
  "mlp": (networks.MLP((8,)), (3,)),
  "mnist_lenet": (networks.mnist_lenet(), (28, 28, 1)),
  "cifar_lenet": (networks.cifar_lenet(), (32, 32, 3)),
  "lstm": (networks.LSTM(4), (5, 2)),
}
DROCC = drocc.Config(
  data=BreastCancer(),
  network=registry.NetworkConfig("mlp", hidden=(4,)),
  epochs=2,
  checkpoints=1,
  drocc=DroccConfig(num_steps=1),
)


class Network(nn.Module):
  """A classifier with the parts that real ones have, for images ``[8, 8, 1]``."""

  @nn.compact
  def __call__(self, x):
    x = nn.max_pool(nn.relu(nn.Conv(4, (3, 3))(x)), (2, 2), (2, 2))
    return nn.Dense(3)(x.reshape(x.shape[0], -1))


def untrained(name: str) -> detector_jax.Detector:
  """A DROCC detector with its initial weights and the preprocessing of noise."""
  network, shape = NETWORKS[name]
  x = np.random.default_rng(0).normal(5.0, 2.0, size=(16, *shape)).astype(np.float32)
  params, stats = jax.jit(networks.as_forward(network).init)(jax.random.key(0), x[:1])
  return detector_jax.Detector.create(
    recipe.NegativeLogit(network),
    {"params": params, "stats": stats},
    Standardizer.fit(x),
    shape,
    metadata={"method": "DROCC"},
    batch_size=16,
  )


def fingerprinted(folder: pathlib.Path, patch: pytest.MonkeyPatch) -> None:
  """A finished run of NeuralFP on ``Network``, which the launcher has no name for."""
  x = np.random.default_rng(0).uniform(size=(120, 8, 8, 1)).astype(np.float32)
  variables = jax.jit(Network().init)(jax.random.key(0), x[:1])
  model = NeuralFP(
    Network(),
    variables,
    layers=("Dense_0",),
    fpr=0.1,
    epochs=1,
    calibration_size=0.5,
    random_state=0,
  )
  workdirs.claim(folder, neuralfp.Config(layers=("Dense_0",)))
  model.fit(x).save(folder / "detector")
  network = (Network(), variables["params"])
  patch.setattr(neuralfp, "classifier_of", lambda config, workdir: network)


@pytest.fixture(scope="module", params=["drocc", "neuralfp"])
def workdir(request, tmp_path_factory) -> Iterator[pathlib.Path]:
  folder = tmp_path_factory.mktemp("runs") / request.param
  with pytest.MonkeyPatch.context() as patch:
    if request.param == "drocc":
      run.train(DROCC, folder)
    else:
      fingerprinted(folder, patch)
    yield folder


def primitives(jaxpr) -> set[str]:
  return {equation.primitive.name for equation in jaxpr.eqns}


def test_sums_of_several_arrays_at_once_are_written_one_by_one(rng):
  a, b = rng.normal(size=(2, 3, 4)).astype(np.float32)

  def program(add, a, b):
    return tuple(jax.lax.reduce([a, b], [1.0, 2.0], add, (1,)))

  def both(these, those):
    return [this + that for this, that in zip(these, those, strict=True)]

  simple = onnx_model.simplified(functools.partial(program, both), a, b)
  assert "reduce" not in primitives(simple.jaxpr)
  got = jax.extend.core.jaxpr_as_fun(simple)(a, b)
  np.testing.assert_allclose(got, [1.0 + a.sum(axis=1), 2.0 + b.sum(axis=1)], rtol=1e-5)
  with pytest.raises(NotImplementedError, match="several arrays that is no sum"):
    onnx_model.simplified(functools.partial(program, lambda x, y: [x[0] * y[0], x[1] + y[1]]), a, b)


@pytest.mark.parametrize("name", ["mnist_lenet", "lstm"])
def test_a_simplified_program_says_the_same_without_calls_and_dead_equations(name):
  detector = untrained(name)
  records = artifact.probe(detector)
  simple = onnx_model.simplified(
    lambda x: detector.program(detector.arrays, x)["score"],
    jax.ShapeDtypeStruct(records.shape, jnp.float32),
  )
  found = primitives(simple.jaxpr)
  assert not found & {*onnx_model.CALLS, *onnx_model.RULES}
  assert not {primitive for primitive in found if primitive.startswith("random_")}
  (got,) = jax.jit(jax.extend.core.jaxpr_as_fun(simple))(records)
  np.testing.assert_allclose(got, artifact.scores_of(detector, records), rtol=1e-5, atol=1e-6)


def test_pooling_by_reshaping_drops_an_odd_rest(rng):
  x = jnp.asarray(rng.normal(size=(2, 5, 7, 3)), jnp.float32)

  def pooled(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 3, 1), (1, 2, 3, 1), "VALID")

  simple = onnx_model.simplified(pooled, x)
  assert "reduce_window_max" not in primitives(simple.jaxpr)
  (got,) = jax.jit(jax.extend.core.jaxpr_as_fun(simple))(x)
  np.testing.assert_array_equal(got, pooled(x))


@pytest.mark.parametrize(("strides", "padding"), [((1, 1, 1, 1), "VALID"), ((1, 2, 2, 1), "SAME")])
def test_pooling_that_overlaps_or_is_padded_is_refused(strides, padding):
  def pooled(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), strides, padding)

  with pytest.raises(NotImplementedError, match="windows overlap, are padded or dilated"):
    onnx_model.simplified(pooled, jax.ShapeDtypeStruct((1, 5, 5, 1), jnp.float32))


def test_a_run_comes_back_to_life_without_its_data(workdir, monkeypatch):
  monkeypatch.setattr(data.Source, "load", None)
  loaded, detector = detector_jax.load(workdir / "detector"), exporting.live(workdir)
  assert not isinstance(detector.program, artifact.ExportedProgram)
  records = np.random.default_rng(0).uniform(size=(20, *detector.input_shape)).astype(np.float32)
  want, got = loaded.report(records), detector.report(records)
  assert want.keys() == got.keys()
  for name, values in want.items():
    np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_missing_extra_is_one_sentence(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "jax2onnx", None)
  with pytest.raises(ValueError, match=r"needs jax2onnx, which is not installed: pip install .*\."):
    onnx_model.write(untrained("mlp"), tmp_path / "detector.onnx")
  assert not list(tmp_path.iterdir())


def packages():
  """onnxruntime, where both packages of the extra are installed."""
  for name in ("jax2onnx", "onnxruntime"):
    pytest.importorskip(name, reason="the extra onnx is not installed")
  return sys.modules["onnxruntime"]


def run_model(path: pathlib.Path, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
  session = packages().InferenceSession(path, providers=["CPUExecutionProvider"])
  score, p_value = session.run(["score", "p_value"], {"x": x})
  return score, p_value, session.get_modelmeta().custom_metadata_map


def assert_same(detector: detector_jax.Detector, path: pathlib.Path, x: np.ndarray) -> None:
  for n in (1, 7, len(x)):
    score, p_value, _ = run_model(path, x[:n])
    want = detector.score(x[:n])
    assert np.abs(score - want).max() <= 1e-4 * np.abs(want).max()
    # A score next to a calibration score may fall on its other side.
    steps = np.abs(p_value - detector.p_value(x[:n])) * (detector.calibration.scores.size + 1)
    assert steps.max() < 1.01


@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_scores_the_same(name, tmp_path):
  packages()
  detector = untrained(name)
  typical = np.random.default_rng(2).normal(5.0, 2.0, size=(16, *detector.input_shape))
  detector = detector.calibrate(typical, 0.1)
  onnx_model.write(detector, tmp_path / "detector.onnx")
  assert [path.name for path in tmp_path.iterdir()] == ["detector.onnx"]
  x = np.random.default_rng(1).normal(5.0, 2.0, size=(33, *detector.input_shape))
  assert_same(detector, tmp_path / "detector.onnx", x.astype(np.float32))


def test_a_run_is_exported_with_what_a_reader_needs(workdir, tmp_path):
  packages()
  path = tmp_path / "new" / "detector.onnx"
  exporting.export(workdir, path, "onnx")
  detector = detector_jax.load(workdir / "detector")
  x = np.random.default_rng(0).uniform(size=(33, *detector.input_shape)).astype(np.float32)
  assert_same(detector, path, x)
  facts = run_model(path, x)[2]
  assert json.loads(facts["threshold"]) == detector.threshold
  assert json.loads(facts["fpr"]) == detector.fpr
  assert json.loads(facts["metadata"]) == detector.metadata
  assert facts["score"] == "higher = more anomalous; anomalous when score > threshold"
  before = path.read_bytes()
  with pytest.raises(ValueError, match="exists: give an --output that is new"):
    exporting.export(workdir, path, "onnx")
  assert path.read_bytes() == before


def sorted_sum(variables, x):
  return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2), (1, 1), "VALID").sum(axis=1)


def test_what_cannot_be_converted_says_so(tmp_path):
  packages()
  detector = detector_jax.Detector.create(sorted_sum, {}, Identity(), (4,))
  with pytest.raises(
    ValueError, match=r"cannot be converted to ONNX.*take --format=folder"
  ) as error:
    onnx_model.write(detector, tmp_path / "detector.onnx")
  assert "\n" not in str(error.value)
  assert not list(tmp_path.iterdir())


def test_a_model_that_scores_otherwise_is_refused(tmp_path, monkeypatch):
  packages()
  detector = untrained("mlp")
  shifted = dataclasses.replace(detector, arrays={**detector.arrays})
  shifted.arrays["preprocessing"] = Identity()
  monkeypatch.setattr(artifact, "scores_of", lambda _, x: shifted.score(x))
  with pytest.raises(ValueError, match="does not reproduce the detector: scores differ by up to"):
    onnx_model.write(detector, tmp_path / "detector.onnx")
  assert not list(tmp_path.iterdir())


def test_an_offset_is_subtracted_in_float64(tmp_path):
  _, runtime = packages(), pytest.importorskip("onnxruntime")
  rng = np.random.default_rng(0)
  x = np.c_[rng.normal(size=(120, 2)), 1.7e9 + 60 * rng.normal(size=120)]
  model = drocc_jax.DROCC(epochs=2, batch_size=32, random_state=0).fit(x)
  detector = model.detector_
  onnx_model.write(detector, tmp_path / "detector.onnx")
  session = runtime.InferenceSession(str(tmp_path / "detector.onnx"))
  score, _ = session.run(None, {"x": x})
  np.testing.assert_allclose(score, detector.score(x), rtol=1e-4, atol=1e-4)
  late, _ = session.run(None, {"x": x + np.array([0, 0, 1.0])})
  assert (late != score).any()  # a second is seen
  facts = session.get_modelmeta().custom_metadata_map
  assert json.loads(facts["feature_names"]) is None


def test_names_of_the_columns_are_in_the_metadata(tmp_path):
  _, runtime = packages(), pytest.importorskip("onnxruntime")
  detector = untrained("mlp")
  names = [f"c{i}" for i in range(detector.input_shape[0])]
  onnx_model.write(detector.with_metadata(feature_names=names), tmp_path / "detector.onnx")
  session = runtime.InferenceSession(str(tmp_path / "detector.onnx"))
  assert json.loads(session.get_modelmeta().custom_metadata_map["feature_names"]) == names
