"""What the commands used to get wrong without a word: headers, names, groups, rates, streams."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest

import detector_jax
from drocc_jax.registry import NetworkConfig
from launch import evaluation, run, stages, watching
from launch.data import Files, files
from launch.data.formats import DataError
from launch.data.scoring import read_pieces
from launch.methods.drocc import Config
from tests.helpers import ROOT, python

X = np.random.default_rng(0).normal([0.0, 10.0, 100.0], size=(60, 3))


def call(*arguments: str) -> subprocess.CompletedProcess:
  return python("-m", *arguments)


def table_of(path, x=X, header="a,b,c", comments=""):
  np.savetxt(path, x, delimiter=",", header=header, comments=comments, fmt="%.9g")
  return path


def scored(path, trained=None, header="auto"):
  return np.concatenate([piece.x for piece in read_pieces(path, None, trained, header=header)])


@pytest.mark.parametrize("header", ["0,1,2", " 0,1 ,2"])
def test_the_header_that_pandas_counts_is_one(tmp_path, header, caplog):
  path = table_of(tmp_path / "x.csv", header=header)
  table = files.read_table(path)
  assert (table.x.shape, table.names, table.named) == (X.shape, ("0", "1", "2"), True)
  np.testing.assert_array_equal(scored(path), table.x)
  assert "holds numbers alone and is taken for a header; set the header to no" in caplog.text


def test_other_numbers_are_a_record_unless_somebody_says_so(tmp_path, caplog):
  path = table_of(tmp_path / "x.csv", header="400,450,500")
  assert len(files.read_table(path).x) == len(scored(path)) == 61
  assert "400,450,500, holds numbers alone and is taken for a record; set the" in caplog.text
  caplog.clear()
  assert files.read_table(path, header="yes").names == ("400", "450", "500")
  assert len(scored(path, header="yes")) == 60
  assert len(scored(path, ("500", "400", "450"))) == 60  # a detector knows these names
  assert len(files.read_table(table_of(tmp_path / "y.csv", header="0,1,2"), header="no").x) == 61
  assert not caplog.messages
  with pytest.raises(DataError, match="header must be one of auto, yes, no; got 'maybe'"):
    files.read_table(path, header="maybe")


def test_underscores_make_no_number(tmp_path, caplog):
  path = table_of(tmp_path / "x.csv", header="2020_01,2020_02,2020_03")
  assert files.read_table(path).names == ("2020_01", "2020_02", "2020_03")
  assert not caplog.messages


def test_names_of_digits_are_matched_by_name_everywhere(tmp_path):
  columns = {"400": X[:, 0], "450": X[:, 1], "500": X[:, 2]}
  parquet.write_table(pa.table(columns), tmp_path / "train.parquet")
  turned = {name: columns[name] for name in ("500", "400", "450")}
  parquet.write_table(pa.table(turned), tmp_path / "new.parquet")
  parquet.write_table(pa.table({**turned, "y": [0, 1] * 30}), tmp_path / "test.parquet")
  splits = files.load_files(tmp_path / "train.parquet", tmp_path / "test.parquet", "y")
  np.testing.assert_array_equal(splits.x_test, X)
  np.testing.assert_array_equal(scored(tmp_path / "new.parquet", splits.feature_names), X)


def test_a_named_index_of_pandas_is_no_feature(tmp_path):
  pandas = pytest.importorskip("pandas")
  frame = pandas.DataFrame(X, columns=["a", "b", "c"])
  frame.index = pandas.Index(np.random.default_rng(0).permutation(60), name="customer_id")
  frame.to_parquet(tmp_path / "x.parquet")
  assert files.read_table(tmp_path / "x.parquet").names == ("a", "b", "c")
  assert scored(tmp_path / "x.parquet").shape == (60, 3)


def test_a_test_file_may_have_more_columns_of_any_kind(tmp_path, caplog):
  table_of(tmp_path / "train.csv")
  lines = ["note,c,b,a,y", *(f"text,{c},{b},{a},0" for a, b, c in X)]
  (tmp_path / "test.csv").write_text("\n".join(lines) + "\n")
  splits = files.load_files(tmp_path / "train.csv", tmp_path / "test.csv", "y")
  np.testing.assert_allclose(splits.x_test, X)
  assert any("Left out 'note' of" in message for message in caplog.messages)


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_groups_are_read_from_a_column_and_never_divided(tmp_path, ending):
  patients = np.repeat([f"p{i}" for i in range(12)], 5)
  path = tmp_path / f"train.{ending}"
  if ending == "npz":
    np.savez(path, x=X, patient=patients)
  else:
    table = pa.table({"a": X[:, 0], "patient": patients, "b": X[:, 1], "c": X[:, 2]})
    parquet.write_table(table, path) if ending == "parquet" else pa.csv.write_csv(table, path)
  splits = Files(train=str(path), group="patient").load()
  assert splits.x_train.shape == (60, 3)
  assert list(splits.groups) == patients.tolist()
  rows, held = detector_jax.splits.calibration_rows(splits.x_train, 0.2, 0, groups=splits.groups)
  assert not set(patients[rows]) & set(patients[held])
  with pytest.raises(DataError, match=r"no (group column|array) 'nobody'"):
    Files(train=str(path), group="nobody").load()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A run on files with a test set of typical records only."""
  folder = tmp_path_factory.mktemp("typical")
  table_of(folder / "train.csv", np.c_[X, np.full(60, 7.0)], header="a,b,c,always")
  table_of(
    folder / "test.csv", np.c_[X[:40], np.full(40, 8.0), np.zeros(40)], header="a,b,c,always,y"
  )
  config = Config(
    data=Files(train=str(folder / "train.csv"), test=str(folder / "test.csv"), label="y"),
    network=NetworkConfig("mlp", (8,)),
    epochs=10,
    checkpoints=1,
    calibration="split",
  )
  run.train(config, folder / "run")
  return folder


@pytest.mark.slow
def test_typical_records_alone_give_the_rate_and_its_interval(finished):
  result = call("launch.evaluate", f"--workdir={finished / 'run'}")
  assert result.returncode == 0, result.stderr
  assert (
    "note:    All test records are typical: AUROC and the other ranking metrics need anomal"
    in (result.stdout)
  )
  assert "false alarms at the threshold" in result.stdout
  assert "stated:  at most 7.692 % false alarms in expectation over calibration draws" in (
    result.stdout
  )
  measured = json.loads((finished / "run" / "metrics.json").read_text())
  assert measured["metrics"] == {}
  assert "recall" not in measured["decision"]
  flagged = measured["decision"]["realised_fpr"]
  low, high = measured["intervals"]["decision"]["realised_fpr"]
  assert low <= flagged <= high
  assert high > low
  assert measured["decision"]["stated"].endswith("in expectation over calibration draws")
  assert "All test records are typical" in (finished / "run" / "report.html").read_text()


def test_a_column_that_was_constant_is_in_the_health_report(finished):
  result = evaluation.evaluate(finished / "run")
  finding = result["health"][-1]
  assert (finding["value"], finding["passed"]) == (1.0, False)
  assert "'always' (always 7 in training) in 40" in finding["message"]


@pytest.mark.slow
def test_score_counts_changed_constants_once(finished, tmp_path):
  result = call(
    "launch.score",
    f"--workdir={finished / 'run'}",
    f"--input={finished / 'test.csv'}",
    f"--output={tmp_path / 's.csv'}",
    "--chunk_size=1",
  )
  assert result.returncode == 0, result.stderr
  assert result.stderr.count("constant in training") == 1
  assert "Of 40 records 40 differ" in result.stderr


def test_watch_matches_by_name_and_counts_changed_constants(finished, caplog):
  detector = detector_jax.load(finished / "run" / "detector")
  watcher = watching.Watcher(detector)
  record = dict(zip(("a", "b", "c", "always"), [*X[0], 8.0], strict=True))
  turned = dict(reversed(record.items())) | {"more": "text"}
  told = [watcher.take(json.dumps(each)) for each in (record, turned)]
  assert told[0]["score"] == told[1]["score"]
  assert "2 differ" in watcher.findings()[0].message
  with pytest.raises(ValueError, match="lacks 'b'"):
    watcher.take(json.dumps({"a": 1, "c": 2, "always": 7}))


def test_one_state_has_one_stream(finished, tmp_path):
  detector = detector_jax.load(finished / "run" / "detector")
  first = watching.Watcher(detector, state=tmp_path / "state.json")
  with pytest.raises(ValueError, match=rf"launch\.watch or launch\.serve, process {os.getpid()}"):
    watching.Watcher(detector, state=tmp_path / "state.json")
  watching.watch(first, [], lambda _: None)
  watching.Watcher(detector, state=tmp_path / "state.json").close()


@pytest.mark.slow
@pytest.mark.parametrize(
  ("sign", "said"), [("<&-", "standard input is closed"), (">&-", "standard output is closed")]
)
def test_closed_streams_are_one_line(finished, sign, said):
  command = f"{sys.executable} -m launch.watch --detector={finished / 'run' / 'detector'} {sign}"
  result = subprocess.run(
    ["bash", "-c", command],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    stdin=subprocess.DEVNULL,
  )
  assert result.returncode == 1
  assert result.stderr == f"error: The {said}; give it a file with {sign[0]}, or a pipe.\n"


@pytest.mark.slow
@pytest.mark.parametrize(
  ("arguments", "code", "said"),
  [
    ("launch.train --flagfile=/", 2, "error: --flagfile: Is a directory: '/'."),
    ("launch.score --flagfile=/", 2, "error: --flagfile: Is a directory: '/'."),
    ("launch.train --helpfull=1", 0, ""),
    ("launch.train --help", 0, ""),
  ],
)
def test_flags_of_absl_end_in_one_line(arguments, code, said):
  result = call(*arguments.split())
  assert result.returncode == code
  assert result.stderr.startswith(said)
  assert result.stderr.count("\n") == bool(said)


@pytest.mark.slow
def test_help_into_a_reader_that_leaves_says_nothing():
  command = f"{sys.executable} -m launch.train --help | head -1; echo ${{PIPESTATUS[0]}}"
  result = subprocess.run(
    ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert result.stderr == ""
  assert result.stdout.splitlines()[-1] == "0"


def test_a_workdir_that_is_removed_while_it_trains_is_named(tmp_path, monkeypatch):
  table_of(tmp_path / "train.csv")
  config = Config(
    data=Files(train=str(tmp_path / "train.csv")),
    network=NetworkConfig("mlp", (8,)),
    epochs=4,
    checkpoints=4,
  )
  train = stages._train

  def removing(*arguments):
    shutil.rmtree(tmp_path / "run")
    return train(*arguments)

  monkeypatch.setattr(stages, "_train", removing)
  with pytest.raises(OSError, match="was removed while it was trained in: rerun the same command"):
    run.train(config, tmp_path / "run")
  assert not (tmp_path / "run" / "detector").exists()


def test_an_empty_cell_names_no_group(tmp_path):
  lines = [
    "a,b,c,machine",
    *(f"{a},{b},{c},{'' if i == 7 else i // 5}" for i, (a, b, c) in enumerate(X)),
  ]
  (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
  splits = files.load_files(tmp_path / "x.csv", group="machine")
  with pytest.raises(ValueError, match="groups holds no label for record 7"):
    detector_jax.splits.calibration_rows(splits.x_train, 0.2, 0, groups=splits.groups)


def test_the_index_of_pandas_may_be_the_group(tmp_path):
  pandas = pytest.importorskip("pandas")
  frame = pandas.DataFrame(X, columns=["a", "b", "c"]).assign(machine=np.arange(60) // 5)
  frame.set_index("machine").to_parquet(tmp_path / "x.parquet")
  splits = files.load_files(tmp_path / "x.parquet", group="machine")
  assert splits.feature_names == ("a", "b", "c")
  assert splits.groups.tolist() == (np.arange(60) // 5).tolist()


def test_a_header_of_numbers_that_lacks_a_column_is_refused(tmp_path):
  path = table_of(tmp_path / "x.csv", header="10,20,40")
  with pytest.raises(DataError, match="lacks '30', which the detector was trained on"):
    scored(path, ("10", "20", "30"))


def test_a_state_behind_a_link_is_the_state(finished, tmp_path):
  detector = detector_jax.load(finished / "run" / "detector")
  (tmp_path / "link.json").symlink_to(tmp_path / "state.json")
  watcher = watching.Watcher(detector, state=tmp_path / "state.json")
  with pytest.raises(ValueError, match="is kept by another"):
    watching.Watcher(detector, state=tmp_path / "link.json")
  watcher.close()
  watching.watch(watching.Watcher(detector, state=tmp_path / "link.json"), [], lambda _: None)
  assert (tmp_path / "link.json").is_symlink()
  assert (tmp_path / "state.json").is_file()
