"""Columns are found by name in whatever form a table comes, and a bad cell is named."""

import decimal
import logging

import numpy as np
import pyarrow as pa
import pytest

from detector_jax import table

VALUES = {"a": [1.0, 2.0], "b": [10, 20], "c": [True, False]}
WANTED = [[0.0, 10.0, 2.0], [0.0, 20.0, 3.0]]


def frames():
  """The same two records in every form, columns in another order and one more."""
  columns = {"b": [10, 20], "note": ["x", "y"], "z": [2.0, 3.0], "a": [False, False]}
  pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
  frame = pandas.DataFrame(columns, index=[7, 3])
  return {
    "pandas": frame,
    "nullable": frame.astype({"b": "Int64", "z": "Float32", "a": "boolean"}),
    "polars": polars.DataFrame(columns),
    "pyarrow": pa.table(columns),
    "decimals": pa.table({**columns, "b": [decimal.Decimal(10), decimal.Decimal(20)]}),
    "dicts": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    "structured": np.array(
      [(10, "x", 2.0, False), (20, "y", 3.0, False)],
      dtype=[("b", int), ("note", "U1"), ("z", float), ("a", bool)],
    ),
  }


@pytest.mark.parametrize(
  "form", ["pandas", "nullable", "polars", "pyarrow", "decimals", "dicts", "structured"]
)
def test_columns_are_matched_by_name_and_others_said_once(form, caplog):
  with caplog.at_level(logging.WARNING):
    x = table.records(frames()[form], ("a", "b", "z"))
  assert x.tolist() == WANTED
  assert x.dtype == np.float64
  assert caplog.messages == ["Left out 'note' of The records: the detector was not trained on it."]


@pytest.mark.parametrize("form", ["pandas", "polars", "pyarrow", "dicts", "structured"])
def test_a_missing_column_is_named(form):
  with pytest.raises(ValueError, match=r"^The records lack 'q', 'r', which the detector was"):
    table.records(frames()[form], ("a", "q", "b", "r"))


@pytest.mark.parametrize("form", ["pandas", "polars", "pyarrow", "dicts", "structured"])
def test_text_is_named_with_what_reads_it(form):
  with pytest.raises(ValueError, match=r"'note' holds .*or train with columns=\"auto\"\.$"):
    table.records(frames()[form], ("a", "note"))


def test_a_missing_cell_is_refused_by_its_place():
  pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
  column = {"a": [1, None], "b": [1.0, 2.0]}
  for x in (
    pandas.DataFrame(column).astype({"a": "Int64"}),
    pandas.DataFrame({"a": pandas.array([True, None], "boolean"), "b": [1.0, 2.0]}),
    polars.DataFrame(column),
    pa.table(column),
    [{"a": 1, "b": 1.0}, {"a": None, "b": 2.0}],
  ):
    found = table.records(x, ("b", "a"))
    with pytest.raises(ValueError, match=r"NaN at row 1, column 'a' \(1 such"):
      table.check_finite(found, ("b", "a"))


def test_coordinates_of_one_column_are_one_missing_cell():
  x = np.array([[1.0, np.nan, np.nan], [np.nan, 0.0, 1.0]])
  with pytest.raises(ValueError, match=r"NaN at row 0, column 'b' \(2 such"):
    table.check_finite(x, ("a", "b", "b"))


def test_a_bad_value_is_found_wherever_it_is(monkeypatch):
  monkeypatch.setattr(table, "CHECKED_AT_ONCE", 6)
  x = np.zeros((10, 3))
  table.check_finite(x)
  x[7, 1] = np.nan
  with pytest.raises(ValueError, match="NaN at row 7, column 1"):
    table.check_finite(x)


def test_a_record_that_lacks_a_column_is_named():
  with pytest.raises(ValueError, match="Record 1 lacks 'b'"):
    table.records([{"a": 1, "b": 2}, {"a": 1}], ("a", "b"))


def test_a_mask_is_no_decoration():
  x = np.ma.array([[1, 2], [3, 4]], mask=[[0, 0], [0, 1]])
  with pytest.raises(ValueError, match="NaN at row 1, column 1"):
    table.check_finite(table.records(x))
  plain = np.ma.array([[1, 2], [3, 4]])
  assert table.records(plain).tolist() == [[1, 2], [3, 4]]


def test_without_names_the_place_counts():
  pandas = pytest.importorskip("pandas")
  assert table.names_of(pandas.DataFrame(np.zeros((2, 3)))) is None
  assert table.records(pandas.DataFrame([[1, 2]]), ("a", "b")).tolist() == [[1, 2]]
  assert table.records([[1, 2]], ("a", "b")).tolist() == [[1, 2]]


def test_numbers_name_nothing_unless_the_columns_are_numbered():
  """Runs of earlier releases have "0", "1", ... for columns without names."""
  assert table.match(["x", "y"], ["0", "1"]) == [0, 1]
  assert table.match(["1", "0"], ["0", "1"]) == [1, 0]
  assert table.match(["500", "400"], ["400", "500"]) == [1, 0]
  with pytest.raises(ValueError, match="lack '1'"):
    table.match(["0", "2"], ["0", "1"])


def test_names_that_cannot_be_matched_are_refused():
  pandas = pytest.importorskip("pandas")
  with pytest.raises(ValueError, match="Two columns are named 'a'"):
    table.names_of(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
  with pytest.raises(ValueError, match="Column 3 has no name while others have one, such as 'a'"):
    table.names_of(pandas.DataFrame([[1, 2]], columns=["a", 3]))


def test_float32_stays_float32():
  x = np.array([(1.0, 2.0)], dtype=[("a", np.float32), ("b", np.float32)])
  assert table.records(x).dtype == np.float32
