"""The search in bfloat16: what is computed in it, what is not, and how far negatives are off."""

from collections import Counter
import dataclasses
import re

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import training
from detector_jax.batching import Batch
from drocc_jax import drocc, drocc_lf, drocc_oe, fit, mobilenet, networks, recipe
from drocc_jax.settings import Training

KEY, ROWS = jax.random.key(1), 6
PRODUCT = re.compile(r":(\w+)\[[^\]]*\] = (?:dot_general|conv_general_dilated)\[")
NETWORKS = {
  "mlp": (networks.MLP((5, 7), squares=True), (3,)),
  "lstm": (networks.LSTM(4), (5, 2)),
  "lenet": (networks.LeNet((2,), (3,)), (4, 6, 3)),
  "mobilenet": (mobilenet.MobileNetV2(width=0.25, bottlenecks=((1, 8, 1, 1),)), (8, 8, 3)),
}


def types(function, *arguments) -> Counter:
  """Matrix products and convolutions of a function, by the type of what they give."""
  return Counter(PRODUCT.findall(str(jax.make_jaxpr(function)(*arguments))))


def settings(precision, algorithm=drocc, **changes):
  return algorithm.Config(
    **{"radius": 1.0, "step_size": 0.2, "num_steps": 3, "precision": precision, **changes}
  )


def searching(network, shape, precision, rng):
  """The search of a batch as a function of state and inputs, and these."""
  config, forward = settings(precision), networks.as_forward(network)
  x = jnp.asarray(rng.normal(size=(ROWS, *shape)), jnp.float32)

  @networks.in_training_form
  def search(state, x):
    return drocc.find_negatives(forward, state, x, jnp.arange(ROWS), KEY, config.static())

  return search, drocc.make_init(network, config.static()), config, x


@pytest.mark.parametrize("name", NETWORKS)
def test_the_search_has_all_products_in_the_precision(name, rng):
  found = {}
  for precision in networks.PRECISIONS:
    search, init, config, x = searching(*NETWORKS[name], precision, rng)
    state = jax.eval_shape(init, config.hyper(), x[:1], KEY)
    found[precision] = types(search, state, x)
    negatives, info = jax.eval_shape(search, state, x)
    assert {leaf.dtype for leaf in jax.tree.leaves((negatives, info))} == {jnp.dtype("float32")}
  (of_float,), (of_bfloat,) = found["float32"].values(), found["bf16"].values()
  assert of_float == of_bfloat >= 4
  assert set(found["float32"]) == {"f32"}
  assert set(found["bf16"]) == {"bf16"}


def test_with_float32_nothing_at_all_is_rounded(rng):
  search, init, config, x = searching(*NETWORKS["lenet"], "float32", rng)
  state = jax.eval_shape(init, config.hyper(), x[:1], KEY)
  assert "bf16" not in str(jax.make_jaxpr(search)(state, x))


@pytest.mark.parametrize("algorithm", [drocc, drocc_oe, drocc_lf], ids=lambda each: each.__name__)
def test_the_outer_step_and_sigma_stay_in_float32(algorithm, rng):
  network = networks.MLP((5, 7))
  x = jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32)
  batch = Batch(x, jnp.ones(ROWS), jnp.ones(ROWS), jnp.arange(ROWS))
  batch = dataclasses.replace(batch, negatives=batch)
  found = {}
  for precision in networks.PRECISIONS:
    config = settings(precision, algorithm)
    init = algorithm.make_init(network, config.static())
    state = jax.eval_shape(init, config.hyper(), x[:1], KEY)
    step = algorithm.make_train_step(network, config.static())
    found[precision] = types(step, state, batch, KEY)
    after, _ = jax.eval_shape(step, state, batch, KEY)
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(
      lambda leaf: leaf.dtype, state
    )
  passes = 3 * 3 + 3  # the loss at both ends and the logit with its gradient, three layers each
  assert found["bf16"]["bf16"] == passes
  assert found["bf16"]["f32"] == found["float32"]["f32"] - passes > 0


def found_by(network, shape, precision, rng):
  """Displacements ``[rows, d]`` of one seed, compiled."""
  search, init, config, x = searching(network, shape, precision, rng)
  state = jax.jit(init)(config.hyper(), x[:1], jax.random.key(0))
  negatives, info = jax.jit(search)(state, x)
  return np.asarray(negatives - x).reshape(ROWS, -1), jax.device_get(info)


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_negatives_are_close_and_on_the_shell(name):
  """Mostly within 1 % of their length of those of float32, all within 10 %: a kink of the network
  may turn one aside. The shell holds to float32's precision."""
  full, half = (
    found_by(*NETWORKS[name], precision, np.random.default_rng(0))
    for precision in networks.PRECISIONS
  )
  lengths = np.linalg.norm(half[0], axis=1)
  assert np.all((lengths > 1.0 - 1e-5) & (lengths < 2.0 + 1e-5))
  apart = np.linalg.norm(half[0] - full[0], axis=1) / np.linalg.norm(full[0], axis=1)
  assert 1e-6 < apart.max() < 0.1
  assert np.median(apart) < 0.01
  np.testing.assert_allclose(half[1].gain, full[1].gain, atol=0.05)


class Counted(nn.Module):
  """A dense layer whose input is scaled by a statistic and which has another of whole numbers."""

  @nn.compact
  def __call__(self, x):
    scale = self.variable("stats", "scale", lambda: jnp.float32(1.001))
    self.variable("stats", "count", lambda: jnp.int32(3))
    return nn.Dense(1)(x * scale.value)


def test_a_layer_rounds_what_it_is_given_and_gives_and_nothing_else_is_rounded():
  """0.3 and 0.7 have no exact bfloat16; 1.001 is a float32 still when it is multiplied."""
  forward, x = networks.as_forward(Counted()), jnp.array([[0.7, 0.001]])
  kernel, bias = jnp.array([[0.3], [1.0]]), jnp.array([0.1])
  params = {"Dense_0": {"kernel": kernel, "bias": bias}}
  stats = {"stats": {"scale": jnp.float32(1.001), "count": jnp.int32(3)}}
  got = networks.in_precision(forward, params, stats, "bf16")(x)
  scaled, kernel, bias = (value.astype(jnp.bfloat16) for value in (1.001 * x, kernel, bias))
  assert got.dtype == jnp.float32
  np.testing.assert_array_equal(got, ((scaled @ kernel)[:, 0] + bias).astype(jnp.float32))
  exact = networks.in_precision(forward, params, stats, "float32")(x)
  np.testing.assert_array_equal(exact, forward.evaluate(params, stats, x))
  assert got[0] != exact[0]


def test_squares_and_statistics_stay_in_float32(rng):
  for name in ("mlp", "lenet"):
    search, init, config, x = searching(*NETWORKS[name], "bf16", rng)
    state = jax.eval_shape(init, config.hyper(), x[:1], KEY)
    text = str(jax.make_jaxpr(search)(state, x))
    assert ":f32" in text
    assert re.findall(r":bf16\[[^\]]*\] = (mul|rsqrt|max|div|integer_pow)", text) == []


@pytest.mark.parametrize("precision", ["bfloat16", "fp16", ""])
def test_another_precision_is_refused_by_name(precision):
  said = f"precision must be one of .'float32', 'bf16'., got '{precision}'"
  with pytest.raises(ValueError, match=said):
    settings(precision).validate()
  with pytest.raises(ValueError, match=said):
    recipe.build_training(np.eye(4), settings(precision), Training())


def test_a_training_in_two_calls_has_the_bits_of_one(rng):
  config = settings("bf16")
  program = fit.compile_program(networks.MLP((5,)), config.static(), 4)
  plain = fit.compile_program(networks.MLP((5,)), settings("float32").static(), 4)
  assert program is not plain
  rows = training.to_device(rng.normal(size=(10, 3)).astype(np.float32))

  def start():
    return program.init(config.hyper(), rows.inputs[:1], jax.random.key(0))

  whole, _ = program.train_epochs(start(), rows, KEY, 0, 4)
  halves, _ = program.train_epochs(start(), rows, KEY, 0, 1)
  halves, _ = program.train_epochs(halves, rows, KEY, 1, 4)
  other, _ = plain.train_epochs(start(), rows, KEY, 0, 4)
  jax.tree.map(np.testing.assert_array_equal, whole, halves)
  assert not np.array_equal(whole.params["Dense_0"]["kernel"], other.params["Dense_0"]["kernel"])
