"""The one door: a DataConfig in, Splits out."""

import numpy as np
import pytest

from launch.data import DataConfig, DataError, bundled, load, synthetic
from launch.data.splits import Splits


def assert_same(got: Splits, wanted: Splits) -> None:
  np.testing.assert_array_equal(got.x_train, wanted.x_train)
  np.testing.assert_array_equal(got.x_test, wanted.x_test)
  np.testing.assert_array_equal(got.y_test, wanted.y_test)
  assert got.description == wanted.description


@pytest.mark.parametrize(
  ("config", "wanted"),
  [
    (DataConfig(), lambda: bundled.digits(0, 0)),
    (DataConfig("digits", typical=4, seed=2), lambda: bundled.digits(4, 2)),
    (DataConfig("breast_cancer", seed=3), lambda: bundled.breast_cancer(3)),
    (DataConfig("sine", displacement=0.7, seed=1), lambda: synthetic.sine(1, 0.7)),
    (DataConfig("sphere", radius=1.6, seed=1), lambda: synthetic.sphere(1, 1.6)),
  ],
)
def test_passes_the_settings_on(config, wanted):
  assert_same(load(config), wanted())


@pytest.fixture
def adbench(tmp_path, monkeypatch):
  (tmp_path / "adbench").mkdir()
  y = np.repeat([0, 1], [9, 2])
  np.savez(tmp_path / "adbench" / "tiny.npz", X=np.arange(11.0)[:, None], y=y)
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))


@pytest.mark.usefixtures("adbench")
@pytest.mark.parametrize(("split", "train", "test"), [("released", 7, 4), ("half", 4, 7)])
def test_splits_real_sets(split, train, test):
  got = load(DataConfig("adbench/tiny", split=split, seed=5))
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
  got = load(DataConfig(name))
  assert (len(got.x_train), len(got.x_test)) == (train, test)
  assert got.y_test.mean() == 0.5


def test_reads_files(tmp_path):
  train, test = tmp_path / "train.csv", tmp_path / "test.csv"
  train.write_text("a,b\n1,2\n3,4\n")
  test.write_text("a,b,bad\n5,6,1\n")
  got = load(DataConfig("files", train=str(train), test=str(test), label="bad"))
  assert got.x_train.tolist() == [[1.0, 2.0], [3.0, 4.0]]
  assert (got.x_test.tolist(), got.y_test.tolist()) == ([[5.0, 6.0]], [1])
  got = load(DataConfig("files", train=str(train)))
  assert got.x_test is None


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (DataConfig("mnits"), "no data set 'mnits'; there are: digits, .*adbench/NAME, files\\.$"),
    (DataConfig("adbench"), "no data set 'adbench'; there are: digits, .*adbench/NAME"),
    (DataConfig(split="third"), "no split 'third'; there are: released, half"),
    (DataConfig("files"), "'files' needs a file to train on: set train"),
  ],
)
def test_refuses(config, message):
  with pytest.raises(DataError, match=message):
    load(config)
