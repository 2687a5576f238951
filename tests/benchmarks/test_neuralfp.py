"""The NeuralFP tables, on a small model of scikit-learn's digits."""

from absl import flags
import numpy as np
import pytest

from benchmarks import neuralfp
from detector_jax import metrics
from fingerprint_jax.classifiers import Config as TrainingConfig
from fingerprint_jax.train import Config as FingerprintConfig
from launch.data import ShiftedDigits
from launch.methods.neuralfp import ClassifierConfig, Config

pytestmark = pytest.mark.long

NAME = "digits_shifted"
SOURCES = ("rotated", "noise")


def config() -> Config:
  return Config(
    data=ShiftedDigits(),
    classifier=ClassifierConfig(
      training=TrainingConfig(epochs=4, batch_size=64, learning_rate=5e-3)
    ),
    fingerprint=FingerprintConfig(epochs=4, batch_size=128),
    combine="one_out",
    held_out=0.4,
    fpr=0.05,
    checkpoints=1,
  )


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
  """The module with one small model in the place of the paper's two."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(neuralfp, "CONFIGS", {NAME: config})
    patch.setattr(neuralfp, "TYPICAL", {NAME: "digits"})
    patch.setattr(neuralfp, "SETS", {NAME: SOURCES})
    patch.setattr(neuralfp, "NAMES", {NAME: "Digits", **{name: name for name in SOURCES}})
    patch.setattr(neuralfp, "PAPER", {NAME: (0.7, 0.9)})
    patch.setattr(neuralfp, "PAPER_LAYERS", {NAME: ((0.5, 0.6),) * 5})
    patch.setattr(neuralfp, "PAPER_PEERS", {})
    patch.setattr(neuralfp, "EPSILONS", (0.0, 0.01))
    patch.setattr(neuralfp, "UNSEEN", {})
    patch.setattr(neuralfp, "SHIFT_RECORDS", 60)
    if not flags.FLAGS.is_parsed():
      flags.FLAGS(["test"])
    patch.setattr(flags.FLAGS, "models", str(tmp_path_factory.mktemp("runs")))
    yield neuralfp


def by_key(records):
  return {(r.row, r.method, r.metric): r for r in records}


def advance(steps, note):
  assert steps == 1
  assert "seed 0" in note


def test_published_numbers_are_complete():
  for name, layers in (("mnist", 7), ("fashion_mnist", 11)):
    assert len(neuralfp.PAPER_LAYERS[name]) == layers
    assert all(len(row) == 3 for row in neuralfp.PAPER_LAYERS[name])
    assert len(neuralfp.PAPER[name]) == len(neuralfp.SETS[name]) == 3
    for method in ("ODIN", "Mahalanobis"):
      assert np.shape(neuralfp.PAPER_PEERS[method, name]) == (len(neuralfp.EPSILONS), 3)


def test_main_table_is_the_detectors_own_numbers(tables):
  records, drawn = tables.table(1, advance)
  assert set(drawn) == {"neuralfp_roc"}
  cells = by_key(records)
  cell = cells["Digits model, noise", "NeuralFP, one-out", "auroc"]
  assert cell.paper == 90.0
  model = tables.model(NAME, 0)
  scores = model.detector.score(model.x_test)
  labels = np.r_[np.zeros(599), np.ones(599)]
  both = np.r_[scores[model.sources == "digits"], scores[model.sources == "noise"]]
  assert cell.mean == pytest.approx(100 * metrics.auroc(labels, both), abs=0.01)
  flagged = np.mean(scores[model.sources == "digits"] > np.float32(model.detector.threshold))
  realised = cells["Digits model", "NeuralFP", "realised_fpr_at_stated_1%"]
  assert realised.mean == pytest.approx(100 * flagged, abs=0.01)


def test_two_sided_rule_in_the_layers_table_is_the_detectors_score(tables):
  whole = by_key(tables.table(1, advance)[0])
  records, drawn = tables.table_layers(1, advance)
  assert set(drawn) == {f"neuralfp_errors_{NAME}"}
  cells = by_key(records)
  assert len(records) == len(SOURCES) * 2 * 6
  for source in SOURCES:
    row = f"Digits model, {source}"
    one_out = cells[row, "one-out, two-sided", "auroc"]
    assert one_out.mean == pytest.approx(whole[row, "NeuralFP, one-out", "auroc"].mean, abs=0.01)
    assert cells[row, "layer_1, one-sided", "auroc"].paper == (
      50.0 if source == "rotated" else 60.0
    )


def test_peers_and_shifts_have_every_method_in_every_row(tables):
  for measure, methods in ((tables.table_steps, 7), (tables.table_shifts, 5)):
    cells = by_key(measure(1, advance)[0])
    rows = {row for row, _, _ in cells}
    assert len(rows) == (len(SOURCES) if methods == 7 else 15 + 6)
    assert len(cells) == len(rows) * methods * 2
  noisiest = cells["Digits model, gaussian noise 3", "NeuralFP, one-out", "auroc"].mean
  faintest = cells["Digits model, gaussian noise 1", "NeuralFP, one-out", "auroc"].mean
  assert noisiest > max(faintest, 80.0)
