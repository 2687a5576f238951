"""Training: all layers in one step, the network frozen, padding without effect, faults named."""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import taps, training
from detector_jax.batching import Batch
from fingerprint_jax import autoencoders, train
from fingerprint_jax.fingerprint import Fingerprint
from tests.helpers import assert_trees_close, assert_trees_equal

CONFIG = train.Config(epochs=30, batch_size=50, learning_rate=1e-2)
KEY = jax.random.key(5)


def batch_of(x, mask=None) -> Batch:
  mask = np.ones(len(x)) if mask is None else mask
  ones = jnp.ones(len(x))
  return Batch(jnp.asarray(x), ones, jnp.asarray(mask, jnp.float32), jnp.arange(len(x)))


@pytest.fixture(scope="module")
def optimizer():
  return train.make_optimizer(CONFIG, 30 * 4)


@pytest.fixture(scope="module")
def state(prints, weights, rows, optimizer) -> train.State:
  frozen = {"network": weights, "views": train.measure_views(prints, weights, rows)}
  return train.init(prints, frozen, optimizer, jax.random.key(0))


@pytest.fixture(scope="module")
def traces() -> list:
  """Grows with every trace of the network."""
  return []


@pytest.fixture(scope="module")
def step(prints, optimizer, traces):
  network = prints.taps.network

  def counted(weights, x):
    traces.append(x)
    return network(weights, x)

  watched = dataclasses.replace(prints, taps=dataclasses.replace(prints.taps, network=counted))
  return jax.jit(train.make_train_step(watched, optimizer))


def test_views_are_the_moments_of_the_activations(prints, weights, rows, state):
  for name, activation in prints.taps(weights, rows).items():
    view = state.frozen["views"][name]
    np.testing.assert_allclose(view.center, np.mean(activation, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(view.scale, np.std(activation, axis=0), rtol=1e-4)


def test_the_spread_of_a_layer_far_from_zero_is_found(rows):
  found = taps.find(lambda x: {"far": 1000.0 + 0.01 * x}, None, (6,))
  prints = Fingerprint(found, (autoencoders.DenseAutoencoder(2, 2),))
  view = train.measure_views(prints, None, rows)["far"]
  far = np.asarray(1000.0 + 0.01 * jnp.asarray(rows), np.float64)
  np.testing.assert_allclose(view.center, far.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(view.scale, far.std(axis=0), rtol=1e-3)


def test_one_step_feeds_all_layers_and_is_traced_once(state, rows, step, traces):
  before = jax.tree.map(np.array, state)
  count = len(traces)
  once, info = step(state, batch_of(rows[:50]), KEY)
  assert len(traces) == count + 1
  twice, _ = step(once, batch_of(rows[50:100]), jax.random.key(6))
  assert len(traces) == count + 1
  assert (int(once.step), int(twice.step)) == (1, 2)
  assert set(info.losses) == {"hidden", "out"}
  for name in info.losses:
    kernel = once.params[name]["encode"]["kernel"]
    assert (np.asarray(kernel) != before.params[name]["encode"]["kernel"]).any()
  assert_trees_equal(twice.frozen, before.frozen)
  assert_trees_equal(state, before)


def test_the_loss_is_the_mean_squared_residual_in_variances(state, rows, step, prints):
  _, info = step(state, batch_of(rows[:50]), KEY)
  residuals = prints.residuals(state.params, prints.targets(state.frozen, rows[:50]))
  for name, residual in residuals.items():
    want = np.mean(np.square(residual))
    np.testing.assert_allclose(info.losses[name].value, want, rtol=1e-4)
    assert float(info.losses[name].count) == 50
  assert float(info.penalty.value) == 0.0


def test_a_layer_learns_the_same_alone(state, rows, step, prints, optimizer):
  together, _ = step(state, batch_of(rows[:50]), KEY)
  found = dataclasses.replace(prints.taps, layers=("out",), shapes=prints.taps.shapes[1:])
  alone = Fingerprint(found, prints.autoencoders[1:])
  params = {"out": state.params["out"]}
  single = train.State(state.step, params, optimizer.init(params), state.frozen)
  got, _ = jax.jit(train.make_train_step(alone, optimizer))(single, batch_of(rows[:50]), KEY)
  assert_trees_close(got.params["out"], together.params["out"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("garbage", [0.0, 1e6, np.nan])
def test_masked_padding_changes_nothing(state, rows, step, garbage):
  x = rows[:50].copy()
  x[30:] = garbage
  mask = np.arange(50) < 30
  got, info = step(state, batch_of(x, mask), KEY)
  x[30:] = rows[:20]
  want, want_info = step(state, batch_of(x, mask), KEY)
  assert_trees_equal(got.params, want.params)
  assert_trees_equal(info, want_info)
  assert float(info.losses["out"].count) == 30


def test_a_network_that_makes_nan_of_the_padding_trains(rows, optimizer):
  found = taps.find(lambda x: {"unit": x / jnp.linalg.norm(x, axis=1, keepdims=True)}, None, (6,))
  prints = Fingerprint(found, (autoencoders.DenseAutoencoder(8, 4),))
  frozen = {"network": None, "views": train.measure_views(prints, None, rows)}
  start = train.init(prints, frozen, optimizer, jax.random.key(0))
  epochs = training.compile_train_epochs(train.make_train_step(prints, optimizer), 64)
  end, info = epochs(start, training.to_device(rows), KEY, 0, 3)  # 200 rows: a last batch of 8
  assert np.isfinite(float(info.losses["unit"].value))
  squares = train.measure_residuals(prints, end.frozen, end.params, rows)["unit"]
  assert np.isfinite(squares).all()


def test_losses_go_down_and_end_below_the_variance(prints, rows, step, state):
  data = training.to_device(rows)
  epochs = training.make_train_epochs_by_step(step, CONFIG.batch_size)
  middle, first = epochs(jax.tree.map(jnp.array, state), data, KEY, 0, 1)
  end, last = epochs(middle, data, KEY, 1, CONFIG.epochs)
  for name in prints.layers:
    assert float(last.losses[name].value) < 0.3
    assert float(last.losses[name].value) < 0.5 * float(first.losses[name].value)
  squares = train.measure_residuals(prints, end.frozen, end.params, rows)
  for name in prints.layers:
    assert float(jnp.mean(squares[name])) == pytest.approx(float(last.losses[name].value), rel=0.2)
  assert_trees_equal(end.frozen, state.frozen)


def test_the_variational_autoencoder_learns_with_its_penalty(rows, weights, prints, optimizer):
  module = autoencoders.VariationalAutoencoder(8, 3, beta=0.05)
  variational = Fingerprint(prints.taps, (module, autoencoders.DenseAutoencoder(8, 2)))
  frozen = {"network": weights, "views": train.measure_views(variational, weights, rows)}
  start = train.init(variational, frozen, optimizer, jax.random.key(0))
  step = jax.jit(train.make_train_step(variational, optimizer))
  one, info = step(start, batch_of(rows[:50]), KEY)
  other, _ = step(start, batch_of(rows[:50]), jax.random.key(9))
  assert float(info.penalty.value) > 0.0
  assert_trees_equal(one.params["out"], other.params["out"])
  drawn = [np.asarray(end.params["hidden"]["mean"]["kernel"]) for end in (one, other)]
  assert (drawn[0] != drawn[1]).any()
  epochs = training.make_train_epochs_by_step(step, CONFIG.batch_size)
  _, last = epochs(start, training.to_device(rows), KEY, 0, CONFIG.epochs)
  assert float(last.losses["hidden"].value) < 0.7
  assert 0.0 < float(last.penalty.value) < 1.0


@pytest.mark.parametrize("value", [0.0, 1 / 3, -100.0])
def test_a_constant_layer_is_named(rows, value):
  def network(x):
    return {"good": x, "flat": jnp.full((x.shape[0], 3), value)}

  prints = Fingerprint(taps.find(network, None, (6,)), ())
  with pytest.raises(ValueError, match=r"^Layer 'flat' is constant .*layers=\.$"):
    train.measure_views(prints, None, rows)


def test_activations_that_are_not_finite_are_named(rows):
  def network(x):
    return {"good": x, "root": jnp.where(x > x.mean(), x, jnp.nan)}

  prints = Fingerprint(taps.find(network, None, (6,)), ())
  with pytest.raises(ValueError, match=r"^Layer 'root' has activations that are NaN or infinite"):
    train.measure_views(prints, None, rows)


class Wider(nn.Module):
  @nn.compact
  def __call__(self, a):
    return nn.Dense(a.shape[-1] + 1)(a)


class Normed(nn.Module):
  @nn.compact
  def __call__(self, a):
    return nn.BatchNorm(use_running_average=False)(a)


class MapsOnly(nn.Module):
  @nn.compact
  def __call__(self, a):
    batch, height, width, channels = a.shape
    return a.reshape(batch, height * width * channels)


@pytest.mark.parametrize(
  ("module", "message"),
  [
    (Wider(), r"'out' maps \[2, 5\] to \[2, 6\]; it must give back the same shape"),
    (Normed(), r"'out' has state beside its parameters \(batch_stats\)"),
    (MapsOnly(), r"'out' cannot take \[2, 5\]: not enough values to unpack"),
  ],
)
def test_an_autoencoder_that_does_not_fit_is_refused_by_its_layer(
  prints, state, optimizer, module, message
):
  wrong = Fingerprint(prints.taps, (prints.autoencoders[0], module))
  with pytest.raises(ValueError, match=f"^The autoencoder of layer {message}") as error:
    train.init(wrong, state.frozen, optimizer, jax.random.key(0))
  assert "\n" not in str(error.value)


def test_layers_that_did_not_learn_are_listed(prints):
  losses = {"hidden": 1.0, "out": 0.96, "residual": 1.2}
  told = train.findings(prints, {**losses, "hidden": 0.5})
  assert [(each.value, each.passed) for each in told] == [(0.5, True), (0.96, False)]
  assert told[0].check == "share of the variance of layer 'hidden' that its autoencoder leaves"
  without = (autoencoders.PrincipalAutoencoder(0), prints.autoencoders[1])  # nothing to learn
  told = train.findings(Fingerprint(prints.taps, without), losses)
  assert [each.value for each in told] == [0.96]


@pytest.mark.parametrize(
  ("setting", "message"),
  [
    ({"epochs": 0}, "^epochs must be >= 1, got 0"),
    ({"batch_size": 0}, "^batch_size must be >= 1, got 0"),
    ({"learning_rate": 0.0}, r"^learning_rate must be > 0, got 0\.0"),
    ({"learning_rate": np.nan}, "^learning_rate must be > 0, got nan"),
  ],
)
def test_a_setting_out_of_its_range_is_named(setting, message):
  with pytest.raises(ValueError, match=message):
    train.Config(**setting).validate()
