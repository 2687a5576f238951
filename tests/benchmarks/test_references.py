"""Every baseline against a published figure: rows, inputs, means, and that real data is reached."""

import dataclasses

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest

from benchmarks import images, references, transformations
from benchmarks.baselines import dagmm, dcn, goad, rebm
from benchmarks.ledger import Ledger
from detector_jax import HealthError
from launch import data
from launch.data import Splits
from tests.helpers import quiet


def test_rows_are_those_that_are_asked_for():
  got = references.rows(("geom", "tables", "mnist"), ("3", "8"), ("deer",))
  assert got == ["tables, thyroid", "tables, arrhythmia", "mnist, 3", "mnist, 8", "geom, airplane"]
  assert references.rows(("cifar10",), (), ("deer", "cat")) == ["cifar10, deer", "cifar10, cat"]
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(references=["mnist"], reference_digits=["1"]):
    assert references.count(5) == 5
  with pytest.raises(ValueError, match="--references: 'mnst' is none of tables"):
    references.rows(("mnst",), (), ())
  with pytest.raises(ValueError, match="--reference_digits: '10' is no digit"):
    references.rows(("mnist",), ("10",), ())


def test_published_figures_are_of_their_row():
  assert references.published("tables, thyroid", "GOAD") == 74.5
  assert references.published("tables, arrhythmia", "DAGMM") == 49.83
  assert references.published("mnist, 1", "OC-SVM") == 99.5
  assert references.published("mnist, mean", "Deep SVDD") == 93.83
  assert references.published("cifar10, mean", "Deep SVDD") == 61.70
  assert references.published("cifar10, deer", "Deep SVDD") == 60.9
  assert references.published("geom, airplane", "GEOM") == 74.7
  assert all(len(each) == 10 for each in references.PAPER_MNIST.values())
  # The paper's own mean of its OC-SVM's column.
  assert np.mean(references.PAPER_MNIST["OC-SVM"]) == pytest.approx(91.3, abs=0.05)


def test_images_are_contrast_normalised_by_hand():
  x = np.array([[0.0, 1.0, 0.5, 0.5], [0.2, 0.2, 0.6, 0.6]]).reshape(2, 2, 2, 1)
  test = np.array([0.0, 0.0, 0.0, 1.0]).reshape(1, 2, 2, 1)
  z, z_test = references.contrast_normalised(x, test)
  # Less the mean, over the mean absolute value: (-2, 2, 0, 0) and (-1, -1, 1, 1), then [0, 1].
  np.testing.assert_allclose(z.ravel(), [0.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.75, 0.75])
  # (-0.25, -0.25, -0.25, 0.75) / 0.375
  np.testing.assert_allclose(z_test.ravel(), [1 / 3, 1 / 3, 1 / 3, 1.0])
  brighter = references.contrast_normalised(3.0 * x + 2.0, 3.0 * test + 2.0)
  np.testing.assert_allclose(brighter[0], z, atol=1e-12)
  np.testing.assert_allclose(brighter[1], z_test, atol=1e-12)
  flat, _ = references.contrast_normalised(np.concatenate([x, np.ones((1, 2, 2, 1))]), test)
  assert np.isfinite(flat).all()


@pytest.fixture
def recorded(monkeypatch):
  """What baselines of tables are asked for; a record's score is its first value."""
  asked = {}

  class Model:
    def __init__(self, name, settings):
      asked[name] = settings

    def fit(self, x):
      assert abs(float(np.mean(x))) < 1e-5
      return self

    def score(self, x):
      return x[:, 0]

  for module, name in ((goad, "GOAD"), (dagmm, "DAGMM"), (dcn, "DCN"), (rebm, "REBM")):
    monkeypatch.setattr(module, "make", lambda seed, shape, name=name, **s: Model(name, s))
  return asked


def test_tables_have_their_protocol_and_settings(recorded, monkeypatch):
  configs = []

  def loaded(config):
    configs.append(config)
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
    labels = np.repeat([0, 1], [20, 10])
    test[labels == 1, 0] += np.where(np.arange(10) < 7, 100.0, -100.0)
    return Splits(train, test, labels)

  monkeypatch.setattr(data.Source, "load", loaded)
  cell = references.tables("tables, thyroid", 4, images.FULL)
  assert (configs[0].name, configs[0].split, configs[0].seed) == ("thyroid", "half", 4)
  # Ten are flagged, as many as there are; seven of them are anomalous.
  assert cell["GOAD"]["last"] == pytest.approx(0.7)
  assert recorded["GOAD"] == references.GOADS
  assert recorded["DAGMM"] == references.DAGMMS["thyroid"]
  references.tables("tables, arrhythmia", 0, images.CPU)
  assert recorded["DAGMM"]["epochs"] == 10_000


def test_a_collapsed_deep_svdd_counts_as_one_that_guesses(monkeypatch):
  class Collapsed:
    def fit(self, x):
      raise HealthError("collapsed")

  x = np.random.default_rng(0).normal(size=(20, 8, 8, 3))
  monkeypatch.setattr(images, "one_class", lambda *_: (x, x[:4], np.array([0, 1, 0, 1])))
  monkeypatch.setattr(references.deep_svdd, "make", lambda *_, **__: Collapsed())
  assert references.one_class("cifar10, bird", 0, images.CPU) == {"Deep SVDD": {"last": 0.5}}


def test_a_mean_is_of_ten_classes_and_of_each_seed(monkeypatch):
  def cell(row, seed, size):
    return {"Deep SVDD": {"last": 0.5 + 0.01 * int(row.split(", ")[1]) + 0.2 * seed}}

  monkeypatch.setattr(references, "one_class", cell)
  rows = [f"mnist, {digit}" for digit in range(10)]
  records, drawn = references.table(2, quiet, Ledger(), size=images.CPU, names=rows)
  assert drawn == {}
  by = {record.row: record for record in records}
  assert (by["mnist, 3"].mean, by["mnist, 3"].paper) == (63.0, 91.9)
  assert (by["mnist, mean"].mean, by["mnist, mean"].std) == (64.5, 10.0)
  assert by["mnist, mean"].paper == 93.83
  fewer, _ = references.table(1, quiet, Ledger(), size=images.CPU, names=rows[:9])
  assert "mnist, mean" not in {record.row for record in fewer}


def test_geom_is_measured_as_in_its_own_table(monkeypatch):
  asked = []

  def one_class(name, typical, seed, size):
    asked.append((name, typical, seed, size))
    return np.zeros((3, 8, 8, 3)), np.zeros((4, 8, 8, 3)), np.array([0, 0, 1, 1])

  monkeypatch.setattr(images, "one_class", one_class)
  monkeypatch.setattr(transformations, "geom_scores", lambda *_: np.array([0, 2, 1, 3]))
  assert references.geom("geom, airplane", 1, images.CPU) == {"GEOM": {"last": 0.75}}
  references.geom("geom, airplane", 1, images.FULL)
  assert asked == [("cifar10", 0, 1, transformations.CPU), ("cifar10", 0, 1, images.FULL)]


@pytest.mark.long
@pytest.mark.data
@pytest.mark.usefixtures("data_dir")
def test_deep_svdd_and_the_svm_tell_ones_from_other_digits():
  size = dataclasses.replace(images.CPU, train=200, test=300)
  cell = references.one_class("mnist, 1", 0, size)
  assert cell["OC-SVM"]["last"] > 0.93
  assert cell["Deep SVDD"]["last"] > 0.9
