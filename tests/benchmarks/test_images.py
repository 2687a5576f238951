"""The image tables: what each scale trains on, and cells put together by hand."""

import dataclasses

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest

from benchmarks import images, series, transformations
from benchmarks.ledger import Ledger
from configs import drocc_cifar10, drocc_epilepsy
from drocc_jax import networks, recipe, registry
from launch import data
from launch.data.splits import Splits
from tests.helpers import quiet

SHAPE = (8, 8, 3)
TINY = images.Scale(40, 30, 2, 16, ascent=2, average_decay=0.5, points=2)


def pictures(config):
  """Class ``typical`` is bright at the left, the others at the right."""
  rng = np.random.default_rng(config.typical)
  train, test = (rng.normal(size=(n, *SHAPE)).astype(np.float32) for n in (60, 80))
  labels = np.arange(80) % 2
  train[:, :, :4] += 3.0
  test[labels == 0, :, :4] += 3.0
  test[labels == 1, :, 4:] += 3.0
  return Splits(train, test, labels)


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """Every network is a small MLP, which compiles in a moment."""
  network = networks.MLP((8,))
  monkeypatch.setattr(recipe, "default_network", lambda shape: network)
  for name in ("cifar_lenet", "lstm"):
    monkeypatch.setitem(registry.NETWORKS, name, lambda: network)


@pytest.fixture
def made(monkeypatch):
  monkeypatch.setattr(data.Source, "load", pictures)


def test_table_has_every_method_column_and_published_number(made):
  records, drawn = images.table1(1, quiet, Ledger(), size=TINY, names=("deer",))
  by = {(r.row, r.method, r.column): r for r in records}
  assert {r.row for r in records} == {"deer"}
  for method in images.OURS:
    for column in ("last", "selected", "oracle"):
      assert 0.0 <= by["deer", method, column].mean <= 100.0
    assert by["deer", method, "oracle"].mean >= by["deer", method, "last"].mean
  assert by["deer", "nearest neighbour", "last"].mean > 95.0
  assert by["deer", "DROCC-Rand", "last"].paper == 56.09
  assert by["deer", "DROCC, released settings", "last"].paper == 73.62
  assert by["deer", "LOF", "last"].paper is None
  assert set(drawn) == {"table1"}


def test_all_methods_and_those_that_are_not_run_are_in_the_table(made, monkeypatch):
  asked = []

  def modelled(config, x, x_tests, cheap):
    asked.append((len(x), len(x_tests[0]), cheap))
    return {"AnoGAN": [x_tests[0][:, :, 4:].mean(axis=(1, 2, 3))]}

  def trained(config, x, x_test, points):
    return images.protocol.Trajectory(
      np.ones(1), np.zeros(1), x_test.mean(axis=(1, 2, 3))[None], len
    )

  monkeypatch.setattr(images.protocol, "train", trained)
  monkeypatch.setattr(images.protocol, "all_methods", lambda: True)
  monkeypatch.setattr(images.protocol, "deep_baseline_scores", lambda *_: {})
  monkeypatch.setattr(images.generative, "scores", modelled)
  records, _ = images.table1(1, quiet, Ledger(), size=TINY, names=("deer",))
  assert asked == [(40, 30, True)]
  by = {(r.method, r.column): r for r in records}
  assert (by["AnoGAN", "last"].mean, by["AnoGAN", "last"].paper) == (100.0, 65.1)
  ((method, record),) = ((m, r) for (m, column), r in by.items() if column == "published")
  assert method.startswith("ConAD (not run: ")
  assert (record.row, record.mean, record.paper, record.seeds) == ("deer", 63.3, 63.3, 0)
  whole = images.not_run("1", [*images.CLASSES, images.MEAN])
  assert [(r.row, r.mean) for r in whole][-1] == (images.MEAN, 65.93)
  assert len(images.not_run("1", [*images.CLASSES[:9], images.MEAN])) == 9


def test_classes_are_those_of_the_flag():
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(classes=["truck", "deer"]):
    assert images.chosen_classes() == ("truck", "deer")
  with (
    flagsaver.flagsaver(classes=["deer", "plane"]),
    pytest.raises(ValueError, match="--classes: 'plane' is none of airplane"),
  ):
    images.chosen_classes()


def test_table4_trains_and_tests_each_class_twice(made, monkeypatch):
  asked = []

  def scores(x, x_test, seed, size):
    asked.append((len(x), len(x_test)))
    return x_test[:, :, 4:].mean(axis=(1, 2, 3))

  monkeypatch.setattr(transformations, "geom_scores", scores)
  records, _ = transformations.table4(1, quiet, Ledger(), size=TINY, names=("deer",))
  by = {(r.row, r.method, r.column): r for r in records}
  assert asked == [(40, 30)] * 2
  assert by["deer, flipped and turned", "GEOM", "last"].paper == 65.7
  assert by["deer, as they are", "DROCC", "last"].paper == 73.6
  assert by["deer, as they are", "GEOM", "last"].mean == 100.0
  mean = by["mean, flipped and turned", "GEOM", "last"]
  assert (mean.mean, mean.paper) == (100.0, None)


def test_rows_means_and_spread_by_hand():
  values = {("a", 0): 0.5, ("a", 1): 0.7, ("b", 0): 0.9, ("b", 1): 0.9}

  def cell(row, seed):
    return {"m": {"last": values[row, seed]}}

  records = images.classes("t", ["a", "b"], 2, cell, quiet, Ledger())
  got = {r.row: (r.mean, r.std, r.seeds) for r in records}
  assert got == {"a": (60.0, 10.0, 2), "b": (90.0, 0.0, 2), "mean": (75.0, 5.0, 2)}
  assert len(images.classes("t", ["a"], 2, cell, quiet, Ledger())) == 1

  def published(row, method):
    return 1.0

  paper = {
    r.row: r.paper for r in images.classes("t", ["a", "b"], 2, cell, quiet, Ledger(), published)
  }
  assert paper == {"a": 1.0, "b": 1.0, "mean": None}, "the paper's mean is of ten classes"


@pytest.mark.long
def test_mnist_has_a_network_of_convolutions_and_one_on_pixels(made, monkeypatch):
  monkeypatch.setattr(recipe, "TRAIN_STEPS", 60)
  monkeypatch.setattr(images, "one_class", digits_of(images.one_class))
  records, _ = images.table_mnist(1, quiet, Ledger(), size=TINY)
  by = {(r.row, r.method, r.column): r for r in records}
  assert {r.row for r in records} == {*map(str, range(10)), "mean"}
  assert by["3", "DROCC, MLP", "last"].paper is None
  assert by["3", "DROCC", "last"].paper == 97.0
  assert by["mean", "nearest neighbour", "last"].mean > 95.0
  assert by["mean", "DROCC, MLP", "oracle"].mean > 60.0


def digits_of(one_class):
  """The same tiny set for every digit, so that each program compiles once."""
  return lambda name, typical, seed, size: one_class(name, 4, seed, size)


def test_a_scale_draws_its_records_by_the_seed(made):
  x, x_test, labels = images.one_class("cifar10", 4, 0, TINY)
  assert (len(x), len(x_test), len(labels)) == (40, 30, 30)
  whole, whole_test, _ = images.one_class("cifar10", 4, 0, images.FULL)
  assert (len(whole), len(whole_test)) == (60, 80)
  other, _, _ = images.one_class("cifar10", 4, 1, TINY)
  assert not np.array_equal(x, other)
  found = {each.tobytes() for each in whole}
  assert all(each.tobytes() in found for each in x)


def test_our_settings_are_the_paper_s_advice_and_rand_takes_no_step():
  x = np.zeros((2, 32, 32, 3))
  config = images.ours(x, 0, images.FULL)
  assert config.drocc.radius == pytest.approx(np.sqrt(3072) / 2)
  assert (config.drocc.gamma, config.epochs, config.batch_size) == (1.0, 40, 256)
  assert images.ours(x, 0, images.FULL, num_steps=0).drocc.num_steps == 0


@pytest.mark.parametrize("name", images.CLASSES)
def test_released_settings_are_the_same_at_both_scales(name):
  full, short = (images.released(name, 3, size) for size in (images.FULL, images.CPU))
  assert (full.epochs, full.batch_size, short.epochs, short.batch_size) == (100, 256, 10, 128)
  assert full.drocc == short.drocc
  drocc = full.drocc
  assert (drocc.radius, drocc.mu, drocc.optimizer) == drocc_cifar10.SETTINGS[name][:3]
  assert (drocc.batch_statistics, drocc.momentum, drocc.num_steps) == ("released", 0.0, 0)
  assert drocc_cifar10.get_config(name).data.typical == images.CLASSES.index(name)


def test_means_of_the_paper_are_those_of_its_table():
  assert np.mean(images.PAPER["DROCC"]) == pytest.approx(74.23, abs=0.01)
  assert {len(values) for values in images.PAPER.values()} == {10}


@pytest.mark.parametrize("name", ["cat "])
def test_config_refuses_another_class(name):
  with pytest.raises(ValueError, match="After the colon goes one of airplane"):
    drocc_cifar10.get_config(name)
  with pytest.raises(ValueError, match="After the colon goes one of released, recording"):
    drocc_epilepsy.get_config(name)


@pytest.mark.long
def test_series_are_epilepsy_or_a_word(monkeypatch):
  asked = []

  def waves(config):
    asked.append(config)
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(n, 6, 1)).astype(np.float32) for n in (50, 40))
    labels = np.arange(40) % 2
    test[labels == 1] *= 10.0
    return Splits(train, test, labels)

  monkeypatch.setattr(data.Source, "load", waves)
  size = dataclasses.replace(TINY, epochs=1)
  records, _ = series.table3(1, quiet, Ledger(), size=size, rows=("released",))
  assert asked == [data.Epilepsy(split="released")]
  series.loaded("marvin", 0)
  assert asked[1] == data.WakeWord(keyword="marvin", synthesised=False)
  found = {(r.row, r.method): r for r in records if r.column == "last"}
  assert found["released", "nearest neighbour"].paper == 91.75
  assert found["released", "LOF"].paper is None
  for method in ("nearest neighbour", "DROCC, default"):
    assert found["released", method].mean > 95.0


def test_on_pixels_has_the_settings_of_small_grey_images():
  config = images.on_pixels(np.zeros((3, 28, 28, 1)), 4)
  assert config.network.make() == recipe.network_of(config.drocc, (28, 28, 1))
  assert (config.drocc.mu, config.drocc.radius, config.seed) == (10.0, 14.0, 4)
