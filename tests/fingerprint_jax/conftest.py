"""Tiny networks and one fit of each kind; everything that trains is trained once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import taps
from fingerprint_jax import NeuralFP, autoencoders
from fingerprint_jax.classifiers import Classifier
from fingerprint_jax.fingerprint import Fingerprint


def smooth_images(n: int, seed: int) -> np.ndarray:
  """``[n, 8, 8, 1]`` in [0, 1] on a surface of three dimensions."""
  rng = np.random.default_rng(seed)
  place = np.arange(8.0)
  row, column, width = rng.uniform([2.0, 2.0, 2.0], [5.0, 5.0, 4.0], size=(n, 3)).T[..., None]
  bump = np.exp(-(((place - row) / width) ** 2))[:, :, None]
  bump = bump * np.exp(-(((place - column) / width) ** 2))[:, None, :]
  return bump[..., None].astype(np.float32)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
  return smooth_images(600, 0)


@pytest.fixture(scope="session")
def fresh() -> np.ndarray:
  """300 records of the same kind, 20 of noise among them."""
  x = smooth_images(300, 1)
  x[::15] = np.random.default_rng(2).uniform(size=(20, 8, 8, 1))
  return x


@pytest.fixture(scope="session")
def network() -> Classifier:
  """Two convolutions and a dense layer."""
  return Classifier(((4, 1), (4, 2)), (3,))


@pytest.fixture(scope="session")
def variables(network, images):
  return network.init(jax.random.key(0), images[:1])


@pytest.fixture(scope="session")
def make() -> Callable[..., NeuralFP]:
  """Makes a NeuralFP that is cheap to train."""
  cheap = {
    "combine": "one_out",
    "fpr": 0.1,
    "epochs": 6,
    "batch_size": 64,
    "learning_rate": 5e-3,
    "random_state": 0,
  }

  def neuralfp(network, variables, **settings):
    return NeuralFP(network, variables, **{**cheap, **settings})

  return neuralfp


@pytest.fixture(scope="session")
def fitted(make, network, variables, images) -> NeuralFP:
  return make(network, variables).fit(images)


@pytest.fixture(scope="session")
def dense_layers() -> Callable[..., dict[str, jax.Array]]:
  """A network that is a plain function: 6 features to 8 to 5."""

  def layers(weights, x):
    hidden = jnp.tanh(x @ weights["first"])
    return {"hidden": hidden, "out": hidden @ weights["second"]}

  return layers


@pytest.fixture(scope="session")
def weights() -> dict[str, np.ndarray]:
  """Not on the device: a state that holds them may be donated, and other tests still have them."""
  rng = np.random.default_rng(3)
  shapes = {"first": (6, 8), "second": (8, 5)}
  return {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


@pytest.fixture(scope="session")
def rows() -> np.ndarray:
  """``[200, 6]`` records of two dimensions."""
  rng = np.random.default_rng(4)
  return (rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6)) / 2).astype(np.float32)


@pytest.fixture(scope="session")
def prints(dense_layers, weights) -> Fingerprint:
  """A fingerprint of ``dense_layers``."""
  return Fingerprint(
    taps.find(dense_layers, weights, (6,)),
    (autoencoders.DenseAutoencoder(8, 3), autoencoders.DenseAutoencoder(8, 2)),
  )
