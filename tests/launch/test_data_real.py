"""The real sets: counts of the manifest, and one sentence for each thing that is missing."""

import numpy as np
import pytest

from launch.data import DataError, real

ABALONE = """\
M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,8
I,0.35,0.265,0.09,0.2255,0.0995,0.0485,0.07,7
F,0.53,0.42,0.135,0.677,0.2565,0.1415,0.21,21
I,0.1,0.2,0.3,0.4,0.5,0.6,0.7,3
"""


@pytest.mark.data
@pytest.mark.parametrize(
  ("name", "rows", "columns", "anomalies"),
  [
    ("thyroid", 3772, 6, 93),
    ("arrhythmia", 452, 274, 66),
    ("abalone", 1920, 8, 29),
    ("adbench/wine", 129, 13, 10),
    ("adbench/breastw", 683, 9, 239),
    ("adbench/satimage_2", 5803, 36, 71),
  ],
)
def test_counts_are_those_of_the_manifest(data_dir, name, rows, columns, anomalies):
  x, y = real.load(name, data_dir)
  assert (x.shape, x.dtype) == ((rows, columns), np.float64)
  assert (y.shape, y.dtype) == ((rows,), np.int64)
  assert np.bincount(y).tolist() == [rows - anomalies, anomalies]


@pytest.mark.data
def test_thyroid_is_adbench_thyroid(data_dir):
  for ours, theirs in zip(
    real.load("thyroid", data_dir), real.load("adbench/thyroid", data_dir), strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)


def test_abalone_encodes_sex_and_keeps_five_ages(tmp_path):
  (tmp_path / "abalone.data").write_text(ABALONE)
  x, y = real.load("abalone", tmp_path)
  assert y.tolist() == [0, 1, 1]
  assert x[:, 0].tolist() == [0.0, 1.0, 2.0]
  assert x[2].tolist() == [2.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (ABALONE.replace("F,", "Q,"), "is not UCI's abalone.data.*'Q'"),
    (ABALONE.replace("0.265", "wide"), "is not UCI's abalone.data.*wide"),
    ("M,1,2\n", "has 3 columns where UCI's abalone.data has 9"),
  ],
)
def test_abalone_refuses(tmp_path, text, message):
  (tmp_path / "abalone.data").write_text(text)
  with pytest.raises(DataError, match=message):
    real.load("abalone", tmp_path)


def test_reads_the_folder_of_the_environment(tmp_path, monkeypatch):
  (tmp_path / "abalone.data").write_text(ABALONE)
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  assert real.load("abalone")[0].shape == (3, 8)


def test_says_what_to_set_where_there_is_no_folder(monkeypatch):
  monkeypatch.delenv("OOD_DATA_DIR", raising=False)
  with pytest.raises(DataError, match="'thyroid' is read from a folder: set OOD_DATA_DIR"):
    real.load("thyroid")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("thyroid", "no file .*thyroid.mat: put it there, or set OOD_DATA_DIR"),
    ("abalone", "no file .*abalone.data: put it there, or set OOD_DATA_DIR"),
    ("adbench/wine", "no set 'wine', it has 'glass', 'wbc': choose another, or set OOD_DATA_DIR"),
    ("adbench/../secret", "no set '../secret'"),
    ("adbench/", "There is no data set 'adbench/'; there are: thyroid, .*adbench/NAME"),
    ("mnist", "There is no data set 'mnist'; there are: thyroid, arrhythmia, abalone"),
  ],
)
def test_says_what_is_missing(tmp_path, name, message):
  (tmp_path / "adbench").mkdir()
  for member in ("adbench/wbc", "adbench/glass", "secret"):
    np.savez(tmp_path / f"{member}.npz", X=np.zeros((2, 1)), y=np.array([0, 1]))
  with pytest.raises(DataError, match=message):
    real.load(name, tmp_path)


def test_says_that_adbench_is_not_there(tmp_path):
  with pytest.raises(DataError, match="no set 'wine', it has nothing: choose another"):
    real.load("adbench/wine", tmp_path)


def test_says_that_the_folder_is_not_there(tmp_path):
  with pytest.raises(DataError, match=r"There is no folder .*nowhere to read.*set OOD_DATA_DIR"):
    real.load("thyroid", tmp_path / "nowhere")


def test_adbench_labels_are_read(tmp_path):
  (tmp_path / "adbench").mkdir()
  np.savez(tmp_path / "adbench" / "tiny.npz", X=np.uint8([[1], [2]]), y=np.int32([0, 1]))
  x, y = real.load("adbench/tiny", tmp_path)
  assert x.tolist() == [[1.0], [2.0]]
  assert y.tolist() == [0, 1]
