"""The recipes of docs/engines.md, run as they stand: every score is that of ``launch.score``.

An engine that is not installed is skipped; the extras are ray, spark and dask.
"""

import importlib.util
import itertools
import re
import shutil
import sys

import numpy as np
import pyarrow as pa
from pyarrow import dataset, parquet
import pytest

from detector_jax import Detector
from detector_jax.preprocessing import Identity
from launch import scoring
from tests.helpers import ROOT, python

pytestmark = pytest.mark.slow

ROWS, PARTS = 3000, 5
RECIPE = re.compile(r"<!-- engine: (\w+) -->\n```python\n(.*?)```", re.DOTALL)
CLUSTER = {"ray": "import ray\nray.init(num_cpus=4, include_dashboard=False)\n"}  # two cores hang
RECIPES = dict(RECIPE.findall((ROOT / "docs" / "engines.md").read_text()))
# A worker is killed, once, when it has records in its hands.
KILLED = """
import os, pathlib, signal

class Scorer(detector_jax.Scorer):
  def __call__(self, batch):
    if len(batch) and not pathlib.Path("{folder}/killed").exists():
      pathlib.Path("{folder}/killed").touch()
      os.kill(os.getpid(), signal.SIGKILL)
    return super().__call__(batch)
"""
ENVIRONMENT = {
  "PYTHONPATH": str(ROOT),
  "PYSPARK_PYTHON": sys.executable,
  "PYSPARK_SUBMIT_ARGS": "--master local[2,4] --conf spark.ui.enabled=false pyspark-shell",
}


def score(variables, x):
  return x @ variables


@pytest.fixture(scope="module")
def job(tmp_path_factory):
  """A detector, a table in parts of different sizes, and what the launcher scores it with."""
  folder, rng = tmp_path_factory.mktemp("job"), np.random.default_rng(0)
  detector = Detector.create(
    score, np.float32([1, 2, 3]), Identity(), (3,), metadata={"feature_names": ["a", "b", "c"]}
  ).calibrate(rng.normal(size=(99, 3)), 0.1)
  detector.save(folder / "detector")
  x = rng.normal(size=(ROWS, 3))
  x[::500, 1] = np.nan
  table = pa.table(
    {"c": x[:, 2], "id": np.arange(ROWS), "b": x[:, 1], "note": ["x"] * ROWS, "a": x[:, 0]}
  )
  (folder / "records").mkdir()
  ends = [0, *sorted(rng.choice(ROWS, PARTS - 1, replace=False).tolist()), ROWS]
  for part, (start, end) in enumerate(itertools.pairwise(ends)):
    parquet.write_table(table.slice(start, end - start), folder / f"records/{part}.parquet")
  parquet.write_table(table, folder / "whole.parquet")
  scoring.score_input(
    detector,
    str(folder / "whole.parquet"),
    folder / "wanted.parquet",
    on_bad_row="nan",
    keep=["id"],
  )
  return folder


def run(job, folder, engine, code):
  """Runs a recipe beside the job's files; its scores, in the order of the records."""
  for name in ("detector", "records"):
    (folder / name).symlink_to(job / name)
  (folder / "recipe.py").write_text(CLUSTER.get(engine, "") + code)
  done = python("recipe.py", cwd=folder, env=ENVIRONMENT, timeout=300)
  assert done.returncode == 0, done.stderr[-3000:]
  return dataset.dataset(folder / "scores").to_table().sort_by("id")


def assert_same(job, told):
  want = parquet.read_table(job / "wanted.parquet")
  assert told.column_names == want.column_names == ["id", "score", "p_value", "decision"]
  for name in ("id", "decision"):
    assert told[name].to_pylist() == want[name].to_pylist(), name
  assert told["decision"].null_count == 6
  for name in ("score", "p_value"):
    got, wanted = (table[name].to_numpy() for table in (told, want))
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


def engines(*names):
  """Parameters, skipped with their reason before anything is made for them."""
  lacking = {name: importlib.util.find_spec(name) is None for name in names}
  reasons = {name: f"{name} is not installed" for name in names if lacking[name]}
  if shutil.which("java") is None:
    reasons.setdefault("pyspark", "Spark needs Java 17")
  marks = {name: pytest.mark.skip(reason=reason) for name, reason in reasons.items()}
  return [pytest.param(name, marks=marks.get(name, ())) for name in names]


@pytest.mark.parametrize("engine", engines("ray", "pyspark", "dask"))
def test_a_table_in_parts_has_the_scores_of_the_whole(engine, job, tmp_path):
  assert_same(job, run(job, tmp_path, engine, RECIPES[engine]))


@pytest.mark.parametrize("engine", engines("ray", "pyspark"))
def test_a_worker_that_is_killed_costs_nothing_but_time(engine, job, tmp_path):
  code = RECIPES[engine].replace("detector_jax.Scorer", "Scorer")
  head, imports, rest = code.partition("import detector_jax\n")
  code = head + imports + KILLED.format(folder=tmp_path) + rest
  told = run(job, tmp_path, engine, code)
  assert (tmp_path / "killed").exists()
  assert_same(job, told)
