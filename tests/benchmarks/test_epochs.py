"""AUROC along a training: the last point is the finished one, and the figure is of the records."""

import numpy as np
import pytest

from benchmarks import adbench, epochs
from benchmarks.ledger import Ledger
from drocc_jax import networks, recipe
from drocc_jax.settings import Training


def test_the_last_point_is_what_a_whole_training_gives(one_set):
  found = epochs.curve("one", 0, {})
  assert len(found) == epochs.POINTS
  x, x_test, labels = adbench.parts_of(*epochs.real.load("adbench/one"), 0)
  prepared = recipe.build_training(x, epochs.drocc.Config.automatic(), Training())
  init_key, train_key = recipe.keys(0)
  state, _ = prepared.program.train_epochs(
    prepared.init(init_key), prepared.data, train_key, 0, prepared.epochs
  )
  z = prepared.preprocessing.transform(x_test)
  want = epochs.metrics.auroc(labels, recipe.NegativeLogit(prepared.network)(state.average, z))
  assert list(found.items())[-1] == ("100.0", pytest.approx(want))


def test_table_has_a_line_for_each_setting_and_seed(one_set, monkeypatch):
  small = {"network": networks.MLP((4,)), "trim": 0.0}
  monkeypatch.setattr(epochs, "SETS", ("one",))
  monkeypatch.setattr(epochs, "SETTINGS", {"a": small, "b": {**small, "mu": 2.0}})
  records, drawn = epochs.table(2, lambda *_: None, Ledger())
  assert epochs.count(2) == 4
  assert {(r.method, r.row.split(", ")[1]) for r in records} == {
    (method, seed) for method in "ab" for seed in ("seed 0", "seed 1")
  }
  (axes,) = drawn["adbench-epochs"].axes
  assert [len(line.get_xdata()) for line in axes.get_lines()] == [epochs.POINTS] * 4
  first = [r.mean for r in records if r.method == "a" and ", seed 0," in r.row]
  np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), first)
