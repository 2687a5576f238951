"""The PyTorch peer does the same step as ours, given the same weights and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import torch_drocc
from detector_jax.batching import Batch
from drocc_jax import drocc, networks

torch = pytest.importorskip("torch")

ROWS, FEATURES, HIDDEN = 32, 6, 16
KEY = jax.random.key(1)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
  """Several threads wait for one another where other tests keep the cores busy."""
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config() -> drocc.Config:
  """Seven steps, of which the third, the sixth and the last are projected."""
  return drocc.Config(
    radius=1.5,
    gamma=1.2,
    mu=0.5,
    step_size=0.2,
    num_steps=7,
    project_every=3,
    learning_rate=0.01,
    weight_decay=0.01,
  )


def as_torch(params):
  """A copy of our parameters as the peer's network."""
  network = torch_drocc.mlp(FEATURES, HIDDEN)
  with torch.no_grad():
    for place, name in ((0, "Dense_0"), (2, "Dense_1")):
      network[place].weight.copy_(torch.tensor(np.asarray(params[name]["kernel"]).T))
      network[place].bias.copy_(torch.tensor(np.asarray(params[name]["bias"])))
  return network


def test_one_step_is_ours(config, rng):
  x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
  batch = Batch(jnp.asarray(x), jnp.ones(ROWS), jnp.ones(ROWS), jnp.arange(ROWS))
  ours, static = networks.MLP((HIDDEN,), bias_range=0.5), config.static()
  state = drocc.make_init(ours, static)(config.hyper(), batch.inputs, jax.random.key(0))
  noise = jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(KEY, row), (FEATURES,)))(
    batch.index
  )
  forward = networks.as_forward(ours)
  want, _ = jax.jit(
    lambda state: drocc.find_negatives(forward, state, batch.inputs, batch.index, KEY, static)
  )(state)
  after, _ = jax.jit(drocc.make_train_step(ours, static))(state, batch, KEY)

  network = as_torch(state.params)
  optimizer = torch_drocc.optimizer_of(network, config)
  got = torch_drocc.train_step(
    network, optimizer, torch.tensor(x), torch.tensor(np.asarray(noise)), config
  )
  np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-4)
  assert np.abs(np.asarray(want) - x - np.asarray(noise)).max() > 0.1
  moved = 0.0
  for place, name in ((0, "Dense_0"), (2, "Dense_1")):
    before = state.params[name]["kernel"]
    kernel = network[place].weight.detach().numpy().T
    np.testing.assert_allclose(kernel, after.params[name]["kernel"], rtol=0, atol=1e-4)
    bias = network[place].bias.detach().numpy()
    np.testing.assert_allclose(bias, after.params[name]["bias"], rtol=0, atol=1e-4)
    moved = max(moved, np.abs(kernel - np.asarray(before)).max())
  assert moved > 0.005


def test_training_separates_the_data_from_the_shell(config, rng):
  x = rng.normal(size=(50, FEATURES)).astype(np.float32) * 0.1
  network = torch_drocc.train(x, config, HIDDEN, batch_size=20, epochs=60)
  assert all(parameter.requires_grad for parameter in network.parameters())
  far = 1.5 * x / np.linalg.norm(x, axis=1, keepdims=True)
  with torch.no_grad():
    near_logit, far_logit = (network(torch.tensor(rows)).mean() for rows in (x, far))
  assert near_logit > far_logit + 0.5


def test_a_search_needs_numbers(config):
  with pytest.raises(ValueError, match="must be numbers"):
    torch_drocc.search(torch_drocc.mlp(2, 2), torch.zeros(1, 2), torch.ones(1, 2), drocc.Config())
