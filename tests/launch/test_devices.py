"""Four emulated devices train what one trains; a checkpoint of n devices resumes on m."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import health, training
from drocc_jax import drocc, drocc_lf, drocc_oe, fit, networks
from fingerprint_jax import classifiers
from fingerprint_jax import recipe as fingerprint_recipe
from fingerprint_jax import train as fingerprint_train
from launch import devices, run
from launch.data import BreastCancer
from launch.devices import Request
from launch.methods import drocc as method
from launch.methods import streamed
from launch.reporting import progress
from tests.helpers import arrays, assert_trees_close, assert_trees_equal, interrupted_at

KEY = jax.random.key(5)
ROWS, BATCH = 53, 10  # shares of 3, 3, 3 and 1; the last batch of 3 leaves the fourth device none
SETTINGS = {"radius": 1.0, "step_size": 0.2, "num_steps": 3, "learning_rate": 0.01}


def records(rows: int = ROWS, shape: tuple[int, ...] = (3,), seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=(rows, *shape)).astype(np.float32)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"devices": 0}, "--devices must be >= 1, got 0"),
    ({"spreading": "xmap"}, "--spreading must be one of shard_map, pmap; got 'xmap'"),
    ({"num_processes": 2}, "go together"),
    ({"coordinator_address": "a:1", "num_processes": 2}, "go together"),
    ({"coordinator_address": "auto", "num_processes": 2, "process_id": 0}, "go together"),
    ({"coordinator_address": "host", "num_processes": 2, "process_id": 0}, "HOST:PORT, got 'host'"),
    ({"coordinator_address": "a:0", "num_processes": 2, "process_id": 0}, "HOST:PORT, got 'a:0'"),
    ({"coordinator_address": "a:1", "num_processes": 0, "process_id": 0}, "num_processes must be"),
    ({"coordinator_address": "a:1", "num_processes": 2, "process_id": 2}, "from 0 to 1, got 2"),
  ],
)
def test_bad_request_is_one_clear_sentence(changes, said):
  with pytest.raises(ValueError, match=said), devices.session(Request(**changes)):
    pass


def test_good_requests_pass():
  for request in (
    Request(),
    Request(3),
    Request(coordinator_address="auto"),
    Request(1, "[::1]:80", 2, 1),
  ):
    request.validate()


def test_more_devices_than_there_are_are_refused():
  with (
    pytest.raises(ValueError, match=r"--devices=5, but the number of cpu devices here is 4"),
    devices.session(Request(5)),
  ):
    pass


def test_session_chooses_and_forgets():
  assert devices.selected() == ()
  with devices.session():
    assert devices.selected() == ()  # one CPU unless asked
  with devices.session(Request(3)):
    assert devices.selected() == tuple(jax.devices()[:3])
  assert devices.selected() == ()


def test_streamed_training_refuses_several_devices(tmp_path):
  with (
    devices.session(Request(2)),
    pytest.raises(ValueError, match="is trained on one device: leave out --devices=2"),
  ):
    streamed.train(streamed.Config(), tmp_path / "run")
  assert not (tmp_path / "run").exists()


@functools.partial(jax.jit, static_argnums=2)
def shares(data, position, count):
  """A batch, and what each of ``count`` devices gets of it, stacked."""
  orders = training.orders_of(KEY, jnp.asarray(2, jnp.int32), data)

  def share(_):
    return training.batch_at(data, orders, position, BATCH, "devices")

  stacked = jax.vmap(share, axis_name="devices")(jnp.arange(count))
  return training.batch_at(data, orders, position, BATCH), stacked


@pytest.mark.parametrize("count", [1, 4, 16])
def test_shares_of_a_batch_are_the_batch_in_order(count):
  data = training.to_device(records(), np.arange(ROWS), negatives=records(7, seed=1))
  for position, rows in ((0, 10), (5, 3)):
    want, got = jax.device_get(shares(data, position, count))
    assert got.mask.shape == (count, -(-BATCH // count))
    for one, other in ((got, want), (got.negatives, want.negatives)):
      for name in ("index", "inputs", "labels"):
        kept, wanted = getattr(one, name)[one.mask > 0], getattr(other, name)[other.mask > 0]
        np.testing.assert_array_equal(kept, wanted)
    assert got.mask.sum() == rows
    assert got.negatives.mask.sum() == 10


class Normed(nn.Module):
  """Batch statistics, then a hidden layer."""

  @nn.compact
  def __call__(self, x, train=False, mask=None):
    x = networks.MaskedBatchNorm()(x[:, None, None], train, mask)[:, 0, 0]
    return nn.Dense(1)(nn.relu(nn.Dense(8)(x)))


@pytest.mark.parametrize("algorithm", [drocc_oe, drocc_lf])  # DROCC itself: the last test
def test_four_devices_train_what_one_trains(algorithm):
  config = algorithm.Config(**SETTINGS, weight_decay=0.01, noise_scale=0.3)
  data = training.to_device(records() + 1, negatives=records(7, seed=1) + 2)
  program = fit.compile_program(Normed(), config.static(), BATCH, algorithm.ALGORITHM)

  def start():
    return program.init(config.hyper(), jnp.zeros((1, 3)), jax.random.key(0))

  want, want_info = jax.device_get(program.train_epochs(start(), data, KEY, 0, 2))
  with devices.session(Request(4)):
    epochs = fit.make_train_epochs(
      Normed(), config.static(), BATCH, algorithm.ALGORITHM, devices.AXIS
    )
    state, info = devices.spread_epochs(epochs)(start(), data, KEY, 0, 2)
  with devices.session(Request(4, spreading="pmap")):
    mapped = devices.spread_epochs(epochs)(start(), data, KEY, 0, 2)
  assert_trees_equal(mapped, (state, info))
  assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves((state, info)))
  got, got_info = jax.device_get((state, info))
  assert_trees_close(got, want, rtol=1e-5, atol=1e-5)
  assert_trees_close(drocc.means(got_info), drocc.means(want_info), rtol=1e-5, atol=1e-5)
  assert float(got_info.positive_loss.count) == ROWS  # neither padding nor a row twice
  assert (got.stats["batch_stats"]["MaskedBatchNorm_0"]["mean"] > 0.3).all()


def test_the_search_has_the_bits_of_one_device():
  """A share of the same length has the same bits; another length is another program."""
  config = drocc.Config(**SETTINGS, noise_scale=0.3)
  network = networks.MLP((128,))
  state = drocc.make_init(network)(config.hyper(), jnp.zeros((1, 3)), KEY)
  forward = networks.as_forward(network)

  def find(state, inputs, index):
    return drocc.find_negatives(forward, state, inputs, index, KEY, config.static())[0]

  batch, spread = jax.device_get(shares(training.to_device(records()), 0, 4))
  got = np.asarray(jax.pmap(find, in_axes=(None, 0, 0))(state, spread.inputs, spread.index))
  alone = jax.jit(find)
  for place in range(4):
    want = alone(state, spread.inputs[place], spread.index[place])
    np.testing.assert_array_equal(got[place], want)
  whole = alone(state, batch.inputs, batch.index)
  np.testing.assert_allclose(got[spread.mask > 0], whole, rtol=0, atol=1e-6)


def train_classifier():
  network = classifiers.Classifier((), (8, 2))
  config = classifiers.Config(batch_size=BATCH, learning_rate=1e-2, shift=1, flip=True)
  optimizer = classifiers.make_optimizer(config, 12)
  data = training.to_device(records(ROWS, (6, 6, 1)), np.arange(ROWS) % 2)
  make_step = functools.partial(classifiers.make_train_step, network, optimizer, config)
  epochs = devices.make_train_epochs(make_step, BATCH)
  state = classifiers.init(network, optimizer, (6, 6, 1), jax.random.key(0))
  state, info = epochs(state, data, KEY, 0, 2)
  assert float(info.loss.count) == ROWS
  return state, info


def train_fingerprints():
  network, x = classifiers.Classifier((), (8, 2)), records(ROWS, (6, 6, 1))
  prepared = fingerprint_recipe.build_training(
    network,
    network.init(jax.random.key(0), x[:1]),
    x,
    fingerprint_train.Config(epochs=2, batch_size=BATCH),
    jax.random.key(1),
    make_train_epochs=devices.make_train_epochs,
  )
  state, info = prepared.train_epochs(prepared.state, prepared.data, KEY, 0, 2)
  return state.step, state.params, info


@pytest.mark.parametrize("train", [train_classifier, train_fingerprints])
def test_four_devices_fit_classifiers_and_fingerprints_as_one_does(train):
  want = jax.device_get(train())
  with devices.session(Request(4)):
    got = jax.device_get(train())
  assert_trees_close(got, want, rtol=1e-5, atol=1e-5)


def small() -> method.Config:
  """Nothing held out: neither validation nor calibration is compiled."""
  network = method.NetworkConfig("mlp", (16,))
  return method.Config(
    data=BreastCancer(),
    network=network,
    epochs=6,
    checkpoints=3,
    batch_size=50,
    calibration_size=0.0,
  )


def test_checkpoints_resume_on_more_devices_and_on_fewer(tmp_path):
  run.train(small(), tmp_path / "whole")
  for count in (1, 4):  # each ends after one more checkpoint
    with devices.session(Request(count)), interrupted_at(2, health, "check_loss"):
      run.train(small(), tmp_path / "spread")
  assert [each["epoch"] for each in progress.read_scalars(tmp_path / "spread")] == [2, 4]
  run.train(small(), tmp_path / "spread")
  assert_trees_close(arrays(tmp_path / "spread"), arrays(tmp_path / "whole"), rtol=1e-5, atol=1e-5)
