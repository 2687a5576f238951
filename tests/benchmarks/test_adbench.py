"""The table of ADBench: how records are divided, what a cell holds, what a refusal counts."""

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest

from benchmarks import adbench
from benchmarks.ledger import Ledger
from detector_jax import HealthError
from launch.data import DataError
from tests.helpers import quiet


@pytest.fixture
def folder(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  (tmp_path / "adbench").mkdir()
  for name, typical in (("big", 60), ("small", 20)):
    x = np.concatenate([rng.normal(size=(typical, 3)), rng.normal(8.0, 1.0, size=(5, 3))])
    y = np.repeat([0, 1], [typical, 5])
    np.savez(tmp_path / "adbench" / f"{name}.npz", X=x, y=y)
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  return tmp_path


def test_half_of_the_typical_records_train_and_the_others_test():
  x, y = np.arange(11.0)[:, None], np.array([0, 1] * 5 + [0])
  train, test, labels = adbench.parts_of(x, y, 3)
  assert len(train) == 3
  assert not (train[:, 0] % 2).any()
  assert sorted([*train[:, 0], *test[:, 0]]) == list(range(11))
  np.testing.assert_array_equal(labels, test[:, 0] % 2)
  assert adbench.parts_of(x, y, 4)[0].tolist() != train.tolist()


def test_no_part_is_larger_than_the_protocol_has_it(monkeypatch):
  monkeypatch.setattr(adbench, "MOST", 4)
  y = np.repeat([0, 1], [20, 9])
  train, _, labels = adbench.parts_of(np.arange(29.0)[:, None], y, 0)
  assert len(train) == 4
  assert np.bincount(labels).tolist() == [4, 4]


def stops(x, seed):
  raise HealthError("upside down")


def distance(x, seed):
  centre = x.mean(axis=0)
  return lambda rows: np.linalg.norm(rows - centre, axis=1), 7


def test_table_has_sets_means_and_a_refusal_that_counts_as_a_guess(folder, monkeypatch):
  monkeypatch.setattr(adbench, "METHODS", {"distance": distance, "stops": stops})
  assert adbench.count(2) == 8
  records, drawn = adbench.table(2, quiet, Ledger())
  by = {(r.row, r.method, r.metric): r for r in records}
  assert {r.row for r in records} == {"big", "small", "mean"}
  assert by["big", "distance", "auroc"].mean == 100.0
  assert by["mean", "stops", "auroc"].mean == 50.0
  assert by["mean", "distance", "parameters"].mean == 7.0
  assert ("mean", "stops", "parameters") not in by
  assert by["small", "distance", "auroc"].seeds == 2
  assert list(drawn) == ["adbench"]


def test_only_the_sets_that_are_asked_for(folder, monkeypatch):
  monkeypatch.setattr(adbench, "METHODS", {"distance": distance})
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(sets=["small"]):
    records, _ = adbench.table(1, quiet, Ledger())
  assert {r.row for r in records} == {"small", "mean"}


def test_an_empty_folder_is_named(tmp_path, monkeypatch):
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  with pytest.raises(DataError, match=r"adbench has no \.npz file: set OOD_DATA_DIR"):
    adbench.names()


def test_halves_hold_every_set_once_and_keep_one_origin_together():
  halves = [*adbench.DEVELOPMENT, *adbench.REPORT]
  assert len(halves) == len(set(halves)) == 19
  for pair in (("annthyroid", "thyroid"), ("breastw", "wbc"), ("satellite", "satimage_2")):
    assert (pair[0] in adbench.REPORT) == (pair[1] in adbench.REPORT)


def test_margin_is_over_the_neighbours_of_the_same_seed(folder, monkeypatch):
  def some(x, seed):
    return lambda rows: np.where(np.arange(len(rows)) % (seed + 2), rows[:, 0], 0.0), 0

  monkeypatch.setattr(adbench, "METHODS", {"DROCC": some, "5 nearest neighbours": distance})
  monkeypatch.setattr(adbench, "REPORT", ("small",))
  records, _ = adbench.table(2, quiet, Ledger())
  by = {(r.row, r.method, r.column, r.metric): r for r in records}
  margins = []
  for seed in range(2):
    x, y = adbench.real.load("adbench/small")
    train, x_test, labels = adbench.parts_of(x, y, seed)
    scores = [fit(train, seed)[0](x_test) for fit in (some, distance)]
    margins.append(100 * np.subtract(*(adbench.metrics.auroc(labels, s) for s in scores)))
  metric = "margin over 5 nearest neighbours"
  assert by["small", "DROCC", "last", metric].mean == pytest.approx(np.mean(margins), abs=0.01)
  assert by["small", "DROCC", "worst", metric].mean == pytest.approx(np.min(margins), abs=0.01)
  assert by["mean, report", "DROCC", "worst", metric].mean == pytest.approx(
    np.min(margins), abs=0.01
  )
  assert margins[0] != margins[1]


@pytest.mark.long
@pytest.mark.parametrize("method", ["DROCC", "5 nearest neighbours", "Deep SVDD"])
def test_methods_find_what_is_far_away(folder, method):
  rng = np.random.default_rng(1)
  train = rng.normal(size=(120, 4))
  test = np.concatenate([rng.normal(size=(50, 4)), rng.normal(7.0, 1.0, size=(50, 4))])
  score, size = (adbench.METHODS | adbench.SLOW)[method](train, 0)
  values = score(test)
  assert np.mean(values[50:, None] > values[None, :50]) > 0.95
  assert (size > 0) == (method == "DROCC")


def test_five_neighbours_are_averaged():
  train = np.array([[0.0], [1.0], [2.0], [4.0], [8.0], [100.0]])
  score, _ = adbench.METHODS["5 nearest neighbours"](train, 0)
  scale = train.std()
  assert score(np.zeros((1, 1)))[0] == pytest.approx(3.0 / scale, rel=1e-5)


def test_sizes_are_cut_from_the_same_training_records(folder, monkeypatch):
  seen = []

  def spy(x, seed):
    seen.append(len(x))
    return distance(x, seed)

  monkeypatch.setattr(adbench, "METHODS", {"DROCC": spy, "5 nearest neighbours": spy})
  monkeypatch.setattr(adbench, "SIZED", ("big",))
  monkeypatch.setattr(adbench, "SIZES", (4, 9))
  records, drawn = adbench.table_sizes(1, quiet, Ledger())
  assert seen == [4, 4, 9, 9]
  assert [(r.row, r.method) for r in records][::2] == [
    ("big, 4 records", "DROCC"),
    ("big, 9 records", "DROCC"),
  ]
  assert adbench.count_sizes(3) == 12
  assert list(drawn) == ["adbench-sizes"]


def test_methods_are_ranked_on_each_set_and_share_ranks(folder, monkeypatch):
  monkeypatch.setattr(adbench, "METHODS", {"stops": stops, "distance": distance, "guesses": stops})
  monkeypatch.setattr(adbench, "_peers", lambda: {"peer": distance})
  with flagsaver.flagsaver(methods="peers"):
    assert adbench.count(1) == 8
    records, drawn = adbench.table(1, quiet, Ledger())
  ranks = {(r.row, r.method): r.mean for r in records if r.metric == "rank"}
  assert ranks["big", "distance"] == ranks["mean", "peer"] == 1.5
  assert ranks["mean", "stops"] == ranks["small", "guesses"] == 3.5
  assert list(drawn) == ["adbench-peers"]
