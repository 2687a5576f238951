"""The results page: cells by hand, and the committed page is that of the committed files."""

import json

import pytest

from benchmarks import results_page


def record(row, method, column, mean, paper=None, seeds=2, metric="auroc"):
  return {
    "table": "1",
    "row": row,
    "method": method,
    "column": column,
    "metric": metric,
    "mean": mean,
    "std": 1.25,
    "seeds": seeds,
    "paper": paper,
  }


RECORDS = [
  record("deer", "DROCC", "last", 60.0, 73.62),
  record("deer", "DROCC", "oracle", 66.04, 73.62),
  record("ship", "DROCC", "last", 80.0, 80.02),
  record("ship", "DROCC", "oracle", 82.0, 80.02),
  record("mean", "DROCC", "last", 70.0),
  record("mean", "DROCC", "oracle", 99.0),
  record("deer", "LOF", "last", 71.0),
  record("deer", "DROCC", "last", 1.0, metric="f1_at_true_ratio"),
]


@pytest.fixture
def results(tmp_path):
  content = {
    "command": "python -m benchmarks.tables --table=1",
    "commit": "abc",
    "date": "2020-01-02",
    "hardware": "a card",
    "records": RECORDS,
  }
  (tmp_path / "table1.json").write_text(json.dumps(content))
  (tmp_path / "table1.png").write_bytes(b"")
  return tmp_path


def test_cells_and_facts_are_those_of_the_file(results):
  text = results_page.page(results)
  assert "|  | DROCC | LOF |" in text
  assert "| deer | 60.0 ± 1.2 | 71.0 ± 1.2 |" in text
  assert "| ship | 80.0 ± 1.2 |  |" in text
  assert "| deer | DROCC | 60.0 ± 1.2 | 66.0 ± 1.2 | 73.62 |" in text
  assert "| deer | LOF |" not in text, "no column but last and no published number"
  assert "`python -m benchmarks.tables --table=1`, 2 seeds, 2020-01-02, commit abc, a card" in text
  assert "![Table 1 and Table 8: CIFAR-10, one class against the others](" in text
  assert "Not measured yet: `python -m benchmarks.tables --table=mnist`." in text


def test_inflation_is_the_mean_over_rows_without_their_mean(results):
  lines = results_page.page(results).splitlines()
  line = next(line for line in lines if line.startswith("| Table 1 and Table 8 | DROCC"))
  # oracle: (6.04 + 2) / 2; paper: (13.62 + 0.02) / 2
  assert line == "| Table 1 and Table 8 | DROCC |  | +4.0 | +6.8 |"


def test_one_seed_has_no_spread(results):
  path = results / "table1.json"
  content = json.loads(path.read_text())
  for each in content["records"]:
    each["seeds"] = 1
  path.write_text(json.dumps(content))
  assert "| deer | 60.0 | 71.0 |" in results_page.page(results)
  assert ", 1 seed, " in results_page.page(results)


def test_the_committed_page_is_up_to_date():
  assert results_page.PAGE.read_text() == results_page.page(), (
    "docs/results.md is not that of benchmarks/results: run python -m benchmarks.results_page"
  )
