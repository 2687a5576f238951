"""What came back from an engine is held against one file, in whatever order it came."""

import contextlib

import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest

from benchmarks import engines


def written(folder, ids, **columns):
  folder.parent.mkdir(exist_ok=True)
  parquet.write_table(pa.table({"id": ids, **columns}), folder)


def test_differences_are_of_the_same_records_and_lost_ones_are_refused(tmp_path):
  scores, p = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.3])
  written(tmp_path / "wanted.parquet", [0, 1, 2], score=scores, p_value=p, decision=[0, 0, 1])
  told = {"score": scores[1:], "p_value": [0.4, 0.31], "decision": [1, 0]}
  written(tmp_path / "got" / "b.parquet", [1, 2], **told)
  with pytest.raises(ValueError, match="2 records came back, and 3 went in"):
    engines.difference(tmp_path / "got", tmp_path / "wanted.parquet")
  written(tmp_path / "got" / "c.parquet", [0], score=[1.25], p_value=[0.5], decision=[0])
  found = engines.difference(tmp_path / "got", tmp_path / "wanted.parquet")
  assert found == {"score": 0.25, "p_value": pytest.approx(0.01), "decision": 2.0}


def test_runs_of_one_and_of_two_workers_alternate_and_the_median_pair_counts(monkeypatch):
  order, clock = [], iter(range(100))

  def engine(folder, workers):
    del folder
    order.append(workers)
    return contextlib.nullcontext(lambda source, output: output.mkdir(parents=True))

  monkeypatch.setattr(engines, "prepare", lambda folder, rows: None)
  monkeypatch.setattr(engines, "launcher", lambda folder: 1.0)
  monkeypatch.setattr(engines, "difference", lambda got, wanted: {"score": 0.0})
  monkeypatch.setattr(engines, "memory", engine)
  monkeypatch.setitem(engines.ENGINES, "dask", engine)
  monkeypatch.setattr(engines.time, "perf_counter", lambda: next(clock) ** 2)
  record, facts = engines.measure("dask", 1000, 3)
  assert order == [1, 1, 2, 2] * 3
  # a reading at 0, 1, 4, ...: the engine's runs take 5, 13, 21, 29, 37 and 45 seconds
  assert facts["seconds"] == {"1": [5, 21, 37], "2": [13, 29, 45]}
  assert record.ratio == round(21 / 29, 2)
  assert facts["rows_per_second"] == {"1": round(1000 / 21), "2": round(1000 / 29)}
