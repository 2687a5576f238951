"""MobileNetV2: sizes by hand, a block in NumPy, batch statistics, and the algorithms on it."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax.batching import Batch
from drocc_jax import drocc, drocc_lf, drocc_oe, mobilenet, networks
from tests.helpers import assert_trees_close

TINY = ((1, 8, 1, 1),)
ALGORITHMS = {
  "DROCC": (drocc, 3),
  "DROCC-Rand": (drocc, 0),
  "DROCC-OE": (drocc_oe, 3),
  "DROCC-LF": (drocc_lf, 3),
}


def counted(network, side):
  """Shapes of parameters and of what each module returns, without running the network."""
  forward = networks.as_forward(network)
  x = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
  params, stats = jax.eval_shape(forward.init, jax.random.key(0), x)
  _, captured = jax.eval_shape(
    lambda p, s, x: network.apply(
      {"params": p, **s}, x, capture_intermediates=True, mutable=["intermediates"]
    ),
    params,
    stats,
    x,
  )
  outputs = {
    name: leaf["__call__"][0].shape[1:]
    for name, leaf in captured["intermediates"].items()
    if name != "__call__"
  }
  return params, stats, outputs


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameters_are_those_of_the_published_network():
  params, stats, _ = counted(mobilenet.MobileNetV2(), 224)
  by_hand = {"stem": 3 * 3 * 3 * 32 + 2 * 32, "head": 320 * 1280 + 2 * 1280, "logit": 1280 + 1}
  # input, expanded and output channels of the 17 blocks
  blocks = [(32, 32, 16), (16, 96, 24), (24, 144, 24), (24, 144, 32), (32, 192, 32), (32, 192, 32)]
  blocks += [(32, 192, 64), *[(64, 384, 64)] * 3, (64, 384, 96), *[(96, 576, 96)] * 2]
  blocks += [(96, 576, 160), *[(160, 960, 160)] * 2, (160, 960, 320)]
  for number, (channels, hidden, features) in enumerate(blocks):
    expanded = 0 if hidden == channels else channels * hidden + 2 * hidden
    by_hand[f"block_{number}"] = expanded + 11 * hidden + hidden * features + 2 * features
  assert {name: size(leaf) for name, leaf in params.items()} == by_hand
  assert size(params) == 2_223_872 + 1_281
  # One mean and one variance for every scale and offset.
  normalised = jax.tree.leaves_with_path(params)
  scales = sum(leaf.size for path, leaf in normalised if path[-1].key in ("scale", "offset"))
  assert size(stats["batch_stats"]) == scales


def test_maps_shrink_as_published():
  _, _, outputs = counted(mobilenet.MobileNetV2(), 224)
  assert [outputs[name] for name in ("stem", "block_0", "block_1", "block_2", "block_3")] == [
    (112, 112, 32),
    (112, 112, 16),
    (56, 56, 24),
    (56, 56, 24),
    (28, 28, 32),
  ]
  assert [outputs[f"block_{number}"] for number in (6, 10, 13, 16)] == [
    (14, 14, 64),
    (14, 14, 96),
    (7, 7, 160),
    (7, 7, 320),
  ]
  assert (outputs["head"], outputs["logit"]) == ((7, 7, 1280), (1,))
  assert len(outputs) == 17 + 3


@pytest.mark.parametrize(
  ("channels", "width", "want"),
  [(32, 1.0, 32), (32, 0.1, 8), (24, 0.75, 24), (16, 1.4, 24), (96, 0.35, 32), (1280, 1.4, 1792)],
)
def test_channels_are_multiples_of_eight(channels, width, want):
  assert mobilenet.scaled(channels, width) == want


@pytest.mark.parametrize(("width", "head"), [(0.25, 1280), (1.4, 1792)])
def test_width_leaves_the_last_channels_unless_it_is_above_one(width, head):
  params, _, outputs = counted(mobilenet.MobileNetV2(width), 32)
  assert outputs["head"] == (1, 1, head)
  assert params["logit"]["kernel"].shape == (head, 1)
  assert outputs["block_16"] == (1, 1, mobilenet.scaled(320, width))


def normalised(x, params, stats, activate):
  """Batch normalisation with running statistics, and ReLU6."""
  x = (x - stats["BatchNorm"]["mean"]) / np.sqrt(stats["BatchNorm"]["var"] + 1e-5)
  x = x * params["scale"] + params["offset"]
  return np.clip(x, 0.0, 6.0) if activate else x


def block_by_hand(x, params, stats, stride):
  """An inverted residual in float64: matrix products and nine shifted maps."""
  y = x
  if "expand" in params:
    y = normalised(
      y @ params["expand"]["Conv"]["kernel"][0, 0], params["expand"], stats["expand"], True
    )
  height, width = y.shape[1:3]
  padded = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
  kernel = params["depthwise"]["Conv"]["kernel"]
  y = sum(
    padded[:, row : row + height, column : column + width] * kernel[row, column, 0]
    for row in range(3)
    for column in range(3)
  )[:, ::stride, ::stride]
  y = normalised(y, params["depthwise"], stats["depthwise"], True)
  y = normalised(
    y @ params["project"]["Conv"]["kernel"][0, 0], params["project"], stats["project"], False
  )
  return x + y if stride == 1 and x.shape[-1] == y.shape[-1] else y


@pytest.mark.parametrize(
  ("features", "expansion", "stride"), [(4, 3, 1), (5, 3, 1), (4, 3, 2), (4, 1, 1)]
)
def test_an_inverted_residual_by_hand(rng, features, expansion, stride):
  block = mobilenet.InvertedResidual(features, expansion, stride)
  x = rng.normal(scale=6.0, size=(2, 6, 5, 4))  # ReLU6 cuts some of it
  shapes = jax.eval_shape(
    lambda x: block.init(jax.random.key(0), x, False), jnp.zeros(x.shape, jnp.float32)
  )
  variables = jax.tree.map(lambda leaf: rng.uniform(0.5, 2.0, leaf.shape), shapes)
  variables["params"] = jax.tree.map(lambda leaf: leaf - 1.0, variables["params"])
  want = block_by_hand(x, variables["params"], variables["batch_stats"], stride)
  as_float32 = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (variables, x))
  got = jax.jit(lambda v, x: block.apply(v, x, False))(*as_float32)
  assert got.shape == (2, -(-6 // stride), -(-5 // stride), features)
  np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4)


@pytest.fixture(scope="module")
def tiny():
  """A network of one block with its state, training pass, and eight images."""
  network = mobilenet.MobileNetV2(0.1, TINY)
  x = 0.5 + jax.random.normal(jax.random.key(1), (8, 16, 16, 3))
  init = jax.jit(drocc.make_init(network))
  hyper = drocc.Config(radius=1.0, step_size=1.0).hyper()
  state = init(hyper, x[:1], jax.random.key(0))
  train = jax.jit(networks.as_forward(network).train)
  return SimpleNamespace(
    network=network, state=state, params=state.params, stats=state.stats, x=x, train=train
  )


def test_padding_stays_out_of_every_statistic(tiny):
  mask = jnp.array([1.0] * 5 + [0.0] * 3)
  want, want_stats = tiny.train(tiny.params, tiny.stats, tiny.x, mask)
  got, got_stats = tiny.train(tiny.params, tiny.stats, tiny.x.at[5:].set(1e3), mask)
  assert_trees_close(got[:5], want[:5], rtol=0, atol=0)
  assert_trees_close(got_stats, want_stats, rtol=0, atol=0)
  all_in, _ = tiny.train(tiny.params, tiny.stats, tiny.x, jnp.ones(8))
  assert (np.abs(all_in[:5] - want[:5]) > 1e-4).any()


def test_statistics_are_of_all_devices(tiny):
  mask = jnp.array([1.0] * 5 + [0.0] * 3)
  want = tiny.train(tiny.params, tiny.stats, tiny.x, mask)
  train = networks.in_training_form(networks.as_forward(tiny.network).train, "devices")
  spread = jax.vmap(train, (None, None, 0, 0), axis_name="devices")
  got, stats = jax.jit(spread)(
    tiny.params, tiny.stats, tiny.x.reshape(2, 4, 16, 16, 3), mask.reshape(2, 4)
  )
  assert_trees_close(got.reshape(8)[:5], want[0][:5], rtol=1e-4, atol=1e-5)
  for place in range(2):
    one = jax.tree.map(lambda leaf, i=place: leaf[i], stats)
    assert_trees_close(one, want[1], rtol=1e-4, atol=1e-5)


def test_a_batch_moves_running_statistics_a_tenth(tiny):
  _, stats = tiny.train(tiny.params, tiny.stats, tiny.x, jnp.ones(8))
  maps = jax.lax.conv_general_dilated(
    tiny.x,
    tiny.params["stem"]["Conv"]["kernel"],
    (2, 2),
    ((1, 1), (1, 1)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  got = stats["batch_stats"]["stem"]["BatchNorm"]
  np.testing.assert_allclose(got["mean"], 0.1 * np.mean(maps, axis=(0, 1, 2)), rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(got["var"], 0.9 + 0.1 * np.var(maps, axis=(0, 1, 2)), rtol=1e-3)


def test_depthwise_weights_do_not_shrink_with_the_channels():
  conv = mobilenet.ConvNorm(512, 3, depthwise=True)
  init = jax.jit(lambda key: conv.init(key, jnp.zeros((1, 1, 1, 512)), False))
  kernel = init(jax.random.key(0))["params"]["Conv"]["kernel"]
  assert kernel.shape == (3, 3, 1, 512)
  assert float(jnp.std(kernel)) == pytest.approx((2.0 / 9.0) ** 0.5, rel=0.05)


def test_the_form_for_loops_has_the_same_numbers(tiny):
  """Logits, batch statistics and gradients, of the same variables."""
  weights = jnp.arange(1.0, 1.0 + len(tiny.x))

  forward = networks.as_forward(tiny.network)

  def total(params, x):
    logits, stats = forward.train(params, tiny.state.stats, x, jnp.ones(len(x)))
    return jnp.sum(weights * logits), (logits, stats)

  both = jax.grad(total, (0, 1), has_aux=True)
  got, want = (
    jax.jit(function)(tiny.state.params, tiny.x)
    for function in (networks.in_training_form(both), both)
  )
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    scale = float(np.abs(theirs).max())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * max(scale, 1.0))


@pytest.fixture(scope="module")
def steps(tiny):
  """Jitted steps by algorithm; DROCC-Rand is the program of DROCC."""
  return {
    module: jax.jit(module.make_train_step(tiny.network, module.Config().static()))
    for module in (drocc, drocc_oe, drocc_lf)
  }


@pytest.mark.long
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_trains_it(tiny, steps, name):
  module, num_steps = ALGORITHMS[name]
  config = module.Config(radius=4.0, gamma=1.0, step_size=0.4, num_steps=num_steps, noise_scale=0.1)
  state = dataclasses.replace(tiny.state, hyper=config.hyper())
  if module is drocc_lf:
    state = drocc_lf.State(**vars(state), influence=state.average)
  mask = jnp.array([1.0, 1.0, 1.0, 0.0])
  index = jnp.arange(4, dtype=jnp.int32)
  given = None
  if module is not drocc:
    given = Batch(tiny.x[4:], -jnp.ones(4), jnp.ones(4), index)
  batch = Batch(tiny.x[:4], jnp.ones(4), mask, index, given)
  step = steps[module]
  new, info = step(state, batch, jax.random.key(2))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((new, info)))
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), new.params, state.params)
  assert all(jax.tree.leaves(moved))
  means = drocc.means(info)
  if module is not drocc_lf:
    assert means["distance"] == pytest.approx(4.0, rel=1e-4)
  assert (means["search_travel"] > 0.1) == (num_steps > 0)
  assert (means["search_gain"] > 0) == (num_steps > 0)
  padded = dataclasses.replace(batch, inputs=batch.inputs.at[3].set(1e3))
  assert_trees_close(step(state, padded, jax.random.key(2)), (new, info), rtol=0, atol=0)
