"""What separates the fields of a CSV and the digits of its numbers, and compressed files."""

import bz2
import gzip
import logging

import numpy as np
import pyarrow as pa
import pytest

from detector_jax import dialect
from launch.data import Files
from launch.data.files import DataError, read_table
from launch.data.formats import csv_text
from launch.data.scoring import read_pieces

X = [[1.5, 2.0], [-3.25, 4.0], [5.0, 6.125]]
LINES = ["a;b", "1,5;2", "-3,25;4,0", "5;6,125"]


def written(folder, lines, name="x.csv"):
  (folder / name).write_text("\n".join(lines) + "\n")
  return folder / name


@pytest.mark.parametrize(("mark", "called"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_what_separates_is_found_and_said(tmp_path, caplog, mark, called):
  caplog.set_level(logging.INFO)
  path = written(tmp_path, [line.replace(";", mark) for line in LINES])
  got = read_table(path)
  assert got.names == ("a", "b")
  np.testing.assert_array_equal(got.x, X)
  (said,) = [record.message for record in caplog.records]
  assert said == f"{path}: fields are separated by {called} and numbers have a decimal comma."


def test_nothing_is_said_of_commas(tmp_path, caplog):
  caplog.set_level(logging.INFO)
  path = written(tmp_path, ["a,b", "1.5,2", "3;4,5"])
  with pytest.raises(DataError, match="holds text, '3;4' in line 3"):
    read_table(path)
  assert not caplog.records


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    (["1,5;2,5", "3,5;4,5"], "could be separated by commas and semicolons: say which"),
    (["a;b", "1,5;2", "3.5;4"], "Whether '1,5' in .* has a decimal comma cannot be told"),
    (["a;b", "1,500;2", "3,250;4"], "Whether '1,500' in .* has a decimal comma cannot be told"),
  ],
)
def test_what_reads_in_two_ways_is_refused_until_it_is_set(tmp_path, lines, message):
  path = written(tmp_path, lines)
  with pytest.raises(DataError, match=message):
    read_table(path)
  if "." in lines[-1]:
    with pytest.raises(DataError, match=r"holds text, '3\.5' in line 3"):
      read_table(path, dialect=";,")
  else:
    assert read_table(path, dialect=";,").x[0, 0] == 1.5


@pytest.mark.parametrize("setting", [";", ",,", "x.", ";;", ";,."])
def test_a_dialect_that_is_none_is_refused(setting):
  with pytest.raises(ValueError, match=r"its delimiter .* and its decimal mark"):
    dialect.of(setting, "", "x.csv")
  assert dialect.of("tab,", "", "x.csv") == dialect.Dialect("\t", ",")


@pytest.mark.parametrize("block", [9, 2**23])
def test_bad_lines_and_quotes_are_those_of_the_dialect(tmp_path, monkeypatch, block):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", block)
  lines = ["a;note", '1,5;"x;\ny"', "2,5;b", "c,5;d", "3,5;e,f;g", "4,5;h"]
  path = written(tmp_path, lines)
  pieces = list(read_pieces(path, trained=["a"], dialect=";,"))
  x = np.concatenate([piece.x for piece in pieces])[:, 0]
  np.testing.assert_array_equal(x, [1.5, 2.5, np.nan, np.nan, 4.5])
  rows = [(piece, row) for piece in pieces for row in range(len(piece.x))]
  assert rows[2][0].explain(rows[2][1]) == f"line 5 of {path} holds text, 'c,5' in column 'a'"
  assert rows[3][0].explain(rows[3][1]) == f"line 6 of {path} has 3 fields where the first has 2"


@pytest.mark.parametrize("block", [100, 2**23])
def test_tables_as_they_come_have_decimal_commas(tmp_path, monkeypatch, block):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", block)
  values = np.random.default_rng(0).normal(size=60).round(3)
  rows = [f"{x:.3f};{'a,b' if x > 0 else 'c'};0".replace(".", ",") for x in values]
  path = str(written(tmp_path, ["x;mode;y", *rows]))
  splits = Files(train=path, label="y", columns="auto", dialect=";,").load()
  columns = {column.name: column.kind for column in splits.schema.columns}
  assert columns == {"x": "number", "mode": "category"}
  np.testing.assert_array_equal(splits.x_train[:, 0], values)
  assert any("a,b" in name for name in splits.feature_names)


@pytest.mark.parametrize("name", ["x.csv.gz", "x.csv.bz2", "x.csv.zst"])
def test_compressed_files_are_read(tmp_path, name):
  text = ("\n".join(LINES) + "\n").encode()
  path = tmp_path / name
  if name.endswith("gz"):
    path.write_bytes(gzip.compress(text))
  elif name.endswith("bz2"):
    path.write_bytes(bz2.compress(text))
  else:
    with pa.output_stream(str(path)) as stream:
      stream.write(text)
  np.testing.assert_array_equal(read_table(path).x, X)
  path.write_bytes(path.read_bytes()[:-12])
  with pytest.raises(DataError, match=r"it is damaged or not a \.csv\.\w+ file"):
    read_table(path)
  with pytest.raises(
    DataError, match=r"unknown ending '.gz'; known ones are .* and \.csv with \.gz"
  ):
    read_table(tmp_path / "x.npy.gz")


def test_a_test_file_has_the_encoding_that_is_set(tmp_path):
  for name in ("train.csv", "test.csv"):
    (tmp_path / name).write_bytes("höhe;y\n1,5;0\n2,5;1\n".encode("cp1252"))
  train, test = (str(tmp_path / name) for name in ("train.csv", "test.csv"))
  got = Files(train=train, test=test, label="y", encoding="cp1252").load()
  assert got.feature_names == ("höhe",)
  np.testing.assert_array_equal(got.x_test, [[1.5], [2.5]])


def test_a_field_may_hold_what_other_programs_end_lines_with():
  text = "a;b\n" + "".join(f"{i},5;x\u2028y\x85z\x0b\n" for i in range(9))
  assert dialect.of("auto", text, "x.csv") == dialect.Dialect(";", ",")
