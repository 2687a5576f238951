"""Three ways to choose the epoch, and the tables that use them."""

import functools

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest

from benchmarks import protocol, synthetic, tabular
from configs import drocc_table2
from detector_jax import HealthError, metrics
from drocc_jax import networks
from drocc_jax.registry import NetworkConfig
from launch import data
from launch.methods.drocc import Config


def trajectory(scores, objective) -> protocol.Trajectory:
  return protocol.Trajectory(
    np.arange(len(scores)), np.array(objective), np.array(scores), lambda x: x
  )


def test_columns_are_last_lowest_objective_and_best():
  value = functools.partial(np.ndarray.item)
  columns = trajectory([[0.7], [0.9], [0.8], [0.6]], [3.0, 2.0, 1.0, 2.5]).columns(value)
  assert columns == {"last": 0.6, "selected": 0.8, "oracle": 0.9}


def test_selected_does_not_look_at_labels():
  """Flipping every label changes the metric, and not the epoch that is selected."""
  rng = np.random.default_rng(0)
  labels, scores = rng.integers(2, size=50), rng.normal(size=(6, 50))
  one = trajectory(scores, [3, 1, 2, 4, 5, 6]).columns(functools.partial(metrics.auroc, labels))
  two = trajectory(scores, [3, 1, 2, 4, 5, 6]).columns(functools.partial(metrics.auroc, 1 - labels))
  assert one["selected"] == pytest.approx(1.0 - two["selected"])
  assert one["selected"] == pytest.approx(metrics.auroc(labels, scores[1]))


@pytest.fixture(scope="module")
def trained():
  config = Config(data=data.BreastCancer(), epochs=8, calibration_size=0.1, seed=1)
  splits = config.data.load()
  x_test, labels = splits.labelled_test()
  return protocol.train(config, splits.x_train, x_test, points=4), x_test, labels


def test_training_is_scored_along_the_way(trained):
  result, x_test, _ = trained
  assert result.epochs.tolist() == [1, 3, 6, 8]
  assert result.scores.shape == (4, len(x_test))
  assert np.isfinite(result.objective).all()
  assert not np.array_equal(result.scores[0], result.scores[-1])


def test_score_function_is_of_the_last_epoch(trained):
  result, x_test, _ = trained
  np.testing.assert_allclose(result.score(x_test), result.scores[-1], rtol=1e-5, atol=1e-5)


def test_paper_columns_match_the_rows():
  for published, values in (
    (synthetic.PAPER_SPHERE, synthetic.RADII),
    (synthetic.PAPER_SINE, synthetic.DISPLACEMENTS),
  ):
    assert all(len(row) == len(values) for row in published.values())
  assert all(set(row) == set(tabular.SETS) for row in tabular.PAPER.values())


def test_released_settings_are_the_released_ones():
  for name in tabular.SETS:
    config = drocc_table2.get_config(name)
    assert config.data.name == name
    assert (config.drocc.num_steps, config.drocc.project_every) == (50, 10)
    assert config.drocc.schedule == "released"


def test_summary_is_in_percent():
  (record,) = protocol.summarise("2", "row", "DROCC", "auroc", {"last": [0.9, 0.8]}, 50.0)
  assert (record.mean, record.std, record.seeds, record.paper) == (85.0, 5.0, 2, 50.0)


def test_deep_baselines_have_our_network_epochs_and_inputs(monkeypatch):
  asked = []

  class Model:
    def __init__(self, seed, shape, **settings):
      asked.append((seed, shape, settings))

    def fit(self, x):
      np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-6)
      return self

    def score(self, x):
      return x[:, 0]

  monkeypatch.setattr(protocol, "DEEP", {"autoencoder": Model, "Deep SVDD": Model})
  monkeypatch.setattr(protocol, "FOR_TABLES", {"GOAD": Model})
  config = Config(network=NetworkConfig("mlp", (7,)), epochs=3, batch_size=5, seed=2)
  x = np.random.default_rng(0).normal(5.0, 2.0, size=(40, 3))
  got = protocol.deep_baseline_scores(config, x, [x[:9], x[:4]])
  assert [len(part) for part in got["Deep SVDD"]] == [9, 4]
  settings = {"network": networks.MLP((7,)), "epochs": 3, "batch_size": 5}
  assert asked == [
    (2, (3,), settings),
    (2, (3,), {**settings, "pretrain_epochs": 3}),
    (2, (3,), {}),
  ]


def test_deep_baselines_find_the_anomalies_of_a_real_set(monkeypatch):
  monkeypatch.setattr(protocol, "FOR_TABLES", {})
  config = Config(data=data.BreastCancer(), epochs=10)
  splits = config.data.load()
  x_test, labels = splits.labelled_test()
  for scores, *_ in protocol.deep_baseline_scores(config, splits.x_train, [x_test]).values():
    assert metrics.auroc(labels, scores) > 0.8


def test_a_method_that_stops_guesses_and_the_others_go_on(monkeypatch):
  class Stops:
    def __init__(self, seed, shape, **settings):
      self.stopped = shape == (3,) and "pretrain_epochs" in settings

    def fit(self, x):
      if self.stopped:
        raise HealthError("collapsed")

    def score(self, x):
      return x[:, 0]

  monkeypatch.setattr(protocol, "DEEP", {"autoencoder": Stops, "Deep SVDD": Stops})
  monkeypatch.setattr(protocol, "FOR_TABLES", {})
  x = np.random.default_rng(0).normal(size=(40, 3))
  got = protocol.deep_baseline_scores(Config(epochs=3), x, [x[:9]])
  assert np.ptp(got["autoencoder"][0]) > 0.0
  np.testing.assert_array_equal(got["Deep SVDD"][0], np.zeros(9))


def test_all_methods_are_asked_for_by_a_flag():
  flags.FLAGS.mark_as_parsed()
  assert not protocol.all_methods()
  with flagsaver.flagsaver(methods="all"):
    assert protocol.all_methods()


def test_means_are_over_ten_classes_or_not_at_all():
  values = {(f"mnist, {i}", "DROCC", "auroc"): [i / 10, 1.0] for i in range(10)}
  values["cifar10, truck", "DROCC", "auroc"] = [0.5]
  assert protocol.means_over_classes(values, "mean") == {
    ("mnist, mean", "DROCC", "auroc"): [0.45, 1.0]
  }
