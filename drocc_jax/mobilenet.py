"""MobileNetV2 with one logit, for large colour images (DROCC paper, Table 5 and App. E.3)."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from drocc_jax import convolution
from drocc_jax.networks import MaskedBatchNorm

# Table 2 of the paper: expansion t, channels c, repeats n, stride s of the first of them.
BOTTLENECKS = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)
STEM, HEAD = 32, 1280


def scaled(channels: int, width: float) -> int:
  """``width * channels`` as a multiple of 8, at least 8 and not more than a tenth below."""
  wanted = width * channels
  rounded = max(8, int(wanted + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * wanted else rounded


class ConvNorm(nn.Module):
  """Convolution without bias, batch normalisation with scale and offset, and ReLU6 where asked for.

  Batch normalisation has eps 1e-5, and a training batch moves the running statistics a tenth
  (momentum 0.9 here, 0.1 in PyTorch's terms). Padding is half the kernel on every side, as in
  PyTorch, which at stride 2 is not "SAME".

  Weights start He-normal by fan-in. By fan-out, which some implementations have, a depthwise
  convolution of c channels shrinks its input by the root of c until batch normalisation comes to
  help; the search for negatives sees running statistics, and would begin with next to no gradient.

  Attributes:
    features: output channels.
    kernel: height and width, odd.
    stride: of both axes.
    depthwise: whether each channel is convolved by itself; ``features`` are then the input's.
    activate: whether ReLU6 follows.
  """

  features: int
  kernel: int = 1
  stride: int = 1
  depthwise: bool = False
  activate: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` to ``[batch, height', width', features]``."""
    size, padding = (self.kernel, self.kernel), ((self.kernel // 2, self.kernel // 2),) * 2
    normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
    x = nn.Conv(
      self.features,
      size,
      self.stride,
      padding,
      use_bias=False,
      kernel_init=normal,
      feature_group_count=self.features if self.depthwise else 1,
      conv_general_dilated_cls=convolution.conv_general_dilated,
      name="Conv",
    )(x)
    x = MaskedBatchNorm(epsilon=1e-5, name="BatchNorm")(x, train, mask)
    scale = self.param("scale", nn.initializers.ones_init(), (self.features,))
    offset = self.param("offset", nn.initializers.zeros_init(), (self.features,))
    x = x * scale.reshape(1, 1, 1, -1) + offset.reshape(1, 1, 1, -1)
    return nn.relu6(x) if self.activate else x


class InvertedResidual(nn.Module):
  """Expansion by ``expansion``, depthwise 3x3 convolution, linear projection; Figure 4d.

  The input is added where stride and channels let it. Without expansion (1) the first convolution
  is left out.

  Attributes:
    features: output channels.
    expansion: factor on the input's channels.
    stride: of the depthwise convolution.
  """

  features: int
  expansion: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` to ``[batch, height', width', features]``."""
    channels = x.shape[-1]
    hidden, y = self.expansion * channels, x
    if self.expansion != 1:
      y = ConvNorm(hidden, name="expand")(y, train, mask)
    y = ConvNorm(hidden, 3, self.stride, depthwise=True, name="depthwise")(y, train, mask)
    project = ConvNorm(self.features, activate=False, name="project")
    y = project(y, train, mask)
    return x + y if self.stride == 1 and channels == self.features else y


class MobileNetV2(nn.Module):
  """MobileNetV2: a 3x3 convolution, inverted residuals, 1280 features averaged, one logit.

  Images are ``[height, width, 3]``, 224 x 224 in the papers, of which 7 x 7 maps are left; any size
  will do. The dropout that some implementations have before the last layer is left out, since
  a search against the network needs it to be a function.

  Attributes:
    width: multiplier of all channels but the last 1280, which grow only above 1; > 0.
    bottlenecks: expansion, channels, repeats and stride of each stage.

  References:
    Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks (2018), Table 2.
  """

  width: float = 1.0
  bottlenecks: tuple[tuple[int, int, int, int], ...] = BOTTLENECKS

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` to logits ``[batch]``."""
    stem = ConvNorm(scaled(STEM, self.width), 3, 2, name="stem")
    x = stem(x, train, mask)
    number = 0
    for expansion, channels, repeats, stride in self.bottlenecks:
      features = scaled(channels, self.width)
      for place in range(repeats):
        x = InvertedResidual(
          features, expansion, stride if place == 0 else 1, name=f"block_{number}"
        )(x, train, mask)
        number += 1
    head = ConvNorm(scaled(HEAD, max(1.0, self.width)), name="head")
    x = jnp.mean(head(x, train, mask), axis=(1, 2))
    normal = nn.initializers.normal(0.01)
    return nn.Dense(1, kernel_init=normal, name="logit")(x)[..., 0]
