"""Runs of several networks: resumed, spread over devices, made live again, and diverged."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import HealthError, batching, training
from detector_jax.splits import calibration_rows
from drocc_jax import drocc as algorithm
from drocc_jax import ensemble, fit, networks, recipe, registry
from drocc_jax.settings import Training
from launch import devices, exporting, failures, run, stages, stopping
from launch.data import BreastCancer, Files
from launch.devices import Request
from launch.methods import drocc
from tests.helpers import arrays, assert_same_bits, interrupted_at

CONFIG = drocc.Config(
  data=BreastCancer(),
  network=registry.NetworkConfig("mlp", (4,)),
  members=3,
  epochs=12,
  checkpoints=3,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "whole"
  return run.train(CONFIG, workdir)


@pytest.mark.long
def test_an_interrupted_run_ends_with_the_same_bits(whole, tmp_path):
  with interrupted_at(2, stages, "_train", stopping.Stopped("stopped", 15)):
    run.train(CONFIG, tmp_path)
  assert sorted(path.name for path in (tmp_path / "checkpoints/training").glob("[0-9]*")) == ["4"]
  run.train(CONFIG, tmp_path)
  assert arrays(whole.parent)["variables/params/Dense_0/kernel"].shape == (3, 30, 4)
  assert_same_bits(whole.parent, tmp_path)


def test_a_finished_run_is_made_live_again(whole):
  detector = exporting.live(whole.parent)  # compares its scores with the folder's
  assert detector.metadata["config"]["members"] == 3


def test_four_devices_train_what_one_trains():
  config = algorithm.Config(radius=1.0, step_size=0.2, num_steps=3, learning_rate=0.01)
  network = ensemble.Ensemble(networks.MLP((4,)), 2)
  x = np.random.default_rng(0).normal(size=(53, 3))
  data, key = training.to_device(x), jax.random.key(5)
  program = fit.compile_program(network, config.static(), 10)

  def start():
    return program.init(config.hyper(), jnp.zeros((1, 3)), jax.random.key(0))

  want, info = jax.device_get(program.train_epochs(start(), data, key, 0, 2))
  with devices.session(Request(4)):
    epochs = fit.make_train_epochs(network, config.static(), 10, axis_name=devices.AXIS)
    got, on_four = jax.device_get(devices.spread_epochs(epochs)(start(), data, key, 0, 2))
  for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
  assert algorithm.means(on_four) == pytest.approx(algorithm.means(info), rel=1e-4)


def test_the_batch_of_the_member_that_diverged_is_named(tmp_path):
  np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 3)))
  files = Files(train=str(tmp_path / "x.npy"))
  config = dataclasses.replace(
    CONFIG,
    data=files,
    epochs=3,
    batch_size=16,
    drocc=algorithm.Config(mu=None, learning_rate=1e30),
  )
  with pytest.raises(HealthError, match="It began in epoch 0 at step"):
    run.train(config, tmp_path / "run")
  told = json.loads((tmp_path / "run" / "failure.json").read_text())
  rows, _ = calibration_rows(np.arange(60), config.calibration_size, config.seed)
  key = recipe.keys(config.seed)[1]
  orders = []
  for member_key in ensemble.member_keys(key, ensemble.Ensemble(networks.MLP(), 3)):
    order_key, _ = jax.random.split(member_key)
    order = batching.epoch_order(order_key, 0, len(rows), batching.padded_length(len(rows)))
    orders.append(rows[np.asarray(order)[16 * told["position"] :][:16]].tolist())
  assert told["rows"] in orders
  assert orders[0] != orders[1]


def test_steps_are_those_of_the_member_that_diverges():
  x = np.random.default_rng(0).normal(size=(40, 3))
  config = algorithm.Config(radius=1.0, num_steps=1)
  prepared = recipe.build_training(
    x, config, Training(members=3, batch_size=16), network=networks.MLP((4,))
  )
  init_key, key = recipe.keys(0)
  states = prepared.init(init_key)
  last = states.params["Dense_1"]["kernel"]
  states.params["Dense_1"]["kernel"] = last.at[1].set(3e38)
  steps = list(failures.drocc_steps(prepared, key, np.arange(40))(states, 0))
  order_key, _ = jax.random.split(ensemble.member_keys(key, prepared.network)[1])
  order = batching.epoch_order(order_key, 0, 40, batching.padded_length(40))
  assert [row for step in steps for row in step.rows] == order[:40].tolist()
  assert steps[0].state.params["Dense_1"]["kernel"].shape == (4, 1)


FEW = dataclasses.replace(CONFIG, members=1, epochs=2, checkpoints=1)


def test_a_run_of_few_records_is_made_live_again(tmp_path):
  np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(30, 3)))
  config = dataclasses.replace(FEW, data=Files(train=str(tmp_path / "x.npy")))
  run.train(config, tmp_path / "run")
  live = exporting.live(tmp_path / "run")  # compares its scores with the folder's
  assert live.calibration.scores.size == 30
  assert "5 networks, each trained without one fold of them" in live.metadata["summary"]
  assert isinstance(live.program.score_fn.network, ensemble.Ensemble)


def test_steps_are_of_records_outside_the_members_fold():
  x = np.random.default_rng(0).normal(size=(40, 3))
  without = np.arange(2)[:, None] == (np.arange(40) % 2)[None]
  prepared = recipe.build_training(
    x,
    algorithm.Config(radius=1.0, num_steps=1),
    Training(batch_size=16),
    network=networks.MLP((4,)),
    without=without,
  )
  init_key, key = recipe.keys(0)
  states = prepared.init(init_key)
  last = states.params["Dense_1"]["kernel"]
  states.params["Dense_1"]["kernel"] = last.at[1].set(3e38)
  steps = failures.drocc_steps(prepared, key, np.arange(100, 140))(states, 0)
  assert sorted(row for step in steps for row in step.rows) == list(range(100, 140, 2))
