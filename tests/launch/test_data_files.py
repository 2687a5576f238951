"""Tables in files: what is read, and the sentence for each thing that can be wrong with a file."""

import os

import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest
import scipy.io

from launch.data.files import DataError, load_files, read_table
from launch.data.formats import arrays

X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
Y = np.array([0, 1, 0])


@pytest.fixture
def write(tmp_path):
  def write(name, content):
    path = tmp_path / name
    if isinstance(content, str):
      path.write_text(content, encoding="utf-8")
    elif isinstance(content, bytes):
      path.write_bytes(content)
    elif path.suffix == ".npy":
      np.save(path, content)
    elif path.suffix == ".npz":
      np.savez(path, **content)
    elif path.suffix == ".mat":
      scipy.io.savemat(path, content)
    else:
      parquet.write_table(pa.table(content), path)
    return path

  return write


def assert_table(table, x, labels, names, named):
  np.testing.assert_array_equal(table.x, x)
  assert table.x.dtype == np.float64
  assert table.names == names
  assert table.named is named
  if labels is None:
    assert table.labels is None
  else:
    assert table.labels.tolist() == list(labels)
    assert table.labels.dtype == np.int64


HEADER = "a,y,b\n1,0,2\n3,1,4\n5,0,6\n"
NO_HEADER = "1,0,2\n3,1,4\n5,0,6\n"


@pytest.mark.parametrize("label", ["y", "1", "-2"])
def test_csv_with_header(write, label):
  assert_table(read_table(write("t.csv", HEADER), label), X, Y, ("a", "b"), True)


@pytest.mark.parametrize("label", ["1", "-2"])
def test_csv_without_header(write, label):
  assert_table(read_table(write("t.csv", NO_HEADER), label), X, Y, ("0", "2"), False)


def test_csv_without_label(write):
  x = np.insert(X, 1, Y, axis=1)
  assert_table(read_table(write("t.csv", HEADER)), x, None, ("a", "y", "b"), True)
  assert_table(read_table(write("t.csv", NO_HEADER)), x, None, ("0", "1", "2"), False)


def test_a_name_goes_before_a_number(write):
  table = read_table(write("t.csv", "b,1,0\n7,8,0\n7,8,1\n"), "0")
  assert_table(table, [[7, 8], [7, 8]], [0, 1], ("b", "1"), True)


def test_csv_oddities_that_are_read(write):
  text = '\ufeff\n a ,"b"\r\n\r\n1, 2\r\n-1e3,"+4"\r\n\r\n'
  assert_table(read_table(write("t.csv", text)), [[1, 2], [-1000, 4]], None, ("a", "b"), True)


def test_csv_column_that_turns_to_fractions_late(write):
  text = "a,b\n" + "1,2\n" * 400_000 + "1,2.5\n"
  assert read_table(write("t.csv", text)).x[-1].tolist() == [1.0, 2.5]


def test_parquet(write):
  content = {"a": [1, 3, 5], "y": [False, True, False], "b": np.float32([2, 4, 6])}
  assert_table(read_table(write("t.parquet", content), "y"), X, Y, ("a", "b"), True)
  assert_table(read_table(write("t.parquet", content), "1"), X, Y, ("a", "b"), True)


def test_parquet_leaves_the_index_of_pandas_out(write):
  content = {"a": [1.0], "__index_level_0__": [7]}
  assert_table(read_table(write("t.parquet", content)), [[1.0]], None, ("a",), True)


def test_npy(write):
  path = write("t.npy", np.insert(X, 1, Y, axis=1).astype(np.float32))
  assert_table(read_table(path, "1"), X, Y, ("0", "2"), False)
  assert_table(read_table(path), np.insert(X, 1, Y, axis=1), None, ("0", "1", "2"), False)


def test_arrays_of_more_axes(write):
  images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
  assert_table(read_table(write("t.npy", images)), images, None, None, False)
  path = write("t.npz", {"x": images, "y": [1, 0]})
  assert_table(read_table(path), images, [1, 0], None, False)


@pytest.mark.parametrize("ending", ["npz", "mat"])
def test_archives(write, ending):
  path = write(f"t.{ending}", {"X": X, "y": Y[:, None], "bad": 1 - Y})
  assert_table(read_table(path), X, Y, ("0", "1"), False)
  assert_table(read_table(path, "bad"), X, 1 - Y, ("0", "1"), False)
  path = write(f"t.{ending}", {"x": X})
  assert_table(read_table(path), X, None, ("0", "1"), False)


def test_an_ending_in_capitals_is_read(write):
  assert read_table(write("T.CSV", HEADER)).x.shape == (3, 3)


def test_objects_beside_the_records_are_not_loaded(write):
  path = write("t.npz", {"x": X, "notes": np.array([{}], object)})
  np.testing.assert_array_equal(read_table(path).x, X)


class Bomb:
  """Unpickling one would leave a file behind."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["t.npy", "t.npz"])
def test_python_objects_are_refused_and_not_run(write, tmp_path, name):
  objects = np.array([Bomb(tmp_path / "ran")], object)
  path = write(name, objects if name == "t.npy" else {"x": objects})
  with pytest.raises(DataError, match=f"{name} holds Python objects, which are refused"):
    read_table(path)
  assert not (tmp_path / "ran").exists()


BAD = {
  "ending": (
    "t.txt",
    "1,2\n",
    None,
    "unknown ending '.txt'; known ones are .csv, .parquet, .feather, .sql, .npy",
  ),
  "no ending": ("t", "1,2\n", None, "unknown ending ''; known ones are"),
  "picture": ("t.png", "1", None, "t.png is one picture, .*: give its folder"),
  "flat": ("t.npy", np.zeros(9), None, r"has shape \[9\]; .* a series of one channel as \[time, 1"),
  "empty": ("t.csv", "", None, "t.csv is empty"),
  "blank": ("t.csv", "\n\n", None, "t.csv is empty"),
  "empty npy": ("t.npy", b"", None, "t.npy is empty"),
  "header only": ("t.csv", "a,b\n", None, "t.csv holds no records"),
  "header only, cut": ("t.csv", "a,b", None, "t.csv holds no records"),
  "nothing but labels": ("t.csv", "y\n1\n0\n", "y", "t.csv holds no columns beside the label"),
  "text": ("t.csv", "a,b\n1,2\n\n3,red\n", None, "'b' of .* holds text, 'red' in line 4; encode"),
  "text label": ("t.csv", "a,y\n1,good\n", "y", "'y' of .* holds text, 'good' in line 2; encode"),
  "short row": ("t.csv", "a,b\n1,2\n3\n", None, "Line 3 of .* has 1 fields where the first has 2"),
  "NaN": ("t.csv", "a,b\n1,2\n\n3,nan\n5,NA\n", None, "NaN or nothing in column 'b', line 4 \\(2 "),
  "first missing": ("t.csv", "1,,3\n1,2,3\n", None, "NaN or nothing in column '1', line 1 "),
  "infinity": ("t.csv", "a,b\n-inf,2\n", None, "infinity in column 'a', line 2 .* remove them"),
  "NaN label": ("t.csv", "a,y\n1,0\n2,\n", "y", "Label 'y' of .* is nan in line 3; write 0 for"),
  "label values": ("t.csv", "a,y\n1,1\n2,-1\n", "y", "is -1 in line 3; write 0 for typical and 1"),
  "no label": ("t.csv", HEADER, "z", "no label column 'z'; it has 'a', 'y', 'b'\\.$"),
  "no label number": ("t.csv", NO_HEADER, "3", "no label column '3'; it has '0', '1', '2'"),
  "two names": ("t.csv", "a,b,a\n1,2,3\n", None, "two columns named 'a'; rename one"),
  "no name": ("t.csv", ",a\n0,1\n", None, "Column 0 of .* has no name .* remove it if it is a row"),
  "not text": ("t.csv", b"a,\xff\n1,2\n", None, "t.csv cannot be read.*utf-8"),
  "parquet text": ("t.parquet", {"a": ["x"]}, None, "Column 'a' of .* holds string; encode it"),
  "parquet date": (
    "t.parquet",
    {"a": np.array(["2020-01-01"], "datetime64[s]")},
    None,
    "Column 'a' of .* holds timestamp",
  ),
  "parquet null": ("t.parquet", {"a": [1, None]}, None, "NaN or nothing in column 'a', row 1 "),
  "parquet rows": ("t.parquet", {"a": pa.array([], pa.int64())}, None, "holds no records"),
  "parquet columns": ("t.parquet", {}, None, "t.parquet has no columns"),
  "parquet label": ("t.parquet", {"a": [1]}, "y", "no label column 'y'; it has 'a'"),
  "parquet damaged": (
    "t.parquet",
    b"PAR1 and no more",
    None,
    "t.parquet cannot be read, it is dam",
  ),
  "npy damaged": ("t.npy", b"hello", None, "t.npy cannot be read, it is damaged or not a .npy"),
  "npy rows": ("t.npy", np.zeros((0, 3)), None, "t.npy holds no records"),
  "npy one axis": ("t.npy", np.zeros(3), None, "has shape \\[3\\]; save records as \\[n, d\\]"),
  "npy text": ("t.npy", np.array([["a"]]), None, "t.npy holds <U1; save real numbers"),
  "npy complex": ("t.npy", np.array([[1j]]), None, "t.npy holds complex128; save real numbers"),
  "npy NaN": ("t.npy", np.array([[1, 2], [3, np.nan]]), None, "in column '1', row 1 \\(1 such"),
  "npy images NaN": (
    "t.npy",
    np.full((1, 2, 2), np.inf),
    None,
    "infinity in place \\[0, 0\\], row 0",
  ),
  "npy images label": (
    "t.npy",
    np.zeros((2, 2, 2)),
    "0",
    "only \\[n, d\\] can hold a label column",
  ),
  "npz damaged": (
    "t.npz",
    b"hello",
    None,
    "t.npz cannot be read, it is damaged or not a .npz file .*zip file",
  ),
  "npz records": (
    "t.npz",
    {"x_train": X},
    None,
    "no array 'x' or 'X' of records; it has 'x_train'",
  ),
  "npz label": ("t.npz", {"x": X, "y": Y}, "z", "no array 'z' of labels; it has 'x', 'y'"),
  "npz labels": ("t.npz", {"x": X, "y": Y[:2]}, None, "2 labels 'y' for 3 records"),
  "npz text": ("t.npz", {"x": X, "y": np.array(["a"] * 3)}, None, "Array 'y' of .* holds <U1"),
  "npz values": ("t.npz", {"x": X, "y": Y + 1}, None, "Label 'y' of .* is 2 in row 1"),
  "mat damaged": ("t.mat", b"hello", None, "t.mat cannot be read, it is damaged or not a .mat"),
  "mat records": ("t.mat", {"data": X}, None, "no array 'x' or 'X' of records; it has 'data'"),
  "mat text": ("t.mat", {"X": np.array(["ab"])}, None, "Array 'X' of .* holds <U2; save real"),
  "mat cells": ("t.mat", {"X": np.array([[1, "a"]], object)}, None, "Array 'X' of .* holds object"),
}


@pytest.mark.parametrize(("name", "content", "label", "message"), BAD.values(), ids=BAD)
def test_bad_input(write, name, content, label, message):
  with pytest.raises(DataError, match=message) as caught:
    read_table(write(name, content), label)
  assert name in str(caught.value)
  assert str(caught.value).endswith(".")
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["parquet", "npy", "npz", "mat"])
def test_truncated(write, ending):
  rows = np.random.default_rng(0).standard_normal((200, 2))
  contents = {"npy": rows, "parquet": {"a": rows[:, 0]}}
  path = write(f"t.{ending}", contents.get(ending, {"x": rows}))
  path.write_bytes(path.read_bytes()[:1000])
  with pytest.raises(DataError, match=f"t.{ending} cannot be read, it is damaged"):
    read_table(path)


def test_matlab_7_3(write):
  header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)
  with pytest.raises(DataError, match=r"t\.mat is a MATLAB 7\.3 file; save it with the option -v7"):
    read_table(write("t.mat", header))


def test_a_file_that_crashes_the_reader_of_scipy_is_named(write, monkeypatch):
  path = write("t.mat", {"X": X})
  assert len(read_table(path).x) == len(X)
  monkeypatch.setattr(arrays, "LOAD", "import os; os.abort()")
  with pytest.raises(DataError, match=r"t\.mat cannot be read, it is damaged: SciPy's reader"):
    read_table(path)


def test_missing_file(tmp_path):
  with pytest.raises(DataError, match=r"There is no file .*gone\.csv"):
    read_table(tmp_path / "gone.csv")
  (tmp_path / "folder.csv").mkdir()
  with pytest.raises(DataError, match=r"There is no file .*folder\.csv"):
    read_table(tmp_path / "folder.csv")


def test_lists_at_most_twenty_columns(write):
  header = ",".join(f"c{i}" for i in range(30))
  with pytest.raises(DataError, match=r"'c18', 'c19', \.\.\. \(30 in all\)\.$"):
    read_table(write("t.csv", header + "\n" + ",".join("1" * 30)), "y")


def test_a_label_that_need_not_be_there(write):
  for path in (write("t.csv", NO_HEADER), write("t.npz", {"x": X}), write("t.npy", X)):
    assert read_table(path, "z", label_required=False).labels is None
  assert read_table(write("t.csv", HEADER), "y", label_required=False).labels.tolist() == [0, 1, 0]


def test_load_files_keeps_labelled_training_records_apart(write):
  train = write("train.csv", HEADER)
  test = write("test.csv", "y,b,a\n1,8,7\n0,10,9\n")
  got = load_files(train, test, "y")
  assert got.x_train.tolist() == [[1, 2], [5, 6]]
  assert got.negatives.tolist() == [[3, 4]]
  assert got.x_test.tolist() == [[7, 8], [9, 10]]  # matched by name
  assert got.y_test.tolist() == [1, 0]
  assert got.feature_names == ("a", "b")


def test_load_files_has_no_negatives_where_none_is_labelled(write):
  got = load_files(write("train.csv", "a,y\n1,0\n"), None, "y")
  assert (got.x_train.tolist(), got.x_test, got.y_test, got.negatives) == (
    [[1.0]],
    None,
    None,
    None,
  )


@pytest.mark.parametrize(
  ("train", "test", "label", "y_test"),
  [
    ("a,b\n1,2\n", "a,b\n3,4\n", None, None),
    ("a,b\n1,2\n", "a,b\n3,4\n", "", None),
    ("a,b\n1,2\n", "a,y,b\n3,1,4\n", "y", [1]),
    ("a,b,y\n1,2,0\n", "a,b\n3,4\n", "y", None),
    ("1,2\n", "3,4,1\n", "2", [1]),
    ("1,2,0\n", "3,4\n", "2", None),
    ("1,2,0\n", "3,4,1\n", "-1", [1]),
    ("a,b\n1,2\n", "3,4\n", None, None),
  ],
)
def test_load_files_with_and_without_labels(write, train, test, label, y_test):
  got = load_files(write("train.csv", train), write("test.csv", test), label)
  assert got.x_train.tolist() == [[1.0, 2.0]]
  assert got.x_test.tolist() == [[3.0, 4.0]]
  assert (got.y_test if got.y_test is None else got.y_test.tolist()) == y_test


def test_load_files_reads_images(write):
  images = np.arange(24.0).reshape(2, 3, 4)
  train = write("train.npz", {"x": images, "y": [0, 1]})
  got = load_files(train, write("test.npy", images))
  np.testing.assert_array_equal(got.x_train, images[:1])
  np.testing.assert_array_equal(got.x_test, images)
  assert (got.y_test, got.feature_names) == (None, None)


@pytest.mark.parametrize(
  ("train", "test", "label", "message"),
  [
    (
      "a,b\n1,2\n",
      "a,c\n1,2\n",
      None,
      "test.csv lacks 'b', which the detector was trained on",
    ),
    ("a,b\n1,2\n", "a\n1\n", None, "test.csv lacks 'b', which the detector was trained on"),
    ("1,2\n", "1,2,3\n", None, "test.csv has records of 3 columns where .*train.csv has 2 columns"),
    ("a,b\n1,2\n", "3\n", None, "test.csv has records of 1 columns where .*train.csv has 2 col"),
    ("a\n1\n", "a\n1\n", "y", "test.csv has no label column 'y'; it has 'a'"),
    ("a\n1\n", None, "y", "train.csv has no label column 'y'; it has 'a'"),
    ("a,y\n1,1\n2,1\n", None, "y", "All 2 records of .*train.csv are labelled 1; give typical"),
  ],
)
def test_load_files_refuses(write, train, test, label, message):
  test = test and write("test.csv", test)
  with pytest.raises(DataError, match=message):
    load_files(write("train.csv", train), test, label)


def test_load_files_refuses_images_of_another_shape(write):
  train, test = write("a.npy", np.zeros((2, 3, 4))), write("b.npy", np.zeros((2, 4, 3)))
  with pytest.raises(DataError, match=r"b\.npy has records of shape \[4, 3\] where .* \[3, 4\]"):
    load_files(train, test)
