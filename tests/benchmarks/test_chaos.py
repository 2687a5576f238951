"""The chaos test of ADBench: the repeats are those that are named, and what moves is measured."""

import json

import numpy as np
import pytest

from benchmarks import adbench, chaos
from benchmarks.ledger import Ledger


def test_another_order_is_the_same_training_where_the_order_is_the_same(one_set):
  x, x_test, _ = adbench.parts_of(*chaos.real.load("adbench/one"), 3)
  plain = adbench.drocc(x, 3)[0](x_test)
  np.testing.assert_array_equal(chaos.scores_of(x, x_test, 3, 3), plain)
  assert np.abs(chaos.scores_of(x, x_test, 3, 4) - plain).max() > 1e-3


def test_inputs_move_by_one_part_in_a_million(one_set, monkeypatch):
  seen = []

  def spy(x, seed):
    seen.append(x)
    return lambda rows: seen.append(rows) or rows[:, 0], 0

  monkeypatch.setattr(adbench, "drocc", spy)
  chaos.auroc("one", 0)
  chaos.auroc("one", 0, chaos.MOVED)
  for plain, moved in zip(seen[:2], seen[2:], strict=True):
    change = np.abs(moved / plain - 1.0)
    assert 0.9e-6 < change.max() <= 1.001e-6


def test_movement_is_without_its_sign_and_against_the_plain_fit(one_set, monkeypatch):
  values = {chaos.PLAIN: (0.9, 0.8), chaos.MOVED: (0.91, 0.77), chaos.ORDER: (0.9, 0.8)}
  monkeypatch.setattr(chaos, "auroc", lambda name, seed, repeat: values[repeat][seed])
  monkeypatch.setattr(chaos, "in_process", lambda name, seeds: [0.95, 0.8])
  records, drawn = chaos.table(2, lambda *_: None, Ledger())
  by = {(r.row, r.method, r.column): r.mean for r in records}
  assert by["one", chaos.MOVED, "last"] == pytest.approx(2.0)
  assert by["one", chaos.MOVED, "worst"] == pytest.approx(3.0)
  assert by["mean", chaos.THREAD, "last"] == pytest.approx(2.5)
  assert by["one", chaos.THREAD, "worst"] == pytest.approx(5.0)
  assert by["one", chaos.ORDER, "worst"] == 0.0
  assert chaos.count(2) == 8
  assert list(drawn) == ["adbench-chaos"]


def test_a_process_gets_its_set_and_seeds(monkeypatch):
  def run(command, **_):
    assert command[1:] == ("-m", "benchmarks.chaos", "--set=wine", "--fits=2")
    return type("Done", (), {"stdout": "a log line\n" + json.dumps({"auroc": [0.75, 1.0]})})

  monkeypatch.setattr(chaos.subprocess, "run", run)
  assert chaos.in_process("wine", 2) == [0.75, 1.0]
