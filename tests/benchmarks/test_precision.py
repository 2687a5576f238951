"""The table of precisions: what it holds, and that the trainings are those of DROCC()."""

import numpy as np
import pytest

from benchmarks import precision
from benchmarks.ledger import Ledger
from drocc_jax import DROCC


@pytest.fixture
def folder(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  (tmp_path / "adbench").mkdir()
  for name in ("one", "two"):
    x = np.concatenate([rng.normal(size=(20, 3)), rng.normal(8.0, 1.0, size=(5, 3))])
    np.savez(tmp_path / "adbench" / f"{name}.npz", X=x, y=np.repeat([0, 1], [20, 5]))
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  monkeypatch.setattr(precision, "SETS", ("one", "two"))


def test_cells_means_and_differences(folder, monkeypatch):
  """15 test records; bf16 ranks those of ``two`` upside down with the second seed."""

  def scores(train, x_test, seed, name):
    assert len(train) == 10
    distance = np.abs(x_test).sum(axis=1)
    upside_down = name == "bf16" and seed == 1 and x_test[0, 0] == marked
    return -distance if upside_down else distance

  rows = precision.adbench.parts_of(*precision.real.load("adbench/two"), 1)[1]
  marked = rows[0, 0]
  monkeypatch.setattr(precision, "scores", scores)
  told = []
  records, drawn = precision.table(2, lambda *each: told.append(each), Ledger())
  assert len(told) == precision.count(2) == 8
  assert drawn == {}
  by = {(r.row, r.method): (r.mean, r.std) for r in records}
  assert {row for row, _ in by} == {"one", "two", "mean"}
  assert by["two", "float32"] == (100.0, 0.0)
  assert by["two", "bf16"] == (50.0, 50.0)
  assert by["two", precision.DIFFERENCE] == (-50.0, 50.0)
  assert by["mean", "bf16"] == (75.0, 25.0)
  assert by["mean", precision.DIFFERENCE] == (-25.0, 25.0)
  assert by["one", precision.DIFFERENCE] == (0.0, 0.0)


def test_a_training_is_that_of_the_estimator(rng, monkeypatch):
  """In float32 the scores are those of ``DROCC()`` with these keys, and in bfloat16 close."""
  keys = precision.recipe.keys(3)
  monkeypatch.setattr(precision.recipe, "keys", lambda seed: keys)
  monkeypatch.setattr(precision.recipe, "TRAIN_STEPS", 20)
  x, x_test = rng.normal(size=(40, 3)), rng.normal(size=(9, 3))
  model = DROCC(calibration_size=0.0, random_state=3)
  model.fit(x)
  full = precision.scores(x, x_test, 3, "float32")
  np.testing.assert_allclose(full, -model.score_samples(x_test), rtol=1e-5, atol=1e-5)
  half = precision.scores(x, x_test, 3, "bf16")
  assert 0.0 < np.abs(half - full).max() < 0.2
