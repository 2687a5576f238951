"""Sweeps: one program, resumable members, a ranking no test label enters, the best exported."""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import re

import jax
import numpy as np
import pytest

import detector_jax
from detector_jax import atomic, metrics
from detector_jax.splits import calibration_rows
from drocc_jax import recipe, registry
from launch import data, evaluation, run, sweep_training, sweeping, workdirs
from launch.data import BreastCancer, NoisySine
from launch.methods import drocc, neuralfp, streamed
from tests.launch.swept import FEW, Killed, recorded, small, variables

DEAD = 2**22 + 1  # no process has that number

AXES = {"radius": (1.0, 2.0), "num_steps": (1, 3), "seed": (0, 1)}


def assert_close(one: dict[str, np.ndarray], two: dict[str, np.ndarray], atol: float) -> None:
  assert one.keys() == two.keys()
  assert one
  for name, value in one.items():
    np.testing.assert_allclose(value, two[name], rtol=0, atol=atol, err_msg=name)


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
  """Grows with the name of every function that XLA compiles."""
  found: list[str] = []

  class Handler(logging.Handler):
    def emit(self, record):
      if compiled := re.match(r"Compiling jit\((\w+)\)", record.getMessage()):
        found.append(compiled.group(1))

  handler, logger = Handler(), logging.getLogger("jax")
  logger.addHandler(handler)
  try:
    with jax.log_compiles():
      yield found
  finally:
    logger.removeHandler(handler)


@pytest.fixture(scope="module")
def looped(tmp_path_factory) -> tuple[pathlib.Path, dict]:
  """A sweep, one model after the other; its training compiles once."""
  workdir = tmp_path_factory.mktemp("sweeps") / "looped"
  with compilations() as compiled:
    result = sweeping.sweep(small(), AXES, workdir)
  assert compiled.count("train_epochs") == 1
  return workdir, result


@pytest.fixture
def unsaved(monkeypatch) -> None:
  """Exports no detector, which takes longer than the trainings here."""
  monkeypatch.setattr(detector_jax.Detector, "save", lambda *_: None)


@pytest.mark.usefixtures("unsaved")
def test_vmapped_groups_compile_once_and_train_what_the_loop_trains(looped, tmp_path, monkeypatch):
  calls = recorded(monkeypatch)
  with compilations() as compiled:
    result = sweeping.sweep(small(), AXES, tmp_path, 3)
  assert compiled.count("train_epochs") == 1
  assert calls == [([0, 1, 2], 3), ([3, 4, 5], 3), ([6, 7], 3)]
  one, two = ({r["member"]: r for r in each["members"]} for each in (result, looped[1]))
  for number in range(8):
    assert_close(variables(tmp_path, number), variables(looped[0], number), 1e-5)
    assert one[number]["criterion"] == pytest.approx(two[number]["criterion"], abs=1e-3)
    got, want = (dict(each[number]["training"]) for each in (one, two))
    assert got.pop("projected") == pytest.approx(want.pop("projected"), abs=0.02)  # a count
    assert got == pytest.approx(want, rel=1e-3, abs=1e-4)


def test_members_differ_by_their_settings_and_seeds(looped):
  kernels = [variables(looped[0], number)["params/Dense_0/kernel"] for number in range(8)]
  assert len({kernel.tobytes() for kernel in kernels}) == 8


def test_a_member_is_the_run_with_its_settings(looped, tmp_path):
  config = small()
  config.drocc = dataclasses.replace(config.drocc, radius=2.0, num_steps=3)
  run.train(config, tmp_path)
  wanted = {"radius": 2.0, "num_steps": 3, "seed": 0}
  (member,) = [r["member"] for r in looped[1]["members"] if r["settings"] == wanted]
  with np.load(tmp_path / "detector" / "arrays.npz") as archive:
    trained = {
      name.removeprefix("variables/"): archive[name]
      for name in archive.files
      if name.startswith("variables/")
    }
  assert_close(trained, variables(looped[0], member), 1e-6)


def test_steps_and_noise_follow_the_radius_of_each_member():
  config = small()
  config.drocc.noise_scale = None
  experiment = sweeping._experiment(config)
  members = sweeping.members_of(config, experiment.prepared, FEW)
  assert [member.number for member in members] == [0, 1, 2, 3]
  assert [member.settings for member in members] == [
    {"radius": radius, "seed": seed} for radius in (1.0, 2.0) for seed in (0, 1)
  ]
  assert [member.seed for member in members] == [0, 1, 0, 1]
  width = experiment.prepared.data.inputs.shape[1]
  for member in members:
    radius = member.settings["radius"]
    assert member.config.step_size == pytest.approx(radius / 5.0)
    assert member.config.noise_scale == pytest.approx(radius / (10.0 * width**0.5))
  config.drocc.step_size = 0.3
  members = sweeping.members_of(config, experiment.prepared, FEW)
  assert {member.config.step_size for member in members} == {0.3}


def test_warm_up_epochs_reach_every_member_and_the_schedule_is_shared():
  config = small(warmup_epochs=2)
  config.drocc.schedule = "cosine"
  experiment = sweeping._experiment(config)
  members = sweeping.members_of(config, experiment.prepared, FEW)
  steps = -(-len(experiment.x) // 64)
  assert {member.config.warmup_steps for member in members} == {2 * steps}
  assert {member.config.total_steps for member in members} == {4 * steps}


@pytest.mark.usefixtures("unsaved")
def test_more_models_than_fit_are_halved_and_the_sweep_goes_on(
  looped, tmp_path, monkeypatch, caplog
):
  calls, train = recorded(monkeypatch), sweep_training.Trainer.train

  def scarce(self, group, size):
    def exhausted(state, *_):
      jax.tree.map(lambda leaf: leaf.delete(), state)  # it was donated
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    if size > 3:
      monkeypatch.setattr(self, "together", exhausted)
    try:
      return train(self, group, size)
    finally:
      self.together = sweep_training._vmapped(self.alone)

  monkeypatch.setattr(sweep_training.Trainer, "train", scarce)
  sweeping.sweep(small(), AXES, tmp_path, 6)
  assert [(len(group), size) for group, size in calls] == [(6, 6), (3, 3), (3, 3), (2, 3)]
  said = [r.getMessage() for r in caplog.records if "Out of memory" in r.getMessage()]
  assert said == ["Out of memory with 6 models at a time; going on with 3."]
  for number in range(8):
    assert_close(variables(tmp_path, number), variables(looped[0], number), 1e-5)


def raising(message):
  def train(group, size):
    raise jax.errors.JaxRuntimeError(message)

  return train


def test_one_model_that_does_not_fit_is_an_error_and_other_errors_pass():
  members = [sweep_training.Member(number, {}, None, 0) for number in range(3)]
  with pytest.raises(ValueError, match="too little memory for one model: lower batch_size"):
    list(sweep_training.groups(members, 3, raising("RESOURCE_EXHAUSTED: no")))
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
    list(sweep_training.groups(members, 3, raising("INTERNAL: no")))


def test_a_killed_sweep_trains_only_what_is_missing(looped, tmp_path, monkeypatch):
  keep, calls = sweeping.keep_member, []

  def killed(folder, *arguments):
    calls.append(folder.name)
    if len(calls) == 5:  # the second of the group 3, 4, 5
      half = atomic.beside(folder)
      half = half.with_name(half.name.replace(f"-{os.getpid()}-", f"-{DEAD}-"))
      half.mkdir()
      (half / "variables.npz").write_bytes(b"half")
      raise Killed
    keep(folder, *arguments)

  monkeypatch.setattr(sweeping, "keep_member", killed)
  with pytest.raises(Killed):
    sweeping.sweep(small(), AXES, tmp_path, 3)
  assert calls == ["000", "001", "002", "003", "004"]
  assert not (tmp_path / "detector").exists()
  with pytest.raises(ValueError, match="not finished"):
    evaluation.load_detector(tmp_path)
  monkeypatch.setattr(sweeping, "keep_member", keep)
  trained = recorded(monkeypatch)
  result = sweeping.sweep(small(), AXES, tmp_path)
  assert trained == [([number], 1) for number in range(4, 8)]
  assert [r["member"] for r in result["members"]] == [r["member"] for r in looped[1]["members"]]
  assert sorted(path.name for path in (tmp_path / "members").iterdir()) == [
    *(f"{number:03d}" for number in range(8)),
    "config.json",
  ]
  trained.clear()
  monkeypatch.setattr(detector_jax.Detector, "save", lambda *_: None)
  assert sweeping.sweep(small(), AXES, tmp_path) == result
  assert not trained


def test_another_sweep_or_run_of_that_folder_is_refused(looped, tmp_path):
  workdir, _ = looped
  with pytest.raises(ValueError, match=r"another configuration \(axes was .*2\.0.*, is .*8\.0"):
    sweeping.sweep(small(), {**AXES, "radius": (1.0, 8.0)}, workdir)
  with pytest.raises(ValueError, match=r"another configuration \(epochs was 4, is 5\)"):
    sweeping.sweep(small(epochs=5), AXES, workdir)
  with workdirs.held(tmp_path), pytest.raises(ValueError, match="being trained in"):
    sweeping.sweep(small(), AXES, tmp_path)
  run.train(small(epochs=1), tmp_path)
  before = (tmp_path / "detector" / "detector.json").read_text()
  with pytest.raises(ValueError, match=r"holds a run of launch\.train: choose another"):
    sweeping.sweep(small(epochs=1), FEW, tmp_path)
  assert (tmp_path / "detector" / "detector.json").read_text() == before


def test_a_member_appears_whole_or_not_at_all(tmp_path, monkeypatch):
  def killed(*_, **__):
    raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(sweeping.json, "dumps", killed)
    with pytest.raises(Killed):
      sweeping.keep_member(tmp_path / "003", {"a": np.ones(2)}, {"member": 3})
  assert not (tmp_path / "003").exists()
  sweeping.keep_member(tmp_path / "003", {"a": {"b": np.ones(2)}}, {"member": 3})
  assert [path.name for path in tmp_path.iterdir()] == ["003"]
  read = sweeping.read_variables(tmp_path / "003", {"a": {"b": np.zeros(2)}})
  np.testing.assert_array_equal(read["a"]["b"], np.ones(2))


def test_a_member_that_cannot_be_read_is_named(tmp_path):
  sweeping.keep_member(tmp_path / "003", {"a": np.ones(2)}, {"member": 3})
  assert sweeping.read_member(tmp_path / "003") == {"member": 3}
  with pytest.raises(ValueError, match=r"003 cannot be read \('b'\): remove it to train it again"):
    sweeping.read_variables(tmp_path / "003", {"b": np.ones(2)})
  (tmp_path / "003" / "variables.npz").write_bytes(b"PK\x03\x04 half of an archive")
  with pytest.raises(ValueError, match=r"003 cannot be read .*: remove it"):
    sweeping.read_variables(tmp_path / "003", {"a": np.ones(2)})
  (tmp_path / "003" / "member.json").write_text("{")
  with pytest.raises(ValueError, match=r"003 cannot be read .*: remove it"):
    sweeping.read_member(tmp_path / "003")


@pytest.mark.parametrize(
  ("config", "axes", "said"),
  [
    (neuralfp.Config(), FEW, "A sweep trains DROCC, DROCC-OE or DROCC-LF, .* 'neuralfp'"),
    (streamed.Config(), FEW, "A sweep trains DROCC, DROCC-OE or DROCC-LF, .* 'drocc_streamed'"),
    (small(), {"nu": (1.0,)}, "nu is no setting of DROCC that can be swept; valid: radius, "),
    (small(), {"gamma": (2.0, 0.5)}, "gamma must be >= 1, got 0.5"),
    (small(), {"seed": (-1,)}, r"seed must be in \[0, 2\^31\), got -1"),
    (small(), {"radius": (1.0,) * 101, "mu": (1.0,) * 100}, "10,100 combinations are more"),
    (small(warmup_epochs=1), {"warmup_steps": (1,)}, "warmup_epochs sets warmup_steps"),
    (small(calibration="cross"), FEW, "by records held out from all: leave calibration at auto"),
    (small(features=drocc.FeaturesConfig("patches")), FEW, "on the records .* not on patches: set"),
    (small(calibration_size=0.0), FEW, "held-out typical records rank .* 0, too few"),
    (small(fpr=0.001), FEW, "needs at least 999 different calibration records, got"),
  ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_made(tmp_path, config, axes, said):
  with pytest.raises(ValueError, match=said):
    sweeping.sweep(config, axes, tmp_path / "sweep")
  assert not (tmp_path / "sweep").exists()


def test_features_that_a_run_would_have_are_said_to_be_left_out(caplog, monkeypatch, rng):
  series = data.Splits(rng.normal(size=(40, 20, 1)).astype(np.float32))
  monkeypatch.setattr(BreastCancer, "load", lambda self: series)
  sweeping._experiment(drocc.Config(data=BreastCancer(), calibration="split", epochs=1))
  assert "where launch.train would put kernels in front" in caplog.text


def test_a_warm_up_that_is_compiled_in_is_refused(tmp_path):
  config = small()
  config.drocc.schedule = "released"
  with pytest.raises(ValueError, match="warmup_steps cannot be swept in one"):
    sweeping.sweep(config, {"warmup_steps": (0, 3)}, tmp_path / "sweep")


def test_failed_members_rank_last_with_their_reason(tmp_path):
  axes = {"learning_rate": (1e30, 1e-3), "seed": (0,)}
  result = sweeping.sweep(small(), axes, tmp_path)
  best, worst = result["members"]
  assert (best["member"], best["failed"]) == (1, None)
  assert worst["failed"].startswith("Training diverged: ")
  assert worst["criterion"] is None
  assert evaluation.load_detector(tmp_path).metadata["sweep"]["member"] == 1
  kept = json.loads((tmp_path / "sweep.json").read_text(), parse_constant=pytest.fail)
  assert kept["members"] == result["members"]


def test_unhealthy_scores_are_a_failure_too(tmp_path, monkeypatch):
  def dead(*_):
    raise sweeping.health.HealthError("All scores are 0: the network is dead.")

  monkeypatch.setattr(recipe.health, "check_health", dead)
  with pytest.raises(ValueError, match="All 2 members failed; the first: All scores are 0"):
    sweeping.sweep(small(epochs=1), {"seed": (0, 1)}, tmp_path)
  kept = json.loads((tmp_path / "sweep.json").read_text())
  assert [record["failed"] for record in kept["members"]] == [
    "All scores are 0: the network is dead."
  ] * 2
  assert not (tmp_path / "detector").exists()


def test_members_are_ranked_by_criterion_then_number():
  records = [
    {"member": 0, "criterion": None, "failed": "why"},
    {"member": 1, "criterion": 0.7, "failed": None},
    {"member": 2, "criterion": 0.9, "failed": None},
    {"member": 3, "criterion": 0.7, "failed": None},
  ]
  assert [record["member"] for record in sweeping.ranked(records)] == [2, 1, 3, 0]


@pytest.mark.usefixtures("unsaved")
def test_no_test_label_enters_the_ranking(looped, tmp_path, monkeypatch):
  load = data.Source.load

  def flipped(config):
    splits = load(config)
    return dataclasses.replace(splits, y_test=1 - splits.y_test)

  monkeypatch.setattr(data.Source, "load", flipped)
  result = sweeping.sweep(small(), AXES, tmp_path)
  for one, two in zip(result["members"], looped[1]["members"], strict=True):
    assert (one["member"], one["criterion"]) == (two["member"], pytest.approx(two["criterion"]))
    assert one["oracle"] == pytest.approx(1.0 - two["oracle"])


def test_the_best_member_is_exported_calibrated_on_rows_that_ranked_nothing(looped):
  workdir, result = looped
  detector, best = evaluation.load_detector(workdir), result["members"][0]
  assert best["criterion"] == max(record["criterion"] for record in result["members"])
  splits = BreastCancer().load()
  oracle = metrics.auroc(splits.y_test, detector.score(splits.x_test))
  assert oracle == pytest.approx(best["oracle"], abs=1e-6)
  rows, held_out = calibration_rows(splits.x_train, 0.2, 0)
  assert len(detector.calibration.scores) == len(held_out) - len(held_out) // 2
  experiment = sweeping._experiment(small())
  ranking = {row.tobytes() for row in experiment.ranking.x_objective}
  assert not ranking & {row.tobytes() for row in experiment.x_calibration}
  together = np.concatenate([experiment.ranking.x_objective, experiment.x_calibration])
  wanted = splits.x_train[held_out]
  np.testing.assert_array_equal(together[np.lexsort(together.T)], wanted[np.lexsort(wanted.T)])
  np.testing.assert_array_equal(experiment.x, splits.x_train[rows])
  assert detector.metadata["config"]["drocc"]["radius"] == best["settings"]["radius"]
  assert detector.metadata["sweep"]["settings"] == best["settings"]
  summary = "the best of 8 in a sweep of radius and num_steps and seed"
  assert summary in detector.metadata["summary"]


def test_labelled_validation_records_rank_where_there_are_some():
  network = registry.NetworkConfig("mlp", (4,))
  config = drocc.Config(data=NoisySine(limit=100), network=network, drocc=drocc.usual("oe"))
  experiment = sweeping._experiment(config)
  validation = experiment.splits.validation
  assert experiment.ranking.description == (
    f"AUROC of {len(validation.y):,} labelled validation records"
  )
  np.testing.assert_array_equal(experiment.ranking.labels, validation.y)
  _, held_out = calibration_rows(np.arange(100), 0.2, 0)
  np.testing.assert_array_equal(experiment.x_calibration, experiment.splits.x_train[held_out])
  members = sweeping.members_of(config, experiment.prepared, {"nu": (0.5, 2.0)})
  assert [float(member.config.hyper().nu) for member in members] == [0.5, 2.0]
