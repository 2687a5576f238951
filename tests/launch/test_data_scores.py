"""Scores in files: written whole or not at all. Inputs in pieces: the same rows as read whole."""

import io
import os

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet
import pytest
import scipy.io

from launch.data.files import DataError, read_table
from launch.data.formats import csv_text
from launch.data.scoring import ScoreWriter, check_writable, read_pieces


def write_scores(path, *chunks):
  with ScoreWriter(path) as writer:
    for columns in chunks:
      writer.write(columns)


@pytest.mark.parametrize(
  ("ending", "read"), [("csv", arrow_csv.read_csv), ("parquet", parquet.read_table)]
)
def test_scores_are_written_and_replaced(tmp_path, ending, read):
  path = tmp_path / "new" / f"scores.{ending}"
  write_scores(path, {"score": np.zeros(3)})
  columns = {"score": np.float32([0.1, -2.0]), "row": np.array([4, 7]), "id": np.array(["a", "b"])}
  more = {
    "score": np.ma.MaskedArray(np.float32([0.0, 3.0]), [True, False]),
    "row": np.array([8, 9]),
    "id": np.ma.MaskedArray(np.array(["", "c"]), [True, False]),
  }
  write_scores(path, columns, more)
  got = read(path)
  assert got.column_names == ["score", "row", "id"]
  scores = np.float32(got["score"].to_numpy())
  np.testing.assert_array_equal(scores, np.float32([0.1, -2.0, np.nan, 3.0]))
  assert got["score"].null_count == 1
  assert got["row"].to_pylist() == [4, 7, 8, 9]
  assert got["id"].to_pylist()[:2] == ["a", "b"]
  assert got["id"].to_pylist()[2] in (None, "")
  assert got["id"].to_pylist()[3] == "c"
  assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_interrupted_scores_leave_nothing(tmp_path, ending, error):
  path = tmp_path / f"scores.{ending}"

  def interrupted():
    with ScoreWriter(path) as writer:
      writer.write({"score": np.zeros(5)})
      assert [f"-{os.getpid()}-" in entry.name for entry in tmp_path.iterdir()] == [True]
      raise error

  with pytest.raises(error):
    interrupted()
  assert not list(tmp_path.iterdir())


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


def rows_of(*arguments, **settings):
  pieces = list(read_pieces(*arguments, **settings))
  starts = np.cumsum([0, *(len(piece.x) for piece in pieces)])
  assert [piece.start for piece in pieces] == starts[:-1].tolist()
  return np.concatenate([piece.x for piece in pieces])


def first_problem(*arguments, **settings):
  for piece in read_pieces(*arguments, **settings):
    wrong = ~np.isfinite(piece.x).reshape(len(piece.x), -1).all(axis=1)
    if wrong.any():
      return piece.explain(int(wrong.argmax()))
  raise AssertionError("every row can be scored")


def test_columns_are_taken_by_name_and_others_left_out(named, caplog):
  np.testing.assert_array_equal(rows_of(named, trained=["a", "c"]), [[1, 3], [4, 6]])
  assert [record.getMessage() for record in caplog.records] == [
    f"Left out 'b' of {named}: the detector was not trained on it."
  ]


def test_missing_column_is_named(named):
  with pytest.raises(DataError, match=r"new\.csv lacks 'd', which the detector was trained on"):
    rows_of(named, trained=["a", "d"])
  with pytest.raises(DataError, match=r"new\.csv lacks 'a', which the detector was trained on"):
    rows_of(named, "a", ["a", "b"])
  with pytest.raises(DataError, match=r"no label column 'y'; it has 'c', 'a', 'b'"):
    rows_of(named, "y", ["a", "b"])


@pytest.mark.parametrize("names", [None, ["0", "1", "2"]])
def test_detector_without_names_takes_records_as_they_are(named, names):
  np.testing.assert_array_equal(rows_of(named, trained=names), [[3, 1, 2], [6, 4, 5]])


def test_a_column_that_is_not_needed_may_hold_anything(tmp_path):
  (tmp_path / "x.csv").write_text('id,a,b\n"x, y",1,2\n,3,4\n')
  np.testing.assert_array_equal(rows_of(tmp_path / "x.csv", trained=["b", "a"]), [[2, 1], [4, 3]])
  np.testing.assert_array_equal(rows_of(tmp_path / "x.csv", "id"), [[1, 2], [3, 4]])
  table = pa.table({"id": ["x", None], "a": [1, 3], "b": [2.0, 4.0]})
  parquet.write_table(table, tmp_path / "x.parquet")
  got = rows_of(tmp_path / "x.parquet", trained=["b", "a"])
  np.testing.assert_array_equal(got, [[2, 1], [4, 3]])
  with pytest.raises(DataError, match=r"Column 'id' of .* holds string; encode it"):
    rows_of(tmp_path / "x.parquet")


X = np.random.default_rng(0).uniform(size=(23, 3)) * 10.0 ** np.arange(-3, 3, 2)


def saved(folder, name):
  path = folder / name
  if name == "x.csv":
    lines = [",".join(map(repr, row)) for row in X.tolist()]
    lines[3] = lines[3].replace(",", ", +")  # both are allowed
    path.write_bytes(b"\xef\xbb\xbf\r\na,b,c\r\n\r\n" + "\r\n".join(lines).encode())
  elif name == "x.npy":
    np.save(path, X)
  elif name == "fortran.npy":
    np.save(path, np.asfortranarray(X))
  elif name == "x.npz":
    np.savez_compressed(path, x=X, y=np.arange(3))
  elif name == "fortran.npz":
    np.savez(path, X=np.asfortranarray(X))
  elif name == "x.mat":
    scipy.io.savemat(path, {"x": X})
  else:
    parquet.write_table(pa.table(dict(zip("abc", X.T, strict=True))), path, row_group_size=5)
  return path


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize(
  "name",
  ["x.csv", "x.npy", "fortran.npy", "x.npz", "fortran.npz", "x.mat", "x.parquet"],
)
def test_pieces_hold_the_rows_of_the_file(tmp_path, monkeypatch, name, rows):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", 60 * rows)
  pieces = list(read_pieces(saved(tmp_path, name), rows=rows))
  np.testing.assert_array_equal(np.concatenate([piece.x for piece in pieces]), X)
  assert (len(pieces) > 2) is (rows < 23 and name not in ("x.mat", "fortran.npz"))
  done = [piece.done for piece in pieces]
  assert sorted(done) == done
  assert done[-1] == 1.0


@pytest.mark.parametrize(
  ("text", "line"),
  [("a\r1\r\r2\r3", 5), ("a\n1\n\n2\n3\n", 5), ("a\r\n1\r\n2\r\n3\r\n", 4)],
)
@pytest.mark.parametrize("block", [1, 2, 3, 4, 100])
def test_line_ends_of_every_kind_and_place(tmp_path, monkeypatch, text, line, block):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", block)
  (tmp_path / "x.csv").write_bytes(text.encode())
  assert rows_of(tmp_path / "x.csv").ravel().tolist() == [1.0, 2.0, 3.0]
  (tmp_path / "x.csv").write_bytes(text.encode().replace(b"3", b"x"))
  assert first_problem(tmp_path / "x.csv").startswith(f"line {line} of ")


LINES = {
  "5,6,7": "line 4 of {} has 3 fields where the first has 2",
  "5": "line 4 of {} has 1 fields where the first has 2",
  "5,abc": "line 4 of {} holds text, 'abc' in column 'b'",
  "5,1_0": "line 4 of {} holds text, '1_0' in column 'b'",
  "5,": "line 4 of {} holds NaN or nothing in column 'b'",
  " NA ,6": "line 4 of {} holds NaN or nothing in column 'a'",
  "nan,6": "line 4 of {} holds NaN or nothing in column 'a'",
  "5,-inf": "line 4 of {} holds infinity in column 'b'",
  "5,1e39": "line 4 of {} holds 1e+39, too large a number, in column 'b'",
  '5,"6': "line 4 of {} has a quote that is not closed in the line",
}


@pytest.mark.parametrize("block", [4, 1000])
@pytest.mark.parametrize("line", LINES)
def test_a_bad_line_is_named_and_costs_no_other(tmp_path, monkeypatch, line, block):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", block)
  path = tmp_path / "x.csv"
  path.write_text(f'a,b\n1,2\n\n{line}\n3,"4"\n5,6\n')
  with np.errstate(over="ignore"):
    x = np.float32(rows_of(path))
  assert x[[0, 2, 3]].tolist() == [[1, 2], [3, 4], [5, 6]]
  assert not np.isfinite(x[1]).all()
  pieces = [piece for piece in read_pieces(path) if piece.start <= 1]
  assert pieces[-1].explain(1 - pieces[-1].start) == LINES[line].format(path)


@pytest.mark.parametrize("block", [8, 1000])
def test_a_line_end_in_quotes_is_part_of_the_record(tmp_path, monkeypatch, block):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", block)
  text = 'a,note\n1,"b\nc, ""d""\n"\n2,e\n3,"f\n\ng"\nx,h\n'
  (tmp_path / "x.csv").write_text(text)
  x = rows_of(tmp_path / "x.csv", trained=["a"])
  assert x[:3, 0].tolist() == [1.0, 2.0, 3.0]
  assert len(x) == 4
  said = first_problem(tmp_path / "x.csv", trained=["a"])
  assert said.startswith("line 9 of ")  # lines as an editor counts them


def test_a_quote_that_is_never_closed_costs_its_line_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(csv_text, "LONGEST_RECORD", 40)
  lines = ["a,note", '1,"b', *(f"{i},c" for i in range(2, 40))]
  (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
  x = rows_of(tmp_path / "x.csv", trained=["a"])
  assert np.isnan(x[0]).all()
  assert x[1:, 0].tolist() == list(range(2, 40))


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.mat", "x.parquet"])
def test_a_bad_row_is_named(tmp_path, monkeypatch, name):
  monkeypatch.setitem(globals(), "X", X.copy())
  X[17, 1], X[19, 0] = np.inf, np.nan
  path = saved(tmp_path, name)
  column = "b" if name == "x.parquet" else "1"
  for rows in (1, 7, 100):
    said = first_problem(path, rows=rows)
    assert said == f"row 17 of {path} holds infinity in column '{column}'"


def test_a_bad_image_is_named(tmp_path):
  images = np.zeros((9, 2, 2, 1), np.float16)
  images[5, 1, 0, 0] = np.nan
  np.save(tmp_path / "x.npy", images)
  said = first_problem(tmp_path / "x.npy", rows=2)
  assert said == f"row 5 of {tmp_path / 'x.npy'} holds NaN or nothing in place [1, 0, 0]"


@pytest.mark.parametrize("name", ["x.npy", "x.csv"])
def test_a_label_column_is_left_out_by_number(tmp_path, name):
  path = saved(tmp_path, name)
  np.testing.assert_array_equal(rows_of(path, "-1", rows=5), read_table(path, None).x[:, :2])


def test_standard_input_is_csv(monkeypatch):
  monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a,b\n1,2\n3,x\n")))
  (piece,) = read_pieces("-")
  np.testing.assert_array_equal(piece.x, [[1, 2], [3, np.nan]])
  assert piece.done is None
  assert piece.explain(1) == "line 3 of standard input holds text, 'x' in column 'b'"


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("x.csv", b"a\n" + b"1" * 200, "a line of more than 64 bytes"),
    ("x.npy", np.array([[object]]), "holds Python objects, which are refused"),
    ("x.npz", {"x": np.zeros(3)}, r"has shape \[3\]; save records as \[n, d\]"),
  ],
)
def test_inputs_that_are_refused(tmp_path, monkeypatch, name, content, message):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", 50)
  monkeypatch.setattr(csv_text, "LONGEST_LINE", 64)
  path = tmp_path / name
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif isinstance(content, dict):
    np.savez(path, **content)
  else:
    np.save(path, content, allow_pickle=True)
  with pytest.raises(DataError, match=message):
    rows_of(path)
