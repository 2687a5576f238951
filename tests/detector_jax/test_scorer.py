"""One class for every engine: batches of any kind, columns by name, bad rows by policy."""

import functools
import logging
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from detector_jax import ArtifactError, Detector, Scorer, scorer
from detector_jax.preprocessing import Identity
from detector_jax.schema import learn

NAMES = ("a", "b", "c")


def weighted(variables, x):
  return x @ variables


def made(weights=(1.0, 2.0, 3.0), **facts):
  x = np.random.default_rng(1).normal(size=(40, len(weights)))
  detector = Detector.create(
    weighted, np.float32(weights), Identity(), (len(weights),), batch_size=8, metadata=facts
  )
  return detector.calibrate(x, 0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("detectors") / "detector"
  made(feature_names=list(NAMES)).save(path)
  return path


@functools.cache
def columns(bad=()):
  """Thirty records, columns in another order, ``b`` whole; in ``bad`` ones ``a`` is missing."""
  x = np.random.default_rng(0).normal(size=(30, 3))
  x[:, 1] = np.arange(30) % 4
  x[list(bad), 0] = np.nan
  text = [f"no {row}" for row in range(30)]
  return {"id": np.array(text), "c": x[:, 2], "b": x[:, 1].astype(np.int64), "a": x[:, 0]}


def batch_of(kind, bad=()):
  found = columns(bad)
  rows = [
    dict(zip(found, row, strict=True))
    for row in zip(*(v.tolist() for v in found.values()), strict=True)
  ]
  arrow = pa.table({name: pa.array(values, from_pandas=True) for name, values in found.items()})
  return {
    "batch": lambda: arrow.to_batches()[0],
    "table": lambda: arrow,
    "pandas": lambda: pd.DataFrame(found, index=np.arange(30) // 2),
    "polars": lambda: pl.from_arrow(arrow),
    "columns": lambda: found,
    "dicts": lambda: rows,
    "structured": lambda: (
      pd.DataFrame(found).astype({"id": "U9"}).to_records(index=False).view(np.ndarray)
    ),
  }[kind]()


KINDS = ("batch", "table", "pandas", "polars", "columns", "dicts", "structured")


def as_lists(told):
  """Any kind of batch as lists of Python values, None where a cell is empty."""
  if isinstance(told, list):
    return {name: [row[name] for row in told] for name in told[0]}
  if isinstance(told, (pa.Table, pa.RecordBatch)):
    return told.to_pydict()
  if isinstance(told, pl.DataFrame):
    return told.to_dict(as_series=False)
  names = told.dtype.names if isinstance(told, np.ndarray) else list(told)
  return {name: list(told[name]) for name in names}


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_becomes_one_of_its_kind_with_the_detectors_scores(folder, kind):
  batch = batch_of(kind)
  told = Scorer(folder, keep=["id", "b"])(batch)
  assert type(told) is type(batch)
  found, want = as_lists(told), columns()
  assert tuple(found) == ("id", "b", "score", "p_value", "decision")
  x = np.stack([want[name] for name in NAMES], axis=1)
  detector = Detector.load(folder)
  assert found["id"] == want["id"].tolist()
  assert found["b"] == want["b"].tolist()
  np.testing.assert_array_equal(np.float32(found["score"]), detector.score(x))
  np.testing.assert_array_equal(found["p_value"], detector.p_value(x))
  assert found["decision"] == detector.predict(x).tolist()
  assert 0 < sum(found["decision"]) < 30


@pytest.mark.parametrize("kind", KINDS)
def test_bad_rows_are_refused_left_out_or_left_empty(folder, kind):
  bad, batch = (0, 7, 29), batch_of(kind, (0, 7, 29))
  good = [row for row in range(30) if row not in bad]
  whole = as_lists(Scorer(folder, keep=["id"])(batch_of(kind)))
  with pytest.raises(ValueError, match=r"NaN at row 0, column 'a' \(3 .* has id = no 0\.$"):
    Scorer(folder, keep=["id"])(batch)
  skipped = as_lists(Scorer(folder, keep=["id"], on_bad_row="skip")(batch))
  assert skipped["id"] == [f"no {row}" for row in good]
  assert skipped["score"] == [whole["score"][row] for row in good]
  told = Scorer(folder, keep=["id"], on_bad_row="nan")(batch)
  assert type(told) is type(batch)
  found = as_lists(told)
  assert found["id"] == whole["id"]
  for name in ("score", "p_value", "decision"):
    assert [found[name][row] for row in good] == [whole[name][row] for row in good]
    empty = [found[name][row] for row in bad]
    if kind in ("columns", "structured") and name == "decision":
      assert empty == [-1, -1, -1]
    else:
      assert pd.isna(empty).all()


@pytest.mark.parametrize("on_bad_row", scorer.ON_BAD_ROW)
@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_and_no_good_rows_have_the_types_of_others(folder, kind, on_bad_row):
  scores = Scorer(folder, keep=["id"], on_bad_row=on_bad_row)
  batch = batch_of(kind)
  empty = {name: values[:0] for name, values in batch.items()} if kind == "columns" else batch[:0]
  told, whole = scores(empty), scores(batch)
  assert type(told) is type(whole)
  if kind == "dicts":
    assert told == []
  else:
    assert [*as_lists(told)] == [*as_lists(whole)]
    assert not any(map(len, as_lists(told).values()))
  if kind in ("batch", "table", "polars"):
    assert told.schema == whole.schema
  if kind == "pandas":
    assert told.dtypes.equals(whole.dtypes)
  if on_bad_row == "nan":
    none = as_lists(scores(batch_of(kind, tuple(range(30)))))
    assert none["id"] == columns()["id"].tolist()
    assert pd.isna(none["score"]).all()


def test_an_array_without_names_is_scored_by_place(folder):
  x = np.random.default_rng(0).normal(size=(9, 3))
  told = Scorer(folder)(x)
  assert told.dtype.names == ("score", "p_value", "decision")
  np.testing.assert_array_equal(np.float32(told["score"]), Detector.load(folder).score(x))
  x[2, 1] = np.inf
  assert Scorer(folder, on_bad_row="nan")(x)["decision"][2] == -1
  with pytest.raises(ValueError, match="The batch has no names, and is to keep 'id'"):
    Scorer(folder, keep=["id"])(x)


def test_a_schema_encodes_each_batch_and_a_wrong_cell_is_a_bad_row(tmp_path):
  frame = pd.DataFrame({"kind": ["x", "y"] * 20, "size": np.arange(40.0) % 7})
  schema = learn(frame)
  facts = {"schema": schema.to_json(), "feature_names": list(schema.features)}
  made((1.0, 2.0, 4.0, 8.0), **facts).save(tmp_path / "detector")
  batch = pa.RecordBatch.from_pydict(
    {"id": [1, 2, 3], "size": ["2.5", "many", "1"], "kind": ["y", "x", "new"]}
  )
  told = Scorer(tmp_path / "detector", keep=["id"], on_bad_row="skip")(batch)
  assert told.column("id").to_pylist() == [1, 3]
  assert told.column("score").to_pylist() == [2.0 + 8.0 * 2.5, 4.0 + 8.0]
  with pytest.raises(ValueError, match="column 'size' holds 'many' in record 1, no number"):
    Scorer(tmp_path / "detector")(batch)


def test_a_process_loads_once_whatever_is_pickled(folder, monkeypatch):
  loads = []
  monkeypatch.setattr(Detector, "load", classmethod(lambda cls, f: loads.append(f) or made()))
  scorer._loaded.cache_clear()
  one = Scorer(folder)
  assert loads == []
  others = [pickle.loads(pickle.dumps(one)) for _ in range(3)]
  assert len(pickle.dumps(one)) < 1000
  assert {id(each.detector) for each in (one, *others)} == {id(one.detector)}
  assert len(loads) == 1
  scorer._loaded.cache_clear()


def test_a_folder_that_was_replaced_is_not_mixed_in(tmp_path):
  made().save(tmp_path / "detector")
  before = Scorer(tmp_path / "detector")
  made((3.0, 2.0, 1.0)).save(tmp_path / "detector")
  with pytest.raises(ArtifactError, match="another detector than when its Scorer was made"):
    before(np.zeros((1, 3)))
  assert Scorer(tmp_path / "detector")(np.ones((1, 3)))["score"] == 6.0


def test_what_is_left_out_and_constants_are_told_once(tmp_path, caplog):
  facts = {"feature_names": list(NAMES), "constants": [[1, 5.0, 0.0]]}
  made(**facts).save(tmp_path / "detector")
  score = Scorer(tmp_path / "detector", keep=["id"])
  batch = {**columns(), "more": np.zeros(30)}
  caplog.clear()
  with caplog.at_level(logging.WARNING):
    for _ in range(3):
      score(batch)
  assert len(caplog.messages) == 2
  assert caplog.messages[0] == "Left out 'more': the detector was not trained on it."
  assert "30 differ in a column that was constant in training" in caplog.messages[1]


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"on_bad_row": "drop"}, "on_bad_row must be one of fail, skip, nan; got 'drop'"),
    ({"on_bad_row": "skip"}, "nothing would say which are left: keep a column"),
    ({"keep": ["id", "score"]}, "^A scored batch has two columns named 'score'"),
    ({"keep": "id"}, "keep must be a list of columns, got 'id'"),
  ],
)
def test_settings_that_cannot_be_are_refused_before_any_batch(folder, settings, message):
  with pytest.raises(ValueError, match=message):
    Scorer(folder, **settings)


def test_a_folder_or_a_column_that_is_not_there_is_named(folder, tmp_path):
  with pytest.raises(ArtifactError, match="is not a detector folder"):
    Scorer(tmp_path)
  with pytest.raises(ValueError, match="has no column 'key' to keep; it has 'id', 'c', 'b', 'a'"):
    Scorer(folder, keep=["key"])(columns())
  with pytest.raises(ValueError, match="The records lack 'a', which the detector was trained on"):
    Scorer(folder)({"b": [1.0], "c": [2.0]})
  with pytest.raises(ValueError, match="The batch has no column to score beside 'id'"):
    Scorer(folder, keep=["id"])([{"id": 1}])
