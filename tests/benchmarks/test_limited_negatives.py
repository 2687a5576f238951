"""The tables with limited negatives: columns by hand, and who is trained on and tested on what."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import limited_negatives
from configs import negatives_mnist, negatives_sine
from launch import data
from launch.data import negatives
from launch.data.splits import Labelled, Splits


def labelled(typical: int, anomalous: int) -> Labelled:
  y = np.repeat([0, 1], [typical, anomalous])
  return Labelled(np.zeros((len(y), 1)), y, np.array(["typical", "masked"])[y])


VALIDATION, TESTED = labelled(4, 10), labelled(5, 10)
# Of ten negatives one may pass: the threshold is the second lowest, here 2.
HELD_OUT = np.arange(1.0, 11.0)
EARLY = [
  [0.0, 0.0, 0.0, 0.0, *HELD_OUT],  # recall 1 on the validation records
  [0.0, 0.0, 1.5, 1.9, 2.0, 1.0, 1.0, *np.full(8, 20.0)],  # and 2/5 on the test records
]
MIDDLE = [
  [0.0, 0.0, 3.0, 3.0, *HELD_OUT],  # recall 1/2
  [0.0, 0.0, 0.0, 0.0, 0.0, *np.full(10, 20.0)],  # recall 1
]
LAST = [
  [0.0, 3.0, 3.0, 3.0, *HELD_OUT[::-1]],  # recall 1/4
  [0.5, 1.5, 1.7, 2.0, 3.0, 5.0, 6.0, 1.0, 1.6, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0],
]
STOPS = [np.concatenate(stop) for stop in (EARLY, MIDDLE, LAST)]


def test_columns_by_hand():
  got = limited_negatives.columns(VALIDATION, TESTED, STOPS, 0.1)
  assert got == {
    "last": 3 / 5,  # below 2, strictly: 0.5, 1.5, 1.7
    "realised": 2 / 10,  # 1.0 and 1.6 pass with them
    "selected": 4 / 5,  # below 2 at the early stop
    "released": 2 / 5,  # below 1.6, the second lowest of the test negatives
    "oracle": 1.0,  # the middle stop, threshold 20
  }


def test_labels_of_the_test_choose_neither_stop_nor_threshold():
  """Labels turned round, the records that pass are the same ones."""
  turned = Labelled(TESTED.x, 1 - TESTED.y, TESTED.sources)
  got = limited_negatives.columns(VALIDATION, turned, STOPS, 0.1)
  assert (got["last"], got["realised"], got["selected"]) == (2 / 10, 3 / 5, 2 / 10)


def test_one_stop_is_every_column_s():
  got = limited_negatives.columns(VALIDATION, TESTED, STOPS[2:], 0.1)
  assert (got["last"], got["selected"], got["oracle"]) == (3 / 5, 3 / 5, got["released"])


def test_a_rate_below_one_negative_lets_none_pass():
  got = limited_negatives.columns(VALIDATION, TESTED, STOPS, 0.09)
  assert (got["last"], got["realised"]) == (1 / 5, 0.0)  # below 1, strictly


# Who learns from what.


def test_every_method_is_trained_on_the_same_records(monkeypatch, rng):
  """DROCC alone is given no negatives; baselines get the rows, statistics and epochs of ours."""
  x, given = rng.normal(5.0, 2.0, (50, 10)), rng.normal(8.0, 1.0, (20, 10))
  ours, theirs = [], []

  def train(config, x_train, x_test, points, negatives):
    ours.append((config, x_train, negatives))
    return SimpleNamespace(scores=[x_test[:, 0]] * points)

  class Baseline:
    def __init__(self, seed, shape, **settings):
      self.made = seed, shape, settings

    def trajectory(self, typical, others, points):
      theirs.append((*self.made, typical, others))
      return [(point, lambda z: z[:, 0]) for point in range(points)]

  monkeypatch.setattr(limited_negatives.protocol, "train", train)
  monkeypatch.setattr(limited_negatives, "BASELINES", {"one": Baseline, "two": Baseline})
  splits = Splits(x, negatives=given)
  change = {"scaling": "standard", "epochs": 3}
  trained = limited_negatives.trained(negatives_sine.get_config, change, splits, 7)
  stops = {name: scores(x) for name, scores in trained}
  assert list(stops) == ["DROCC", "DROCC-OE", "DROCC-LF", "one", "two"]
  assert {len(each) for each in stops.values()} == {limited_negatives.POINTS}
  assert [config.method for config, _, _ in ours] == ["drocc", "drocc_oe", "drocc_lf"]
  assert [each is None for *_, each in ours] == [True, False, False]
  for config, x_train, _ in ours:
    assert (config.seed, config.epochs) == (7, 3)
    np.testing.assert_array_equal(x_train, x)
  for seed, shape, settings, typical, others in theirs:
    assert (seed, shape, settings["epochs"], settings["batch_size"]) == (7, (10,), 3, 64)
    assert settings["network"] == negatives_sine.get_config().network.make()
    assert (len(typical), len(others)) == (45, 20)  # a tenth is held out, as from ours
    both = np.concatenate([typical, others])
    np.testing.assert_allclose(both.mean(axis=0), np.zeros(10), atol=1e-5)
    np.testing.assert_allclose(both.std(axis=0), np.ones(10), rtol=1e-5)


@pytest.mark.parametrize(("count", "wanted"), [("count_methods", 15), ("count_speech", 30)])
def test_the_number_of_trainings(monkeypatch, count, wanted):
  monkeypatch.setattr(limited_negatives, "_KEYWORDS", SimpleNamespace(value=["go", "zero"]))
  assert getattr(limited_negatives, count)(3) == wanted


# The tables, with methods that need no training.


def test_figure_1(monkeypatch):
  """A score that knows the wave finds every anomaly; the noise finds none."""
  calls, steps = [], []

  def trained(get_config, change, splits, seed):
    assert (get_config, change) == (negatives_sine.get_config, {"epochs": 1})
    calls.append((splits, seed))

    def wave(x):
      return [np.zeros(len(x)), np.abs(x[:, 1] - np.sin(x[:, 0]))]

    def noise(x):
      assert not x[-64000:, 2:].any()  # the plane that is drawn has no noise
      return [x[:, 5]]

    yield "DROCC-LF", wave
    yield "noise", noise

  monkeypatch.setattr(limited_negatives, "trained", trained)
  advance = functools.partial(lambda count, note: steps.append(count))
  records, drawn = limited_negatives.figure1(2, advance, epochs=1)
  assert sum(steps) == 4
  assert [seed for _, seed in calls] == [0, 1]
  assert not np.array_equal(calls[0][0].x_train, calls[1][0].x_train)
  rows = [f"displacement {value:g}" for value in limited_negatives.DISPLACEMENTS]
  assert {(record.row, record.method) for record in records} == {
    (row, method) for row in rows for method in ("DROCC-LF", "noise")
  }
  for record in records:
    assert (record.column, record.metric, record.seeds) == ("last", "auroc", 2)
    wanted = 100.0 if record.method == "DROCC-LF" else 50.0
    assert record.mean == pytest.approx(wanted, abs=5.0 * (wanted == 50.0))
  assert drawn.keys() == {"figure1", "figure1-auroc"}
  assert [axes.get_title() for axes in drawn["figure1"].axes] == ["DROCC-LF", "noise"]


def images(config: data.Source) -> Splits:
  """A small stand-in for MNIST, of 200 images."""
  rng = np.random.default_rng(0)
  part = rng.uniform(0.5, 1.0, (200, 6, 6, 1)), np.arange(200) % 2
  split = negatives.masked_classes(part, part, 0, (1,), config.masked, config.seed)
  return split


def brightness(get_config, change, splits, seed):
  """A method that takes bright images for typical: masked ones stand out, negatives do not."""
  del get_config, change, seed
  brightness.trained.append(splits)
  yield "DROCC-LF", lambda x: [-x.mean(axis=(1, 2, 3))]


def test_mnist_is_trained_once_and_measured_on_both_maskings(monkeypatch):
  monkeypatch.setattr(limited_negatives.data.Source, "load", images)
  monkeypatch.setattr(limited_negatives, "trained", brightness)
  brightness.trained = []
  steps = []
  records, drawn = limited_negatives.table_mnist(3, lambda count, note: steps.append(count))
  assert len(brightness.trained) == sum(steps) == 3
  assert {record.row for record in records} == {"40% masked", "50% masked"}
  assert {record.metric for record in records} == {
    "recall_at_3fpr",
    "recall_at_5fpr",
    "realised_at_3fpr",
    "realised_at_5fpr",
  }
  for metric in ("recall_at_3fpr", "recall_at_5fpr"):
    columns = [record.column for record in records if record.metric == metric]
    assert columns == ["last", "selected", "released", "oracle"] * 2
  published = {(record.row, record.metric) for record in records if record.paper is not None}
  assert published == {("50% masked", "recall_at_3fpr")}
  assert {record.paper for record in records if record.paper} == {99.4}
  # By hand, the threshold from the validation negatives.
  by_hand = []
  for seed in range(3):
    split = images(data.OneClassImages(name="mnist", masked=0.4, seed=seed))
    held_out, tested = (-x.mean(axis=(1, 2, 3)) for x in (split.validation.x, split.x_test))
    others = np.sort(held_out[split.validation.y == 1])
    threshold = others[int(0.05 * len(others))]
    by_hand.append(100 * np.mean(tested[split.y_test == 0] < threshold))
  (got,) = [
    record
    for record in records
    if (record.row, record.metric, record.column) == ("40% masked", "recall_at_5fpr", "last")
  ]
  assert got.mean == pytest.approx(np.mean(by_hand), abs=0.01)
  assert got.std == pytest.approx(np.std(by_hand), abs=0.01)
  assert [label.get_text() for label in drawn["ocln-mnist"].axes[0].get_xticklabels()] == [
    "40% masked\n3 % FPR",
    "40% masked\n5 % FPR",
    "50% masked\n3 % FPR",
    "50% masked\n5 % FPR",
  ]


def test_wake_words_have_a_row_each(monkeypatch):
  loaded = []

  def load(config):
    loaded.append((config.name, config.keyword, config.seed))
    return images(data.Digits(masked=0.5, seed=config.seed))

  monkeypatch.setattr(limited_negatives.data.Source, "load", load)
  monkeypatch.setattr(limited_negatives, "trained", brightness)
  monkeypatch.setattr(limited_negatives, "_KEYWORDS", SimpleNamespace(value=["go", "zero"]))
  brightness.trained = []
  records, drawn = limited_negatives.table_speech(2, lambda count, note: None)
  assert loaded == [("speech", word, seed) for word in ("go", "zero") for seed in (0, 1)]
  assert {record.row for record in records} == {"go", "zero"}
  assert all((record.table, record.seeds) == ("ocln-speech", 2) for record in records)
  assert drawn.keys() == {"figure3"}


def test_paper_rows_are_of_methods_that_are_measured():
  methods = limited_negatives.OURS.keys() | limited_negatives.BASELINES.keys()
  assert limited_negatives.PAPER_MNIST.keys() < methods
  assert set(limited_negatives.OURS.values()) == negatives_mnist.SETTINGS.keys()
