"""Encoders that are our networks without their logit, and decoders that mirror them.

The encoder of a network computes what the network's last layer sees, activation included, from
parameters of the same names and shapes. No bias takes part: with one, DeepSAD could map every
record to its centre (Ruff et al., 2018, proposition 2). Decoders are thrown away after pretraining
and may have biases. Every module here takes ``(x, train, mask)`` as the networks do.

References:
  Ruff et al., Deep One-Class Classification, ICML 2018.
  Ruff et al., Deep Semi-Supervised Anomaly Detection, ICLR 2020.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from drocc_jax import networks


class MLPEncoder(nn.Module):
  """The hidden layers of ``networks.MLP``.

  Attributes:
    hidden: widths of the layers; the last is that of the representation.
    input_gain: as in ``networks.MLP``; its ``bias_range`` is unused without biases.
  """

  hidden: tuple[int, ...]
  input_gain: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, ...]`` to ``[batch, hidden[-1]]``, at least 0."""
    del train, mask
    x, gain = x.reshape(x.shape[0], -1), self.input_gain**2
    for width in self.hidden:
      kernel = nn.initializers.variance_scaling(gain, "fan_in", "truncated_normal")
      x, gain = nn.relu(nn.Dense(width, use_bias=False, kernel_init=kernel)(x)), 1.0
    return x


class MLPDecoder(nn.Module):
  """Dense layers with ReLU from a code back to a record.

  Attributes:
    hidden: widths of the encoder's layers.
    shape: of a record.
  """

  hidden: tuple[int, ...]
  shape: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, hidden[-1]]`` to ``[batch, *shape]``."""
    del train, mask
    for width in self.hidden[-2::-1]:
      x = nn.relu(nn.Dense(width)(x))
    return nn.Dense(int(np.prod(self.shape)))(x).reshape(-1, *self.shape)


def _zero_biases(variables: Any) -> Any:
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: jnp.zeros_like(leaf) if path[-1].key == "bias" else leaf, variables
  )


class LSTMEncoder(nn.Module):
  """Last hidden state of the LSTM of ``networks.LSTM``.

  Flax's cell cannot be built without its biases; they are kept among the parameters but read as
  0, so that they stay what they are. The hidden state is bounded by 1 in each coordinate, which
  DeepSAD advises against and the DROCC paper does all the same (appendix E.5).

  Attributes:
    hidden: size of the hidden state.
  """

  hidden: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, time, channels]`` to ``[batch, hidden]``, in (-1, 1)."""
    del train, mask
    biasless = nn.map_variables(nn.RNN, "params", _zero_biases, init=self.is_initializing())
    states: Any = biasless(nn.OptimizedLSTMCell(self.hidden), name="RNN_0")(x)
    return states[:, -1]


class LSTMDecoder(nn.Module):
  """LSTM that is fed the code at every time, and a dense layer to the channels.

  Attributes:
    hidden: size of the hidden state.
    shape: ``(time, channels)`` of a record.
  """

  hidden: int
  shape: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, hidden]`` to ``[batch, time, channels]``."""
    del train, mask
    time, channels = self.shape
    repeated = jnp.repeat(x[:, None], time, axis=1)
    return nn.Dense(channels)(nn.RNN(nn.OptimizedLSTMCell(self.hidden))(repeated))


class LeNetEncoder(nn.Module):
  """``networks.LeNet`` up to its last hidden dense layer; batch normalisation as there.

  Attributes:
    channels: output channels of each convolution.
    dense: widths of the dense layers; with none the representation is the flattened last map.
  """

  channels: tuple[int, ...]
  dense: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` to ``[batch, dense[-1]]``."""
    for index, channels in enumerate(self.channels):
      x = nn.Conv(channels, (5, 5), use_bias=False)(x)
      x = networks.MaskedBatchNorm(name=f"BatchNorm_{index}")(x, train, mask)
      x = nn.max_pool(nn.leaky_relu(x), (2, 2), strides=(2, 2))
    x = x.reshape(x.shape[0], -1)
    for width in self.dense:
      x = nn.leaky_relu(nn.Dense(width, use_bias=False)(x))
    return x


class LeNetDecoder(nn.Module):
  """Mirror of ``LeNetEncoder``: dense, then for each pooling x2 upsampling and a convolution.

  Convolutions are 5x5 with padding, all but the last followed by batch normalisation without
  scale and offset and leaky ReLU. The last is linear, as records are standardised, where the
  reference ends in a sigmoid.

  Attributes:
    channels: the encoder's.
    dense: the encoder's.
    shape: ``(height, width, channels)`` of a record.
  """

  channels: tuple[int, ...]
  dense: tuple[int, ...]
  shape: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, dense[-1]]`` to ``[batch, height, width, channels]``."""
    sizes = [
      (self.shape[0] >> halvings, self.shape[1] >> halvings)
      for halvings in range(len(self.channels) + 1)
    ]
    for width in self.dense[-2::-1]:
      x = nn.leaky_relu(nn.Dense(width, use_bias=False)(x))
    smallest = (*sizes[-1], self.channels[-1])
    x = nn.Dense(int(np.prod(smallest)), use_bias=False)(x)
    x = nn.leaky_relu(x).reshape(-1, *smallest)
    for index in reversed(range(len(self.channels))):
      x = _upsample(x, sizes[index])
      if index == 0:
        return nn.Conv(self.shape[2], (5, 5))(x)
      x = nn.Conv(self.channels[index - 1], (5, 5), use_bias=False)(x)
      x = nn.leaky_relu(networks.MaskedBatchNorm(name=f"BatchNorm_{index}")(x, train, mask))
    return x


def _upsample(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Doubles height and width of ``[batch, h, w, c]``, and repeats the edge of an odd ``size``."""
  doubled = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
  odd = [(0, wanted - had) for wanted, had in zip(size, doubled.shape[1:3], strict=True)]
  return jnp.pad(doubled, [(0, 0), *odd, (0, 0)], mode="edge")


class Autoencoder(nn.Module):
  """A decoder after an encoder; parameters under "encoder" and "decoder".

  Attributes:
    encoder: maps ``[batch, ...]`` to codes ``[batch, width]``.
    decoder: maps codes to ``[batch, ...]``.
  """

  encoder: nn.Module
  decoder: nn.Module

  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Reconstructs ``[batch, ...]``."""
    return self.decoder(self.encoder(x, train, mask), train, mask)


def autoencoder_of(network: nn.Module, shape: tuple[int, ...]) -> Autoencoder:
  """The autoencoder whose encoder is one of our networks without its last layer.

  Args:
    network: an MLP with a hidden layer, an LSTM or a LeNet of ``drocc_jax.networks``.
    shape: of a record.

  Raises:
    ValueError: any other network.
  """
  if isinstance(network, networks.MLP) and network.hidden:
    return Autoencoder(
      MLPEncoder(network.hidden, network.input_gain), MLPDecoder(network.hidden, shape)
    )
  if isinstance(network, networks.LSTM):
    return Autoencoder(LSTMEncoder(network.hidden), LSTMDecoder(network.hidden, shape))
  if isinstance(network, networks.LeNet) and network.channels:
    return Autoencoder(
      LeNetEncoder(network.channels, network.dense),
      LeNetDecoder(network.channels, network.dense, shape),
    )
  raise ValueError(
    f"There is no encoder for {network!r}: pass an MLP with a hidden layer, an LSTM or a LeNet of "
    "drocc_jax.networks."
  )
