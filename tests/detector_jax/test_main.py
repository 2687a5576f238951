"""A detector folder from the shell, without the launcher."""

import csv
import pathlib

import numpy as np
from pyarrow import csv as arrow_csv
import pytest

from detector_jax import __main__ as main
from detector_jax import load, schema, table
import detector_jax.version
from tests.helpers import python

ALONE = """
import sys
for name in ("flax", "optax", "sklearn", "pyarrow", "absl", "launch", "drocc_jax"):
  sys.modules[name] = None  # importing it raises ImportError
from detector_jax.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def folder(detector, tmp_path_factory) -> pathlib.Path:
  place = tmp_path_factory.mktemp("main") / "detector"
  detector.with_metadata(feature_names=["a", "b", "c"]).save(place)
  return place


@pytest.mark.slow
def test_scores_of_a_file_without_anything_else(folder, records, tmp_path):
  turned = np.c_[records[:, [2, 0]], np.zeros(len(records)), records[:, 1]]
  np.savetxt(tmp_path / "x.csv", turned, delimiter=",", header="c,a,more,b", comments="")
  told = python("-c", ALONE, "score", folder, tmp_path / "x.csv")
  assert told.returncode == 0, told.stderr
  got = np.genfromtxt(told.stdout.splitlines(), delimiter=",", names=True)
  detector = load(folder)
  np.testing.assert_allclose(got["score"], detector.score(records), rtol=1e-5)
  np.testing.assert_allclose(got["p_value"], detector.p_value(records), rtol=1e-5, atol=0.02)
  np.testing.assert_array_equal(got["decision"], detector.predict(records))


def test_info_says_what_it_is_and_what_it_states(folder, capsys):
  assert main.main(["info", str(folder)]) == 0
  said = capsys.readouterr().out
  assert "method: toy" in said
  assert "columns: a, b, c" in said
  assert "rate: at most 10 % false alarms in expectation over calibration draws" in said
  assert "calibrated on: 50 held-out records" in said


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("a,b\n1,2\n", "lacks 'c', which the detector was trained on"),
    ("a,b,c\n1,2\n", "Line 2 of {} has 2 fields where the first has 3"),
    ("a,b,c\n1,2,3\n1,x,3\n", "Line 3 of {} holds 'x' in column 'b', no finite number"),
    ("a,b,c\n1,,3\n", "Line 2 of {} holds '' in column 'b'"),
    (f"a,b,c\n1,2,3\n{'1' * 2**18},2,3\n", "Line 3 of {} cannot be read: field larger"),
    (b"a,b,c\n1,2,\xe9\n", "{} is not in UTF-8, at byte 10"),
    ("a,b,c\n", "{} holds no records"),
    ("", "{} is empty"),
  ],
)
def test_bad_input_is_one_line(folder, tmp_path, capsys, content, message):
  path = tmp_path / "x.csv"
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  assert main.main(["score", str(folder), str(path)]) == 1
  said = capsys.readouterr()
  assert said.out == ""
  assert said.err.startswith("error: ")
  assert message.format(path) in said.err
  assert said.err.count("\n") == 1


def test_kept_columns_stand_beside_the_scores_as_they_are(
  folder, records, tmp_path, capsys, caplog
):
  rows = [f"{a!r},007,{b!r},{c!r}," for a, b, c in records[:3].tolist()]
  path = tmp_path / "x.csv"
  path.write_text("\n".join(["a,id,b,c,note", *rows[:2], "", rows[2] + '"x, y"']))
  caplog.clear()
  assert main.main(["score", str(folder), str(path), "--keep=note,id"]) == 0
  assert not caplog.messages  # they are not told as left out
  lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
  assert list(lines[0]) == ["note", "id", "score", "p_value", "decision"]
  assert [(line["note"], line["id"]) for line in lines] == [("", "007")] * 2 + [("x, y", "007")]
  scores = [float(line["score"]) for line in lines]
  np.testing.assert_allclose(scores, load(folder).score(records[:3]), rtol=1e-5)


@pytest.mark.parametrize(
  ("keep", "message"),
  [
    ("when", "has no column 'when' to keep; it has 'a', 'b', 'c'."),
    ("score", "--keep=score would write two columns of one name."),
  ],
)
def test_columns_that_cannot_be_kept_are_one_line(folder, keep, message, tmp_path, capsys):
  (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n")
  assert main.main(["score", str(folder), str(tmp_path / "x.csv"), f"--keep={keep}"]) == 1
  said = capsys.readouterr()
  assert said.out == ""
  assert message in said.err


def test_columns_that_a_schema_names_need_a_header(detector, records, tmp_path, capsys):
  rows = [dict(zip("abc", row, strict=True)) for row in records.tolist()]
  facts = {"schema": schema.learn(rows).to_json(), "feature_names": ["a", "b", "c"]}
  detector.with_metadata(**facts).save(tmp_path / "detector")
  (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n")
  command = ["score", str(tmp_path / "detector"), str(tmp_path / "x.csv")]
  assert main.main(command) == 0
  assert capsys.readouterr().out.count("\n") == 2
  assert main.main([*command, "--header=no"]) == 1
  said = capsys.readouterr()
  assert said.out == ""
  assert "give a header, not --header=no" in said.err


def test_semicolons_and_decimal_commas_are_sniffed_or_told(
  folder, detector, records, tmp_path, capsys
):
  rows = [dict(zip("abc", row, strict=True)) for row in records.tolist()]
  prices = [row | {"c": f"{row['c']:.2f}".replace(".", ",")} for row in rows]
  prices[0]["c"] = "1.234,50"  # so that the column has a notation of its own
  columns, path = tmp_path / "columns", tmp_path / "x.csv"
  facts = {"schema": schema.learn(prices).to_json(), "feature_names": ["a", "b", "c"]}
  detector.with_metadata(**facts).save(columns)
  shown = [f"{row['a']!r};{row['b']!r};{row['c']:.2f}".replace(".", ",") for row in rows[:9]]
  want = load(folder).score(records[:9])
  path.write_text("\n".join(["a;b;c", *shown]))
  for place in (folder, columns):
    told = ["--keep=b"] if place == folder else ["--keep=b", "--dialect=;,"]
    assert main.main(["score", str(place), str(path), *told]) == 0
    said = capsys.readouterr()
    sniffed = f"{path}: fields are separated by semicolons and numbers have a decimal comma.\n"
    assert said.err == (sniffed if place == folder else "")
    lines = list(csv.DictReader(said.out.splitlines()))
    np.testing.assert_allclose([float(line["score"]) for line in lines], want, rtol=0.05)
    assert lines[0]["b"] == shown[0].split(";")[1]
  assert main.main(["score", str(folder), str(path), "--dialect=;;"]) == 1
  assert "The dialect of a .csv is its delimiter" in capsys.readouterr().err
  np.save(tmp_path / "x.npy", records)
  assert main.main(["score", str(folder), str(tmp_path / "x.npy"), "--dialect=;,"]) == 1
  assert "--dialect is for .csv files" in capsys.readouterr().err


def test_what_is_no_detector_is_one_line(tmp_path, capsys):
  assert main.main(["info", str(tmp_path)]) == 1
  assert "is not a detector folder" in capsys.readouterr().err


def test_missing_numbers_are_those_of_arrow():
  assert frozenset(arrow_csv.ConvertOptions().null_values) == table.MISSING


def test_the_version_stands_once():
  import drocc_jax
  import fingerprint_jax

  assert drocc_jax.__version__ == fingerprint_jax.__version__ == detector_jax.version.__version__
