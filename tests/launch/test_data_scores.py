"""Scores in files: written whole or not at all."""

import os

import numpy as np
from pyarrow import csv as arrow_csv
from pyarrow import parquet
import pytest

from launch.data.files import (
  DataError,
  check_writable,
  read_table,
  trained_columns,
  write_scores,
)


@pytest.mark.parametrize(
  ("ending", "read"), [("csv", arrow_csv.read_csv), ("parquet", parquet.read_table)]
)
def test_scores_are_written_and_replaced(tmp_path, ending, read):
  path = tmp_path / "new" / f"scores.{ending}"
  write_scores(path, {"score": np.zeros(3)})
  columns = {"score": np.float32([0.1, -2.0]), "row": np.array([4, 7]), "id": np.array(["a", "b"])}
  write_scores(path, columns)
  got = read(path)
  assert got.column_names == ["score", "row", "id"]
  np.testing.assert_array_equal(np.float32(got["score"].to_numpy()), columns["score"])
  assert got["row"].to_pylist() == [4, 7]
  assert got["id"].to_pylist() == ["a", "b"]
  assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_scores_leave_the_old_file_where_writing_fails(tmp_path, monkeypatch):
  path = tmp_path / "scores.csv"
  write_scores(path, {"score": np.ones(1)})
  old = path.read_bytes()

  def fail(source, target):
    assert os.path.dirname(source) == str(tmp_path)
    raise OSError("no space left")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="no space left"):
    write_scores(path, {"score": np.zeros(2)})
  assert path.read_bytes() == old
  assert [entry.name for entry in tmp_path.iterdir()] == ["scores.csv"]


@pytest.mark.parametrize(
  ("name", "columns", "message"),
  [
    ("s.txt", {"a": np.zeros(2)}, "unknown ending '.txt'; scores are written as .csv or .parquet"),
    ("s.csv", {"a": np.zeros(2), "b": np.zeros(3)}, r"one length, got \[\(2,\), \(3,\)\]"),
    ("s.csv", {"a": np.zeros((2, 1))}, "must have one axis"),
    ("s.csv", {}, "must have one axis"),
  ],
)
def test_scores_refuse(tmp_path, name, columns, message):
  with pytest.raises(DataError, match=message):
    write_scores(tmp_path / name, columns)
  assert not list(tmp_path.iterdir())


def test_check_writable(tmp_path):
  check_writable(tmp_path / "new" / "scores.PARQUET")
  assert not list(tmp_path.iterdir())
  with pytest.raises(DataError, match=r"unknown ending '\.json'; scores are written as \.csv or"):
    check_writable(tmp_path / "scores.json")
  (tmp_path / "scores.csv").mkdir()
  with pytest.raises(DataError, match=r"scores\.csv is a folder; name a file"):
    check_writable(tmp_path / "scores.csv")


@pytest.fixture
def named(tmp_path):
  path = tmp_path / "new.csv"
  path.write_text("c,a,b\n3,1,2\n6,4,5\n")
  return path


def test_columns_are_taken_by_name_and_others_left_out(named, caplog):
  x = trained_columns(named, read_table(named), ["a", "c"])
  np.testing.assert_array_equal(x, [[1, 3], [4, 6]])
  assert [record.getMessage() for record in caplog.records] == [
    f"Left out 'b' of {named}: the detector was not trained on it."
  ]


def test_missing_column_is_named(named):
  with pytest.raises(DataError, match=r"new\.csv lacks 'd', which the detector was trained on"):
    trained_columns(named, read_table(named), ["a", "d"])


@pytest.mark.parametrize("names", [None, ["0", "1", "2"]])
def test_detector_without_names_takes_records_as_they_are(named, names):
  np.testing.assert_array_equal(
    trained_columns(named, read_table(named), names), [[3, 1, 2], [6, 4, 5]]
  )
