"""What came back from an engine is held against one file, in whatever order it came."""

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
