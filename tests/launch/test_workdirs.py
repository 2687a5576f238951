"""Workdirs: whose they are, and configurations that survive their file."""

import dataclasses
import hashlib
import json
from typing import ClassVar

import numpy as np
import pytest

from launch import evaluation, methods, run, workdirs
from launch.data import Digits, OpenSetImages, Source, Splits, manifest
from launch.methods import drocc


@dataclasses.dataclass
class Inner:
  size: int = 1
  kinds: tuple[str, ...] = ()


@dataclasses.dataclass
class Other:
  """A method with every kind of setting there is."""

  method: ClassVar[str] = "other"

  data: Source = dataclasses.field(default_factory=Digits)
  inner: Inner | None = None
  several: tuple[Inner, ...] = ()
  pair: tuple[int, str] = (1, "a")
  widths: tuple[int, ...] | None = None
  limit: int | None = None
  bare: tuple = ()
  seed: int = 0


@pytest.fixture
def other(monkeypatch):
  """Registered, as one line in METHODS would."""
  trained = []

  def train(config, workdir):
    workdirs.claim(workdir, config)
    trained.append(config)
    return workdir / "weights"

  monkeypatch.setitem(methods.METHODS, "other", methods.Method(Other, train, detects=False))
  return trained


FULL = Other(
  OpenSetImages(name="mnist", ood=("cifar10", "svhn_cropped")),
  inner=Inner(3, ("a", "b")),
  several=(Inner(1), Inner(2, ("c",))),
  pair=(2, "b"),
  widths=(4, 5),
  limit=7,
  bare=("x", 1),
)


@pytest.mark.parametrize("config", [Other(), FULL])
def test_config_survives_its_file(tmp_path, other, config):
  workdirs.claim(tmp_path, config)
  assert run.read_config(tmp_path) == config
  workdirs.check(tmp_path, config)


def test_config_of_drocc_survives_its_file(tmp_path):
  config = drocc.Config(fpr=0.1)
  config.network.hidden = (8, 4)
  config.drocc.radius = 2.5
  workdirs.claim(tmp_path, config)
  assert json.loads((tmp_path / "config.json").read_text())["method"] == "drocc"
  assert run.read_config(tmp_path) == config


def test_features_of_an_earlier_release_are_read_and_keep_their_map(tmp_path):
  stored = dataclasses.asdict(drocc.Config())
  del stored["features"]["mirrored"]
  stored["features"]["values"] = 0.05
  (tmp_path / "config.json").write_text(json.dumps({"method": "drocc", **stored}))
  assert run.read_config(tmp_path).features.mirrored is False
  with pytest.raises(ValueError, match=r"features.mirrored was False, is None\)"):
    workdirs.check(tmp_path, drocc.Config())
  workdirs.check(tmp_path, drocc.Config(features=drocc.FeaturesConfig(mirrored=False)))


def test_file_without_a_method_is_of_drocc(tmp_path):
  values = dataclasses.asdict(drocc.Config(seed=3))
  (tmp_path / "config.json").write_text(json.dumps(values))
  assert run.read_config(tmp_path) == drocc.Config(seed=3)


def test_train_goes_by_the_type_of_the_config(tmp_path, other):
  assert run.train(FULL, tmp_path) == tmp_path / "weights"
  assert other == [FULL]


def test_another_method_is_refused(tmp_path, other):
  workdirs.claim(tmp_path, drocc.Config())
  with pytest.raises(ValueError, match=r"another configuration \(method was drocc, is other\)"):
    run.train(Other(), tmp_path)
  assert not other


@pytest.mark.parametrize(
  ("now", "said"),
  [
    (dataclasses.replace(FULL, widths=(4, 6)), r"\(widths was \[4, 5\], is \[4, 6\]\)"),
    (dataclasses.replace(FULL, inner=None), r"inner was unset, is None; inner.size was 3, is"),
  ],
)
def test_differences_are_named(tmp_path, other, now, said):
  workdirs.claim(tmp_path, FULL)
  with pytest.raises(ValueError, match=said):
    workdirs.check(tmp_path, now)


def test_setting_that_is_new_has_its_default(tmp_path, other):
  workdirs.claim(tmp_path, Other())
  values = json.loads((tmp_path / "config.json").read_text())
  del values["limit"]
  (tmp_path / "config.json").write_text(json.dumps(values))
  workdirs.check(tmp_path, Other())
  with pytest.raises(ValueError, match=r"\(limit was None, is 2\)"):
    workdirs.check(tmp_path, Other(limit=2))


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ('{"method": "none"}', "run of the method 'none'; this release has drocc"),
    ('{"sed": 1}', "config.json is not the configuration of a run: Config has no setting 'sed'"),
    ("{", "config.json is not the configuration of a run"),
    ("[1]", "config.json is not the configuration of a run"),
    ('{"data": 1}', "config.json is not the configuration of a run"),
  ],
)
def test_file_that_is_no_configuration_is_one_sentence(tmp_path, text, said):
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(ValueError, match=said):
    run.read_config(tmp_path)


def test_run_of_a_method_without_detector_says_so(tmp_path, other):
  workdirs.claim(tmp_path, Other())
  with pytest.raises(ValueError, match=r"has no detector, its method .other. makes none"):
    evaluation.load_detector(tmp_path)


def splits_of(**parts):
  labels = {"x_test": np.ones((3, 2)), "y_test": np.array([0, 1, 1])}
  return Splits(**{"x_train": np.arange(8.0).reshape(4, 2), **labels, **parts})


def test_the_manifest_counts_and_hashes_each_part():
  got = manifest.from_splits(splits_of(negatives=np.zeros((5, 2)), description="two columns"))
  assert set(got) == {"description", "train", "negatives", "test"}
  assert (got["train"]["records"], got["train"]["shape"]) == (4, [2])
  values = np.arange(8.0).astype("<f8").tobytes()
  assert got["train"]["sha256"] == hashlib.sha256(values).hexdigest()
  assert got["test"]["anomalous"] == 2
  assert "anomalous" not in got["train"]
  reordered = manifest.from_splits(splits_of(x_train=np.arange(8.0).reshape(4, 2)[::-1]))
  assert reordered["train"]["sha256"] != got["train"]["sha256"], "the order counts"
  relabelled = manifest.from_splits(splits_of(y_test=np.array([1, 1, 0])))
  assert relabelled["test"]["sha256"] != got["test"]["sha256"], "labels count"


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"x_train": np.ones((3, 2))}, r"its train records \(4 then, 3 now\) differ"),
    ({"x_train": np.ones((4, 2))}, r"its train records \(as many, with other values\) differ"),
    ({"y_test": np.array([1, 0, 1])}, r"its test records \(as many, with other values\) differ"),
    ({"negatives": np.ones((1, 2))}, r"its negatives records \(0 then, 1 now\) differ"),
  ],
)
def test_a_run_is_not_gone_on_with_other_records(tmp_path, change, message):
  workdirs.claim(tmp_path, Other(), splits_of())
  workdirs.claim(tmp_path, Other(), splits_of())
  before = (tmp_path / "data.json").read_text()
  with pytest.raises(ValueError, match=f"The data have changed since .*: {message}. Restore them"):
    workdirs.claim(tmp_path, Other(), splits_of(**change))
  assert (tmp_path / "data.json").read_text() == before


def test_a_damaged_manifest_is_named(tmp_path):
  workdirs.claim(tmp_path, Other(), splits_of())
  for content in ("{", "[]"):
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(ValueError, match=r"data.json is no manifest of records: .*; remove it"):
      workdirs.claim(tmp_path, Other(), splits_of())
