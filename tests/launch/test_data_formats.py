"""Tables in .feather files, folders of .parquet files, and queries of databases."""

import contextlib
import sqlite3

import numpy as np
import pyarrow as pa
from pyarrow import feather, parquet
import pytest

from launch.data.files import DataError, load_files, read_table

X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
Y = [0, 1, 0]


def check(table, x, labels, names):
  np.testing.assert_array_equal(table.x, x)
  assert (table.names, table.named) == (names, True)
  assert (None if table.labels is None else table.labels.tolist()) == labels


def written(folder, text):
  (folder / "t.sql").write_text(text)
  return folder / "t.sql"


@pytest.mark.parametrize("compression", ["uncompressed", "zstd"])
def test_feather(tmp_path, compression):
  content = pa.table(
    {"a": [1, 3, 5], "y": [False, True, False], "b": [2.0, 4.0, 6.0], "t": ["x"] * 3}
  )
  feather.write_feather(content.drop("t"), tmp_path / "t.feather", compression, chunksize=2)
  check(read_table(tmp_path / "t.feather", "y"), X, Y, ("a", "b"))
  feather.write_feather(content, tmp_path / "t.feather")
  with pytest.raises(DataError, match=r"Column 't' of .* holds string; encode it"):
    read_table(tmp_path / "t.feather", "y")
  (tmp_path / "t.feather").write_bytes(b"ARROW1 and no more")
  with pytest.raises(DataError, match=r"damaged or not a \.feather file"):
    read_table(tmp_path / "t.feather")


def test_a_folder_of_parquet_files_is_one_table(tmp_path):
  for day, rows in ((2, X[2:]), (1, X[:2])):
    (tmp_path / "t" / f"day={day}").mkdir(parents=True)
    part = {"a": rows[:, 0], "b": rows[:, 1]}
    parquet.write_table(pa.table(part), tmp_path / "t" / f"day={day}" / "part-0.parquet")
  got = read_table(tmp_path / "t")
  check(got, np.c_[X, [1, 1, 2]], None, ("a", "b", "day"))
  check(read_table(tmp_path / "t", trained=("b", "a")), X[:, ::-1], None, ("b", "a"))


SQL = "-- sqlite:///bank.db\nSELECT a, y, b FROM payments ORDER BY a"


def test_a_query_of_a_database(tmp_path):
  with contextlib.closing(sqlite3.connect(tmp_path / "bank.db")) as base:
    base.execute("CREATE TABLE payments (a, y, b, note)")
    rows = [[5, 0, 6.0, "x"], [1, 0, 2, None], [3, 1, 4, 7]]
    base.executemany("INSERT INTO payments VALUES (?, ?, ?, ?)", rows)
    base.commit()
  check(read_table(written(tmp_path, SQL), "y"), X, Y, ("a", "b"))
  for text, message in {
    SQL.replace("a, y, b", "*"): "Column 'note' of .* holds string; encode it",
    SQL.replace("y, b", "b, b"): "two columns named 'b'",
    SQL.replace("bank", "shop"): "There is no database .*shop.db, which .*t.sql names",
    SQL.replace("payments", "customers"): "no such table: customers",
    SQL.replace("ORDER", "WHERE a > 9 ORDER"): "holds no records",
    SQL.split("\n")[0]: "must name the database",
    SQL.replace("-- ", ""): "must name the database",
  }.items():
    with pytest.raises(DataError, match=message):
      read_table(written(tmp_path, text), "y")
  learned = load_files(written(tmp_path, SQL), label="y")
  assert learned.negatives.tolist() == [[3.0, 4.0]]
