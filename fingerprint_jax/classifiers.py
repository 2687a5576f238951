"""The classifiers that the paper's tables fingerprint, and how they are trained.

The paper counts seven layers for MNIST and eleven for Fashion-MNIST and says no more of them; here
they are 3 x 3 convolutions, then three dense layers, with ReLU between. Every layer sows its
activation (the last one its logits).
"""

import dataclasses
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from detector_jax import training
from detector_jax.batching import Batch, Mean
from detector_jax.taps import SOWN


class Classifier(nn.Module):
  """Convolutions and dense layers; sows "layer_1", "layer_2", ... into "intermediates".

  Attributes:
    convolutions: ``(channels, stride)`` of each 3 x 3 convolution.
    dense: widths of the dense layers, the last one the number of classes.
  """

  convolutions: tuple[tuple[int, int], ...]
  dense: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Logits ``[batch, classes]`` of images ``[batch, height, width, channels]`` in [0, 1]."""
    return self.with_features(x)[0]

  @nn.compact
  def with_features(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits ``[batch, classes]`` and the last hidden layer ``[batch, width]``."""
    init = nn.initializers.he_normal()
    number = 0
    for channels, stride in self.convolutions:
      number += 1
      name = f"conv_{number}"
      x = nn.relu(nn.Conv(channels, (3, 3), (stride, stride), kernel_init=init, name=name)(x))
      self.sow(SOWN, f"layer_{number}", x)
    features = x = x.reshape(x.shape[0], -1)
    for place, width in enumerate(self.dense):
      number += 1
      features, x = x, nn.Dense(width, kernel_init=init, name=f"dense_{number}")(x)
      if place < len(self.dense) - 1:
        x = nn.relu(x)
      self.sow(SOWN, f"layer_{number}", x)
    return x, features


def mnist_classifier() -> Classifier:
  """The 7-layer network for MNIST, 28 x 28 grey; 226,106 parameters."""
  return Classifier(((16, 1), (16, 2), (32, 1), (32, 2)), (128, 64, 10))


def fashion_mnist_classifier() -> Classifier:
  """The 11-layer network for Fashion-MNIST, 28 x 28 grey; 258,074 parameters."""
  convolutions = ((16, 1), (16, 2), (32, 1), (32, 1), (32, 2), (64, 1), (64, 1), (64, 2))
  return Classifier(convolutions, (128, 64, 10))


def digits_classifier() -> Classifier:
  """A 5-layer network for scikit-learn's digits, 8 x 8 grey."""
  return Classifier(((16, 1), (32, 2)), (64, 32, 10))


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of a classifier's training.

  Attributes:
    epochs: over the training records, >= 1.
    batch_size: records per step.
    learning_rate: of Adam at the start, > 0; falls to 0 along a cosine.
    weight_decay: decoupled, >= 0.
    shift: training images move by up to so many pixels, filled with zeros, >= 0.
    flip: whether training images are mirrored at random.
  """

  epochs: int = 5
  batch_size: int = 128
  learning_rate: float = 1e-3
  weight_decay: float = 1e-4
  shift: int = 0
  flip: bool = False

  def validate(self) -> None:
    """Raises a ValueError that names a setting out of its range."""
    for name in ("epochs", "batch_size"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} must be >= 1, got {getattr(self, name)!r}.")
    if not 0.0 < self.learning_rate < np.inf:
      raise ValueError(f"learning_rate must be > 0, got {self.learning_rate!r}.")
    for name in ("weight_decay", "shift"):
      if getattr(self, name) < 0:
        raise ValueError(f"{name} must be >= 0, got {getattr(self, name)!r}.")


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["step", "params", "opt_state"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class State:
  """What training carries on.

  Attributes:
    step: int32, number of steps done.
    params: of the network.
    opt_state: of AdamW.
  """

  step: jax.Array
  params: Any
  opt_state: Any


class Info(NamedTuple):
  """What one may look at.

  Attributes:
    loss: cross-entropy, in nats.
    accuracy: share of training records classified rightly, as augmented.
  """

  loss: Mean
  accuracy: Mean


def make_optimizer(config: Config, total_steps: int) -> optax.GradientTransformation:
  """AdamW with a cosine schedule over ``total_steps``."""
  schedule = optax.cosine_decay_schedule(config.learning_rate, total_steps)
  return optax.adamw(schedule, weight_decay=config.weight_decay)


def init(
  network: nn.Module,
  optimizer: optax.GradientTransformation,
  shape: tuple[int, ...],
  key: jax.Array,
) -> State:
  """Initial state for records of ``shape``."""
  params = _parameters(network, shape, key)
  return State(jnp.zeros((), jnp.int32), params, optimizer.init(params))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _parameters(network: nn.Module, shape: tuple[int, ...], key: jax.Array) -> Any:
  return network.init(key, jnp.zeros((1, *shape), jnp.float32))["params"]


def make_train_step(
  network: nn.Module,
  optimizer: optax.GradientTransformation,
  config: Config,
  *,
  axis_name: str | None = None,
) -> Any:
  """Makes the pure train step ``(state, batch, key) -> (state, info)``; labels are classes.

  With ``axis_name`` gradient, loss and accuracy are reduced over that mapped axis of devices, whose
  shares of a batch are of equal length and in order.
  """

  def loss(params: Any, batch: Batch, images: jax.Array) -> tuple[jax.Array, Info]:
    logits: Any = network.apply({"params": params}, images)
    labels = batch.labels.astype(jnp.int32)
    values = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    right = jnp.where(jnp.argmax(logits, axis=-1) == labels, 1.0, 0.0)
    info = Info(Mean.from_values(values, batch.mask), Mean.from_values(right, batch.mask))
    count = jnp.maximum(training.psum_if(info.loss.count, axis_name), 1.0)
    return info.loss.total / count, info

  def step(state: State, batch: Batch, key: jax.Array) -> tuple[State, Info]:
    images = augment(batch.inputs, config, key, axis_name)
    found = jax.grad(loss, has_aux=True)(state.params, batch, images)
    gradients, info = training.psum_if(found, axis_name)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    return State(state.step + 1, optax.apply_updates(state.params, updates), opt_state), info

  return step


def augment(
  x: jax.Array, config: Config, key: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """Moves and mirrors images ``[batch, height, width, channels]`` at random.

  With ``axis_name`` they are this device's share of a batch, and each moves as it would on one
  device: numbers are drawn for the whole batch.
  """
  shift_key, flip_key = jax.random.split(key)
  size, total, first = x.shape[0], x.shape[0], jnp.zeros((), jnp.int32)
  if axis_name is not None:
    total = size * jax.lax.axis_size(axis_name)
    first = size * jax.lax.axis_index(axis_name)
  if config.shift:
    margin = config.shift
    padded = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    corners = jax.random.randint(shift_key, (total, 2), 0, 2 * margin + 1)
    corners = jax.lax.dynamic_slice_in_dim(corners, first, size)

    def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
      return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), x.shape[1:])

    x = jax.vmap(cut)(padded, corners)
  if config.flip:
    mirrored = jax.random.bernoulli(flip_key, shape=(total, 1, 1, 1))
    mirrored = jax.lax.dynamic_slice_in_dim(mirrored, first, size)
    x = jnp.where(mirrored, x[:, :, ::-1], x)
  return x
