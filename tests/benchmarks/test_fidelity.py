"""The released recipe in JAX and in PyTorch: the same steps from the same weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import fidelity, images, torch_drocc, torch_networks
from configs import drocc_cifar10
from detector_jax.batching import Batch
from drocc_jax import drocc, networks

torch = pytest.importorskip("torch")

LENET = networks.LeNet(channels=(3, 5), dense=(7, 4))
SHAPE = (8, 12, 2)
KEY = jax.random.key(5)


def as_torch(x):
  return torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy())


@pytest.mark.parametrize("name", ["airplane", "automobile"])  # Adam, and SGD without momentum
def test_three_released_steps_are_pytorch_s(name, rng):
  config = drocc_cifar10.get_config(name).drocc
  config = dataclasses.replace(config, num_steps=0, schedule="constant", radius=3.0)
  x = rng.normal(size=(16, *SHAPE)).astype(np.float32)
  batch = Batch(jnp.asarray(x), jnp.ones(16), jnp.ones(16), jnp.arange(16))
  static = config.static()
  state = drocc.make_init(LENET, static)(config.hyper(), batch.inputs, jax.random.key(0))
  step = jax.jit(drocc.make_train_step(LENET, static))
  network = torch_networks.lenet((2, 8, 12), (3, 5), (7, 4))
  torch_networks.load_lenet(network, state.params)
  optimizer = torch_drocc.optimizer_of(network, config)
  for number in range(3):
    key = jax.random.fold_in(KEY, number)
    noise = jax.vmap(lambda row, key=key: jax.random.normal(jax.random.fold_in(key, row), SHAPE))(
      batch.index
    )
    state, _ = step(state, batch, key)
    torch_drocc.train_step(network, optimizer, as_torch(x), as_torch(noise), config)
  ours = torch_networks.lenet((2, 8, 12), (3, 5), (7, 4))
  torch_networks.load_lenet(ours, state.params)
  for one, two in zip(network.parameters(), ours.parameters(), strict=True):
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
  norms = [layer for layer in network if isinstance(layer, torch.nn.BatchNorm2d)]
  for number, layer in enumerate(norms):
    running = state.stats["batch_stats"][f"BatchNorm_{number}"]
    np.testing.assert_allclose(layer.running_mean, running["mean"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(layer.running_var, running["var"], rtol=0.02)  # theirs is unbiased


def test_initial_weights_have_pytorch_s_spread():
  init = jax.jit(networks.cifar_lenet().init)
  params = init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
  ours = torch_networks.lenet((3, 32, 32))
  torch_networks.load_lenet(ours, params)
  torch.manual_seed(0)
  for one, two in zip(
    ours.parameters(), torch_networks.lenet((3, 32, 32)).parameters(), strict=True
  ):
    if one.numel() > 2000:
      assert (one.std() / two.std()).item() == pytest.approx(1.0, abs=0.03)
      assert (one.abs().max() / two.abs().max()).item() == pytest.approx(1.0, abs=0.03)


def test_the_search_in_training_mode_feeds_the_running_statistics(rng):
  config = drocc_cifar10.get_config("airplane").drocc
  x, noise = (as_torch(rng.normal(size=(8, *SHAPE)).astype(np.float32)) for _ in range(2))
  found = []
  for steps in (0, 50):
    torch.manual_seed(0)
    network = torch_networks.lenet((2, 8, 12), (3, 5), (7, 4))
    settings = dataclasses.replace(config, num_steps=steps)
    optimizer = torch_drocc.optimizer_of(network, settings)
    torch_drocc.train_step(network, optimizer, x, noise.clone(), settings)
    assert all(layer.momentum == 0.1 for layer in network if hasattr(layer, "momentum"))
    found.append([layer.running_mean for layer in network if hasattr(layer, "running_mean")])
  for one, two in zip(*found, strict=True):
    torch.testing.assert_close(one, two, rtol=0, atol=0.02 * one.abs().max().item())


@pytest.mark.data
@pytest.mark.usefixtures("data_dir")
def test_the_table_has_a_column_for_every_tenth_of_the_epochs(monkeypatch):
  monkeypatch.setattr(torch_networks, "CIFAR_CHANNELS", (2, 2, 2))
  size = dataclasses.replace(images.CPU, train=20, test=40, epochs=10, batch_size=20)
  settings = fidelity.images.released("airplane", 0, size)
  assert fidelity.tenths(settings) == list(range(1, 11))
  assert fidelity.tenths(dataclasses.replace(settings, epochs=30)) == list(range(3, 31, 3))
  assert fidelity.tenths(dataclasses.replace(settings, epochs=3)) == [1, 2, 3]
  x, x_test, labels = images.one_class("cifar10", 0, 0, size)
  short = dataclasses.replace(settings, epochs=10, calibration_size=0.0)
  found = fidelity._measured(fidelity.TORCH, short, x, x_test, labels)
  assert list(found) == [f"epoch {n}" for n in range(1, 11)]
  assert all(0 <= value <= 1 for value in found.values())


class Tiny(fidelity.NetworkConfig):
  """The LeNet of the tests."""

  def make(self):
    return LENET


def test_the_pair_starts_from_the_same_weights(monkeypatch, rng):
  """At a rate near 0 only statistics move; from weights of its own PyTorch is elsewhere."""
  lenet = torch_networks.lenet
  monkeypatch.setattr(torch_networks, "lenet", lambda shape: lenet(shape, (3, 5), (7, 4)))
  size = dataclasses.replace(images.CPU, train=32, epochs=2, batch_size=32)
  config = fidelity.images.released("automobile", 3, size)
  config = dataclasses.replace(
    config,
    network=Tiny(),
    calibration_size=0.0,
    drocc=dataclasses.replace(config.drocc, learning_rate=1e-9),
  )
  x, x_test = (rng.normal(size=(n, *SHAPE)).astype(np.float32) for n in (32, 60))
  labels = np.repeat([0, 1], 30)
  found = fidelity.paired(config, x, x_test, labels)
  assert list(found) == [fidelity.JAX, fidelity.OURS, fidelity.DIFFERENCE]
  ours, theirs, less = found.values()
  assert less == {column: theirs[column] - ours[column] for column in ours}
  assert list(less) == ["epoch 1", "epoch 2"]
  jax_scores = fidelity.protocol.train(config, x, x_test, [2]).scores[0]
  weights = fidelity.initial_weights(config, x)
  equal, own = (
    fidelity.in_torch(config, x, x_test, ascent=False, weights=each)[2] for each in (weights, None)
  )
  assert np.corrcoef(jax_scores, equal)[0, 1] > 0.95 > 0.7 > np.corrcoef(jax_scores, own)[0, 1]
