"""Networks by name, and whatever else may stand where a network stands."""

from collections.abc import Callable
import dataclasses
import functools
import inspect
from typing import Any

from flax import linen as nn
from flax import nnx
from flax.core import freeze
import jax

from drocc_jax import mobilenet, networks, prototypes

# A network of your own is one line here: its name and what makes it.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
  "mlp": networks.MLP,
  "prototypes": prototypes.Prototypes,
  "lstm": networks.LSTM,
  "mnist_lenet": networks.mnist_lenet,
  "cifar_lenet": networks.cifar_lenet,
  "mobilenet_v2": mobilenet.MobileNetV2,
}


@dataclasses.dataclass
class NetworkConfig:
  """The network to train.

  Attributes:
    name: "auto" (by the shape of a record), "mlp", "prototypes", "lstm", "mnist_lenet",
      "cifar_lenet" or "mobilenet_v2".
    hidden: widths of the MLP's hidden layers.
    input_gain: factor on the initial weights of the MLP's first layer.
    bias_range: its first biases start uniform in [-bias_range, bias_range].
    squares: whether the MLP's first layer sees squares, too; see ``networks.MLP``.
    activation: of the MLP, "relu" or "silu".
    width: multiplier of MobileNetV2's channels, > 0.
  """

  name: str = "auto"
  hidden: tuple[int, ...] = (128,)
  input_gain: float = 1.0
  bias_range: float = 0.0
  squares: bool = False
  activation: str = "relu"
  width: float = 1.0

  def make(self) -> nn.Module | None:
    """The Linen module, or None for "auto".

    Raises:
      ValueError: an unknown name, or a width out of its range.
    """
    if not self.width > 0:
      raise ValueError(f"network.width must be > 0, got {self.width!r}.")
    if self.name == "auto":
      return None
    if self.name not in NETWORKS:
      names = ", ".join(("auto", *NETWORKS))
      raise ValueError(f"network.name must be one of {names}; got {self.name!r}.")
    accepted = inspect.signature(NETWORKS[self.name]).parameters
    settings = {"hidden": tuple(self.hidden), "width": self.width}
    own = ("input_gain", "bias_range", "squares", "activation")
    settings |= {name: getattr(self, name) for name in own}
    if self.name == "lstm":  # its one hidden size is another setting
      del settings["hidden"]
    return NETWORKS[self.name](**{k: v for k, v in settings.items() if k in accepted})


class Functions(nn.Module):
  """A network that is a pair of pure functions.

  Attributes:
    initialise: ``(key, x [batch, ...]) -> params``, any pytree of arrays.
    evaluate: ``(params, x [batch, ...]) -> logits``, ``[batch]`` or ``[batch, 1]``.
  """

  initialise: Callable[[jax.Array, jax.Array], Any]
  evaluate: Callable[[Any, jax.Array], jax.Array]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, ...]`` to logits."""
    return self.evaluate(self.param("weights", self.initialise, x), x)


def as_network(network: Any) -> nn.Module:
  """The Linen module that something stands for.

  Args:
    network: a Linen module; the name of one of ``NETWORKS``; a pair ``(init, apply)`` of pure
      functions, see ``Functions``; or an NNX module by what makes it: its class, or
      ``functools.partial`` of it with all arguments but ``rngs``.

  Raises:
    TypeError: anything else.
    ValueError: an unknown name.
  """
  if isinstance(network, nn.Module):
    return network
  if isinstance(network, str):
    made = NetworkConfig(network).make() if network in NETWORKS else None
    if made is None:
      raise ValueError(f"network must be one of {', '.join(NETWORKS)}; got {network!r}.")
    return made
  if isinstance(network, tuple) and len(network) == 2 and all(map(callable, network)):
    return Functions(*network)
  if isinstance(network, functools.partial):
    factory, args, kwargs = network.func, network.args, network.keywords
  else:
    factory, args, kwargs = network, (), {}
  if isinstance(factory, type) and issubclass(factory, nnx.Module):
    return nnx.bridge.ToLinen(factory, args=args, kwargs=freeze(kwargs), metadata_fn=None)
  hint = ""
  if isinstance(network, nnx.Module):
    hint = " An NNX module is trained from new weights: pass its class, or functools.partial of it."
  raise TypeError(
    f"network must be a flax.linen Module with one logit, a pair (init, apply) or the class of an "
    f"NNX module, got {type(network).__name__}.{hint}"
  )
