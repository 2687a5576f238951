"""Convolution and pooling for compiled loops: the numbers of Flax's own, forwards and backwards."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drocc_jax import convolution, mobilenet, networks

SHAPES = [
  ((5, 5), (2, 7, 9, 3), 4),
  ((3, 3), (1, 4, 3, 2), 5),
  ((1, 3), (2, 5, 6, 2), 1),
  ((5, 1), (2, 3, 4, 1), 2),  # the image is lower than the kernel
  ((3, 5), (3, 6, 4, 4), 3),
]


def looping(features, kernel, *settings, **options) -> nn.Conv:
  """A convolution that takes the form for loops where it is asked for."""
  form = convolution.conv_general_dilated
  return nn.Conv(
    features, kernel, *settings, use_bias=False, conv_general_dilated_cls=form, **options
  )


def pool_in_loops(x):
  with convolution.for_loops():
    return convolution.max_pool(x)


@pytest.mark.parametrize(("kernel", "shape", "features"), SHAPES)
def test_it_is_the_convolution_of_flax(rng, kernel, shape, features):
  x = jnp.asarray(rng.normal(size=shape), jnp.float32)
  weights = jnp.asarray(rng.normal(size=(*shape[:3], features)), jnp.float32)
  network = looping(features, kernel)
  kernel = jnp.asarray(rng.normal(size=(*kernel, shape[-1], features)), jnp.float32)
  variables = {"params": {"kernel": kernel}}

  def total(variables, x):
    result, backwards = jax.vjp(network.apply, variables, x)
    return result, backwards(weights)

  want = jax.jit(total)(variables, x)
  got = jax.jit(networks.in_training_form(total))(variables, x)
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
  padding = [(size // 2, size // 2) for size in kernel]
  groups = features if depthwise else 1
  network = looping(features, kernel, stride, padding, feature_group_count=groups)
  variables = network.init(jax.random.key(2), x)
  weights = jnp.asarray(rng.normal(size=network.apply(variables, x).shape), jnp.float32)

  def total(variables, x):
    result, backwards = jax.vjp(network.apply, variables, x)
    return result, backwards(weights)

  plain = jax.jit(total)
  sliced = jax.jit(networks.in_training_form(total))
  program = str(jax.make_jaxpr(networks.in_training_form(network.apply))(variables, x))
  assert "conv_general_dilated" not in program
  for a, b in zip(
    jax.tree.leaves(sliced(variables, x)), jax.tree.leaves(plain(variables, x)), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ("kernel", "options"),
  [
    ((4, 4), {}),
    ((3, 3), {"padding": "VALID"}),
    ((3, 3), {"strides": 2}),
    ((3, 3), {"strides": (1, 2), "padding": ((1, 1), (1, 1))}),
    ((3, 3), {"kernel_dilation": 2}),
    ((3, 3), {"input_dilation": 2, "padding": ((1, 1), (1, 1))}),
    ((3, 3), {"feature_group_count": 2}),
    ((3,), {}),
  ],
)
def test_other_convolutions_are_left_as_they_are(rng, kernel, options):
  x = jnp.asarray(rng.normal(size=(2, *(6,) * len(kernel), 4)), jnp.float32)
  network = looping(8, kernel, **options)
  variables = network.init(jax.random.key(0), x)
  got = networks.in_training_form(network.apply)(variables, x)
  np.testing.assert_array_equal(got, network.apply(variables, x))


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (2, 5, 7, 1), (1, 2, 3, 2)])
def test_max_pool_is_that_of_flax(rng, shape):
  x = jnp.asarray(rng.normal(size=shape), jnp.float32)

  def run(pool):
    result, backwards = jax.vjp(pool, x)
    return result, backwards(jnp.arange(1.0, 1.0 + result.size).reshape(result.shape))[0]

  got, want = run(pool_in_loops), run(lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)))
  np.testing.assert_array_equal(got[0], want[0])
  np.testing.assert_array_equal(got[1], want[1])


def test_max_pool_gives_the_gradient_to_the_first_of_equal_values(rng):
  """As Flax's does; after a ReLU most windows hold equal zeros."""
  x = jnp.array([[3.0, 3.0], [1.0, 3.0]]).reshape(1, 2, 2, 1)
  gradient = jax.grad(lambda x: jnp.sum(pool_in_loops(x)))(x)
  np.testing.assert_array_equal(gradient.ravel(), [1.0, 0.0, 0.0, 0.0])
  x = jnp.asarray(rng.integers(0, 2, size=(3, 5, 6, 4)), jnp.float32)
  weights = jnp.asarray(rng.normal(size=(3, 2, 3, 4)), jnp.float32)
  got, want = (
    jax.grad(lambda x, pool=pool: jnp.sum(weights * pool(x)))(x)
    for pool in (pool_in_loops, lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)))
  )
  np.testing.assert_array_equal(got, want)


def test_a_lenet_for_loops_has_the_same_start_and_logits(rng):
  x = jnp.asarray(rng.normal(size=(4, 9, 12, 2)), jnp.float32)
  mask = jnp.array([1.0, 1.0, 1.0, 0.0])
  forward = networks.as_forward(networks.LeNet((3,), (5,)))

  def run(key, x):
    variables = forward.init(key, x)
    logits, stats = forward.train(*variables, x, mask)
    return variables, logits[:3], stats, forward.evaluate(variables[0], stats, x)

  want, got = (
    jax.jit(form(run))(jax.random.key(0), x)
    for form in (lambda function: function, networks.in_training_form)
  )
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


NETWORKS = {
  "lenet": (networks.LeNet((2, 3), (4,)), (1, 8, 8, 1), ["convolve", "_max_pool"] * 2),
  "mobilenet": (
    mobilenet.MobileNetV2(0.1, bottlenecks=((6, 16, 1, 1),)),
    (1, 8, 8, 3),
    ["_taps"] * 5,
  ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_cpu_networks_of_images_train_by_them(monkeypatch, name):
  network, shape, wanted = NETWORKS[name]
  called = []
  for part in ("convolve", "_max_pool", "_taps"):
    plain = getattr(convolution, part)
    monkeypatch.setattr(
      convolution,
      part,
      lambda *args, part=part, plain=plain: (called.append(part), plain(*args))[1],
    )

  def calls(form):
    called.clear()
    jax.eval_shape(form(network.init), jax.random.key(0), jnp.ones(shape))
    return list(called)

  assert calls(lambda function: function) == []
  assert calls(networks.in_training_form) == wanted
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert calls(networks.in_training_form) == []
