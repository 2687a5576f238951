"""The speed benchmark's arithmetic and its message where PyTorch is missing."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import speed
from benchmarks.records import SpeedRecord


def test_operations_of_a_hand_counted_case():
  case = speed.Case(rows=300, features=3, epochs=2, radius=1.0, learning_rate=1e-3)
  # 2 epochs of 2 steps; a product of 256 x 3 x 128 is 2 * 98,304 operations; an ascent step has two
  # such products, the outer step two of twice the batch.
  product = 2 * 256 * 3 * 128
  assert speed.operations(case, 3) == 2 * 2 * (50 * 2 + 2 * 2) * product
  # As many features as units: the Gram matrix, products with it, and three with the layer.
  square = 2 * 128 * 128
  wide = 128 * square + 50 * 256 * square + 3 * 256 * square
  assert speed.operations(case, 128) == 2 * 2 * (wide + 2 * 2 * 256 * square)


def test_rows_without_a_data_directory(monkeypatch):
  monkeypatch.delenv("OOD_DATA_DIR", raising=False)
  x, source = speed.rows_of("thyroid", speed.CASES["thyroid"])
  assert x.shape == (3586, 6)
  assert x.dtype == np.float32
  assert "standard-normal" in source


def test_without_torch_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(ValueError, match=r"pip install -e '\.\[torch\]'"):
    speed.check_torch()


@pytest.fixture
def two_cases(monkeypatch):
  """Cases "a" and "b" that are measured at once, and a function that runs the command."""

  def measure(name, runs, rate):
    return [SpeedRecord(name, 2.0, "peer", 4.0, 2.0, rate)], {"runs": runs}

  monkeypatch.setattr(speed, "ALL_CASES", ["a", "b"])
  monkeypatch.setattr(speed, "MODULES", [SimpleNamespace(CASES=("a", "b"), measure=measure)])
  monkeypatch.setattr(speed, "check_torch", lambda: None)
  monkeypatch.setattr(speed.speed_timing, "matrix_product_rate", lambda: 0.5)

  def run(case, output):
    for name, value in (("_CASE", case), ("_RUNS", 3), ("_OUTPUT", str(output))):
      monkeypatch.setattr(speed, name, SimpleNamespace(value=value))
    speed.main()

  return run


def test_all_cases_go_into_one_file_with_a_chart(two_cases, tmp_path):
  two_cases("all", tmp_path / "speed.json")
  content = json.loads((tmp_path / "speed.json").read_text())
  assert [record["case"] for record in content["records"]] == ["a", "b"]
  assert content["facts"] == {"a": {"runs": 3}, "b": {"runs": 3}}
  assert content["records"][0]["floor_seconds"] == 0.5
  assert (tmp_path / "speed.png").exists()


def test_one_case_has_its_facts_beside_its_records(two_cases, tmp_path, capsys):
  two_cases("b", tmp_path / "speed_b.json")
  content = json.loads((tmp_path / "speed_b.json").read_text())
  assert [record["case"] for record in content["records"]] == ["b"]
  assert content["runs"] == 3
  assert not (tmp_path / "speed_b.png").exists()
  two_cases("b", "")
  assert "runs: 3" in capsys.readouterr().out


def test_every_case_has_one_module_that_measures_it():
  counted = [*speed.CASES, *speed.speed_projection.CASES]
  counted += [name for module in speed.MODULES for name in module.CASES]
  assert sorted(counted) == sorted(set(counted)) == speed.ALL_CASES
  assert {"startup", "search", "mobilenet", "cifar_lenet", "lstm"} <= set(counted)
