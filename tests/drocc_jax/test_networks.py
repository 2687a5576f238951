"""The networks: sizes by hand, batch statistics, and what is refused."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drocc_jax import networks


def shapes(network, *shape):
  """Shapes of parameters and statistics, and the number of parameters, without running it."""
  forward = networks.as_forward(network)
  x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  params, stats = jax.eval_shape(forward.init, jax.random.key(0), x)
  assert jax.eval_shape(forward.evaluate, params, stats, x).shape == (2,)
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  return jax.tree.map(lambda leaf: leaf.shape, params), stats, count


def test_mnist_lenet():
  params, stats, count = shapes(networks.mnist_lenet(), 28, 28, 1)
  assert params == {
    "Conv_0": {"kernel": (5, 5, 1, 8)},
    "Conv_1": {"kernel": (5, 5, 8, 4)},
    "Dense_0": {"kernel": (7 * 7 * 4, 64)},
    "Dense_1": {"kernel": (64, 1)},
  }
  assert count == 200 + 800 + 12_544 + 64
  assert {name: leaf["mean"].shape for name, leaf in stats["batch_stats"].items()} == {
    "BatchNorm_0": (8,),
    "BatchNorm_1": (4,),
  }


def test_cifar_lenet():
  params, _, count = shapes(networks.cifar_lenet(), 32, 32, 3)
  assert params == {
    "Conv_0": {"kernel": (5, 5, 3, 32)},
    "Conv_1": {"kernel": (5, 5, 32, 64)},
    "Conv_2": {"kernel": (5, 5, 64, 128)},
    "Dense_0": {"kernel": (4 * 4 * 128, 128)},
    "Dense_1": {"kernel": (128, 64)},
    "Dense_2": {"kernel": (64, 1)},
  }
  assert count == 2_400 + 51_200 + 204_800 + 262_144 + 8_192 + 64


def test_mlp():
  params, stats, count = shapes(networks.MLP(), 6)
  assert params["Dense_0"]["kernel"] == (6, 128)
  assert count == 6 * 128 + 128 + 128 + 1
  assert stats == {}
  assert shapes(networks.MLP((5, 4)), 3, 2)[2] == (6 * 5 + 5) + (5 * 4 + 4) + (4 + 1)


def test_lstm():
  # Four gates of 128, each from 3 channels and 128 states with one bias; then one logit.
  _, stats, count = shapes(networks.LSTM(), 10, 3)
  assert count == 4 * 128 * (3 + 128 + 1) + 128 + 1
  assert stats == {}


def test_lstm_sees_every_step_of_time():
  forward = networks.as_forward(networks.LSTM(4))
  x = jax.random.normal(jax.random.key(1), (1, 5, 2))
  params, _ = forward.init(jax.random.key(0), x)
  sensitivity = jax.jit(jax.grad(lambda x: forward.evaluate(params, {}, x)[0]))(x)
  assert (np.abs(sensitivity).sum(axis=-1) > 0).all()


def test_mlp_options_shape_the_first_layer():
  network = networks.MLP((4000,), input_gain=2.0, bias_range=1.5)
  params, _ = networks.as_forward(network).init(jax.random.key(0), jnp.zeros((1, 4)))
  first = params["Dense_0"]
  assert float(jnp.std(first["kernel"])) == pytest.approx(2.0 / 4**0.5, rel=0.03)
  assert float(jnp.abs(first["bias"]).max()) == pytest.approx(1.5, rel=0.01)
  plain, _ = networks.as_forward(networks.MLP((4000,))).init(jax.random.key(0), jnp.zeros((1, 4)))
  assert float(jnp.std(plain["Dense_0"]["kernel"])) == pytest.approx(1.0 / 4**0.5, rel=0.03)
  np.testing.assert_array_equal(plain["Dense_0"]["bias"], np.zeros(4000))


@pytest.fixture(scope="module")
def lenet():
  """A tiny LeNet with its jitted functions, variables and a batch of six images."""
  forward = networks.as_forward(networks.LeNet((2,), (3,)))
  x = jax.random.normal(jax.random.key(1), (6, 8, 8, 1)) + 0.5
  params, stats = jax.jit(forward.init)(jax.random.key(0), x)
  return forward._replace(train=jax.jit(forward.train), evaluate=jax.jit(forward.evaluate)), (
    params,
    stats,
    x,
  )


def test_evaluation_uses_running_statistics(lenet):
  forward, (params, stats, x) = lenet
  logits = forward.evaluate(params, stats, x)
  alone = [float(forward.evaluate(params, stats, image[None])[0]) for image in x[:2]]
  np.testing.assert_allclose(logits[:2], alone, rtol=1e-5)
  trained_logits, trained = forward.train(params, stats, x, jnp.ones(6))
  assert (np.asarray(trained_logits) != np.asarray(logits)).all()
  assert (np.asarray(forward.evaluate(params, trained, x)) != np.asarray(logits)).all()


def test_training_moves_running_statistics_a_tenth(lenet):
  forward, (params, stats, x) = lenet
  maps = jax.lax.conv_general_dilated(
    x, params["Conv_0"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  got = forward.train(params, stats, x, jnp.ones(6))[1]["batch_stats"]["BatchNorm_0"]
  np.testing.assert_allclose(got["mean"], 0.1 * np.mean(maps, axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(got["var"], 0.9 + 0.1 * np.var(maps, axis=(0, 1, 2)), rtol=1e-4)


def test_padding_stays_out_of_the_statistics(lenet):
  forward, (params, stats, x) = lenet
  mask = jnp.array([1.0] * 4 + [0.0] * 2)
  want, want_stats = forward.train(params, stats, x, mask)
  got, got_stats = forward.train(params, stats, x.at[4:].set(1e3), mask)
  np.testing.assert_array_equal(got[:4], want[:4])
  for a, b in zip(jax.tree.leaves(got_stats), jax.tree.leaves(want_stats), strict=True):
    np.testing.assert_array_equal(a, b)
  shorter, shorter_stats = forward.train(params, stats, x[:4], jnp.ones(4))
  np.testing.assert_allclose(want[:4], shorter, rtol=1e-4, atol=1e-6)
  for a, b in zip(jax.tree.leaves(want_stats), jax.tree.leaves(shorter_stats), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_batch_statistics_on_four_devices_are_those_of_the_whole_batch(rng):
  """Devices with four, three, one and no real examples; the last was NaN with Flax's own."""
  x = rng.normal(3.0, 2.0, size=(4, 4, 2, 2, 3)).astype(np.float32)
  mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.float32)
  layer = networks.MaskedBatchNorm()
  variables = layer.init(jax.random.key(0), x[0], False)

  def run(x, mask):
    return layer.apply(variables, x, True, mask, mutable=["batch_stats"])

  run = networks.in_training_form(run, "devices")
  got, updated = jax.pmap(run, axis_name="devices")(x, mask)
  real = x[mask > 0]
  mean, var = real.mean(axis=(0, 1, 2)), real.var(axis=(0, 1, 2))
  want = (x - mean) / np.sqrt(var + 1e-4)
  np.testing.assert_allclose(got[mask > 0], want[mask > 0], rtol=1e-4, atol=1e-5)
  for device in range(4):
    stats = jax.tree.map(lambda leaf, i=device: leaf[i], updated["batch_stats"])
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * var, rtol=1e-5)


def test_a_column_of_logits_is_one_logit():
  forward = networks.as_forward(nn.Dense(1))
  params, stats = forward.init(jax.random.key(0), jnp.zeros((5, 3)))
  assert forward.evaluate(params, stats, jnp.zeros((5, 3))).shape == (5,)
  assert forward.train(params, stats, jnp.zeros((5, 3)), jnp.ones(5))[0].shape == (5,)


def test_two_logits_are_refused():
  forward = networks.as_forward(nn.Dense(2))
  params, stats = forward.init(jax.random.key(0), jnp.zeros((5, 3)))
  message = r"one logit.* for an input \[5, 3\] it returned \[5, 2\]"
  with pytest.raises(ValueError, match=message):
    forward.evaluate(params, stats, jnp.zeros((5, 3)))
  with pytest.raises(ValueError, match=message):
    forward.train(params, stats, jnp.zeros((5, 3)), jnp.ones(5))


@pytest.mark.parametrize("network", [None, 128, nn.Dense, lambda x: x])
def test_what_is_not_a_module_is_refused(network):
  with pytest.raises(TypeError, match=r"must be a flax\.linen Module with one logit"):
    networks.as_forward(network)


def test_squares_bend_near_zero_and_grow_evenly_far_away():
  network = networks.MLP((), squares=True)
  x = jnp.array([[0.0, 0.0], [1.0, -2.0], [300.0, -300.0]])
  params = network.init(jax.random.key(0), x)
  kernel = jnp.array([[0.0], [0.0], [1.0], [10.0]])
  params = {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.zeros(1)}}}
  want = [0.0, 1.0 / (10.0 / 9.0) ** 0.5 + 40.0 / (13.0 / 9.0) ** 0.5, 11.0 * 900.0]
  np.testing.assert_allclose(network.apply(params, x), want, rtol=1e-3)
  assert jnp.isfinite(network.apply(params, jnp.array([[1e15, -1e15]]))).all()
