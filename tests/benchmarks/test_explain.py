"""The table of explanations: what counts as found, deletion by hand, Shapley values of a sum."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import explain
from benchmarks.ledger import Ledger
from detector_jax import Detector
from detector_jax.preprocessing import Identity

WEIGHT = np.array([1.0, 4.0, 2.0, 0.5])


@dataclasses.dataclass(frozen=True)
class Weighted:
  """A weighted sum."""

  def __call__(self, variables, x):
    return x @ variables


@pytest.fixture(scope="module")
def detector() -> Detector:
  return Detector.create(
    Weighted(), jnp.asarray(WEIGHT, jnp.float32), Identity(), (4,), threshold=2.6
  )


def test_found_means_all_of_the_planted_columns():
  order = np.array([[2, 0, 1, 3], [2, 0, 1, 3], [3, 2, 1, 0]])
  planted = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]], bool)
  got = explain.planted_first(order, planted)
  assert got["planted first"].tolist() == [True, False, False]
  assert got["planted in first 3"].tolist() == [True, True, False]


def test_deletion_by_hand(detector):
  got = explain.deletion(detector, np.ones((1, 4)), np.array([[1, 2, 0, 3]]), np.zeros(4))
  # 7.5 at first; 3.5, 1.5, 0.5 and 0 are left.
  assert got == {"area": pytest.approx(100 * 5.5 / (4 * 7.5)), "columns": 2.0}
  worse = explain.deletion(detector, np.ones((1, 4)), np.array([[3, 0, 2, 1]]), np.zeros(4))
  assert worse["area"] > got["area"]
  assert worse["columns"] == 4.0


@pytest.mark.parametrize("rank", [explain.occlusion, explain.kernel_shap])
def test_columns_of_a_sum_are_ranked_by_their_terms(detector, rank):
  x = np.array([[1.0, 1.0, 3.0, 1.0], [5.0, 1.0, 1.0, -1.0]])
  assert rank(detector, x, np.zeros(4)).tolist() == [[2, 1, 0, 3], [0, 1, 2, 3]]


def test_the_table_has_every_kind_and_width(monkeypatch):
  real = explain.detector_of
  monkeypatch.setattr(explain, "WIDTHS", (4,))
  monkeypatch.setattr(explain, "CASES", 30)
  monkeypatch.setattr(explain, "KINDS", {"gaussian": None})
  monkeypatch.setattr(explain, "detector_of", lambda kind, *more: real(explain.EXACT, *more))
  monkeypatch.setattr(explain, "SETS", ("one",))
  cell = {explain.OURS: {"area": 10.0, "columns": 1.0}}
  monkeypatch.setattr(explain, "_deletion_cell", lambda name, seed: cell)
  notes = []
  records, figures = explain.table(1, lambda n, note: notes.append(note), Ledger())
  assert len(notes) == explain.count(1)
  found = {(r.row, r.method, r.metric): r.mean for r in records}
  assert found["all cases", explain.OURS, "planted first"] > 80.0
  assert found["mean of the sets", explain.OURS, "area"] == 10.0
  assert set(figures) == {"explain-planted", "explain-deletion"}
