"""Folders of pictures: what is read, how, what is refused, and from a folder to scores by name."""

import errno
import logging
import os
import pathlib
import re
import shutil

import numpy as np
import pandas as pd
from PIL import Image
import pytest

import detector_jax
from drocc_jax.registry import NetworkConfig
from launch import evaluation, exporting, run, scoring
from launch.data import DataError, Pictures
from launch.data.formats import Columns, opened, pictures
import launch.data.pictures
from launch.methods.drocc import Config, FeaturesConfig
from launch.reporting import patch_maps

SIDE = 24


def texture(rng: np.random.Generator) -> np.ndarray:
  """``[SIDE, SIDE]``: stripes of random phase."""
  wave = np.sin(np.arange(SIDE) * 1.3 + rng.uniform(0, 6))
  return 120 + 60 * wave[:, None] + 10 * rng.normal(size=(SIDE, SIDE))


def write(path: pathlib.Path, x: np.ndarray) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.clip(x, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Textures; those of test/scratch have a bright stroke."""
  root, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
  for part, number in (("train/good", 40), ("test/good", 8), ("test/scratch", 8)):
    for i in range(number):
      x = texture(rng)
      if part == "test/scratch":
        x[4:20, 10:13] = 255
      write(root / part / f"{i:02d}.png", x)
  return root


@pytest.fixture(scope="module")
def finished(folder):
  config = Config(
    data=Pictures(folder=str(folder), size=SIDE),
    features=FeaturesConfig("patches", centroids=16, window=5, pool=2, components=16, defects=True),
    network=NetworkConfig("mlp", (16,)),
    epochs=400,
    checkpoints=1,
  )
  run.train(config, folder / "run")
  return folder / "run"


def read(path: pathlib.Path, shape: tuple[int, int, int]) -> np.ndarray:
  with opened(path.parent, Columns(pattern=path.name, shape=shape)) as reader:
    (piece,) = reader.pieces(8)
  assert not piece.refused.any(), piece.explain(0)
  return piece.x[0]


def test_folders_say_what_is_typical(folder):
  got = Pictures(folder=str(folder), size=SIDE).load()
  assert (got.x_train.shape, got.x_test.shape) == ((40, SIDE, SIDE, 1), (16, SIDE, SIDE, 1))
  assert got.y_test.tolist() == [0] * 8 + [1] * 8
  assert (got.sources[0], got.sources[-1]) == ("good", "scratch")
  assert got.names[-1] == "test/scratch/07.png"
  want = np.asarray(Image.open(folder / "test" / "good" / "00.png")) / 255.0
  np.testing.assert_allclose(got.x_test[0, ..., 0], want, rtol=1e-6)
  assert not Pictures(folder=str(folder), test="").is_tested
  assert Pictures(folder=str(folder), train="**/0*.png", test="").load().x_train.shape[0] == 26


GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
RED = np.stack([GREY, GREY // 2, GREY // 4], axis=2)


@pytest.mark.parametrize(
  ("picture", "channels", "want"),
  [
    (Image.fromarray(GREY), 1, GREY / 255.0),
    (Image.fromarray(GREY), 3, np.repeat(GREY[..., None], 3, 2) / 255.0),
    (Image.fromarray(GREY.astype(np.uint16) * 257), 1, GREY / 255.0),
    (Image.fromarray(GREY > 127), 1, (GREY > 127) * 1.0),
    (Image.fromarray(RED), 3, RED / 255.0),
    (Image.fromarray(RED), 1, RED @ [0.299, 0.587, 0.114] / 255.0),
    (Image.fromarray(GREY).convert("P"), 3, np.repeat(GREY[..., None], 3, 2) / 255.0),
    (Image.fromarray(np.stack([GREY, GREY * 0], 2)), 1, np.ones((16, 16))),
    (Image.fromarray(np.dstack([RED, GREY * 0 + 255])), 3, RED / 255.0),
  ],
  ids=["grey", "grey as colour", "16 bit", "1 bit", "RGB", "luma", "palette", "clear", "RGBA"],
)
def test_every_kind_of_picture_is_read(tmp_path, picture, channels, want):
  picture.save(tmp_path / "x.png")
  got = read(tmp_path / "x.png", (16, 16, channels))
  assert (got.dtype, got.shape) == (np.float32, (16, 16, channels))
  np.testing.assert_allclose(got, want.reshape(got.shape), atol=0.003)


def test_a_photograph_is_turned_as_it_says(tmp_path):
  exif = Image.Exif()
  exif[274] = 6  # the camera was held upright: turn clockwise by a quarter
  Image.fromarray(GREY).save(tmp_path / "x.jpg", exif=exif, quality=95)
  got = read(tmp_path / "x.jpg", (16, 16, 1))[..., 0]
  np.testing.assert_allclose(got, np.rot90(GREY, -1) / 255.0, atol=0.03)


def test_other_sizes_are_resized_and_that_is_said_once(tmp_path, caplog):
  for i in range(3):
    write(tmp_path / f"{i}.png", np.repeat(np.repeat(GREY, 2, 0), 4, 1))
  with caplog.at_level(logging.WARNING):
    got = Pictures(folder=str(tmp_path), train="*", test="", size=16).load()
  np.testing.assert_allclose(got.x_train[0, 1:-1, 1:-1, 0], GREY[1:-1, 1:-1] / 255.0, atol=0.03)
  (said,) = [record.getMessage() for record in caplog.records]
  assert "another size than 16 x 16 are resized, such as" in said
  assert said.endswith("of 64 x 32.")


@pytest.mark.parametrize(
  ("train", "test", "message"),
  [
    (RED, GREY, "Grey pictures are read where records are in colours, such as "),
    (GREY, RED, "Pictures with colours are read where records are in grey, such as "),
    (RED, RED, None),
    (GREY, GREY, None),
  ],
)
def test_pictures_of_another_mode_are_said_once(tmp_path, caplog, train, test, message):
  for part, picture in (("train", train), ("test", test)):
    for i in range(3):
      write(tmp_path / part / f"{i}.png", picture)
  with caplog.at_level(logging.WARNING):
    Pictures(folder=str(tmp_path), train="train/*", test="test/*", typical="test", size=16).load()
  said = [record.getMessage() for record in caplog.records]
  assert len(said) == (message is not None)
  assert message is None or said[0].startswith(message)


def test_pictures_are_decoded_a_piece_at_a_time(folder, monkeypatch):
  decoded = []
  inner = pictures.as_array
  monkeypatch.setattr(pictures, "as_array", lambda *a: decoded.append(0) or inner(*a))
  with opened(folder, Columns(pattern="train/good/*", shape=(SIDE, SIDE, 1))) as reader:
    pieces = reader.pieces(3)
    assert next(pieces).x.shape == (3, SIDE, SIDE, 1)
    assert len(decoded) == 3
    assert [len(piece.x) for piece in pieces] == [3] * 12 + [1]


BROKEN = {
  "cut.png": "cut.png of .* cannot be read, it is damaged or no picture",
  "text.png": "text.png of .* cannot be read, it is damaged or no picture",
  "dot.png": "dot.png of .* is only 1 x 1 pixels where records are 24 x 24",
  "float.tif": "float.tif of .* holds numbers of 32 bits, whose range nobody knows, where 8 or 16",
  "large.tif": "large.tif of .* holds numbers of 32 bits, whose range nobody knows, where 8 or 16",
}


def spoil(folder: pathlib.Path, name: str) -> None:
  write(folder / "fine.png", texture(np.random.default_rng(3)))
  if name == "cut.png":
    (folder / name).write_bytes((folder / "fine.png").read_bytes()[:300])
  elif name == "dot.png":
    write(folder / name, np.zeros((1, 1)))
  elif name.endswith(".tif"):
    kind = np.float32 if name == "float.tif" else np.int32
    Image.fromarray(np.full((SIDE, SIDE), 70_000, kind)).save(folder / name)
  else:
    (folder / name).write_text("no picture")


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_named_or_left_out(finished, tmp_path, caplog, name):
  spoil(tmp_path / "new", name)
  source = Pictures(folder=str(tmp_path / "new"), train="*", test="", size=SIDE)
  with pytest.raises(DataError, match=f"^Picture {BROKEN[name]}.*; replace it, or give"):
    source.load()
  source.broken = "skip"
  assert len(source.load().x_train) == 1
  assert "Left out 1 pictures; the first: " in caplog.text
  detector, output = detector_jax.load(finished / "detector"), tmp_path / "scores.csv"
  with pytest.raises(DataError, match=f"^Picture {BROKEN[name]}.*--on_bad_row=skip"):
    scoring.score_input(detector, str(tmp_path / "new"), output)
  assert not output.exists()
  scoring.score_input(detector, str(tmp_path / "new"), output, on_bad_row="skip")
  assert pd.read_csv(output)["file"].tolist() == ["fine.png"]
  scoring.score_input(detector, str(tmp_path / "new"), output, on_bad_row="nan")
  scores = pd.read_csv(output).set_index("file")["score"]
  assert (len(scores), np.isnan(scores[name]), np.isfinite(scores["fine.png"])) == (2, True, True)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"folder": ""}, "There is no folder '' of pictures: set folder"),
    (
      {"folder": "empty"},
      r"empty has no pictures train/good/\* to train on; it has none: set train",
    ),
    (
      {"train": "*.png"},
      r"no pictures \*\.png .*has 40 in train/good, 8 in test/good, 8 in test/sc",
    ),
    ({"train": "/*"}, "'/\\*' is no pattern of pictures below .*: give one such as 'train/good/"),
    ({"size": 4}, "size must be at least 8 and broken fail or skip, got 4 and 'fail'"),
  ],
)
def test_what_cannot_be_used_is_one_sentence(folder, tmp_path, settings, message):
  (tmp_path / "empty").mkdir()
  if settings.get("folder"):
    settings = {"folder": str(tmp_path / "empty")}
  with pytest.raises(DataError, match=message):
    Pictures(**({"folder": str(folder)} | settings)).load()


def test_a_test_of_one_kind_is_said_to_be_one(folder, tmp_path, caplog):
  shutil.copytree(folder / "train", tmp_path / "train")
  shutil.copytree(folder / "test" / "good", tmp_path / "test" / "Good")
  got = Pictures(folder=str(tmp_path), size=SIDE).load()
  assert got.y_test.all()
  assert "No test picture is in a folder called 'good', so that all of them count" in caplog.text


def test_from_a_folder_to_a_report_and_scores_by_name(folder, finished, tmp_path):
  result = evaluation.evaluate(finished)
  assert result["metrics"]["auroc"] > 0.9
  assert result["sources"]["scratch"]["records"] == 8
  page = (finished / "report.html").read_text()
  assert "test/scratch/0" in page
  assert (finished / "patch_maps.png").stat().st_size > 1000
  assert "what speaks" in page
  detector, output = detector_jax.load(finished / "detector"), tmp_path / "scores.csv"
  scoring.score_input(detector, str(folder / "test"), output, explain=True)
  table = pd.read_csv(output).set_index("file")
  found = table["score"]
  assert (table["group"].filter(like="scratch") == "patch").all()
  reason = table["reason"]["scratch/00.png"]
  assert re.fullmatch(r"patch: the patch at \d+, \d+ is \+.* what 99 % .*; the whole .*", reason)
  got = Pictures(folder=str(folder), size=SIDE).load()
  want = pd.Series(detector.score(got.x_test), [name.removeprefix("test/") for name in got.names])
  np.testing.assert_allclose(found[want.index], want, rtol=1e-6)
  live = exporting.live(finished)
  np.testing.assert_allclose(live.score(got.x_test), want, rtol=1e-5, atol=1e-5)
  vector = detector_jax.Detector.create(
    lambda v, x: x[:, 0] * v, np.float32(1), detector_jax.Standardizer.fit(np.eye(3)), (3,)
  )
  with pytest.raises(DataError, match=r"read as pictures: the records .* have shape \[3\], no \["):
    scoring.score_input(vector, str(folder / "test"), output)


def test_maps_are_red_where_the_scratch_is(folder, finished):
  got = Pictures(folder=str(folder), size=SIDE).load()
  features = patch_maps.map_of(detector_jax.load(finished / "detector"))
  found = patch_maps.strengths(features, got.x_test, got.x_train)
  assert found.shape == (16, 20, 20)
  assert (found[8:, 2:18, 6:13].mean() > 3 * found[8:, :, 16:].mean()) & (found.max() <= 1.0)


@pytest.mark.parametrize("defects", [True, False])
def test_many_pictures_are_in_a_file_and_give_the_same_detector(
  folder, tmp_path, monkeypatch, defects
):
  patches = FeaturesConfig(
    "patches", centroids=16, window=5, pool=2, components=16, defects=defects
  )
  config = Config(
    data=Pictures(folder=str(folder), size=SIDE), features=patches, epochs=2, checkpoints=1
  )
  found = []
  for name, most in (("memory", 2**28), ("file", 0)):
    monkeypatch.setattr(launch.data.pictures, "IN_MEMORY", most)
    run.train(config, tmp_path / name)
    result = evaluation.evaluate(tmp_path / name)
    arrays = (tmp_path / name / "detector" / "arrays.npz").read_bytes()
    found.append((arrays, result["metrics"], (tmp_path / name / "data.json").read_text()))
  assert found[0] == found[1]
  assert isinstance(config.data.load().x_train, np.memmap)


def test_a_disk_without_room_for_the_pictures_is_one_sentence(folder, monkeypatch):
  def full(*given):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(launch.data.pictures, "IN_MEMORY", 0)
  monkeypatch.setattr(os, "posix_fallocate", full)
  with pytest.raises(DataError, match=r"40 pictures of 24 x 24 take .*No space.*: set TMPDIR"):
    Pictures(folder=str(folder), size=SIDE).load()
