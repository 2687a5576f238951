"""Each data source with its own settings in, Splits out."""

import dataclasses

import numpy as np
import pytest

from launch import data
from launch.data import (
  BreastCancer,
  DataError,
  Digits,
  Files,
  OneClassImages,
  OpenSetImages,
  RealTable,
  ShiftedDigits,
  Sine,
  Sphere,
  bundled,
  images,
  synthetic,
)
from launch.data.splits import Splits


def assert_same(got: Splits, wanted: Splits) -> None:
  np.testing.assert_array_equal(got.x_train, wanted.x_train)
  np.testing.assert_array_equal(got.x_test, wanted.x_test)
  np.testing.assert_array_equal(got.y_test, wanted.y_test)
  assert got.description == wanted.description


@pytest.mark.parametrize(
  ("config", "wanted"),
  [
    (Digits(), lambda: bundled.digits(0, 0)),
    (Digits(typical=4, seed=2), lambda: bundled.digits(4, 2)),
    (ShiftedDigits(seed=2), lambda: bundled.digits_shifted(2)),
    (BreastCancer(seed=3), lambda: bundled.breast_cancer(3)),
    (Sine(displacement=0.7, seed=1), lambda: synthetic.sine(1, 0.7)),
    (Sphere(radius=1.6, seed=1), lambda: synthetic.sphere(1, 1.6)),
  ],
)
def test_passes_the_settings_on(config, wanted):
  assert_same(config.load(), wanted())


@pytest.fixture
def adbench(tmp_path, monkeypatch):
  (tmp_path / "adbench").mkdir()
  y = np.repeat([0, 1], [9, 2])
  np.savez(tmp_path / "adbench" / "tiny.npz", X=np.arange(11.0)[:, None], y=y)
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))


@pytest.mark.usefixtures("adbench")
@pytest.mark.parametrize(("split", "train", "test"), [("released", 7, 4), ("half", 4, 7)])
def test_splits_real_sets(split, train, test):
  got = RealTable(name="adbench/tiny", split=split, seed=5).load()
  assert (len(got.x_train), len(got.x_test)) == (train, test)
  assert sorted([*got.x_train[:, 0], *got.x_test[:, 0]]) == list(range(11))
  assert got.description == f"adbench/tiny; {split} split, seed 5"


@pytest.mark.data
@pytest.mark.parametrize(
  ("name", "train", "test"),
  [("thyroid", 3586, 186), ("arrhythmia", 320, 132), ("abalone", 1862, 58)],
)
def test_released_split_of_the_papers_sets(data_dir, monkeypatch, name, train, test):
  monkeypatch.setenv("OOD_DATA_DIR", str(data_dir))
  got = RealTable(name=name).load()
  assert (len(got.x_train), len(got.x_test)) == (train, test)
  assert got.y_test.mean() == 0.5


GRAY = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (30, 32, 32, 3), np.uint8)
CLASSES = np.arange(30) % 10


@pytest.fixture
def image_sets(tmp_path, monkeypatch):
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  for name, x in (("mnist", GRAY), ("fashion_mnist", 255 - GRAY), ("cifar10", COLOUR)):
    parts = {"x_train": x, "y_train": CLASSES, "x_test": x[:20], "y_test": CLASSES[:20]}
    np.savez(tmp_path / f"{name}.npz", **parts)
  np.savez(tmp_path / "svhn_gray.npz", x_test=COLOUR[:10, ..., 0], y_test=CLASSES[:10])


@pytest.mark.usefixtures("image_sets")
def test_image_set_has_one_class_typical():
  got = OneClassImages(name="mnist", typical=4).load()
  np.testing.assert_array_equal(got.x_train[..., 0], GRAY[[4, 14, 24]] / np.float32(255.0))
  np.testing.assert_array_equal(got.x_test[..., 0], GRAY[:20] / np.float32(255.0))
  assert np.flatnonzero(got.y_test == 0).tolist() == [4, 14]
  assert got.x_train.dtype == got.x_test.dtype == np.float32
  assert (got.image_shape, got.y_train, got.sources) == ((28, 28), None, None)
  assert got.description == (
    "MNIST train, subset of 30, MNIST test, subset of 20; class 4 against the rest"
  )
  assert OneClassImages(name="cifar10").load().image_shape == (32, 32, 3)


@pytest.mark.usefixtures("image_sets")
def test_rotation_turns_both_parts_by_angles_of_their_own():
  got = OneClassImages(name="cifar10", typical=4, rotation=30.0, seed=5).load()
  for x, turned in (
    (got.x_train, images.turned(COLOUR[4::10], 30.0, 5)),
    (got.x_test, images.turned(COLOUR[:20], 30.0, 6)),
  ):
    np.testing.assert_array_equal(x, turned / np.float32(255.0))


@pytest.mark.usefixtures("image_sets")
def test_other_sets_take_the_shape_of_the_typical_one():
  got = OpenSetImages(name="fashion_mnist", ood=("svhn_cropped", "cifar10", "mnist")).load()
  np.testing.assert_array_equal(got.y_train, CLASSES)
  assert got.x_test.shape == (20 + 10 + 20 + 20, 28, 28, 1)
  np.testing.assert_array_equal(got.x_test[50:, ..., 0], GRAY[:20] / np.float32(255.0))
  resized = images.as_shape(COLOUR[:20], (28, 28, 1)) / np.float32(255.0)
  np.testing.assert_array_equal(got.x_test[got.sources == "cifar10"], resized)
  assert got.sources[[0, 19, 20, 29, 30, 50]].tolist() == [
    "fashion_mnist",
    "fashion_mnist",
    "svhn_cropped",
    "svhn_cropped",
    "cifar10",
    "mnist",
  ]
  assert got.description == (
    "Fashion-MNIST train, subset of 30, Fashion-MNIST test, subset of 20; against SVHN test, grey "
    "subset of 10; CIFAR-10 test, subset of 20; MNIST test, subset of 20"
  )
  got = OpenSetImages(name="cifar10", ood=("mnist",)).load()
  assert (got.x_test.shape, got.image_shape) == ((40, 32, 32, 3), (32, 32, 3))


@pytest.mark.usefixtures("image_sets")
def test_limit_holds_for_each_part():
  got = OpenSetImages(name="mnist", ood=("cifar10", "svhn_cropped"), limit=12, seed=1).load()
  assert len(got.x_train) == 12
  names, counts = np.unique(got.sources, return_counts=True)
  assert names.tolist() == ["cifar10", "mnist", "svhn_cropped"]
  assert counts.tolist() == [12, 12, 10]
  got = OneClassImages(name="mnist", typical=4, limit=2).load()
  assert (len(got.x_train), len(got.x_test)) == (2, 2)
  got = Digits(limit=20).load()
  assert (got.x_train.shape, got.x_test.shape) == ((20, 64), (20, 64))


@pytest.mark.usefixtures("image_sets")
def test_unseen_classes_are_anomalous():
  whole = OpenSetImages(name="mnist", ood=("cifar10",)).load()
  got = OpenSetImages(name="mnist", unseen=(3,)).load()
  assert 3 not in got.y_train
  assert len(got.x_train) == np.sum(whole.y_train != 3)
  assert set(got.sources) == {"mnist", "mnist 3"}
  np.testing.assert_array_equal(got.y_test == 1, got.sources == "mnist 3")
  np.testing.assert_array_equal(got.x_test[got.y_test == 1], whole.x_test[whole.class_test == 3])
  with pytest.raises(DataError, match="unseen names 17, which is no class of mnist"):
    OpenSetImages(name="mnist", unseen=(17,)).load()


@pytest.mark.data
def test_mnist_against_all_others(data_dir, monkeypatch, tmp_path):
  monkeypatch.setenv("OOD_DATA_DIR", str(data_dir))
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  got = OpenSetImages(name="mnist", ood=("fashion_mnist", "svhn_cropped")).load()
  assert (got.x_train.shape, got.x_test.shape) == ((60000, 28, 28, 1), (32000, 28, 28, 1))
  assert np.bincount(got.y_test).tolist() == [10000, 22000]
  assert got.x_train.mean() == pytest.approx(0.13066, abs=1e-5)
  assert got.description.endswith("Fashion-MNIST test; SVHN test, grey subset of 12,000")


def test_reads_files(tmp_path):
  train, test = tmp_path / "train.csv", tmp_path / "test.csv"
  train.write_text("a,b\n1,2\n3,4\n")
  test.write_text("a,b,bad\n5,6,1\n")
  got = Files(train=str(train), test=str(test), label="bad").load()
  assert got.x_train.tolist() == [[1.0, 2.0], [3.0, 4.0]]
  assert (got.x_test.tolist(), got.y_test.tolist()) == ([[5.0, 6.0]], [1])
  got = Files(train=str(train)).load()
  assert got.x_test is None


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (RealTable(name="adbench"), "RealTable has no data 'adbench', it has thyroid, arrhythmia, ab"),
    (Digits(name="sine"), "Digits has no data 'sine', .*--config=configs/drocc.py:sine"),
    (RealTable(split="third"), "no split 'third'; there are: released, half"),
    (Digits(limit=-1), r"limit must be at least 0 \(all records\), got -1"),
    (
      OneClassImages(name="mnist", typical=10),
      "typical must be a class of mnist from 0 to 9, got 10",
    ),
    (
      OpenSetImages(name="mnist", ood=("cifar10", "svhn")),
      "no out-of-distribution set 'svhn'; there are: mnist, fashion_mnist, cifar10, svhn_cropped",
    ),
    (OneClassImages(negatives=(1,), rotation=30.0), "'mnist' with negatives takes no rotation"),
    (
      OpenSetImages(name="mnist", ood=("mnist",)),
      "ood names 'mnist', which is the typical set or named",
    ),
    (
      OpenSetImages(name="mnist", ood=("cifar10", "cifar10")),
      "ood names 'cifar10', which is the typical",
    ),
    (Files(), "'files' needs a file to train on: set train"),
  ],
)
def test_refuses(config, message):
  with pytest.raises(DataError, match=message):
    config.load()


def test_every_name_leads_to_its_source():
  for source in data.SOURCES:
    assert type(data.named(source.names[0])) in (source, OneClassImages)
  assert data.named("adbench/pima") == RealTable(name="adbench/pima")
  with pytest.raises(DataError, match=r"no data set 'mnits'; there are: digits, .*adbench/NAME"):
    data.named("mnits")


def test_no_source_has_settings_of_another():
  shared = {"name", "seed", "limit"}
  found = {s: {f.name for f in dataclasses.fields(s)} - shared for s in data.SOURCES}
  assert found[Digits] == {"typical", "negatives", "masked"}
  assert found[Files] == {
    *("train", "test", "label", "group", "header", "columns", "encoding", "dialect")
  }
  assert found[OpenSetImages] == {"ood", "unseen"}
  assert max(map(len, found.values())) <= 8


FORMER = dict.fromkeys(data.FORMER) | {"name": "digits", "typical": 3, "ood": []}


@pytest.mark.parametrize(
  ("change", "source", "kept"),
  [
    ({}, Digits, {"typical": 3}),
    ({"name": "files", "train": "a.csv"}, Files, {"train": "a.csv"}),
    ({"name": "mnist"}, OneClassImages, {"typical": 3}),
    ({"name": "mnist", "ood": ["cifar10"]}, OpenSetImages, {"ood": ["cifar10"]}),
    ({"name": "adbench/pima"}, RealTable, {"name": "adbench/pima"}),
  ],
)
def test_settings_of_an_earlier_release_are_read(change, source, kept):
  chosen, values = data.from_settings(FORMER | change)
  assert chosen is source
  new = {"columns", "encoding", "dialect"}  # since that release
  assert values.keys() == {field.name for field in dataclasses.fields(source)} - new
  assert values | kept == values


def test_settings_that_no_release_had_are_kept_to_be_refused():
  assert "tyical" in data.from_settings({"name": "digits", "tyical": 3})[1]
  with pytest.raises(ValueError, match="there is no data set 'mnits'"):
    data.from_settings({"name": "mnits"})
