"""The table of contaminated training records: who is mixed in, and what is measured of it."""

import numpy as np
import pytest

from benchmarks import contamination
from benchmarks.adbench_sets import DEVELOPMENT, REPORT
from benchmarks.ledger import Ledger
from detector_jax import HealthError


@pytest.fixture
def labelled(rng):
  """300 typical records and 40 anomalous ones, each with its number as a column."""
  x = np.column_stack([np.arange(340.0), rng.normal(size=340)])
  return x, np.repeat([0, 1], [300, 40])


def test_the_sets_are_half_of_each_kind():
  assert sum(name in DEVELOPMENT for name in contamination.SETS) == 5
  assert sum(name in REPORT for name in contamination.SETS) == 5


def test_shares_differ_in_the_anomalies_alone(labelled):
  parts = {s: contamination.parts_of(*labelled, s, 3) for s in contamination.SHARES}
  clean = set(parts[0.0].x[:, 0])
  assert len(clean) == 150
  assert max(clean) < 300
  for share, part in parts.items():
    numbers = set(part.x[:, 0])
    assert clean <= numbers
    assert len(numbers - clean) == round(150 * share / (1.0 - share))
    assert all(number >= 300 for number in numbers - clean)
    np.testing.assert_array_equal(part.x_test, parts[0.0].x_test)
    assert not numbers & set(part.x_test[:, 0])
  assert parts[0.1].labels.sum() == 20


def test_no_more_typical_records_than_anomalies_can_contaminate(labelled):
  x, y = labelled[0][:310], labelled[1][:310]
  assert len(contamination.parts_of(x, y, 0.0, 0).x) == 45
  assert len(contamination.parts_of(x, y, 0.1, 0).x) == 50


def test_recall_and_false_alarms_are_above_the_threshold():
  parts = contamination.Parts(np.zeros((2, 1)), np.arange(8.0)[:, None], np.repeat([0, 1], 4))

  def fit(x, seed):
    return contamination.Fitted(lambda rows: rows[:, 0], 2.0, warned=True)

  def stops(x, seed):
    raise HealthError("upside down")

  wanted = {"auroc": 1.0, "recall": 1.0, "false alarms": 0.25, "warned": 1.0}
  assert contamination.cell("mine", fit, parts, 0) == {"mine": wanted}
  guessed = contamination.cell("mine", stops, parts, 0)["mine"]
  assert guessed == {"auroc": 0.5, "recall": 0.05, "false alarms": 0.05, "warned": 0.0}


def test_a_fit_of_the_same_statement_is_one_fit():
  stated = {
    m: [contamination.fit_of(m, s)[0] for s in (0.0, 0.05, 0.1)] for m in contamination.STATED
  }
  assert stated == {
    "DROCC": ["DROCC None"] * 3,
    "DROCC, contamination=the share": ["DROCC None", "DROCC 0.05", "DROCC 0.1"],
    "DROCC, contamination=0.1": ["DROCC 0.1"] * 3,
    "DROCC, contamination=auto": ["DROCC auto"] * 3,
  }


def test_means_are_over_all_sets_and_each_half(labelled, monkeypatch):
  def fit(x, seed):
    return contamination.Fitted(lambda rows: rows[:, 0] - 150.0 * (seed == 0), 240.0)

  monkeypatch.setattr(contamination, "METHODS", ("DROCC", "mine"))
  monkeypatch.setattr(contamination, "drocc", lambda x, seed, contamination: fit(x, seed))
  monkeypatch.setattr(contamination, "BASELINES", {"mine": fit})
  x, y = labelled  # of fault nothing is above the threshold
  loaded = {"adbench/cardio": (x, y), "adbench/fault": (x - 300.0, y)}
  monkeypatch.setattr(contamination.real, "load", loaded.__getitem__)
  monkeypatch.setattr(contamination, "SETS", ("cardio", "fault"))
  records, drawn = contamination.table(2, lambda *_: None, Ledger())
  by = {(r.row, r.metric): (r.mean, r.std) for r in records if r.method == "mine"}
  assert by == {(r.row, r.metric): (r.mean, r.std) for r in records if r.method == "DROCC"}
  assert by["mean, report, 2%", "mean auroc"] == (100.0, 0.0)
  assert by["cardio, 10%", "recall"] == (50.0, 50.0)
  assert by["mean, development, 10%", "mean recall"] == (50.0, 50.0)
  assert by["mean, report, 10%", "mean recall"] == (0.0, 0.0)
  assert by["mean, 10%", "mean recall"] == (25.0, 25.0)
  assert len(by) == 4 * 4 * (2 + 3)
  assert contamination.count(2) == 2 * 2 * 4 * 2
  assert set(drawn) == {"contamination-auroc", "contamination-recall", "contamination-false-alarms"}
