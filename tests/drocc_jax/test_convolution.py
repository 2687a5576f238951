"""Convolution and pooling for compiled loops: the numbers of Flax's own, forwards and backwards."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drocc_jax import convolution, mobilenet, networks
from tests.helpers import QUICK

SHAPES = [
  ((5, 5), (2, 7, 9, 3), 4),
  ((3, 3), (1, 4, 3, 2), 5),
  ((1, 3), (2, 5, 6, 2), 1),
  ((5, 1), (2, 3, 4, 1), 2),  # the image is lower than the kernel
  ((3, 5), (3, 6, 4, 4), 3),
]


@pytest.mark.parametrize(("kernel", "shape", "features"), SHAPES)
def test_it_is_the_convolution_of_flax(rng, kernel, shape, features):
  x = jnp.asarray(rng.normal(size=shape), jnp.float32)
  weights = jnp.asarray(rng.normal(size=(*shape[:3], features)), jnp.float32)
  ours = convolution.LoopConv(features, kernel)
  theirs = nn.Conv(features, kernel, use_bias=False)
  kernel = jnp.asarray(rng.normal(size=(*kernel, shape[-1], features)), jnp.float32)
  variables = {"params": {"kernel": kernel}}

  def run(network):
    def total(variables, x):
      result, backwards = jax.vjp(network.apply, variables, x)
      return result, backwards(weights)

    return jax.jit(total, compiler_options=QUICK)(variables, x)

  got, want = run(ours), run(theirs)
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# kernel, shape, features, stride, depthwise
SLICED = [
  ((3, 3), (2, 6, 8, 4), 4, 1, True),
  ((3, 3), (2, 7, 6, 4), 4, 2, True),  # an odd number of rows
  ((5, 3), (1, 4, 5, 2), 2, 3, True),
  ((1, 1), (2, 5, 3, 4), 3, 1, False),
  ((1, 1), (2, 5, 4, 2), 3, 2, False),
  ((3, 3), (2, 8, 7, 3), 5, 2, False),
]


@pytest.mark.parametrize(("kernel", "shape", "features", "stride", "depthwise"), SLICED)
def test_slices_give_the_convolution_of_flax(rng, kernel, shape, features, stride, depthwise):
  x = jnp.asarray(rng.normal(size=shape), jnp.float32)
  ours = convolution.LoopConv(features, kernel, stride, depthwise)
  padding = [(size // 2, size // 2) for size in kernel]
  theirs = nn.Conv(
    features, kernel, stride, padding, use_bias=False,
    feature_group_count=features if depthwise else 1,
  )  # fmt: skip
  variables = theirs.init(jax.random.key(2), x)
  assert jax.tree.map(jnp.shape, ours.init(jax.random.key(2), x)) == jax.tree.map(
    jnp.shape, variables
  )
  weights = jnp.asarray(rng.normal(size=theirs.apply(variables, x).shape), jnp.float32)

  def run(network):
    def total(variables, x):
      result, backwards = jax.vjp(network.apply, variables, x)
      return result, backwards(weights)

    return jax.jit(total, compiler_options=QUICK)(variables, x)

  for a, b in zip(jax.tree.leaves(run(ours)), jax.tree.leaves(run(theirs)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_it_starts_where_the_convolution_of_flax_starts():
  x = jnp.zeros((1, 8, 8, 3))
  ours, theirs = convolution.LoopConv(4, (5, 3)), nn.Conv(4, (5, 3), use_bias=False)
  one, two = jax.jit(lambda key: (ours.init(key, x), theirs.init(key, x)))(jax.random.key(1))
  assert one.keys() == two.keys() == {"params"}
  assert one["params"].keys() == two["params"].keys() == {"kernel"}
  np.testing.assert_array_equal(one["params"]["kernel"], two["params"]["kernel"])


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (2, 5, 7, 1), (1, 2, 3, 2)])
def test_max_pool_is_that_of_flax(rng, shape):
  x = jnp.asarray(rng.normal(size=shape), jnp.float32)

  def run(pool):
    result, backwards = jax.vjp(pool, x)
    return result, backwards(jnp.arange(1.0, 1.0 + result.size).reshape(result.shape))[0]

  got, want = run(convolution.max_pool), run(lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)))
  np.testing.assert_array_equal(got[0], want[0])
  np.testing.assert_array_equal(got[1], want[1])


def test_max_pool_gives_the_gradient_to_the_first_of_equal_values(rng):
  """As Flax's does; after a ReLU most windows hold equal zeros."""
  x = jnp.array([[3.0, 3.0], [1.0, 3.0]]).reshape(1, 2, 2, 1)
  gradient = jax.grad(lambda x: jnp.sum(convolution.max_pool(x)))(x)
  np.testing.assert_array_equal(gradient.ravel(), [1.0, 0.0, 0.0, 0.0])
  x = jnp.asarray(rng.integers(0, 2, size=(3, 5, 6, 4)), jnp.float32)
  weights = jnp.asarray(rng.normal(size=(3, 2, 3, 4)), jnp.float32)
  got, want = (
    jax.grad(lambda x, pool=pool: jnp.sum(weights * pool(x)))(x)
    for pool in (convolution.max_pool, lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)))
  )
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("make", [networks.mnist_lenet, networks.cifar_lenet])
def test_a_lenet_for_loops_has_the_same_variables(make):
  network, x = make(), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  want, got = (
    jax.eval_shape(networks.as_forward(each).init, jax.random.key(0), x)
    for each in (network, network.clone(looped=True))
  )
  assert jax.tree.map(lambda leaf: leaf.shape, got) == jax.tree.map(lambda leaf: leaf.shape, want)


def test_a_lenet_for_loops_has_the_same_start_and_logits(rng):
  plain = networks.LeNet((3,), (5,))
  sliced = plain.clone(looped=True)
  x = jnp.asarray(rng.normal(size=(4, 9, 12, 2)), jnp.float32)
  mask = jnp.array([1.0, 1.0, 1.0, 0.0])
  results = []
  for network in (plain, sliced):
    forward = networks.as_forward(network)

    def run(key, x, forward=forward):
      variables = forward.init(key, x)
      logits, stats = forward.train(*variables, x, mask)
      return variables, logits[:3], stats, forward.evaluate(variables[0], stats, x)

    results.append(jax.jit(run, compiler_options=QUICK)(jax.random.key(0), x))
  want, got = results
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def convolutions(function, *arguments):
  """The convolutions of a function, each as the text of its equation."""
  text = str(jax.make_jaxpr(function)(*arguments))
  return text.split("conv_general_dilated[")[1:]


def test_gradients_that_nobody_needs_are_not_taken():
  x, kernel = jnp.ones((2, 6, 6, 2)), jnp.ones((3, 3, 2, 4))

  def total(x, kernel):
    return jnp.sum(convolution.convolve(x, kernel) ** 2)

  assert len(convolutions(jax.grad(total, 0), x, kernel)) == 2
  assert len(convolutions(jax.grad(total, 1), x, kernel)) == 2
  assert len(convolutions(jax.grad(total, (0, 1)), x, kernel)) == 3


def test_all_convolutions_have_the_usual_order_and_none_is_vectorised_into_groups():
  """Also where the search maps it over examples; in another order a compiled loop is slow."""
  kernel = jnp.ones((3, 3, 2, 4))

  def one(x):
    return jax.grad(lambda x: jnp.sum(convolution.convolve(x[None], kernel) ** 2))(x)

  found = convolutions(jax.vmap(one), jnp.ones((5, 6, 6, 2)))
  found += convolutions(
    jax.grad(lambda kernel: jnp.sum(convolution.convolve(jnp.ones((5, 6, 6, 2)), kernel))), kernel
  )
  assert len(found) == 4
  for text in found:
    assert "lhs_spec=(0, 3, 1, 2)" in text
    assert "rhs_spec=(3, 2, 0, 1)" in text
    assert "out_spec=(0, 3, 1, 2)" in text
    assert "feature_group_count=1\n" in text
    assert "batch_group_count=1\n" in text


def test_colours_get_a_fourth_channel_and_nothing_else_does():
  def channels(count):
    x, kernel = jnp.ones((1, 4, 4, count)), jnp.ones((3, 3, count, 2))
    return "pad[" in str(jax.make_jaxpr(convolution.convolve)(x, kernel))

  assert [channels(count) for count in (1, 2, 3, 4)] == [False, False, True, False]


@pytest.mark.parametrize("network", [networks.mnist_lenet(), mobilenet.MobileNetV2()])
def test_on_a_cpu_networks_of_images_train_by_it(monkeypatch, network):
  assert not network.looped
  trained = networks.with_loop_convolutions(network)
  assert trained == network.clone(looped=True)
  mlp = networks.MLP()
  assert networks.with_loop_convolutions(mlp) is mlp
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert networks.with_loop_convolutions(network) is network


def test_a_lenet_for_loops_convolves_and_pools_by_them(monkeypatch):
  called = []
  for name in ("convolve", "max_pool"):
    plain = getattr(convolution, name)
    monkeypatch.setattr(
      convolution,
      name,
      lambda *args, name=name, plain=plain: (called.append(name), plain(*args))[1],
    )
  x = jnp.ones((1, 8, 8, 1))
  for looped in (False, True):
    network = networks.LeNet((2, 3), (4,), looped=looped)
    jax.eval_shape(network.init, jax.random.key(0), x)
    assert called == (["convolve", "max_pool"] * 2 if looped else [])
