"""Taps of blocks: residual networks, Transformers, NNX modules, and random keys among variables."""

from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import blocks, taps


class ResidualBlock(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    y = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x))
    y = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(nn.relu(y)))
    return nn.relu(x + y)


class ResNet(nn.Module):
  depth: int

  @nn.compact
  def __call__(self, x, train):
    x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3), name="stem")(x))
    for number in range(self.depth):
      x = ResidualBlock(name=f"block_{number}")(x, train)
    return nn.Dense(5, name="head")(x.mean(axis=(1, 2)))


class EncoderBlock(nn.Module):
  @nn.compact
  def __call__(self, x):
    normed = nn.LayerNorm()(x)
    x = x + nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(normed, normed)
    return x + nn.Dense(8)(nn.relu(nn.Dense(16)(nn.LayerNorm()(x))))


class Encoder(nn.Module):
  @nn.compact
  def __call__(self, x):
    for number in range(3):
      x = EncoderBlock(name=f"block_{number}")(x)
    return nn.LayerNorm()(x)


class Transformer(nn.Module):
  @nn.compact
  def __call__(self, tokens):
    x = Encoder(name="encoder")(nn.Embed(11, 8, name="embed")(tokens))
    return nn.Dense(3, name="head")(x.mean(axis=1))


class Part(nnx.Module):
  def __init__(self, rngs):
    self.dense = nnx.Linear(4, 4, rngs=rngs)
    self.norm = nnx.BatchNorm(4, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return x + self.drop(jax.nn.relu(self.norm(self.dense(x))))


class Whole(nnx.Module):
  def __init__(self, rngs, sows=False):
    self.way_in = nnx.Linear(3, 4, rngs=rngs)
    self.parts = nnx.List([Part(rngs), Part(rngs)])
    self.end = nnx.Linear(4, 2, rngs=rngs)
    self.sows = sows

  def __call__(self, x):
    x = self.way_in(x)
    for part in self.parts:
      x = part(x)
    if self.sows:
      self.sow(nnx.Intermediate, "hidden", x)
    return self.end(x)


def shapes_of(network, *arguments):
  """Variables as shapes alone: nothing is computed."""
  return jax.eval_shape(lambda: network.init(jax.random.key(0), *arguments))


def test_a_residual_network_is_tapped_at_its_blocks_and_never_at_a_normalisation():
  network = ResNet(2)
  variables = shapes_of(network, jnp.zeros((1, 8, 8, 1)), False)
  found = taps.find(network, variables, (8, 8, 1), apply_kwargs={"train": False})
  assert found.layers == ("stem", "block_0", "block_1", "head")
  assert found.shapes == ((8, 8, 4), (8, 8, 4), (8, 8, 4), (5,))


def test_a_network_of_28_convolutions_and_a_dense_layer_gets_seven_taps():
  network = ResNet(14)
  variables = shapes_of(network, jnp.zeros((1, 8, 8, 1)), False)
  found = taps.find(network, variables, (8, 8, 1), apply_kwargs={"train": False})
  assert found.layers == (
    *("stem", "block_2", "block_5", "block_7", "block_10", "block_13"),
    "head",
  )


def test_a_transformer_is_tapped_at_its_residual_stream():
  network = Transformer()
  variables = shapes_of(network, jnp.zeros((1, 6), jnp.int32))
  found = taps.find(network, variables, (6,), integers=True)
  assert found.layers == (
    *("embed", "encoder/block_0", "encoder/block_1", "encoder/block_2"),
    "head",
  )
  assert found.shapes == ((6, 8),) * 4 + ((3,),)


def test_heads_of_queries_are_features_and_no_places():
  network = Transformer()
  variables = network.init(jax.random.key(0), jnp.zeros((1, 6), jnp.int32))
  name = "encoder/block_0/attention/query"
  found = taps.find(network, variables, (6,), layers=(name,), integers=True)
  assert found.shapes == ((6, 8),)
  assert found(variables, jnp.zeros((5, 6)))[name].shape == (5, 6, 8)


def test_tokens_reach_the_network_as_integers():
  network = Transformer()
  tokens = np.random.default_rng(0).integers(0, 11, (5, 6))
  variables = network.init(jax.random.key(0), tokens[:1])
  found = taps.find(network, variables, (6,), integers=True)
  assert found.integers
  got = found(variables, tokens.astype(np.float32))["head"]
  np.testing.assert_allclose(got, network.apply(variables, tokens), rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match="must be an integer"):
    taps.find(network, variables, (6,))


def test_a_network_that_takes_real_numbers_is_given_them_even_where_they_are_whole():
  found = taps.find(lambda x: {"plain": x}, None, (3,), integers=True)
  assert not found.integers
  assert found(None, jnp.ones((2, 3)))["plain"].dtype == jnp.float32


def test_a_forgotten_argument_is_named_with_what_gives_it():
  network = ResNet(1)
  variables = shapes_of(network, jnp.zeros((1, 8, 8, 1)), False)
  with pytest.raises(ValueError, match=r"'train'; give it with apply_kwargs=\{'train': False\}\.$"):
    taps.find(network, variables, (8, 8, 1))


def test_an_nnx_module_is_tapped_as_it_is_and_does_not_train():
  module = Whole(nnx.Rngs(0))
  function, state = taps.with_state(module, None)
  found = taps.find(module, None, (3,))
  assert found.layers == ("way_in", "parts/0", "parts/1", "end")
  assert found.shapes == ((4,), (4,), (4,), (2,))
  assert hash(found) == hash(taps.find(function, state, (3,)))
  x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
  got = found(blocks.numbers_of(state), x)
  assert not module.parts[0].drop.deterministic
  module.eval()
  np.testing.assert_allclose(got["end"], module(x), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(got["way_in"], module.way_in(x), rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match="holds its variables itself"):
    taps.find(module, {"params": {}}, (3,))


def test_an_nnx_module_that_sows_is_tapped_where_it_does():
  found = taps.find(Whole(nnx.Rngs(0), sows=True), None, (3,))
  assert (found.layers, found.shapes) == (("hidden",), ((4,),))


def test_random_keys_become_numbers_and_keys_again():
  variables = {"a": jnp.arange(3.0), "key": jax.random.key(7)}
  numbers = blocks.numbers_of(variables)
  assert all(not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in numbers)
  keys = blocks.Keys.of(variables)
  assert jax.random.key_data(keys.restored(numbers)["key"]).tolist() == [0, 7]
  assert blocks.Keys.of({"a": variables["a"]}) is None
  assert blocks.numbers_of({"a": variables["a"]}).keys() == {"a"}


@pytest.mark.parametrize(
  ("names", "chosen"),
  [
    (("a", "b", "c"), ("a", "b", "c")),
    (("x", "net/a", "net/b/1", "net/b/2", "net/b", "net"), ("x", "net/a", "net/b")),
    (("a:0", "a:1", "b"), ("a:0", "a:1", "b")),
    (("list/0", "list/1", "b", "c", "d"), ("list/0", "list/1", "b", "c", "d")),
    (tuple("abcdefghij"), ("a", "c", "d", "f", "g", "i", "j")),
  ],
)
def test_which_outputs_are_those_of_blocks(names, chosen):
  got = blocks.choose(names, {})
  assert set(got) == set(chosen)
  assert list(got) == [name for name in names if name in got]


class Sequence(nn.Module):
  """Flax gives the layers of a sequence that is made within a network to the network itself."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(2, name="head")(nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(3)])(x))


def test_the_activation_of_a_sequence_is_tapped_once():
  network, x = Sequence(), jnp.ones((2, 4))
  variables = network.init(jax.random.key(0), x)
  assert taps.find(network, variables, (4,)).layers == ("Dense_0", "Dense_1", "head")
  asked = ("Dense_1", "Sequential_0")
  found = taps.find(network, variables, (4,), select=lambda *_: True, layers=asked)(variables, x)
  np.testing.assert_array_equal(*found.values())
