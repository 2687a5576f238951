"""What a training costs: the same facts in every kind of run, and a run that is as it was."""

import contextlib
import dataclasses
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from detector_jax import batching, training
from drocc_jax.registry import NetworkConfig
from fingerprint_jax.classifiers import Config as TrainingConfig
from fingerprint_jax.train import Config as FingerprintConfig
from launch import costs, run, stages, train
from launch.data import Files, Pictures, ShiftedDigits, Windows
from launch.methods import classifier, drocc, neuralfp
from tests.helpers import assert_trees_equal


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
  """Adds up what it sees."""

  step: jax.Array
  params: jax.Array


def step(state, batch, key):
  total = batching.Mean.from_values(batch.inputs[:, 0], batch.mask)
  return State(state.step + 1, state.params + total.total), {"sum": total}


def of_rows(rows, batch_size):
  data = training.to_device(np.ones((rows, 3)))
  train_epochs = training.compile_train_epochs(step, batch_size)
  return costs.of_data("a sum", train_epochs, data, jax.random.key(0), batch_size)


def new() -> State:
  return State(jnp.zeros((), jnp.int32), jnp.zeros(()))


@pytest.mark.parametrize(("steps", "seen"), [(1, 4), (2, 8), (3, 10), (9, 10)])
def test_an_attempt_takes_so_many_steps(steps, seen):
  state = of_rows(10, 4).attempt(new(), steps)
  assert (int(state.step), float(state.params)) == (-(-seen // 4), seen)


def test_an_estimate_adds_up_and_leaves_the_state_as_it_was():
  task, state = of_rows(10, 4), new()
  told = costs.estimate("training", task, state, 7)
  assert_trees_equal(state, new())
  assert (task.steps, told.epochs, told.parameters) == (3, 7, 1)
  assert 1 <= told.timed <= 3
  assert told.seconds == 7 * 3 * told.step_seconds > 0.0
  inputs, labels, num_rows, _ = task.arrays
  assert told.device_bytes == inputs.nbytes + labels.nbytes + num_rows.nbytes + 8
  assert told.process_bytes > told.device_bytes
  assert str(told).startswith("training: 7 epochs of 3 steps, about ")


def test_what_follows_does_again_what_went_before_its_steps():
  told = costs.estimate("training", of_rows(10, 4), new(), 7, 0.0, 5, time.monotonic() - 60.0)
  assert 60.0 < told.again < 90.0
  told = dataclasses.replace(told, step_seconds=0.5, again=60.0)
  assert str(told).endswith("about 10 s left, then 5 more trainings like it, 6 min in all")


def small(kind, folder):
  """A configuration of a kind, and what its stages are called."""
  rng = np.random.default_rng(0)
  network = NetworkConfig("mlp", (4,))
  if kind == "neuralfp":
    config = neuralfp.Config(
      data=ShiftedDigits(),
      classifier=neuralfp.ClassifierConfig(training=TrainingConfig(epochs=4, batch_size=64)),
      fingerprint=FingerprintConfig(epochs=3, batch_size=128),
      layers=("layer_5",),
      held_out=0.4,
      fpr=0.05,
    )
    return config, ["classifier", "fingerprints"]
  if kind == "classifier":
    data = ShiftedDigits()
    return classifier.Config(data=data, training=TrainingConfig(batch_size=64)), ["classifier"]
  if kind == "pictures":
    (folder / "train" / "good").mkdir(parents=True)
    for i in range(20):
      picture = Image.fromarray(rng.integers(255, size=(24, 24)).astype(np.uint8))
      picture.save(folder / "train" / "good" / f"{i}.png")
    features = drocc.FeaturesConfig("patches", centroids=8, components=8, defects=True)
    data = Pictures(folder=str(folder), size=24)
    return drocc.Config(data=data, features=features, network=network), ["training"]
  np.save(folder / "x.npy", rng.normal(size=(60, 3)))
  path = str(folder / "x.npy")
  data = Windows(train=path, window=5) if kind == "windows" else Files(train=path)
  return drocc.Config(data=data, network=network, epochs=9), ["training"]


@pytest.mark.parametrize("kind", ["table", "windows", "pictures", "neuralfp", "classifier"])
def test_a_dry_run_tells_what_is_trained_and_leaves_nothing(kind, tmp_path, monkeypatch, capsys):
  config, names = small(kind, tmp_path)
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
  (tmp_path / "temporary").mkdir()
  for method in (drocc, neuralfp):
    monkeypatch.setattr(method.recipe, "build_detector", lambda *_: pytest.fail("it trains"))
  before = sorted(tmp_path.rglob("*"))
  found = run.dry_run(config)
  assert sorted(tmp_path.rglob("*")) == before
  assert capsys.readouterr().out == ("taps: layer_5 [10]\n" if kind == "neuralfp" else "")
  assert [told.stage for told in found] == names
  for told in found:
    assert told.parameters > 0
    assert told.task.steps == -(-told.task.records // told.task.batch_size)
    heads = [line.split()[0] for line in told.lines]
    assert heads == [f"{told.stage}:", "network", "records", "steps", "memory", "time"]
  if kind == "table":
    assert (found[0].epochs, found[0].task.records, found[0].task.network) == (9, 48, "5 x MLP")
    assert "  records  48 for each of 5 members, 48 in a step" in found[0].lines
  assert found[-1].followed == (5 if kind == "windows" else 0)
  assert (found[-1].again > 0.0) == (kind == "windows")
  assert (", then 5 more trainings like it, " in str(found[-1])) == (kind == "windows")


def test_a_stage_says_once_what_is_left(tmp_path, capsys):
  def advance(state, first, last):
    return State(state.step + last - first, state.params), {"loss": 1.0}

  stage = stages.Stage("one", 6, advance, task=of_rows(10, 4))
  state = stages.run(stage, new(), tmp_path, checkpoints=3)
  assert (int(state.step), float(state.params)) == (6, 0.0)
  lines = capsys.readouterr().err.splitlines()
  assert lines[0].startswith("one: 6 epochs of 3 steps, about ")
  assert sum(" left" in line for line in lines) == 1
  stages.run(stage, new(), tmp_path, checkpoints=3)
  assert capsys.readouterr().err == ""


def test_the_command_needs_no_workdir(monkeypatch, capsys, tmp_path):
  config, _ = small("table", tmp_path)
  task = of_rows(10, 4)
  told = costs.Estimate("training", task, 7, 1, 8, 9, 3, 0.5, 2.0)
  for name, value in {"_CONFIG": config, "_DRY_RUN": True, "_WORKDIR": ""}.items():
    monkeypatch.setattr(train, name, type("Flag", (), {"value": value}))
  monkeypatch.setattr(train.devices, "session", lambda request: contextlib.nullcontext())
  monkeypatch.setattr(train, "_DEVICES", lambda: None)
  monkeypatch.setattr(run, "dry_run", lambda given: [told])
  train.main()
  assert capsys.readouterr().out.splitlines() == [
    "training:",
    "  network  a sum, 1 parameters",
    "  records  10, 4 in a step",
    "  steps    7 epochs of 3 steps, 21 in all",
    "  memory   0.0 MB of state and records, 0 MB at most in this process so far",
    "  time     about 10 s; 5e+02 ms a step in 3 timed ones; 2 s went before",
  ]
