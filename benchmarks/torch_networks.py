"""The peers' networks in plain PyTorch, and our parameters in their layout.

As ``drocc_jax.networks``: the same layers and the same number of parameters. Images are
``[batch, channels, height, width]`` here, and a flattened image has its channels first.
"""

from typing import Any

import numpy as np

CIFAR_CHANNELS, CIFAR_DENSE = (32, 64, 128), (128, 64)


def lenet(
  shape: tuple[int, int, int],
  channels: tuple[int, ...] = CIFAR_CHANNELS,
  dense: tuple[int, ...] = CIFAR_DENSE,
) -> Any:
  """LeNet of Deep SVDD with one logit; see ``networks.LeNet``.

  Args:
    shape: channels, height and width of an image.
    channels: output channels of each 5x5 convolution.
    dense: widths of the hidden dense layers.

  Returns:
    A module from ``[batch, *shape]`` to logits ``[batch, 1]``.
  """
  from torch import nn

  before, height, width = shape
  layers: list[Any] = []
  for after in channels:
    layers += [
      nn.Conv2d(before, after, 5, padding=2, bias=False),
      nn.BatchNorm2d(after, eps=1e-4, affine=False),
      nn.LeakyReLU(0.01),
      nn.MaxPool2d(2),
    ]
    before, height, width = after, height // 2, width // 2
  layers.append(nn.Flatten())
  size = before * height * width
  for hidden in dense:
    layers += [nn.Linear(size, hidden, bias=False), nn.LeakyReLU(0.01)]
    size = hidden
  return nn.Sequential(*layers, nn.Linear(size, 1, bias=False))


def lstm(channels: int, hidden: int) -> Any:
  """One-layer LSTM whose last hidden state gives the logit; see ``networks.LSTM``.

  Returns:
    A module from ``[batch, time, channels]`` to logits ``[batch, 1]``.
  """
  from torch import nn

  class LSTM(nn.Module):
    """The recurrent layer and the head."""

    def __init__(self) -> None:
      super().__init__()
      self.lstm = nn.LSTM(channels, hidden, batch_first=True)
      self.head = nn.Linear(hidden, 1)

    def forward(self, x: Any) -> Any:
      states, _ = self.lstm(x)
      return self.head(states[:, -1])

  return LSTM()


def load_lenet(network: Any, params: Any) -> None:
  """Copies the parameters of a ``networks.LeNet`` into a ``lenet``."""
  from torch import nn

  convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
  for number, layer in enumerate(convolutions):
    kernel = np.asarray(params[f"Conv_{number}"]["kernel"])
    _copy(layer.weight, kernel.transpose(3, 2, 0, 1))
  hidden = [layer for layer in network if isinstance(layer, nn.Linear)]
  for number, dense in enumerate(hidden):
    kernel = np.asarray(params[f"Dense_{number}"]["kernel"])
    if number == 0:  # ours is flattened with its channels last
      pixels = kernel.reshape(-1, convolutions[-1].out_channels, kernel.shape[1])
      kernel = pixels.transpose(1, 0, 2).reshape(kernel.shape)
    _copy(dense.weight, kernel.T)


def load_lstm(network: Any, params: Any) -> None:
  """Copies the parameters of a ``networks.LSTM`` into an ``lstm``."""
  (cell,) = (value for name, value in params.items() if "Cell" in name)
  gates = "ifgo"  # PyTorch's order
  _copy(network.lstm.weight_ih_l0, np.hstack([cell[f"i{gate}"]["kernel"] for gate in gates]).T)
  _copy(network.lstm.weight_hh_l0, np.hstack([cell[f"h{gate}"]["kernel"] for gate in gates]).T)
  _copy(network.lstm.bias_hh_l0, np.hstack([cell[f"h{gate}"]["bias"] for gate in gates]))
  _copy(network.lstm.bias_ih_l0, np.zeros(network.lstm.bias_ih_l0.shape))
  _copy(network.head.weight, np.asarray(params["Dense_0"]["kernel"]).T)
  _copy(network.head.bias, np.asarray(params["Dense_0"]["bias"]))


def _copy(target: Any, values: np.ndarray) -> None:
  import torch

  with torch.no_grad():
    target.copy_(torch.tensor(np.ascontiguousarray(values)))
