"""The table of feature maps: its rows, its cells, and that they are what the estimators give."""

from absl import flags
import numpy as np
import pytest

from benchmarks import features, images
from benchmarks.ledger import Ledger
from detector_jax import features as maps
from detector_jax.combination import combine
from drocc_jax import DROCC


def test_rows_are_sets_and_classes():
  found = features.rows(["mnist", "cifar10"], ("airplane", "truck"))
  assert found[:2] == ["mnist, 0", "mnist, 1"]
  assert found[10:] == ["cifar10, airplane", "cifar10, truck"]
  with pytest.raises(ValueError, match="'svhn' is none of cifar10, fashion_mnist, mnist"):
    features.rows(["svhn"], ())


def test_rows_of_few_images_say_how_many():
  found = features.rows(["mnist", "cifar10"], ("deer",), ("3", "5"), ("20", "50"))
  assert found[:3] == ["20 of mnist, 3", "20 of mnist, 5", "20 of cifar10, deer"]
  assert len(found) == 6
  with pytest.raises(ValueError, match="'1' is no number of images from 2 on"):
    features.rows(["mnist"], (), ("3",), ("1",))


def test_a_cell_of_few_images_has_features_pixels_and_neighbours(monkeypatch, rng):
  flags.FLAGS.mark_as_parsed()
  asked, seen = [], []
  x = rng.uniform(size=(7, 8, 8, 1)).astype(np.float32)
  parts = x, np.r_[x[:4], 1.0 - x[:4]], np.repeat([0, 1], 4)
  monkeypatch.setattr(images, "one_class", lambda *args: asked.append(args) or parts)

  class Model:
    def __init__(self, **settings):
      seen.append(settings)
      self.detector_ = self

    def fit(self, x):
      return self

    def score(self, x):
      return np.arange(len(x)) * (-1.0 if seen[-1]["features"] is None else 1.0)

  monkeypatch.setattr(features, "DROCC", Model)
  cell = features.measured("7 of mnist, 3", 2, images.FULL)
  ((name, number, seed, size),) = asked
  assert (name, number, seed, size.train, size.test) == ("mnist", 3, 2, 7, features.FEW_TESTED)
  assert [each["features"] for each in seen] == [maps.Patches(), None]
  assert all(each["calibration_size"] == 0.0 for each in seen)
  assert {method: each["auroc"] for method, each in cell.items()} == {
    "patches": 1.0,
    "pixels": 0.0,
    "pixels, 5 neighbours": 1.0,
  }
  assert all(each["cpu_seconds"] >= 0.0 for each in cell.values())


def test_published_figures_are_those_of_drocc_on_cifar10():
  assert features.published("cifar10, truck", "DROCC", "auroc") == 76.21
  assert features.published("cifar10, mean", "DROCC", "auroc") == 74.23
  assert features.published("cifar10, truck", "rotations", "auroc") is None
  assert features.published("mnist, 3", "DROCC", "auroc") is None


def test_distances_by_hand():
  z = np.array([[0.0], [1.0], [10.0]])
  np.testing.assert_allclose(features.distances(z, np.array([[0.0], [9.0]])), [0.5, 4.5])


@pytest.mark.long
def test_a_cell_holds_what_the_estimators_give(monkeypatch, rng):
  flags.FLAGS.mark_as_parsed()
  x = rng.uniform(size=(120, 16, 16, 1)).astype(np.float32)
  x_test = np.r_[x[:20] + 0.1 * rng.normal(size=(20, 16, 16, 1)), rng.uniform(size=(20, 16, 16, 1))]
  x_test = np.r_[x_test[:20], np.round(x_test[20:])].astype(np.float32)
  labels = np.repeat([0, 1], 20)
  monkeypatch.setattr(images, "one_class", lambda *args: (x, x_test, labels))
  small = maps.Patches(centroids=8, window=4, components=8, patches=500)
  monkeypatch.setattr(maps, "Patches", lambda: small)
  turns = maps.Rotations(epochs=1, channels=(4, 4), layers=((5, 2), (3, 2)), hidden=8)
  monkeypatch.setattr(maps, "Rotations", lambda: turns)
  seen = {}
  monkeypatch.setattr(
    features.metrics, "auroc", lambda labels, scores: seen.setdefault(len(seen), scores)[0]
  )
  cell = features.measured("mnist, 3", 0, images.FULL)
  assert list(cell) == [
    "patches, 2 neighbours",
    "DROCC",
    "DROCC, untrained",
    "rotations",
    "DROCC + rotations",
    "patches",
  ]
  assert all(each["cpu_seconds"] >= 0.0 for each in cell.values())
  train, held_out = features.calibration_rows(x, features.HELD_OUT, 0)
  fitted = small.fit(x[train], 0)
  whole = DROCC(features=fitted, calibration_size=0.0, random_state=0).fit(x[train]).detector_
  np.testing.assert_allclose(seen[1], whole.score(x_test), rtol=1e-3, atol=1e-3)
  assert np.corrcoef(seen[1], seen[2])[0, 1] > 0.5
  rotated = turns.fit(x[train], 0).detector(x.shape[1:])
  both = combine((whole, rotated), x[held_out])
  np.testing.assert_allclose(seen[4], both.score(x_test), rtol=1e-2, atol=1e-2)


def test_a_ledger_keeps_cells_and_the_table_reads_them(tmp_path):
  ledger = Ledger(tmp_path / "features.partial.jsonl", ["features", "cpu"])
  cell = {"DROCC": {"auroc": 0.75, "cpu_seconds": 12.0}, "patches": {"cpu_seconds": 3.0}}
  names = [f"mnist, {i}" for i in range(10)]
  for name in names:
    ledger.cell((name, 0), lambda: cell)
  records, figures = features.table(1, lambda *args: None, ledger, names=names)
  mean = {(r.method, r.metric): r.mean for r in records if r.row == "mnist, mean"}
  assert mean == {
    ("DROCC", "auroc"): 75.0,
    ("DROCC", "cpu_seconds"): 12.0,
    ("patches", "cpu_seconds"): 3.0,
  }
  assert list(figures) == ["features"]


def test_a_method_that_some_rows_lack_is_listed_and_not_drawn(tmp_path):
  ledger = Ledger(tmp_path / "features.partial.jsonl", ["features", "cpu"])
  names = ["mnist, 0", "mnist, 1"]
  for name, method in zip(names, ("rotations", "DROCC"), strict=True):
    cell = {"DROCC": {"auroc": 0.75}, method: {"auroc": 0.5}}
    ledger.cell((name, 0), lambda cell=cell: cell)
  records, figures = features.table(1, lambda *args: None, ledger, names=names)
  assert [r.method for r in records] == ["DROCC", "rotations", "DROCC"]
  (legend,) = [axes.get_legend() for axes in figures["features"].axes]
  drawn = [] if legend is None else [text.get_text() for text in legend.get_texts()]
  assert "rotations" not in drawn
