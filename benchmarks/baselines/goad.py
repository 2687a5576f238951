"""GOAD: random affine maps of a record are told apart by their distance from class centres.

``M`` random matrices ``W_m`` map a record to ``W_m x``; a small network maps each of these to a
feature vector ``z_m``, trained so that vectors of one map lie together and away from the others:

    mean_m max(0, |z_m - c_m|^2 + margin - min_{k != m} |z_m - c_k|^2) * weight + cross-entropy(m)

with the centres ``c_m`` of the batch. The score is

    -sum_m log( exp(-|z_m - c_m|^2) / sum_k exp(-|z_m - c_k|^2) )

with the centres of all training records. Defaults are those of the reference's code for tables.
Implements ``Baseline``, of records ``[n, d]``.

References:
  Bergman and Hoshen, Classification-Based Anomaly Detection for General Data, ICLR 2020, and its
  code, GOAD.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.baselines import fitting
from detector_jax import health, training
from detector_jax.batching import Batch, Mean, num_parameters
from drocc_jax import recipe

FAR = 1e6


@dataclasses.dataclass(frozen=True)
class Settings(fitting.Settings):
  """Settings of GOAD.

  Attributes:
    maps: ``M`` >= 2.
    outputs: coordinates of ``W_m x``, >= 1.
    features: width of the network and of ``z_m``, >= 1.
    margin: > 0.
    weight: >= 0, of the distances from the centres.
  """

  maps: int = 32
  outputs: int = 32
  features: int = 8
  margin: float = 1.0
  weight: float = 0.1

  def __post_init__(self) -> None:
    super().__post_init__()
    fitting.require(self.maps >= 2, "maps", ">= 2", self.maps)
    fitting.require(self.outputs >= 1, "outputs", ">= 1", self.outputs)
    fitting.require(self.features >= 1, "features", ">= 1", self.features)
    fitting.require(self.margin > 0, "margin", "> 0", self.margin)
    fitting.require(self.weight >= 0, "weight", ">= 0", self.weight)


class Network(nn.Module):
  """The network that all maps share: three dense layers to ``z``, one more to the class.

  Attributes:
    features: width of every layer but the last.
    maps: number of classes.
  """

  features: int
  maps: int

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps ``[batch, maps, outputs]`` to ``z`` ``[batch, maps, features]`` and logits."""
    for layer in range(3):
      x = nn.Dense(self.features, use_bias=False)(x)
      x = nn.leaky_relu(x, 0.2) if layer < 2 else x
    return x, nn.Dense(self.maps)(nn.leaky_relu(x, 0.2))


def distances(z: jax.Array, centres: jax.Array) -> jax.Array:
  """Squared distances ``[batch, maps, maps]`` of ``z_m`` from every centre ``[maps, features]``."""
  return jnp.sum(jnp.square(z[:, :, None] - centres[None, None]), axis=-1)


def make_objective(network: nn.Module) -> fitting.Objective:
  """The objective on a batch; ``constants`` are ``{"matrices", "margin", "weight"}``."""

  def objective(
    params: Any, stats: Any, constants: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[Any, dict[str, Mean]]]:
    del key
    mapped = jnp.einsum("nd,mdo->nmo", batch.inputs, constants["matrices"])
    output: Any = network.apply({"params": params}, mapped)
    z, logits = output
    centres = jnp.sum(z * batch.mask[:, None, None], axis=0) / jnp.maximum(batch.mask.sum(), 1.0)
    squares = distances(z, centres)
    own = jnp.diagonal(squares, axis1=1, axis2=2)
    other = jnp.min(squares + FAR * jnp.eye(squares.shape[1])[None], axis=2)
    apart = jnp.maximum(own + constants["margin"] - other, 0.0).mean(axis=1)
    labels = jnp.broadcast_to(jnp.arange(logits.shape[1])[None], logits.shape[:2])
    named = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(axis=1)
    info = {
      "margin_loss": Mean.from_values(apart, batch.mask),
      "class_loss": Mean.from_values(named, batch.mask),
    }
    loss = constants["weight"] * info["margin_loss"].value + info["class_loss"].value
    return loss, (stats, info)

  return objective


class _Program(NamedTuple):
  init: Any
  train_epochs: training.TrainEpochs
  features: fitting.RowFunction
  score: fitting.RowFunction


@functools.lru_cache(maxsize=8)
def _compiled(network: Network, batch_size: int) -> _Program:
  def features(variables: Any, x: jax.Array) -> jax.Array:
    mapped = jnp.einsum("nd,mdo->nmo", x, variables["matrices"])
    z, _ = network.apply({"params": variables["params"]}, mapped)
    return z

  def score(variables: Any, x: jax.Array) -> jax.Array:
    squares = distances(features(variables, x), variables["centres"])
    named = jnp.diagonal(jax.nn.log_softmax(-squares, axis=2), axis1=1, axis2=2)
    return -jnp.sum(named, axis=1)

  step = fitting.make_train_step(make_objective(network))
  return _Program(
    jax.jit(network.init),
    training.compile_train_epochs(step, batch_size),
    jax.jit(features),
    jax.jit(score),
  )


class Goad(fitting.OfItsOwnNetwork):
  """GOAD for tables; the seed decides the maps, too."""

  title, settings, axes = "This GOAD", Settings, {1: "tables"}

  def _fit(self, x: np.ndarray, batch_size: int) -> None:
    settings = self._settings
    network = Network(settings.features, settings.maps)
    program = _compiled(network, batch_size)
    init_key, train_key = recipe.keys(self._seed)
    matrices = jax.random.normal(
      jax.random.fold_in(init_key, 1), (settings.maps, self._shape[0], settings.outputs)
    )
    sample = jnp.zeros((1, settings.maps, settings.outputs))
    constants = {
      "matrices": matrices,
      "margin": jnp.asarray(settings.margin),
      "weight": jnp.asarray(settings.weight),
    }
    params = program.init(init_key, sample)["params"]
    state = fitting.train_typical(
      program.train_epochs, x, train_key, settings, params, constants=constants
    )
    variables = {"params": state.params, "matrices": matrices}
    z = fitting.on_rows(program.features, variables, self._shape)(x)
    centres = jnp.asarray(z.mean(axis=0, dtype=np.float64), jnp.float32)
    variables = jax.tree.map(np.array, {**variables, "centres": centres})
    self._score = fitting.on_rows(program.score, variables, self._shape)
    self.parameters = num_parameters(variables["params"])
    health.check_scores(self.score(fitting.examined(x)))


make = Goad.make
