"""Networks by name, as functions and as NNX modules."""

import functools

from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from drocc_jax import DROCC, networks, registry


class Net(nnx.Module):
  def __init__(self, features, hidden=4, *, rngs):
    self.first = nnx.Linear(features, hidden, rngs=rngs)
    self.last = nnx.Linear(hidden, 1, rngs=rngs)

  def __call__(self, x):
    return self.last(nnx.relu(self.first(x)))


def initialise(key, x):
  return {"kernel": jax.random.normal(key, (x.shape[1], 4)), "scale": jnp.ones(4)}


def evaluate(params, x):
  return jnp.tanh(x @ params["kernel"]) @ params["scale"]


OWN = {"functions": (initialise, evaluate), "nnx": functools.partial(Net, 3, hidden=4)}


@pytest.mark.parametrize("name", registry.NETWORKS)
def test_every_name_makes_a_network_for_estimator_and_launcher(name):
  made = registry.NetworkConfig(name, width=0.5).make()
  assert type(made) is type(registry.as_network(name))
  if name == "mobilenet_v2":
    assert made.width == 0.5


def test_settings_reach_the_network():
  made = registry.NetworkConfig("mlp", [7, 5], 2.0, 3.0, True).make()
  assert made == networks.MLP((7, 5), 2.0, 3.0, True)
  assert registry.NetworkConfig("lstm").make() == networks.LSTM(128)
  assert registry.NetworkConfig().make() is None


@pytest.mark.parametrize("kind", OWN)
def test_networks_of_your_own_train_save_and_load(kind, rng, tmp_path):
  x = rng.normal(size=(60, 3))
  model = DROCC(network=OWN[kind], members=2, epochs=2, batch_size=16, random_state=0).fit(x)
  again = DROCC(network=OWN[kind], members=2, epochs=2, batch_size=16, random_state=0).fit(x)
  np.testing.assert_array_equal(model.score_samples(x), again.score_samples(x))
  model.save(tmp_path / "detector")
  np.testing.assert_allclose(
    detector_jax.load(tmp_path / "detector").score(x), -model.score_samples(x), rtol=1e-6
  )


def test_members_begin_with_weights_of_their_own():
  forward = networks.as_forward(registry.as_network(OWN["nnx"]))
  kernels = [
    jax.tree.leaves(forward.init(jax.random.key(seed), jnp.ones((1, 3))))[1] for seed in range(2)
  ]
  assert not np.array_equal(*kernels)


@pytest.mark.parametrize(
  ("network", "error", "message"),
  [
    ("resnet", ValueError, "network must be one of mlp, prototypes, lstm, .*; got 'resnet'"),
    (3, TypeError, "network must be a flax.linen Module with one logit, a pair .* got int"),
    (Net(3, rngs=nnx.Rngs(0)), TypeError, "got Net. An NNX module is trained from new weights"),
    (evaluate, TypeError, "got function"),
  ],
)
def test_what_is_no_network_is_refused(network, error, message):
  with pytest.raises(error, match=message):
    registry.as_network(network)


class Measured(nn.Module):
  """A network that asks for the size of a batch as an integer."""

  @nn.compact
  def __call__(self, x):
    """Maps ``[batch, ...]`` to logits ``[batch]``."""
    return nn.Dense(1)(x.reshape(len(x), -1))[:, 0]


def test_a_network_that_asks_for_the_batch_size_is_told_when_it_is_saved(tmp_path, rng):
  x = rng.normal(size=(210, 3, 2)).astype(np.float32)
  model = DROCC(network=Measured(), epochs=1, features=None, random_state=0)
  detector = model.fit(x).detector_
  with pytest.raises(ValueError, match=r"write x\.shape\[0\] for len\(x\)"):
    detector.save(tmp_path / "detector")
  assert not list(tmp_path.iterdir())
