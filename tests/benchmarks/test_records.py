"""The form that benchmarks write."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import records

CELL = records.TableRecord("7", "displacement 0.2", "DROCC", "last", "auroc", 99.5, 0.1, 5, 96.8)


def test_written_file_says_what_was_run_and_where(tmp_path, monkeypatch):
  monkeypatch.setattr(
    sys, "argv", ["/somewhere/benchmarks/tables.py", "--table=7", "--output=out.json"]
  )
  records.write(tmp_path / "out.json", [CELL], note="made here")
  content = json.loads((tmp_path / "out.json").read_text())
  assert content["command"] == "python -m benchmarks.tables --table=7"
  assert set(content) == {
    "command",
    "commit",
    "date",
    "hardware",
    "versions",
    "note",
    "records",
  }
  assert {"python", "jax", "flax", "numpy"} <= set(content["versions"])
  assert content["records"] == [
    {
      "table": "7",
      "row": "displacement 0.2",
      "method": "DROCC",
      "column": "last",
      "metric": "auroc",
      "mean": 99.5,
      "std": 0.1,
      "seeds": 5,
      "paper": 96.8,
    }
  ]
  assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_output_must_be_json_and_writable(tmp_path):
  with pytest.raises(ValueError, match=r"must name a \.json file"):
    records.check_writable(tmp_path / "out.txt")
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError, match="cannot be written"):
    records.check_writable(tmp_path / "file" / "out.json")


def test_show_prints_every_cell(capsys):
  records.show([CELL])
  printed = capsys.readouterr().out
  assert "displacement" in printed
  assert "96.8" in printed


def test_a_cell_of_the_values_of_seeds():
  got = records.TableRecord.from_values(
    "7", "row", "DROCC", "auroc", [0.5, 0.9, 1.0], column="worst", factor=100.0, middle=np.median
  )
  assert got == records.TableRecord("7", "row", "DROCC", "worst", "auroc", 90.0, 21.6, 3, None)
  assert records.by_method([CELL, got, CELL]) == {"DROCC": ([99.5, 90.0, 99.5], [0.1, 21.6, 0.1])}


def test_tables_that_go_on_where_they_were_take_a_ledger():
  """In a process of its own: commands share the names of their flags."""
  said = (
    "import inspect\n"
    "from benchmarks.tables import RESUMED, TABLES\n"
    "for name, (table, _) in {**TABLES, **RESUMED}.items():\n"
    "  takes = 'ledger' in inspect.signature(table).parameters\n"
    "  assert takes == (name in RESUMED), name\n"
  )
  subprocess.run([sys.executable, "-c", said], check=True)
