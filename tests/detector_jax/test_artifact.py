"""Saving and loading: the same bits elsewhere, and nothing that is not a whole detector."""

import dataclasses
import json
import os
import pathlib
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import ArtifactError, Detector, artifact, atomic, load, p_values
from detector_jax.preprocessing import Identity
from tests.helpers import assert_same_elsewhere, contents


@pytest.fixture(scope="module")
def saved(detector, tmp_path_factory) -> pathlib.Path:
  """A saved detector; tests that change it work on a copy."""
  folder = tmp_path_factory.mktemp("artifact") / "detector"
  detector.save(folder)
  return folder


@pytest.fixture
def copy(saved, tmp_path) -> pathlib.Path:
  folder = tmp_path / "detector"
  folder.mkdir()
  for path in saved.iterdir():
    (folder / path.name).write_bytes(path.read_bytes())
  return folder


def edit(folder: pathlib.Path, **changes) -> None:
  path = folder / "detector.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def sign(folder: pathlib.Path) -> None:
  """Makes the checksums those of the files, as somebody does who means harm or knows no better."""
  description = json.loads((folder / "detector.json").read_text())
  for name in artifact.FILES:
    description["sha256"][name] = artifact._checksum((folder / name).read_bytes())
  description["sha256"]["detector.json"] = artifact._description_checksum(description)
  (folder / "detector.json").write_text(json.dumps(description))


@pytest.mark.slow
def test_a_fresh_process_without_the_network_library_gets_the_same_numbers(detector, tmp_path):
  thousand = np.random.default_rng(3).normal(2.0, 3.0, size=(1000, 3))
  assert_same_elsewhere(detector, thousand, tmp_path)


def test_jax_and_numpy_alone_give_the_same_scores_and_p_values(detector, saved, records):
  program = jax.export.deserialize(bytearray((saved / "program.bin").read_bytes()))
  with np.load(saved / "arrays.npz") as archive:
    arrays = dict(archive)
  for x in (records, records[:1]):
    got = program.call(arrays, jnp.asarray(x, jnp.float32))
    assert set(got) == {"score", "p_value"}
    np.testing.assert_allclose(got["score"], detector.score(x), rtol=1e-6)
    np.testing.assert_allclose(got["p_value"], detector.p_value(x), rtol=1e-6)
  # Scores tied with calibration scores, to the bit.
  arrays["calibration"] = np.sort(program.call(arrays, jnp.asarray(records, jnp.float32))["score"])
  got = program.call(arrays, jnp.asarray(records, jnp.float32))
  want = p_values(arrays["calibration"], got["score"])
  np.testing.assert_allclose(got["p_value"], want, rtol=1e-6)
  assert set(program.platforms) == {"cpu", "cuda", "tpu"}


def test_the_description_says_how_to_read_a_score(saved, detector):
  description = artifact.read_description(saved)
  assert description["threshold"] == detector.threshold
  assert description["fpr"] == 0.1
  assert description["input_shape"] == [3]
  assert description["calibration_records"] == 50
  assert description["metadata"] == {"method": "toy"}
  assert (description["input_dtype"], description["input_range"]) == ("float32", None)
  assert description["score"] == "higher = more anomalous; anomalous when score > threshold"
  assert description["labels"] == {"0": "typical", "1": "anomalous"}
  assert description["outputs"] == {
    name: {"dtype": "float32", "shape": ["batch"]} for name in ("score", "p_value")
  }
  assert description["platforms"] == ["cpu", "cuda", "tpu"]
  assert description["versions"]["jax"] == jax.__version__
  assert description["versions"].keys() >= {"python", "jaxlib", "numpy", "flax", "drocc-jax"}
  assert description["sha256"].keys() == {"arrays.npz", "program.bin", "detector.json"}


def test_versions_stay_those_of_the_process_that_made_the_program(saved, tmp_path):
  loaded = load(saved)
  loaded.program.versions["jax"] = "0.9.1"
  loaded.save(tmp_path / "again")
  assert artifact.read_description(tmp_path / "again")["versions"]["jax"] == "0.9.1"


def test_a_loaded_detector_is_calibrated_anew_saved_and_loaded_again(saved, records, tmp_path):
  again = load(saved).calibrate(records, 0.02)
  again.save(tmp_path / "again")
  twice = load(tmp_path / "again")
  assert (twice.threshold, twice.fpr) == (again.threshold, 0.02)
  np.testing.assert_array_equal(twice.score(records), load(saved).score(records))
  np.testing.assert_array_equal(twice.p_value(records), again.p_value(records))
  assert twice.calibration.scores.size == 120


def test_an_uncalibrated_detector_comes_back_uncalibrated(uncalibrated, records, tmp_path):
  uncalibrated.save(tmp_path / "detector")
  loaded = load(tmp_path / "detector")
  assert (loaded.fpr, loaded.threshold) == (None, 2.5)
  np.testing.assert_array_equal(loaded.predict(records), uncalibrated.predict(records))
  with pytest.raises(ValueError, match="not calibrated"):
    loaded.p_value(records)


def positive_only(_, x):
  return jnp.log(x[:, 0])


def doubled(variables, x, threshold):
  return {"doubled": variables["factor"] * x, "margin": threshold - x[:, 0]}


def test_report_range_and_batch_size_come_back(tmp_path):
  x = np.random.default_rng(0).uniform(1.0, 2.0, size=(60, 3)).astype(np.float32)
  detector = Detector.create(
    positive_only,
    {"factor": jnp.float32(2.0)},
    Identity(),
    (3,),
    report_fn=doubled,
    input_range=(1.0, 2.0),
    batch_size=16,
  ).calibrate(x, 0.1)
  detector.save(tmp_path / "detector")  # the probe stays where the score is finite
  loaded = load(tmp_path / "detector")
  assert (loaded.input_range, loaded.batch_size) == ((1.0, 2.0), 16)
  want, got = detector.report(x), loaded.report(x)
  assert set(got) == {"score", "p_value", "doubled", "margin"}
  outputs = artifact.read_description(tmp_path / "detector")["outputs"]
  assert outputs["doubled"] == {"dtype": "float32", "shape": ["batch", 3]}
  for name, values in want.items():
    np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
  with pytest.raises(ValueError, match="training records from 1 to 2"):
    loaded.score(100.0 * x)
  again = loaded.with_batch_size(7).calibrate(x, 0.3)
  again.save(tmp_path / "again")
  twice = load(tmp_path / "again")
  assert (twice.batch_size, twice.input_range) == (7, (1.0, 2.0))
  margin = twice.report(x)["margin"]
  np.testing.assert_allclose(margin, twice.threshold - x[:, 0], rtol=1e-5, atol=1e-6)


def test_a_folder_of_an_earlier_release_is_read(copy, detector, records):
  path = copy / "detector.json"
  description = json.loads(path.read_text())
  for name in ("input_range", "outputs", "labels", "platforms"):
    del description[name]
  description["versions"] = {"jax": "0.10.0", "numpy": "2.0.0"}
  path.write_text(json.dumps(description))
  sign(copy)
  loaded = load(copy)
  assert loaded.input_range is None
  np.testing.assert_array_equal(loaded.score(records), detector.score(records))


def cut(name):
  return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def flip(name):
  def change(folder):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)

  return change


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (cut("arrays.npz"), "arrays.npz is damaged"),
    (cut("program.bin"), "program.bin is damaged"),
    (cut("detector.json"), "detector.json is damaged: it is not JSON"),
    (flip("arrays.npz"), "arrays.npz is damaged"),
    (flip("program.bin"), "program.bin is damaged"),
    (lambda folder: edit(folder, threshold=0.0), "damaged or was edited"),
    (lambda folder: edit(folder, version=3), "format version 3; this release reads 1 to 2"),
    (lambda folder: edit(folder, version=True), "format version True; this release reads 1 to 2"),
    (lambda folder: edit(folder, version="x"), "format version x"),
    (lambda folder: edit(folder, format="onnx"), "does not describe a detector_jax detector"),
    (lambda folder: edit(folder, sha256=None), "the checksums are missing"),
    (lambda folder: (folder / "detector.json").write_text("[]"), "does not describe"),
    (lambda folder: (folder / "detector.json").write_bytes(b"\xff\xfe"), "not JSON"),
    (lambda folder: (folder / "detector.json").unlink(), "not a detector folder"),
    (lambda folder: (folder / "program.bin").unlink(), "program.bin cannot be read: No such file"),
  ],
)
def test_what_is_not_a_whole_detector_is_refused_in_one_line(copy, damage, message):
  load(copy)
  damage(copy)
  with pytest.raises(ArtifactError, match=message) as error:
    load(copy)
  assert "\n" not in str(error.value)
  assert str(error.value).endswith(".")


@pytest.mark.parametrize(
  ("name", "damage", "message"),
  [
    ("program.bin", cut, f"cannot be read by jax {jax.__version__}: "),
    ("arrays.npz", cut, "is not a readable detector: "),
    ("program.bin", lambda name: lambda folder: (folder / name).write_bytes(b""), "cannot be read"),
  ],
)
def test_a_file_that_no_longer_parses_is_refused_though_its_checksum_fits(
  copy, name, damage, message
):
  damage(name)(copy)
  sign(copy)
  with pytest.raises(ArtifactError, match=re.escape(message)) as error:
    load(copy)
  assert "\n" not in str(error.value)
  assert str(error.value).endswith(".")


def test_a_pickle_among_the_arrays_is_not_opened(copy):
  class Trap:
    def __reduce__(self):
      return pytest.fail, ("unpickled",)

  np.savez(copy / "arrays.npz", center=np.array([Trap()], dtype=object))
  sign(copy)
  with pytest.raises(
    ArtifactError, match="not a readable detector: Object arrays cannot be loaded"
  ):
    load(copy)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
  with pytest.raises(ArtifactError, match="is not a detector folder"):
    load(tmp_path / "nowhere")


def test_a_detector_is_replaced_whole(detector, copy, records):
  detector.calibrate(records, 0.3).save(copy)
  assert load(copy).fpr == 0.3
  assert [path.name for path in copy.parent.iterdir()] == ["detector"]


def test_an_empty_folder_is_taken(detector, tmp_path):
  detector.save(tmp_path)
  assert load(tmp_path).fpr == 0.1


@pytest.mark.parametrize("name", ["notes.txt", "detector.json"])
def test_a_folder_of_something_else_is_not_overwritten(detector, tmp_path, name):
  (tmp_path / name).write_text("{}")
  with pytest.raises(ArtifactError, match="is not a detector, or holds other files too"):
    detector.save(tmp_path)
  assert contents(tmp_path) == {name: b"{}"}


def test_other_files_beside_a_detector_are_not_lost(detector, copy):
  (copy / "notes.txt").write_text("mine")
  before = contents(copy)
  with pytest.raises(ArtifactError, match="holds other files too"):
    detector.save(copy)
  assert contents(copy) == before


def test_a_file_is_not_overwritten(detector, tmp_path):
  (tmp_path / "detector").write_text("mine")
  with pytest.raises(ArtifactError, match="is not a detector"):
    detector.save(tmp_path / "detector")
  assert (tmp_path / "detector").read_text() == "mine"


def known_batch_only(variables, x):
  """A score that cannot be exported, since it needs to know the batch size."""
  if not isinstance(x.shape[0], int):
    raise RuntimeError("the batch size is unknown")
  return x[:, 0]


def test_a_failing_export_leaves_the_old_detector_and_nothing_else(make_detector, copy):
  before = contents(copy)
  with pytest.raises(RuntimeError, match="the batch size is unknown"):
    make_detector(known_batch_only).save(copy)
  assert contents(copy) == before
  assert [path.name for path in copy.parent.iterdir()] == ["detector"]


def test_a_failing_move_leaves_the_old_detector_and_nothing_else(detector, copy, monkeypatch):
  before, replace = contents(copy), os.replace

  def fail_into_place(source, target):
    if pathlib.Path(target) == copy and contents(pathlib.Path(source)) != before:
      raise OSError("disk full")
    replace(source, target)

  monkeypatch.setattr(atomic, "_exchanged", lambda source, place: False)
  monkeypatch.setattr(atomic.os, "replace", fail_into_place)
  with pytest.raises(OSError, match="disk full"):
    dataclasses.replace(detector, threshold=9.0).save(copy)
  assert contents(copy) == before
  assert [path.name for path in copy.parent.iterdir()] == ["detector"]
