"""A folder that somebody made by hand: refused before anything of it is unpacked or run."""

from collections.abc import Callable
import dataclasses
import io
import json
import os
import pathlib
import types
import zipfile

import jax
import jax.export
from jax.extend import mlir
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters.mlir import make_ir_context
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import ArtifactError, artifact, load
from detector_jax.preprocessing import Identity
from detector_jax.program import ProgramError, check_operations

BATCH = jax.export.symbolic_shape("batch")[0]


@pytest.fixture(scope="module")
def whole(detector, tmp_path_factory) -> dict[str, bytes]:
  folder = tmp_path_factory.mktemp("whole") / "detector"
  detector.save(folder)
  return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def forge(whole, tmp_path) -> Callable[..., pathlib.Path]:
  """Makes a folder with other files or other values and checksums that fit."""

  def make(files: dict[str, bytes] | None = None, **values) -> pathlib.Path:
    content = {**whole, **(files or {})}
    description = {**json.loads(content["detector.json"]), **values}
    for name in artifact.FILES:
      description["sha256"][name] = artifact._checksum(content[name])
    description["sha256"]["detector.json"] = artifact._description_checksum(description)
    content["detector.json"] = json.dumps(description).encode()
    folder = tmp_path / "forged"
    folder.mkdir(exist_ok=True)
    for name, data in content.items():
      (folder / name).write_bytes(data)
    return folder

  return make


def test_a_forged_folder_without_a_fault_loads(forge, detector, records):
  np.testing.assert_array_equal(load(forge()).score(records), detector.score(records))


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"threshold": float("nan")}, "threshold must be a finite number, and is nan"),
    ({"threshold": float("inf")}, "threshold must be a finite number"),
    ({"threshold": "2.0"}, "threshold must be a finite number"),
    ({"threshold": True}, "threshold must be a finite number, and is True"),
    ({"fpr": 0.0}, r"fpr must be null or in \(0, 1\), and is 0"),
    ({"fpr": 1.5}, "fpr must be null"),
    ({"fpr": True}, "fpr must be null"),
    ({"confidence": 2.0}, "confidence must be null"),
    ({"batch_size": 0}, "batch_size must be in 1 to 1048576, and is 0"),
    ({"batch_size": -1}, "batch_size must be in 1"),
    ({"batch_size": 10**12}, "batch_size must be in 1"),
    ({"batch_size": True}, "batch_size must be in 1"),
    ({"batch_size": 2.0}, "batch_size must be in 1"),
    ({"metadata": [1]}, "metadata must be an object"),
    ({"metadata": {"feature_names": ["a"]}}, "feature_names of its metadata are no names"),
    ({"metadata": {"report_names": {"part": [1]}}}, "report_names of its metadata are no names"),
    ({"metadata": {"constants": [[7, 1.0, 0.0]]}}, "constants of its metadata are no col"),
    ({"input_shape": [-3]}, "input_shape must be a list of sizes"),
    ({"input_shape": [4]}, r"it takes records float32"),
    ({"input_range": [2, 1]}, "input_range must be null"),
    ({"input_offset": [1.0]}, "input_offset must be null or 3 numbers"),
    ({"calibration_records": 7}, "another number of calibration records"),
    ({"version": True}, "format version True"),
    ({"version": 0}, "format version 0"),
  ],
)
def test_values_that_no_detector_has_are_refused(forge, values, message):
  with pytest.raises(ArtifactError, match=message):
    load(forge(**values))


def arrays_of(whole: dict[str, bytes], **changes: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  with np.load(io.BytesIO(whole["arrays.npz"])) as archive:
    np.savez(buffer, **{**dict(archive), **changes})
  return buffer.getvalue()


@pytest.mark.parametrize(
  ("scores", "message"),
  [
    (np.r_[np.arange(49.0), np.nan], "no finite float32"),
    (np.arange(50.0)[::-1], "not in ascending order"),
  ],
)
def test_calibration_scores_that_cannot_be_are_refused(forge, whole, scores, message):
  changed = arrays_of(whole, calibration=scores.astype(np.float32))
  with pytest.raises(ArtifactError, match=message):
    load(forge({"arrays.npz": changed}))


def test_arrays_that_unpack_to_more_than_the_file_are_refused(forge, whole):
  buffer = io.BytesIO()
  with np.load(io.BytesIO(whole["arrays.npz"])) as archive:
    np.savez_compressed(buffer, **dict(archive))
  with pytest.raises(ArtifactError, match=r"of arrays\.npz is compressed|unpacks to more than"):
    load(forge({"arrays.npz": buffer.getvalue()}))


def test_an_array_that_declares_more_than_it_has_is_refused(forge):
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)}
  )
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as archive:
    archive.writestr("calibration.npy", header.getvalue() + bytes(8))
  with pytest.raises(ArtifactError, match="declares another size than it has"):
    load(forge({"arrays.npz": buffer.getvalue()}))


def test_an_array_of_another_shape_or_name_is_refused(forge, whole):
  wrong = arrays_of(whole, **{"variables/center": np.zeros(4, np.float32)})
  with pytest.raises(ArtifactError, match="it takes 'variables/center' as float32 "):
    load(forge({"arrays.npz": wrong}))
  with pytest.raises(ArtifactError, match="it takes the arrays"):
    load(forge({"arrays.npz": arrays_of(whole, more=np.zeros(1))}))


def program_of(whole: dict[str, bytes], function: Callable[..., object], **options) -> bytes:
  """A program over the folder's arrays that does something else."""
  with np.load(io.BytesIO(whole["arrays.npz"])) as archive:
    shapes = {n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in archive.items()}
  x = jax.ShapeDtypeStruct((BATCH, 3), jnp.float32)
  return bytes(jax.export.export(jax.jit(function), **options)(shapes, x).serialize())


@pytest.mark.parametrize(
  ("function", "message"),
  [
    (lambda arrays, x: {"score": x[:3, 0], "p_value": x[:, 0]}, "gives no 'score' of one float32"),
    (lambda arrays, x: {"score": x[:, 0]}, "gives no 'p_value'"),
    (lambda arrays, x: {"score": x, "p_value": x[:, 0]}, "gives no 'score'"),
    (lambda arrays, x: x[:, 0], "gives no values by name"),
    (
      lambda arrays, x: {"score": x[:, 0], "p_value": x[:, 0], "more": arrays["threshold"]},
      r"gives 'more' \[\], not one for each record",
    ),
  ],
)
def test_a_program_with_other_outputs_is_refused(forge, whole, function, message):
  with pytest.raises(ArtifactError, match=message):
    load(forge({"program.bin": program_of(whole, function)}))


def callback(arrays, x):
  """Calls Python by the number of a callback that this process never made."""
  call = jax.ffi.ffi_call(
    "xla_ffi_python_cpu_callback", jax.ShapeDtypeStruct((3,), jnp.float32), has_side_effect=True
  )
  return {"score": x[:, 0] + call(x[0], index=np.uint64(4096))[0], "p_value": x[:, 0]}


def test_a_custom_call_is_refused_before_anything_runs(forge, whole):
  safe = jax.export.DisabledSafetyCheck.custom_call("xla_ffi_python_cpu_callback")
  program = program_of(whole, callback, platforms=("cpu",), disabled_checks=[safe])
  with pytest.raises(
    ArtifactError, match="holds the custom call 'xla_ffi_python_cpu_callback', which detectors"
  ):
    load(forge({"program.bin": program}))


def test_what_cannot_be_loaded_is_not_saved(detector, tmp_path):
  def solving(arrays, x):
    lower = jnp.linalg.cholesky(arrays["threshold"] * jnp.eye(3))
    return {"score": x[:, 0] + lower[0, 0], "p_value": x[:, 0]}

  unusual = dataclasses.replace(detector, program=solving)
  with pytest.raises(ProgramError, match="holds the custom call"):
    unusual.save(tmp_path / "detector")
  assert not list(tmp_path.iterdir())


OUTFEED = """
module {
  func.func public @main(%x: tensor<2xf32>) -> tensor<2xf32> {
    %token = stablehlo.create_token : !stablehlo.token
    %done = "stablehlo.outfeed"(%x, %token) {outfeed_config = ""} :
      (tensor<2xf32>, !stablehlo.token) -> !stablehlo.token
    return %x : tensor<2xf32>
  }
}
"""


def test_what_waits_for_the_host_is_refused():
  with make_ir_context():
    module = ir.Module.parse(OUTFEED)
    serialized = mlir.serialize_portable_artifact(module, stablehlo.get_current_version())
  with pytest.raises(ProgramError, match=r"holds the operation 'stablehlo\.outfeed'"):
    check_operations(types.SimpleNamespace(mlir_module_serialized=serialized))


CALLS_ITSELF = """
module {
  func.func private @again(%x: tensor<2xf32>) -> tensor<2xf32> {
    %y = func.call @other(%x) : (tensor<2xf32>) -> tensor<2xf32>
    return %y : tensor<2xf32>
  }
  func.func private @other(%x: tensor<2xf32>) -> tensor<2xf32> {
    %y = func.call @again(%x) : (tensor<2xf32>) -> tensor<2xf32>
    return %y : tensor<2xf32>
  }
  func.func public @main(%x: tensor<2xf32>) -> tensor<2xf32> {
    %y = func.call @again(%x) : (tensor<2xf32>) -> tensor<2xf32>
    return %y : tensor<2xf32>
  }
}
"""


def chain(length: int) -> str:
  """Functions of which each calls the next."""
  kind = "(tensor<2xf32>) -> tensor<2xf32>"
  parts = [
    f"func.func public @main(%x: tensor<2xf32>) -> tensor<2xf32> {{ %y = func.call @f1(%x) "
    f": {kind} return %y : tensor<2xf32> }}"
  ]
  for i in range(1, length):
    parts.append(
      f"func.func private @f{i}(%x: tensor<2xf32>) -> tensor<2xf32> {{ %y = func.call @f{i + 1}(%x)"
      f" : {kind} return %y : tensor<2xf32> }}"
    )
  parts.append(
    f"func.func private @f{length}(%x: tensor<2xf32>) -> tensor<2xf32> {{ return %x : "
    "tensor<2xf32> }"
  )
  return "module {" + "\n".join(parts) + "}"


@pytest.mark.parametrize("text", [CALLS_ITSELF, chain(200)], ids=["circle", "chain"])
def test_calls_that_would_overflow_the_compiler_are_refused(text):
  with make_ir_context():
    module = ir.Module.parse(text)
    serialized = mlir.serialize_portable_artifact(module, stablehlo.get_current_version())
  with pytest.raises(ProgramError, match="functions that call themselves"):
    check_operations(types.SimpleNamespace(mlir_module_serialized=serialized))


def test_a_chain_of_calls_is_fine():
  with make_ir_context():
    module = ir.Module.parse(chain(20))
    serialized = mlir.serialize_portable_artifact(module, stablehlo.get_current_version())
  check_operations(types.SimpleNamespace(mlir_module_serialized=serialized))


@pytest.mark.parametrize("name", ["detector.json", *artifact.FILES])
def test_what_is_no_plain_file_of_the_folder_is_refused(forge, tmp_path, name):
  folder = forge()
  (folder / name).rename(tmp_path / name)
  (folder / name).symlink_to(tmp_path / name)
  with pytest.raises(ArtifactError, match=f"{name} is a link that leaves the folder"):
    load(folder)
  (folder / name).unlink()
  os.mkfifo(folder / name)
  with pytest.raises(ArtifactError, match=f"{name} is no plain file"):
    load(folder)
  (folder / name).unlink()
  (folder / name).symlink_to(name)
  with pytest.raises(ArtifactError, match=f"{name} cannot be read"):
    load(folder)


def test_links_within_the_folder_are_read(forge):
  folder = forge()
  (folder / "..data").mkdir()
  for name in artifact.FILES:
    (folder / name).rename(folder / "..data" / name)
    (folder / name).symlink_to(pathlib.Path("..data") / name)
  load(folder)


def first(detector, folder):
  detector.save(folder)


def second(detector, folder):
  # another line of another function
  detector.save(folder)


def test_two_saves_are_the_same_bytes_and_name_no_path(make_detector, tmp_path):
  first(make_detector(), tmp_path / "one")
  second(make_detector(), tmp_path / "two")
  for name in ("detector.json", *artifact.FILES):
    data = (tmp_path / "one" / name).read_bytes()
    assert data == (tmp_path / "two" / name).read_bytes()
    assert b".py" not in data.replace(b".npy", b"")
    assert str(pathlib.Path(__file__).parents[2]).encode() not in data
  assert jax.config.jax_traceback_in_locations_limit != 0


def test_the_offset_comes_back(tmp_path, records):
  detector = offset_detector()
  detector.save(tmp_path / "detector")
  description = artifact.read_description(tmp_path / "detector")
  assert (description["version"], description["input_offset"]) == (2, [1.7e9, 0.0, 0.0])
  loaded = load(tmp_path / "detector")
  x = records + np.array([1.7e9, 0, 0])
  np.testing.assert_array_equal(loaded.score(x), detector.score(x))
  assert not np.allclose(loaded.score(x), loaded.score(x + np.array([1.0, 0, 0])))


def offset_detector():
  class Shifting(Identity):
    offset = (1.7e9, 0.0, 0.0)

  jax.tree_util.register_static(Shifting)
  from detector_jax import Detector

  return Detector.create(lambda w, x: x @ w, jnp.asarray([1.0, 2.0, 3.0]), Shifting(), (3,))
