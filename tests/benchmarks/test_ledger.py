"""An interrupted table goes on; one of another command does not."""

import logging

import pytest

from benchmarks import records
from benchmarks.ledger import Ledger

FACTS = ["1", "cpu"]


def cell(value):
  return {"DROCC": {"last": value}}


def test_a_cell_is_measured_once_over_two_runs(tmp_path):
  path, calls = tmp_path / "t.partial.jsonl", []

  def measure():
    calls.append(1)
    return cell(0.1 + 0.2)

  for _ in range(2):
    ledger = Ledger(path, FACTS)
    assert ledger.cell(("airplane", 0), measure) == cell(0.1 + 0.2)
    assert ledger.cell(("airplane", 0), measure) == cell(0.1 + 0.2)
  assert calls == [1]
  assert Ledger(path, FACTS).cell(("airplane", 1), lambda: cell(2.0)) == cell(2.0)
  ledger.close()
  assert not path.exists()


def test_a_line_that_was_cut_off_is_measured_again(tmp_path):
  path = tmp_path / "t.partial.jsonl"
  ledger = Ledger(path, FACTS)
  for seed in range(3):
    ledger.cell(("deer", seed), lambda seed=seed: cell(seed))
  path.write_text(path.read_text()[:-9])
  ledger = Ledger(path, FACTS)
  assert ledger.cell(("deer", 1), pytest.fail) == cell(1)
  assert ledger.cell(("deer", 2), lambda: cell(7)) == cell(7)
  assert Ledger(path, FACTS).cell(("deer", 2), pytest.fail) == cell(7)


@pytest.mark.parametrize("facts", [["8", "cpu"], ["1", "full"]])
def test_another_table_or_scale_is_not_gone_on_with(tmp_path, facts, caplog):
  path = tmp_path / "t.partial.jsonl"
  Ledger(path, facts).cell(("deer", 0), lambda: cell(1.0))
  with caplog.at_level(logging.WARNING):
    assert Ledger(path, FACTS).cell(("deer", 0), lambda: cell(2.0)) == cell(2.0)
  assert "is of another table, commit or machine; measuring anew" in caplog.text


@pytest.mark.parametrize("fact", ["commit", "hardware"])
def test_another_commit_or_machine_is_not_gone_on_with(tmp_path, fact, monkeypatch):
  path = tmp_path / "t.partial.jsonl"
  Ledger(path, FACTS).cell(("deer", 0), lambda: cell(1.0))
  monkeypatch.setattr(records, fact, lambda: "another")
  assert Ledger(path, FACTS).cell(("deer", 0), lambda: cell(2.0)) == cell(2.0)


def test_a_file_that_is_none_is_measured_anew(tmp_path):
  path = tmp_path / "t.partial.jsonl"
  path.write_text('no JSON\n[["deer", 0], {"DROCC": {"last": 1.0}}]\n')
  assert Ledger(path, FACTS).cell(("deer", 0), lambda: cell(2.0)) == cell(2.0)


def test_empty_ledger_writes_no_file(tmp_path):
  Ledger(tmp_path / "t.partial.jsonl", FACTS)
  assert not list(tmp_path.iterdir())


def test_without_a_file_cells_are_kept_in_memory(tmp_path):
  ledger = Ledger()
  assert ledger.cell(("deer", 0), lambda: cell(1.0)) == ledger.cell(("deer", 0), pytest.fail)
  ledger.close()


def test_cells_are_gathered_by_row_method_and_metric_in_the_order_of_the_seeds():
  told = []
  found = Ledger().gather(
    ["deer", "frog"],
    2,
    lambda row, seed: {"DROCC": {"auroc": seed, "fpr": len(row)}},
    lambda steps, note: told.append((steps, note)),
  )
  assert found == {
    (row, "DROCC", metric): values
    for row in ("deer", "frog")
    for metric, values in (("auroc", [0, 1]), ("fpr", [4, 4]))
  }
  assert told == [(1, f"{row}, seed {seed}") for seed in (0, 1) for row in ("deer", "frog")]
