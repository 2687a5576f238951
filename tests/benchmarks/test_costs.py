"""Costs: what is counted and timed, medians, and the methods of each kind of record."""

import time

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest

from benchmarks import costs, images
from benchmarks.baselines import BASELINES, dcn, deep_svdd, encoders
from benchmarks.ledger import Ledger
from drocc_jax import networks
from launch import data
from launch.data import Splits
from tests.helpers import quiet


class Slow:
  """Takes 0.05 s to train and 0.01 s to score."""

  parameters = 7

  def __init__(self):
    self.calls = 0

  def fit(self, x):
    time.sleep(0.05)
    return self

  def score(self, x):
    self.calls += 1
    time.sleep(0.2 if self.calls == 1 else 0.01)
    return -x[:, 0]


def test_the_first_call_is_left_out_of_the_rate():
  x = np.arange(20.0).reshape(20, 1)
  got = costs.measured(Slow(), x, x, np.repeat([0, 1], 10))
  assert set(got) == set(costs.METRICS)
  assert got["auroc"] == 0.0
  assert 0.05 <= got["train_seconds"] < 0.2
  assert 20 / 0.05 < got["rows_per_second"] <= 20 / 0.01
  assert got["parameters"] == 7


@pytest.fixture(scope="module")
def records():
  return np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def test_what_is_counted_as_a_parameter(records):
  fitted = {name: make(0).fit(records) for name, make in BASELINES.items()}
  assert fitted["nearest neighbour"].parameters == fitted["LOF"].parameters == 30 * 4
  vectors = len(fitted["OC-SVM"]._estimator.support_vectors_)
  assert 0 < vectors < 30
  assert fitted["OC-SVM"].parameters == vectors * 5 + 1
  trees = fitted["isolation forest"]._estimator.estimators_
  assert fitted["isolation forest"].parameters == 2 * sum(tree.tree_.node_count for tree in trees)
  network = networks.MLP((6, 3))
  svdd = deep_svdd.make(0, (4,), network=network, epochs=1, pretrain_epochs=1).fit(records)
  assert svdd.parameters == 4 * 6 + 6 * 3
  clusters = dcn.make(0, (4,), network=network, epochs=1, pretrain_epochs=1).fit(records)
  assert clusters.parameters == 4 * 6 + 6 * 3 + 2 * 3


def test_ours_trains_on_all_rows_and_counts_its_network(records):
  ours = costs.Ours(0, network=networks.MLP((16,)), epochs=300).fit(records)
  assert ours.parameters == 4 * 16 + 16 + 16 + 1
  assert ours.score(records[:3]).shape == (3,)
  assert len(costs.Flat(BASELINES["LOF"](0)).fit(records.reshape(30, 2, 2)).score(records)) == 30


def test_every_method_is_there():
  of_tables = costs.methods((6,), images.CPU)
  assert {"DROCC", "GOAD", "DAGMM", "DCN", "REBM", "Deep SVDD", "autoencoder"} < set(of_tables)
  of_images = costs.methods((28, 28, 1), images.CPU)
  assert {"DROCC", "AnoGAN", "GEOM", "Deep SVDD", "autoencoder"} < set(of_images)
  assert set(BASELINES) < set(of_tables) & set(of_images)
  assert of_images["GEOM"](0)._network.body == encoders.LeNetEncoder((8, 4), (64,))
  full = costs.methods((28, 28, 1), images.FULL)
  assert full["AnoGAN"](0)._settings.steps == 500
  assert of_images["AnoGAN"](0)._settings.steps == costs.generative.CHEAP["steps"]


def test_medians_and_the_figure(monkeypatch):
  seconds = {0: 9.0, 1: 1.0, 2: 2.0}

  def cell(row, seed, size):
    by = {
      "auroc": 90.0 + seed,
      "train_seconds": seconds[seed],
      "rows_per_second": 5.0,
      "first_train_seconds": seconds[seed],
      "parameters": 3.0,
    }
    return {"DROCC": by, "other": by}

  monkeypatch.setattr(costs, "cell", cell)
  found, drawn = costs.table(3, quiet, Ledger(), images.CPU, ["thyroid", "mnist 3"])
  by = {(r.row, r.method, r.metric): r for r in found}
  assert by["mnist 3", "DROCC", "train_seconds"].mean == 2.0
  assert by["mnist 3", "DROCC", "first_train_seconds"].mean == 9.0
  assert by["thyroid", "other", "auroc"].mean == 91.0
  assert by["thyroid", "other", "auroc"].paper is None
  panels = drawn["costs"].axes
  assert [axes.get_title() for axes in panels] == ["thyroid", "mnist 3"]
  assert {axes.get_xscale() for axes in panels} == {"log"}
  assert [text.get_text() for text in panels[0].texts] == ["DROCC", "other"]
  assert panels[0].lines[0].get_xydata().tolist() == [[2.0, 91.0]]


def test_a_cell_has_every_method_on_the_same_standardised_records(monkeypatch):
  configs, shapes = [], []

  def loaded(config):
    configs.append(config)
    rng = np.random.default_rng(0)
    return Splits(rng.normal(5.0, 2.0, (40, 3)), rng.normal(size=(20, 3)), np.arange(20) % 2)

  class Model(Slow):
    def fit(self, x):
      np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-5)
      return self

  def methods(shape, size):
    shapes.append(shape)
    return {"one": lambda seed: Model(), "two": lambda seed: Model()}

  monkeypatch.setattr(data.Source, "load", loaded)
  monkeypatch.setattr(costs, "methods", methods)
  got = costs.cell("arrhythmia", 3, images.CPU)
  assert set(got) == {"one", "two"}
  assert (configs[0].name, configs[0].split, configs[0].seed) == ("arrhythmia", "half", 3)
  assert shapes == [(3,)]


def test_rows_are_those_of_the_flag():
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(costs=["thyroid", "mnist 1", "mnist 8"]):
    assert costs.count(2) == 6
