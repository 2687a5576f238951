"""What came back from an engine is held against one file, in whatever order it came."""

import contextlib
import os
import subprocess
import sys

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
  monkeypatch.setattr(engines, "in_its_own_process", engines.timed)
  monkeypatch.setattr(engines, "memory", engine)
  monkeypatch.setitem(engines.ENGINES, "dask", engine)
  monkeypatch.setattr(engines.time, "perf_counter", lambda: next(clock) ** 3)
  monkeypatch.setattr(engines, "on_cores", contextlib.nullcontext)
  record, facts = engines.measure("dask", 1000, 3)
  assert order == [1, 1, 2, 2] * 3
  # eight readings at 0, 1, 8, ... of every run, the third warm one taken from the one that counts
  assert facts["seconds"] == {"1": [162, 546, 930], "2": [354, 738, 1122]}
  assert facts["start_seconds"] == {"1": 45**3 - 44**3, "2": 61**3 - 60**3}
  assert record.ratio == round(546 / 738, 2)
  assert facts["rows_per_second"] == {"1": round(1000 / 546), "2": round(1000 / 738)}


@contextlib.contextmanager
def names_its_process(folder, workers):
  def run(source, output):
    del source
    output.mkdir(parents=True)
    (folder / f"{workers}-{os.getpid()}").touch()

  yield run


def test_no_run_finds_an_engine_that_another_has_left(tmp_path):
  for workers in (1, 1):
    found = engines.in_its_own_process(names_its_process, tmp_path, workers)
    assert found.output == tmp_path / "scores1"
  names = {path.name for path in tmp_path.glob("1-*")}
  assert len(names) == 2
  assert f"1-{os.getpid()}" not in names


def test_a_run_and_what_it_starts_keeps_to_as_many_cores_as_workers():
  cores = os.sched_getaffinity(0)
  count = "import os; print(len(os.sched_getaffinity(0)))"
  with engines.on_cores(1):
    told = subprocess.run([sys.executable, "-c", count], capture_output=True, check=True)
    assert int(told.stdout) == 1
  assert os.sched_getaffinity(0) == cores
  few = pytest.raises(ValueError, match="999 workers need 999 cores, and this process has")
  with few, engines.on_cores(999):
    pass
