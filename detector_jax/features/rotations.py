"""A small network that tells turned copies of an image apart, for images that have an upright."""

from collections.abc import Callable
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from detector_jax import batching, training
from detector_jax.detector import Detector
from detector_jax.features.base import batches_of, per_channel, rows_for
from detector_jax.features.patches import extract, windows
from detector_jax.preprocessing import Identity

TURNS = 4  # by 0, 90, 180 and 270 degrees
Params = dict[str, dict[str, jax.Array]]


def turned(x: jax.Array) -> list[jax.Array]:
  """The four turns of square images ``[batch, side, side, c]``."""
  return [jnp.rot90(x, turn, axes=(1, 2)) for turn in range(TURNS)]


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["params", "center", "scale"],
  meta_fields=["layers", "rows"],
)
@dataclasses.dataclass(frozen=True)
class RotationMap:
  """``x [batch, side, side, channels] -> [batch, 4 + last channels]``, as ``Rotations`` fits it.

  The first four features are log-probabilities: of turn ``r`` as the network gives it for the image
  turned by ``r``. A typical image has them near 0; their mean is what GEOM scores by. The others
  are the last convolution's channels of the upright image, averaged over places.

  Attributes:
    params: of the network, ``{"conv_0": {"kernel", "bias"}, ..., "hidden", "turn"}``.
    center: ``[channels]`` of the images.
    scale: likewise.
    layers: ``(window, stride)`` of each convolution.
    rows: see ``FeatureMap``.
  """

  params: Params
  center: jax.Array
  scale: jax.Array
  layers: tuple[tuple[int, int], ...]
  rows: int

  def __call__(self, x: jax.Array) -> jax.Array:
    """Features ``[batch, 4 + last channels]`` of images ``[batch, side, side, channels]``."""
    z = (x - per_channel(self.center, x)) / per_channel(self.scale, x)
    found = [forward(self.params, self.layers, each) for each in turned(z)]
    own = [jax.nn.log_softmax(logits)[:, turn] for turn, (logits, _) in enumerate(found)]
    return jnp.concatenate([jnp.stack(own, axis=1), found[0][1]], axis=1)

  def detector(self, input_shape: tuple[int, ...]) -> Detector:
    """A detector of images of that shape that scores by the turns alone, not calibrated."""
    size = TURNS + self.params[f"conv_{len(self.layers) - 1}"]["bias"].shape[0]
    turns = Detector.create(TurnScore(), {}, Identity(), (size,), metadata={"method": "rotations"})
    return turns.behind(self, input_shape)


@dataclasses.dataclass(frozen=True)
class TurnScore:
  """Score of the features of a ``RotationMap``: the mean negative log-probability of the turns."""

  def __call__(self, variables: Any, features: jax.Array) -> jax.Array:
    """Maps ``[batch, 4 + channels]`` to scores ``[batch]``."""
    del variables
    return -jnp.mean(features[:, :TURNS], axis=1)


def forward(
  params: Params, layers: tuple[tuple[int, int], ...], x: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Logits ``[batch, 4]`` and the last convolution averaged over places ``[batch, channels]``."""
  for number, (window, stride) in enumerate(layers):
    layer = params[f"conv_{number}"]
    x = extract(x, window, stride) @ layer["kernel"]
    x = jax.nn.relu(x + per_channel(layer["bias"], x))
  pooled = jnp.mean(x, axis=(1, 2))
  hidden = jax.nn.relu(
    x.reshape(x.shape[0], -1) @ params["hidden"]["kernel"] + params["hidden"]["bias"][None]
  )
  return hidden @ params["turn"]["kernel"] + params["turn"]["bias"][None], pooled


def initial(
  key: jax.Array,
  layers: tuple[tuple[int, int], ...],
  channels: tuple[int, ...],
  hidden: int,
  shape: tuple[int, ...],
) -> Params:
  """He-normal weights, biases of 0; the last layer's weights are 0, so that no turn is preferred.

  Raises:
    ValueError: images are too small for the layers.
  """
  params: Params = {}
  for number, ((window, stride), width) in enumerate(zip(layers, channels, strict=True)):
    _, counts = windows(shape, window, stride)
    params[f"conv_{number}"] = _dense(
      jax.random.fold_in(key, number), window * window * shape[-1], width
    )
    shape = (*counts, width)
  params["hidden"] = _dense(jax.random.fold_in(key, len(layers)), math.prod(shape), hidden)
  params["turn"] = {"kernel": jnp.zeros((hidden, TURNS)), "bias": jnp.zeros(TURNS)}
  return params


def _dense(key: jax.Array, inputs: int, outputs: int) -> dict[str, jax.Array]:
  kernel = math.sqrt(2.0 / inputs) * jax.random.normal(key, (inputs, outputs))
  return {"kernel": kernel, "bias": jnp.zeros(outputs)}


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["params", "opt_state", "step"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class _State:
  """What training carries on; ``step`` counts from 0."""

  params: Params
  opt_state: Any
  step: jax.Array


@dataclasses.dataclass(frozen=True)
class Rotations:
  """Settings of the network that tells turns apart; ``fit`` trains it.

  Whoever takes it knows that the records have an upright: side information, which the paper's
  methods do without.

  Attributes:
    channels: of each convolution.
    layers: ``(window, stride)`` of each.
    hidden: units of the dense layer between them and the four logits.
    epochs: each shows every image in all four turns.
    batch_size: images a step, each four times.
    learning_rate: of Adam, falls to 0 as a cosine.
    weight_decay: of AdamW, in units of the learning rate.
    shift: images are shifted at random by up to so many pixels in training, >= 0.

  References:
    Golan and El-Yaniv, Deep anomaly detection using geometric transformations, NeurIPS 2018.
  """

  channels: tuple[int, ...] = (32, 64, 128)
  layers: tuple[tuple[int, int], ...] = ((5, 2), (3, 2), (3, 2))
  hidden: int = 128
  epochs: int = 12
  batch_size: int = 32
  learning_rate: float = 2e-3
  weight_decay: float = 1e-2
  shift: int = 2

  def fit(self, x: np.ndarray, seed: int = 0) -> RotationMap:
    """Trains on typical images.

    Args:
      x: ``[n, side, side, channels]``, raw.
      seed: of weights, order and shifts.

    Raises:
      ValueError: records of another shape, or too small for the layers.
    """
    shape = tuple(x.shape[1:])
    if len(shape) != 3 or shape[0] != shape[1]:
      raise ValueError(
        f"Turns are told apart of square images [n, side, side, channels], got {list(x.shape)}."
      )
    center, scale = _channel_moments(x)
    key, init_key = jax.random.split(jax.random.key(seed))
    params = initial(init_key, self.layers, self.channels, self.hidden, shape)
    data = training.to_device((x - center) / scale)
    batch_size = min(self.batch_size, len(x))
    steps = self.epochs * training.steps_per_epoch(len(x), batch_size)
    optimizer = optax.adamw(
      optax.cosine_decay_schedule(self.learning_rate, steps), weight_decay=self.weight_decay
    )
    state = _State(params, optimizer.init(params), jnp.zeros((), jnp.int32))
    train = compile_epochs(optimizer, self.layers, self.shift, batch_size)
    state, _ = train(state, data, key, 0, self.epochs)
    as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
    (window, _), (_, (count, _)) = self.layers[0], windows(shape, *self.layers[0])
    rows = rows_for(TURNS * (count * window) ** 2 * shape[-1])
    return RotationMap(state.params, as_float32(center), as_float32(scale), self.layers, rows)


def compile_epochs(
  optimizer: optax.GradientTransformation,
  layers: tuple[tuple[int, int], ...],
  shift: int,
  batch_size: int,
) -> training.TrainEpochs:
  """Epochs of ``make_step`` in one program, which is given the state to overwrite."""
  step = make_step(optimizer, layers, shift)
  return jax.jit(training.make_train_epochs(step, batch_size), donate_argnums=0)


def make_step(
  optimizer: optax.GradientTransformation, layers: tuple[tuple[int, int], ...], shift: int
) -> Callable[..., Any]:
  """Makes ``step(state, batch, key) -> (state, {"loss": Mean})`` for ``training``."""

  def step(state: _State, batch: batching.Batch, key: jax.Array) -> tuple[_State, Any]:
    x = shifted_by(batch.inputs, jax.random.randint(key, (2,), -shift, shift + 1), shift)
    images = jnp.concatenate(turned(x))
    labels = jnp.repeat(jnp.arange(TURNS), x.shape[0])

    def objective(params: Params) -> tuple[jax.Array, batching.Mean]:
      logits, _ = forward(params, layers, images)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      loss = batching.Mean.from_values(losses, jnp.tile(batch.mask, TURNS))
      return loss.value, loss

    grads, loss = jax.grad(objective, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return _State(params, opt_state, state.step + 1), {"loss": loss}

  return step


def shifted_by(x: jax.Array, places: jax.Array, most: int) -> jax.Array:
  """Images ``[batch, h, w, c]`` moved by ``places`` ``[2]`` pixels, edges repeated."""
  if not most:
    return x
  padded = jnp.pad(x, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
  start = (0, most + places[0], most + places[1], 0)
  return jax.lax.dynamic_slice(padded, start, x.shape)


def _channel_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation of each channel, ``[channels]`` float64, gathered batch by batch."""
  sums = np.zeros((2, x.shape[-1]))
  for batch in batches_of(x, 1024):
    flat = batch.reshape(-1, x.shape[-1]).astype(np.float64)
    sums += flat.sum(axis=0), np.square(flat).sum(axis=0)
  count = math.prod(x.shape[:-1])
  mean = sums[0] / count
  deviation = np.sqrt(np.maximum(sums[1] / count - mean**2, 0.0))
  if not deviation.max() > 0:
    raise ValueError("Every image is the same flat colour; there is nothing to learn from.")
  return mean, np.where(deviation > 0, deviation, 1.0)
