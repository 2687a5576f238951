"""C headers: compiled without a warning, they score as the detector does, and refuse the rest."""

import dataclasses
import functools
import re
import subprocess

import jax
import numpy as np
import pytest

from benchmarks import small_devices, snippets
import detector_jax
from detector_jax import Standardizer, artifact, combination
from detector_jax.program import Program
from detector_jax.schema import learn
from drocc_jax import ensemble, networks, recipe
from launch import c_model, c_parts, c_source, exporting
from tests.helpers import ROOT

STRICT = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic")
needs_compiler = pytest.mark.skipif(small_devices.compiler() is None, reason="no C compiler")
FAR = 1.7e9


def records(n: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(5.0, 2.0, size=(n, *shape))


def made(network, shape=(5,), members=1, x=None, scaling="standard", fpr=0.1, **facts):
  """A detector with initial weights, of float32 records unless ``x`` is given."""
  x = records(60, shape).astype(np.float32) if x is None else x
  prepared = Standardizer.fit(x, scaling=scaling)
  inputs = np.shape(prepared.transform(x[:1]))[1:]
  forward = networks.as_forward(network)
  init = lambda key: forward.init(key, np.zeros((1, *inputs), np.float32))[0]  # noqa: E731
  keys = jax.random.split(jax.random.key(0), members)
  params = jax.vmap(init)(keys) if members > 1 else init(keys[0])
  detector = detector_jax.Detector.create(
    recipe.NegativeLogit(ensemble.of_members(network, members)),
    {"params": params, "stats": {}},
    prepared,
    x.shape[1:],
    metadata={"method": "DROCC", **facts},
  )
  return detector.calibrate(x[:40], fpr) if fpr else detector


def far_and_constant(seed: int = 0) -> np.ndarray:
  """Columns that are seconds since 1970, constant, and usual ones."""
  x = records(60, (4,), seed)
  return x * [1.0, 0.0, 1.0, 1.0] + [FAR, 3.0, 0.0, 0.0]


SMOOTH = networks.MLP((8, 6), squares=True, activation="silu", bias_range=1.0)
MADE = {
  "default": lambda: made(SMOOTH, feature_names=["a */ /* b", "Ünit\\", "c??/", "d", "e"]),
  "pump": lambda: made(networks.MLP((4,)), (3,)),
  "one column": lambda: made(networks.MLP((4,)), (1,)),
  "members, an offset and a constant": lambda: made(SMOOTH, members=3, x=far_and_constant()),
  "pictures": lambda: made(networks.MLP((6,), squares=True), (3, 2, 2)),
  "raw values, no layer": lambda: made(networks.MLP(()), scaling="none", fpr=None),
}


@functools.cache
def case(name: str) -> detector_jax.Detector:
  return MADE[name]()


def told(detector, x, folder, precision="float32", flags=STRICT, name="pump.h"):
  """What a header says of raw records: scores, p-values, decisions."""
  c_model.write(detector, folder / name, precision)
  result, _ = small_devices.compiled(folder / name, flags).score(x)
  return result.T


@needs_compiler
@pytest.mark.parametrize("name", MADE)
def test_a_compiled_header_scores_as_the_detector_does(name, tmp_path):
  detector = case(name)
  far = detector.input_offset is not None
  x = far_and_constant(1) if far else records(60, detector.input_shape, 1).astype(np.float32)
  score, p_value, decision = told(detector, x, tmp_path, name="7th pump.h")
  want = detector.score(x, warn=False)
  np.testing.assert_allclose(score, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
  apart = np.abs(want - np.float32(detector.threshold)) > 1e-4
  np.testing.assert_array_equal(decision[apart], detector.predict(x)[apart])
  assert apart.sum() >= 50
  assert 0 < decision.mean() < 1
  if name != "raw values, no layer":
    steps = np.abs(p_value - detector.calibration.p_value(want)) * 41
    assert steps.max() < 1.01  # a score next to a calibration score may fall on its other side
    assert np.mean(steps < 0.01) > 0.9


@needs_compiler
def test_what_is_no_number_has_no_score_and_what_is_far_has_that_of_the_detector(tmp_path):
  detector = case("members, an offset and a constant")
  x = np.tile(far_and_constant()[:1], (9, 1))
  x[0, 0], x[1, 1], x[2, 2], x[3, 3], x[4, 3] = np.nan, np.nan, np.inf, -np.inf, 4e38
  x[5, 2], x[6, 3], x[7, 0] = 3.4e38, -3.4e38, -1e30
  score, p_value, decision = told(detector, x, tmp_path)
  assert np.isnan(score[:5]).all()
  assert np.isnan(p_value[:5]).all()
  assert decision[:5].tolist() == [-1] * 5
  np.testing.assert_allclose(score[5:], detector.score(x[5:], warn=False), rtol=1e-5)
  assert len(set(score[5:].tolist())) == 4


ELSEWHERE = {
  "32 bits": ("gcc", ("-m32",), ()),
  "Arm": ("arm-linux-gnueabihf-gcc", ("-static",), ("qemu-arm-static",)),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_header_scores_the_same_on_another_machine(name, tmp_path):
  cc, flags, runner = ELSEWHERE[name]
  (tmp_path / "none.c").write_text("#include <math.h>\nint main(void) { return 0; }\n")
  try:
    small_devices.call([*flags, "none.c", "-lm", "-o", "none"], tmp_path, cc)
    subprocess.run([*runner, tmp_path / "none"], check=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("there is no compiler for it, or none of its libraries")
  detector, x = case("default"), records(60, (5,), 1).astype(np.float32)
  c_model.write(detector, tmp_path / "pump.h", "int8")
  made_here = small_devices.compiled(tmp_path / "pump.h", (*flags, *STRICT), cc, runner)
  want = c_parts.parts_of(detector, "int8").into(detector).score(x)
  np.testing.assert_allclose(made_here.score(x)[0][:, 0], want, rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("precision", ["int16", "int8"])
def test_rounded_weights_are_those_that_are_compiled(precision, tmp_path):
  detector, x = case("default"), records(60, (5,), 1).astype(np.float32)
  score, _, _ = told(detector, x, tmp_path, precision)
  parts = c_parts.parts_of(detector, precision)
  kinds = [layer.weights.dtype.name for layer in parts.members[0]]
  assert kinds == ["int16", precision, "float32"]
  np.testing.assert_allclose(score, parts.into(detector).score(x), rtol=1e-5, atol=1e-5)
  error = np.abs(score - detector.score(x)).max() / np.ptp(detector.score(x))
  assert 0 < error < (1e-4 if precision == "int16" else 0.02)


def test_rounding_makes_up_for_what_it_loses(rng):
  """The error of a layer on records as they are simulated; each alone rounds to the nearest."""
  x, weights = rng.normal(size=(2000, 30)) @ rng.normal(size=(30, 30)), rng.normal(size=(30, 9))
  unit = np.abs(weights).max(axis=0) / 127
  ours = c_parts._compensated(weights / unit, x, 127)
  assert np.array_equal(ours, np.rint(ours))
  assert np.abs(ours).max() <= 127
  errors = [
    np.square(x @ (each * unit - weights)).sum() for each in (ours, np.rint(weights / unit))
  ]
  assert errors[0] < 0.6 * errors[1]


@needs_compiler
def test_held_out_records_make_the_threshold_the_rounded_detectors_own(tmp_path):
  detector, x = case("default"), records(50, (5,), 3).astype(np.float32)
  c_model.write(detector, tmp_path / "own.h", "int8", x_typical=x)
  c_model.write(detector, tmp_path / "before.h", "int8")
  own = c_parts.parts_of(detector, "int8").into(detector).calibrate(x, detector.fpr)
  text, before = ((tmp_path / name).read_text() for name in ("own.h", "before.h"))
  assert f"OWN_THRESHOLD {c_source.number(own.threshold)}\n" in text
  assert f"BEFORE_THRESHOLD {c_source.number(detector.threshold)}\n" in before
  said = "Threshold and p-values are those of weights that are not."
  assert said in " ".join(before.split()).replace(" * ", " ")
  assert said not in " ".join(text.split()).replace(" * ", " ")
  decision = small_devices.compiled(tmp_path / "own.h", STRICT).score(x)[0][:, 2]
  assert decision.mean() <= detector.fpr


@needs_compiler
def test_the_program_of_the_docs_says_what_the_detector_says(tmp_path):
  text = (ROOT / "docs" / "export.md").read_text()
  (code,) = [block.body for block in snippets.blocks(text, "c")]
  (tmp_path / "main.c").write_text(code)
  detector = case("pump")
  c_model.write(detector, str(tmp_path / "pump.h"))
  small_devices.call([*STRICT, "main.c", "-lm", "-o", "main"], tmp_path)
  said = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
  x = np.array([[0.1, 20.0, 3.5]], np.float32)
  numbers = [float(word) for word in re.findall(r"-?[0-9.]+", said)]
  wanted = [detector.score(x)[0], detector.p_value(x)[0], detector.predict(x)[0]]
  np.testing.assert_allclose(numbers, wanted, rtol=1e-4)


@needs_compiler
def test_a_score_that_a_held_out_record_has_counts_it(tmp_path):
  detector = case("pump")
  c_model.write(detector, tmp_path / "pump.h")
  scores = detector.calibration.scores[[0, 7, 39]]
  calls = ", ".join(f"pump_p_value({c_source.number(score)})" for score in scores)
  code = '#include <stdio.h>\n#define PUMP_IMPLEMENTATION\n#include "pump.h"\nint main(void) {'
  (tmp_path / "main.c").write_text(f'{code} printf("%g %g %g", {calls}); return 0; }}\n')
  small_devices.call([*STRICT, "main.c", "-lm", "-o", "main"], tmp_path)
  said = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
  np.testing.assert_allclose(
    [*map(float, said.split())], detector.calibration.p_value(scores), rtol=1e-5
  )


def of_schema(cells, kinds=None):
  columns = {"size": records(60, ()).tolist(), "more": cells}
  schema = learn(columns, kinds)
  facts = {"schema": schema.to_json(), "feature_names": list(schema.features)}
  return made(networks.MLP((4,)), x=schema.encode(columns), **facts)


@needs_compiler
def test_a_schema_of_numbers_alone_is_written(tmp_path):
  detector = of_schema([True, False] * 30)
  x = np.c_[records(60, (1,), 1), np.arange(60) % 2]
  score, _, _ = told(detector, x, tmp_path)
  frame = [{"size": a, "more": bool(b)} for a, b in x.tolist()]
  np.testing.assert_allclose(score, detector.score(frame), rtol=1e-4, atol=1e-4)
  assert '"size", "more"' in (tmp_path / "pump.h").read_text()


@needs_compiler
@pytest.mark.parametrize("far", [0.0, FAR])
def test_a_number_on_a_log_scale_is_written(tmp_path, far):
  columns = {"size": (np.exp(records(60, ())) + far).tolist(), "more": records(60, ()).tolist()}
  schema = learn(columns, {"size": "log"})
  facts = {"schema": schema.to_json(), "feature_names": list(schema.features)}
  detector = made(networks.MLP((4,)), x=schema.encode(columns), **facts)
  assert (detector.input_offset is None) == (far == 0.0)
  x = np.stack([*columns.values()], axis=1) * [1.01, -1.0]
  score, _, _ = told(detector, x, tmp_path)
  frame = [{"size": a, "more": b} for a, b in x.tolist()]
  np.testing.assert_allclose(score, detector.score(frame), rtol=1e-4, atol=1e-4)


def changed(arrays=None, **fields):
  detector = case("default")
  return dataclasses.replace(detector, arrays={**detector.arrays, **(arrays or {})}, **fields)


REFUSED = {
  "has a network LSTM": lambda: changed(program=Program(recipe.NegativeLogit(networks.LSTM(2)))),
  "is one of DROCC": lambda: changed(program=Program(combination.SumOfScores(()))),
  "was loaded from a folder": lambda: changed(program=artifact.ExportedProgram(b"", {})),
  "computes features": lambda: changed({"features": {}}),
  "by its own contrast": lambda: changed(
    {"preprocessing": dataclasses.replace(case("default").arrays["preprocessing"], contrast=True)}
  ),
  "column 'more' of the kind category": lambda: of_schema(["x", "y"] * 30),
  "fills missing cells of its column 'more'": lambda: of_schema([None, 2.5, 1.5] * 20),
}


@pytest.mark.parametrize("found", REFUSED)
def test_what_no_header_can_hold_is_refused_in_one_sentence(found, tmp_path):
  with pytest.raises(ValueError, match=f"--format=c writes .*{found}.*; take --format=") as error:
    c_model.write(REFUSED[found](), tmp_path / "new" / "pump.h")
  assert "\n" not in str(error.value)
  assert not (tmp_path / "new").exists()


def test_parts_that_score_otherwise_write_nothing(tmp_path, monkeypatch):
  detector = case("default")
  monkeypatch.setattr(c_parts.Parts, "seen", lambda self, z: 2 * z)
  monkeypatch.setattr(artifact, "scores_of", lambda detector, x: np.zeros(len(x)))
  with pytest.raises(ValueError, match="would not reproduce the detector: scores differ by up to"):
    c_model.write(made(networks.MLP((4,))), tmp_path / "pump.h")
  assert not list(tmp_path.iterdir())
  with pytest.raises(ValueError, match="precision must be one of float32, int16, int8; got 'int4'"):
    c_model.write(detector, tmp_path / "pump.h", "int4")


def test_a_run_becomes_a_header_and_it_is_said_what_that_is(tmp_path, monkeypatch):
  detector, output = case("default"), tmp_path / "new" / "pump.h"
  monkeypatch.setattr(exporting, "live", lambda workdir: detector)
  assert exporting.export(tmp_path, output, "c", "int8") is detector
  assert "float pump_score(const float x[PUMP_COLUMNS]);" in output.read_text()
  told = exporting.described(detector, output, "int8")
  assert told[1] == ("input", "float32 [n, 5]")
  assert told[3] == ("weights", "rounded to int8; the rate is of those that are not")
  with pytest.raises(ValueError, match="exists: give an --output that is new"):
    exporting.export(tmp_path, output, "c")
  with pytest.raises(ValueError, match="--precision is of --format=c"):
    exporting.export(tmp_path, tmp_path / "pump.onnx", "onnx", "int8")
