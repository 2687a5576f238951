"""Activations: which layers are found, in which order, and which networks are refused."""

from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import taps
from fingerprint_jax.classifiers import Classifier


class Block(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.relu(nn.Dense(4, name="inner")(x))


class Plain(nn.Module):
  """Sows nothing; calls one block ``repeats`` times."""

  repeats: int = 1

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(4, name="entrance")(x)
    block = Block(name="block")
    for _ in range(self.repeats):
      x = block(x)
    return nn.Dense(2, name="exit")(x)


class Normed(nn.Module):
  @nn.compact
  def __call__(self, x, train: bool):
    x = nn.Dense(4)(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    self.sow("intermediates", "normed", x)
    return x


class Sowing(nn.Module):
  """Sows what it is told to."""

  what: str

  @nn.compact
  def __call__(self, x):
    hidden = nn.Dense(3)(x)
    values = {"empty": hidden[:, :0], "total": hidden.sum(), "mean": hidden.mean(axis=0)}
    self.sow("intermediates", "good", hidden)
    if self.what:
      self.sow("intermediates", self.what, values[self.what])
    return hidden


@pytest.fixture(scope="module")
def x() -> np.ndarray:
  return np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
  return np.random.default_rng(1).uniform(size=(600, 8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Classifier:
  """Two convolutions and a dense layer."""
  return Classifier(((4, 1), (4, 2)), (3,))


@pytest.fixture(scope="module")
def variables(network, images):
  return network.init(jax.random.key(0), images[:1])


def init(network, x, **kwargs):
  return network.init(jax.random.key(0), x[:1], **kwargs)


def test_sown_layers_are_what_the_network_sows(network, variables, images):
  found = taps.find(network, variables, (8, 8, 1))
  assert found.layers == ("layer_1", "layer_2", "layer_3")
  assert found.shapes == ((8, 8, 4), (4, 4, 4), (3,))
  got = found(variables, images[:5])
  assert tuple(got) == found.layers
  logits, state = network.apply(variables, images[:5], mutable=["intermediates"])
  np.testing.assert_array_equal(got["layer_3"], logits)
  np.testing.assert_array_equal(got["layer_1"], state["intermediates"]["layer_1"][0])


def test_bare_parameters_will_do(network, variables, images):
  found = taps.find(network, variables["params"], (8, 8, 1))
  got = found(variables["params"], images[:5])
  np.testing.assert_array_equal(got["layer_3"], network.apply(variables, images[:5]))


def test_a_network_that_sows_nothing_is_captured_at_its_blocks_or_within_where_told(x):
  variables = init(Plain(), x)
  assert taps.find(Plain(), variables, (3,)).layers == ("entrance", "block", "exit")
  within = ("entrance", "block/inner", "exit")
  found = taps.find(Plain(), variables, (3,), layers=within)
  assert found.layers == within
  params = variables["params"]
  first = x @ params["entrance"]["kernel"] + params["entrance"]["bias"][None]
  inner = params["block"]["inner"]
  got = found(variables, x)
  np.testing.assert_allclose(got["entrance"], first, rtol=1e-5, atol=1e-6)
  second = first @ inner["kernel"] + inner["bias"][None]
  np.testing.assert_allclose(got["block/inner"], second, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(got["exit"], Plain().apply(variables, x))


def test_repeated_calls_are_numbered(x):
  variables = init(Plain(2), x)
  outer = taps.find(Plain(2), variables, (3,)).layers
  assert outer == ("entrance", "block:0", "block:1", "exit")
  found = taps.find(Plain(2), variables, (3,), layers=("block/inner:0", "block/inner:1", "exit"))
  got = found(variables, x)
  inner = variables["params"]["block"]["inner"]
  want = nn.relu(got["block/inner:0"]) @ inner["kernel"] + inner["bias"][None]
  np.testing.assert_allclose(got["block/inner:1"], want, rtol=1e-5, atol=1e-6)


def test_select_captures_what_it_chooses_even_where_the_network_sows(x, network, variables):
  def blocks(module, method):
    return isinstance(module, Block) and method == "__call__"

  assert taps.find(Plain(), init(Plain(), x), (3,), select=blocks).layers == ("block",)

  def convolutions(module, _):
    return isinstance(module, nn.Conv)

  found = taps.find(network, variables, (8, 8, 1), select=convolutions)
  assert {"conv_1", "conv_2"} <= set(found.layers)


def test_names_come_in_the_order_of_computation():
  deep = Classifier((), (4,) * 11)
  variables = jax.eval_shape(deep.init, jax.random.key(0), jnp.zeros((1, 3)))
  want = tuple(f"layer_{number}" for number in range(1, 12))
  assert taps.find(deep, variables, (3,)).layers == want

  def backwards(x):
    return {"z": x, "a": x + 1.0}

  assert taps.find(backwards, None, (3,)).layers == ("z", "a")


def test_layers_are_chosen_by_name(network, variables, images):
  found = taps.find(network, variables, (8, 8, 1), layers=["layer_3", "layer_1"])
  assert found.layers == ("layer_3", "layer_1")
  assert found.shapes == ((3,), (8, 8, 4))
  assert tuple(found(variables, images[:2])) == found.layers


def test_a_function_is_tapped_with_and_without_variables(x):
  def scaled(factor, x):
    return {"scaled": factor * x, "sum": x.sum(axis=1), "argmax": jnp.argmax(x, axis=1)}

  found = taps.find(scaled, jnp.float32(3.0), (3,))
  assert found.layers == ("scaled", "sum")  # whole numbers are no activation
  assert found.shapes == ((3,), (1,))
  got = found(jnp.float32(3.0), x)
  np.testing.assert_allclose(got["scaled"], 3.0 * x, rtol=1e-6)
  np.testing.assert_allclose(got["sum"], x.sum(axis=1)[:, None], rtol=1e-5)
  alone = taps.find(lambda x: scaled(2.0, x), None, (3,))
  np.testing.assert_allclose(alone(None, x)["scaled"], 2.0 * x, rtol=1e-6)


def test_an_nnx_module_is_tapped_through_a_function(x):
  graph, state = nnx.split(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))

  def through(state, x):
    return {"linear": nnx.merge(graph, state)(x)}

  found = taps.find(through, state, (3,))
  assert (found.layers, found.shapes) == (("linear",), ((2,),))
  np.testing.assert_array_equal(found(state, x)["linear"], nnx.merge(graph, state)(x))


def test_batch_norm_runs_on_its_averages(x):
  variables = init(Normed(), x, train=False)
  found = taps.find(Normed(), variables, (3,), apply_kwargs={"train": False})
  assert found.layers == ("normed",)
  together = found(variables, x)["normed"]
  np.testing.assert_allclose(together[:1], found(variables, x[:1])["normed"], rtol=1e-5)
  with pytest.raises(ValueError, match=r"cannot be applied .* 'train'"):
    taps.find(Normed(), variables, (3,))


def test_half_precision_comes_out_as_float32(x):
  found = taps.find(lambda x: {"half": x.astype(jnp.bfloat16)}, None, (3,))
  assert found(None, x)["half"].dtype == jnp.float32


def test_equal_taps_are_equal(variables):
  one, other = (
    taps.find(Classifier(((4, 1), (4, 2)), (3,)), variables, (8, 8, 1), apply_kwargs={})
    for _ in range(2)
  )
  assert one == other
  assert hash(one) == hash(other)


def missing(params):
  return {"params": {name: p for name, p in params.items() if name != "Dense_0"}}


def without_bias(params):
  return {"params": {"Dense_0": {"kernel": params["Dense_0"]["kernel"]}}}


def transposed(params):
  return {"params": {"Dense_0": {**params["Dense_0"], "kernel": jnp.ones((4, 3))}}}


@pytest.mark.parametrize("change", [missing, without_bias, transposed, lambda _: {}])
def test_variables_of_another_network_are_refused(x, change):
  params = init(Sowing(""), x)["params"]
  with pytest.raises(ValueError, match=r"^Network and variables do not match for .*\[3\]") as error:
    taps.find(Sowing(""), change(params), (3,))
  assert str(error.value).endswith(".")
  assert "\n" not in str(error.value)


def nothing(x):
  return {}


def not_a_mapping(x):
  return x


@pytest.mark.parametrize(
  ("what", "settings", "message"),
  [
    ("empty", {}, r"activation of layer 'empty' is empty, of shape \['n', 0\]"),
    ("total", {}, r"activation of layer 'total' has shape \[\]; its first axis must be the batch"),
    ("mean", {}, r"activation of layer 'mean' has shape \[3\]"),
    ("", {"layers": ("god",)}, "no layer 'god'; the network has: good"),
    ("", {"layers": ()}, r"nothing to tap in layers=\(\); the network has: good"),
    ("", {"select": lambda *_: True, "layers": ("x",)}, "no layer 'x'.*Dense_0"),
  ],
)
def test_what_cannot_be_tapped_is_named(x, what, settings, message):
  with pytest.raises(ValueError, match=message) as error:
    taps.find(Sowing(what), init(Sowing(what), x), (3,), **settings)
  assert "\n" not in str(error.value)
  assert str(error.value).endswith(".")


def test_a_network_without_anything_to_tap_is_refused(x):
  with pytest.raises(ValueError, match="no layer to tap: let the network sow"):
    taps.find(nothing, None, (3,))
  with pytest.raises(ValueError, match=r"cannot be applied .* must return \{name: array\}"):
    taps.find(not_a_mapping, None, (3,))
  with pytest.raises(ValueError, match="needs its trained variables"):
    taps.find(Plain(), None, (3,))


@pytest.mark.parametrize("shape", [(9, 9, 1), (8, 8, 3)])
def test_records_of_another_shape_are_refused(network, variables, shape):
  with pytest.raises(ValueError, match="do not match for records of shape") as error:
    taps.find(network, variables, shape)
  assert str(list(shape)) in str(error.value)


def test_an_empty_layer_may_be_left_out(x):
  found = taps.find(Sowing("empty"), init(Sowing("empty"), x), (3,), layers=("good",))
  assert found.layers == ("good",)
