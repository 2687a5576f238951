"""A tiny network with a batch, and one released training step as numbers."""

import pathlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax.batching import Batch
from drocc_jax import drocc, networks

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"


@pytest.fixture(scope="session")
def network() -> networks.MLP:
  return networks.MLP((8,))


@pytest.fixture(scope="session")
def config() -> drocc.Config:
  return drocc.Config(radius=1.0, step_size=0.2, num_steps=5, learning_rate=0.01, weight_decay=0.01)


@pytest.fixture(scope="session", params=["tabular", "sphere"])
def released(request: pytest.FixtureRequest) -> SimpleNamespace:
  """One training step of the released PyTorch code: its arrays, and parameters as ours."""
  with np.load(FIXTURES / f"drocc_step_{request.param}.npz") as archive:
    arrays = dict(archive)

  def params(stage: str) -> dict[str, dict[str, np.ndarray]]:
    return {
      f"Dense_{layer - 1}": {
        "kernel": arrays[f"{stage}_kernel{layer}"],
        "bias": arrays[f"{stage}_bias{layer}"],
      }
      for layer in (1, 2)
    }

  return SimpleNamespace(
    **arrays, params=params, network=networks.MLP((arrays["initial_bias1"].size,))
  )


@pytest.fixture(scope="session")
def batch() -> Batch:
  """Eight records of three features; the last two are padding."""
  x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
  mask = jnp.array([1.0] * 6 + [0.0] * 2)
  return Batch(jnp.asarray(x), jnp.ones(8), mask, jnp.array([4, 0, 9, 2, 7, 1, 3, 3], jnp.int32))


@pytest.fixture(scope="session")
def state(network: networks.MLP, config: drocc.Config) -> drocc.State:
  init = jax.jit(drocc.make_init(network, config.static()))
  return init(config.hyper(), jnp.zeros((1, 3)), jax.random.key(0))


@pytest.fixture(scope="session")
def train_step(network: networks.MLP, config: drocc.Config) -> drocc.TrainStep:
  """The step of ``network``, jitted once for all tests."""
  return jax.jit(drocc.make_train_step(network, config.static()))
