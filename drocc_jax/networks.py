"""Networks with one logit, and the pure functions that the train steps call them through.

Any Linen module that maps ``[batch, ...]`` to ``[batch]`` or ``[batch, 1]`` may be used. Where
its ``__call__`` has an argument ``train`` it is told whether it trains; where it has ``mask``
(``[batch]``, 1 for a real example and 0 for padding) it can leave padding out of its statistics.
"""

from collections.abc import Callable
import contextvars
import functools
import inspect
import math
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import training
from drocc_jax import convolution

SAMPLED = 2**25  # numbers that a network which starts from the data is given at most
_DEVICE_AXIS: contextvars.ContextVar[str | None] = contextvars.ContextVar("axis", default=None)


def device_axis() -> str | None:
  """Name of the mapped axis of devices that the training being traced is spread over, or None.

  A network of your own that takes batch statistics reduces them over it (``jax.lax.psum``).
  """
  return _DEVICE_AXIS.get()


def in_training_form(
  function: Callable[..., Any], axis_name: str | None = None
) -> Callable[..., Any]:
  """``function``, traced so that its networks train fast on the default device.

  The parameters and, to rounding, the numbers are the same. On a CPU layers that have
  ``convolution.conv_general_dilated``, and ``convolution.max_pool``, take the form that is fast
  inside a loop; ``device_axis`` is ``axis_name``.
  """

  @functools.wraps(function)
  def traced(*args: Any, **kwargs: Any) -> Any:
    token = _DEVICE_AXIS.set(axis_name)
    try:
      with convolution.for_loops():
        return function(*args, **kwargs)
    finally:
      _DEVICE_AXIS.reset(token)

  return traced


class Forward(NamedTuple):
  """Pure functions of one network.

  Attributes:
    init: ``(key, x) -> (params, stats)``; ``stats`` holds every collection but ``params``.
    train: ``(params, stats, x, mask) -> (logits [batch], stats)`` with batch statistics.
    evaluate: ``(params, stats, x) -> logits [batch]`` with running statistics.
    split: where the network begins with a linear layer on the flattened input,
      ``(params, stats) -> (kernel [inputs, units], bias [units], rest)``, with ``rest`` from that
      layer's outputs ``[batch, units]`` to logits ``[batch]``; otherwise None.
  """

  init: Callable[..., tuple[Any, Any]]
  train: Callable[..., tuple[jax.Array, Any]]
  evaluate: Callable[..., jax.Array]
  split: Callable[..., tuple[jax.Array, jax.Array, Callable[..., jax.Array]]] | None = None


def as_forward(network: nn.Module) -> Forward:
  """Wraps a Linen module with one logit as pure functions.

  Raises:
    TypeError: ``network`` is not a Linen module, or needs further arguments than its input.
  """
  if not isinstance(network, nn.Module):
    raise TypeError(
      f"network must be a flax.linen Module with one logit, got {type(network).__name__}."
    )
  arguments = inspect.signature(type(network).__call__).parameters

  def options(train: bool, mask: jax.Array | None = None) -> dict[str, Any]:
    available = {"train": train, "mask": mask}
    return {name: value for name, value in available.items() if name in arguments}

  def init(key: jax.Array, x: jax.Array) -> tuple[Any, Any]:
    variables = network.init(key, x, **options(train=False))
    params = variables["params"]
    return params, {name: value for name, value in variables.items() if name != "params"}

  def train(params: Any, stats: Any, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, Any]:
    logits, stats = network.apply(
      {"params": params, **stats}, x, mutable=list(stats), **options(train=True, mask=mask)
    )
    return _one_logit(logits, x), stats

  def evaluate(params: Any, stats: Any, x: jax.Array) -> jax.Array:
    logits: Any = network.apply({"params": params, **stats}, x, **options(train=False))
    return _one_logit(logits, x)

  plain = type(network) is MLP and not network.squares  # a subclass may do anything else
  split = _split(evaluate) if plain else None
  return Forward(init, train, evaluate, split)


def _split(evaluate: Callable[..., jax.Array], name: str = "Dense_0") -> Callable[..., Any]:
  """The split of a network whose layer of this name takes the flattened input; see ``Forward``."""

  def split(params: Any, stats: Any) -> tuple[jax.Array, jax.Array, Callable[..., jax.Array]]:
    kernel, bias = params[name]["kernel"], params[name]["bias"]

    def rest(outputs: jax.Array) -> jax.Array:
      def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        return outputs if context.module.name == name else call(*args, **kwargs)

      with nn.intercept_methods(intercept):
        return evaluate(params, stats, jnp.zeros((len(outputs), len(kernel)), outputs.dtype))

    return kernel, bias, rest

  return split


PRECISIONS = {"float32": None, "bf16": jnp.bfloat16}
LAYERS = (nn.Dense, nn.Conv)


def in_precision(forward: Forward, params: Any, stats: Any, precision: str) -> Callable[..., Any]:
  """The network of these parameters as a function ``x -> logits`` that computes in a precision.

  Args:
    forward: the network's pure functions.
    params: its parameters.
    stats: its other collections.
    precision: one of ``PRECISIONS``. With "bf16" parameters are rounded to bfloat16, and so are
      what ``LAYERS`` and LSTM cells take in and what their products give; squares, normalisation
      and other layers stay float32. "float32" leaves all types as they are.

  Returns:
    ``x [batch, ...] -> logits [batch]``, of the type of ``x``.
  """
  dtype = PRECISIONS[precision]
  if dtype is None:
    return lambda x: forward.evaluate(params, stats, x)

  def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    if context.method_name == "__call__" and isinstance(context.module, LAYERS):
      return call(args[0].astype(dtype), **kwargs).astype(args[0].dtype)
    if context.method_name == "__call__" and isinstance(context.module, nn.OptimizedLSTMCell):
      (cell, hidden), x = args
      return call((cell, hidden.astype(dtype)), x.astype(dtype), **kwargs)
    return call(*args, **kwargs)

  params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)

  def logits(x: jax.Array) -> jax.Array:
    with nn.intercept_methods(intercept):
      return forward.evaluate(params, stats, x)

  return logits


def _one_logit(logits: jax.Array, x: jax.Array) -> jax.Array:
  if logits.shape not in ((x.shape[0],), (x.shape[0], 1)):
    raise ValueError(
      f"The network must map [batch, ...] to one logit, [batch] or [batch, 1]; for an input "
      f"{list(x.shape)} it returned {list(logits.shape)}."
    )
  return logits.reshape(x.shape[0])


def _uniform(limit: float) -> nn.initializers.Initializer:
  def initialise(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -limit, limit)

  return initialise


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"relu": nn.relu, "silu": nn.silu}


class MLP(nn.Module):
  """Multilayer perceptron on the flattened input.

  Attributes:
    hidden: widths of the hidden layers; the paper has one of 128 for tabular data (App. E.1).
    input_gain: factor on the standard deviation of the first layer's initial weights.
    bias_range: the first layer's biases start uniform in [-bias_range, bias_range]. With a
      gain above 1 and a range of a few input deviations the kinks of the first layer cover the
      data, and a boundary can close round it within few steps.
    activation: "relu" or "silu", ``x / (1 + exp(-x))``, which has no kinks: the boundary, and what
      the ascent finds on it, then moves little where inputs or rounding do.
    squares: whether the first layer also sees ``x^2 / sqrt(1 + x^2 / 9)`` of every coordinate:
      ``x^2`` within the data and ``3 |x|`` far from it. A unit can then fall off on both sides of
      the data and not on one, and with it the logit far away, where no negative was seen.
  """

  hidden: tuple[int, ...] = (128,)
  input_gain: float = 1.0
  bias_range: float = 0.0
  squares: bool = False
  activation: str = "relu"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, ...]`` to logits ``[batch]``."""
    x = x.reshape(x.shape[0], -1)
    if self.squares:
      x = jnp.concatenate([x, x * x * jax.lax.rsqrt(1.0 + x * x / 9.0)], axis=-1)
    gain, bias = self.input_gain**2, _uniform(self.bias_range)
    for width in self.hidden:
      kernel = nn.initializers.variance_scaling(gain, "fan_in", "truncated_normal")
      x = ACTIVATIONS[self.activation](nn.Dense(width, kernel_init=kernel, bias_init=bias)(x))
      gain, bias = 1.0, nn.initializers.zeros_init()
    return nn.Dense(1)(x)[..., 0]


def for_records(network: nn.Module, records: int) -> nn.Module:
  """The network for so many training records; one whose size goes by them has ``for_records``."""
  sized = getattr(network, "for_records", None)
  return network if sized is None else sized(records)


def sample_for(
  network: nn.Module, inputs: jax.Array | np.ndarray, records: int | None = None
) -> jax.Array:
  """What ``init`` of a network is given: rows of the training data where it asks for them.

  Args:
    network: one that starts from the data has ``init_rows``, how many it is best given.
    inputs: ``[n, ...]`` typical training records, standardised.
    records: how many rows are records, those after them padding; None: all.

  Returns:
    ``init_rows`` rows, spread evenly, or fewer that hold ``SAMPLED`` numbers; or one of zeros.
  """
  records = len(inputs) if records is None else records
  rows = min(getattr(network, "init_rows", 0), records)
  rows = min(rows, max(1, SAMPLED // math.prod(inputs.shape[1:])))
  if not rows:
    return jnp.zeros((1, *inputs.shape[1:]), jnp.float32)
  return jnp.asarray(inputs)[np.linspace(0, records - 1, rows).astype(int)]


class LSTM(nn.Module):
  """One-layer LSTM; the last hidden state gives the logit (paper, section 5.1, time series).

  Attributes:
    hidden: size of the hidden state.
  """

  hidden: int = 128

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, time, channels]`` to logits ``[batch]``."""
    states: Any = nn.RNN(nn.OptimizedLSTMCell(self.hidden))(x)
    return nn.Dense(1)(states[:, -1])[..., 0]


class MaskedBatchNorm(nn.Module):
  """Batch normalisation over the real examples of a batch, without scale and offset.

  ``flax.linen.BatchNorm`` averages the means of the devices; that is NaN as soon as one of them
  holds nothing but padding. Here sums and counts are added up before they are divided, over
  ``device_axis()``.

  Attributes:
    momentum: share of the running statistics that a training batch keeps.
    epsilon: added to the variance.
  """

  momentum: float = 0.9
  epsilon: float = 1e-4

  @nn.compact
  def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` to the same shape; ``mask`` is ``[batch]``."""
    channels = x.shape[-1:]
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
    running_var = self.variable("batch_stats", "var", jnp.ones, channels)
    mean, var = running_mean.value, running_var.value
    if train:
      weights = jnp.ones(x.shape[0]) if mask is None else mask
      weights = weights.reshape(-1, 1, 1, 1)

      def mean_of(values: jax.Array) -> jax.Array:
        total = jnp.sum(jnp.where(weights > 0, values, 0.0), axis=(0, 1, 2))
        count = jnp.sum(weights > 0, dtype=x.dtype) * x[0, ..., 0].size
        total, count = training.psum_if((total, count), device_axis())
        return total / jnp.maximum(count, 1.0)

      mean = mean_of(x)
      var = mean_of(jnp.square(x - mean.reshape(1, 1, 1, -1)))
      running_mean.value = self.momentum * running_mean.value + (1.0 - self.momentum) * mean
      running_var.value = self.momentum * running_var.value + (1.0 - self.momentum) * var
    scale = jax.lax.rsqrt(var + self.epsilon)
    return (x - mean.reshape(1, 1, 1, -1)) * scale.reshape(1, 1, 1, -1)


# As PyTorch draws the weights of its layers, and so the released code; Flax's own default has three
# times the variance. ``benchmarks.fidelity`` has both.
AS_PYTORCH = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


class LeNet(nn.Module):
  """LeNet of Deep SVDD with one logit: convolutions, then dense layers, all without biases.

  Each convolution is 5x5 with padding, followed by batch normalisation without scale and offset
  (eps 1e-4), leaky ReLU (0.01) and 2x2 max-pooling; hidden dense layers by leaky ReLU.

  Attributes:
    channels: output channels of each convolution.
    dense: widths of the hidden dense layers.
    kernel_init: of all weights.
  """

  channels: tuple[int, ...]
  dense: tuple[int, ...]
  kernel_init: nn.initializers.Initializer = AS_PYTORCH

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` to logits ``[batch]``."""
    for index, channels in enumerate(self.channels):
      x = nn.Conv(
        channels,
        (5, 5),
        use_bias=False,
        kernel_init=self.kernel_init,
        conv_general_dilated_cls=convolution.conv_general_dilated,
        name=f"Conv_{index}",
      )(x)
      x = MaskedBatchNorm(name=f"BatchNorm_{index}")(x, train, mask)
      # The ReLU rises, so it may come after the maximum: the same numbers, a quarter of the work.
      x = convolution.max_pool(x)
      x = nn.leaky_relu(x)
    x = x.reshape(x.shape[0], -1)
    for width in self.dense:
      x = nn.leaky_relu(nn.Dense(width, use_bias=False, kernel_init=self.kernel_init)(x))
    return nn.Dense(1, use_bias=False, kernel_init=self.kernel_init)(x)[..., 0]


def mnist_lenet() -> LeNet:
  """The LeNet for 28x28 grey images: convolutions of 8 and 4 channels, dense 64, one logit."""
  return LeNet(channels=(8, 4), dense=(64,))


def cifar_lenet() -> LeNet:
  """The LeNet for 32x32 colour images: 32, 64, 128 channels, dense 128 and 64, one logit."""
  return LeNet(channels=(32, 64, 128), dense=(128, 64))
