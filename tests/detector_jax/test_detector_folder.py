"""The folder's documentation: its lines are run, and it names every field."""

import re

import numpy as np
import pytest

from detector_jax import artifact
from tests.helpers import ROOT, python

WITH_JAX_ALONE = """
import sys
for name in ("detector_jax", "drocc_jax", "launch", "flax", "sklearn", "optax", "chex"):
  sys.modules[name] = None  # importing it raises ImportError
import numpy as np
lines, records, result = sys.argv[1], np.load("records.npy"), {}
for n in (1, 7, 1000):
  np.save("x.npy", records[:n])
  found = {}
  exec(lines, found)
  result |= {f"score-{n}": found["told"]["score"], f"anomalous-{n}": found["anomalous"]}
np.savez("result.npz", **result)
"""


@pytest.mark.slow
def test_the_documented_lines_score_with_jax_alone(detector, tmp_path):
  page = (ROOT / "docs" / "detector_folder.md").read_text()
  (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  assert len([line for line in lines.splitlines() if line]) <= 10
  thousand = np.random.default_rng(3).normal(2.0, 3.0, size=(1000, 3))
  detector.save(tmp_path / "detector")
  np.save(tmp_path / "records.npy", thousand)
  done = python("-c", WITH_JAX_ALONE, lines, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  with np.load(tmp_path / "result.npz") as archive:
    got = dict(archive)
  for n in (1, 7, 1000):
    want = detector.score(thousand[:n])
    np.testing.assert_allclose(got[f"score-{n}"], want, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(got[f"anomalous-{n}"], detector.predict(thousand[:n]) == 1)


def test_every_field_is_documented(detector, tmp_path):
  detector.save(tmp_path / "detector")
  page = (ROOT / "docs" / "detector_folder.md").read_text()
  table = page.split("field by field")[1].split("## What is refused")[0]
  fields = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
  assert sorted(fields) == sorted(artifact.read_description(tmp_path / "detector"))
