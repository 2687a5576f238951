"""AnoGAN: how far an image is from the nearest one that a generator can make.

A generator ``G`` and a discriminator ``D`` are trained against one another on typical images (the
generator on the non-saturating loss, each player one step of Adam per batch). For an image ``x`` a
latent ``z`` is then searched by gradient descent for

    A(x) = (1 - lambda) sum |x - G(z)| + lambda sum |d(x) - d(G(z))|

where ``d`` is what the last layer of ``D`` sees. The score is A of the last ``z``.

``d`` is the body of our LeNet and ``G`` the decoder that mirrors it, where the reference has a
DCGAN: the DROCC paper has a LeNet for all its baselines. Lambda, the 500 steps of the search and
normal latents are the reference's; 256 latent coordinates are those of Deep SVDD's comparison, from
which the DROCC paper has its numbers. Adam's settings are DCGAN's in training; those of the search
(0.02, beta 0.9) are ours. All searches start from one and the same draw, so that a score does not
depend on which images come with it. Implements ``Baseline``, of images.

References:
  Schlegl et al., Unsupervised Anomaly Detection with Generative Adversarial Networks, IPMI 2017.
  Radford et al., Unsupervised Representation Learning with DCGANs, ICLR 2016.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.baselines import encoders, fitting
from detector_jax import health, training
from detector_jax.batching import Batch, Mean, num_parameters
from drocc_jax import networks, recipe

ADAM = optax.scale_by_adam(b1=0.5)


@dataclasses.dataclass(frozen=True)
class Settings(fitting.Settings):
  """Settings of AnoGAN; ``weight_decay`` is unused.

  Attributes:
    learning_rate: of both players.
    latent: coordinates of ``z``, >= 1.
    discrimination: ``lambda`` in [0, 1], weight of the discriminator's features in the score.
    steps: of the search, >= 1.
    search_rate: of the search's Adam, > 0.
  """

  learning_rate: float = 2e-4
  latent: int = 256
  discrimination: float = 0.1
  steps: int = 500
  search_rate: float = 0.02

  def __post_init__(self) -> None:
    super().__post_init__()
    fitting.require(self.latent >= 1, "latent", ">= 1", self.latent)
    inside = 0 <= self.discrimination <= 1
    fitting.require(inside, "discrimination", "in [0, 1]", self.discrimination)
    fitting.require(self.steps >= 1, "steps", ">= 1", self.steps)
    fitting.require(0 < self.search_rate < np.inf, "search_rate", "> 0", self.search_rate)


class Discriminator(nn.Module):
  """A LeNet's body and one logit, high = real.

  Attributes:
    body: maps ``(x, train, mask)`` to features ``[batch, width]``.
  """

  body: nn.Module

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Maps images ``[batch, height, width, c]`` to logits ``[batch]`` and features."""
    features = self.body(x, train, mask)
    return nn.Dense(1)(features)[:, 0], features


@struct.dataclass
class Player:
  """One of the two networks: parameters, batch statistics and its Adam."""

  params: Any
  stats: Any
  opt_state: Any

  @property
  def variables(self) -> dict[str, Any]:
    """What the network's ``apply`` takes."""
    return {"params": self.params, **self.stats}


@struct.dataclass
class State:
  """Both players, the number of steps taken and the learning rate, traced."""

  generator: Player
  discriminator: Player
  step: jax.Array
  learning_rate: jax.Array


def player(variables: dict[str, Any]) -> Player:
  """A player about to begin."""
  variables = jax.tree.map(jnp.copy, dict(variables))
  params = variables.pop("params")
  return Player(params, variables, ADAM.init(params))


def anomaly(
  x: jax.Array,
  made: jax.Array,
  features: jax.Array,
  made_features: jax.Array,
  discrimination: float | jax.Array,
) -> jax.Array:
  """``A`` ``[batch]`` of images, what the generator made of them, and the features of both."""
  residual = jnp.sum(jnp.abs(x - made), axis=tuple(range(1, x.ndim)))
  apart = jnp.sum(jnp.abs(features - made_features), axis=1)
  return (1.0 - discrimination) * residual + discrimination * apart


def _updated(before: Player, gradients: Any, stats: Any, rate: jax.Array) -> Player:
  updates, opt_state = ADAM.update(gradients, before.opt_state)
  params = jax.tree.map(lambda p, update: p - rate * update, before.params, updates)
  return Player(params, stats, opt_state)


def make_train_step(
  generator: nn.Module, discriminator: nn.Module, latent: int
) -> Callable[..., tuple[State, dict[str, Mean]]]:
  """Makes one step of both players, ``(state, batch, key) -> (state, info)``."""

  def applied(network: nn.Module, params: Any, stats: Any, x: jax.Array, mask: jax.Array) -> Any:
    return network.apply({"params": params, **stats}, x, True, mask, mutable=list(stats))

  def train_step(state: State, batch: Batch, key: jax.Array) -> tuple[State, dict[str, Mean]]:
    one, two, mask = state.generator, state.discriminator, batch.mask
    z = jax.random.normal(key, (len(mask), latent))

    def of_generator(params: Any) -> tuple[jax.Array, Any]:
      made, stats = applied(generator, params, one.stats, z, mask)
      (logits, _), _ = applied(discriminator, two.params, two.stats, made, mask)
      loss = Mean.from_values(jax.nn.softplus(-logits), mask)
      return loss.value, (stats, jax.lax.stop_gradient(made), loss)

    def of_discriminator(params: Any, made: jax.Array) -> tuple[jax.Array, Any]:
      (real, _), stats = applied(discriminator, params, two.stats, batch.inputs, mask)
      (false, _), stats = applied(discriminator, params, stats, made, mask)
      loss = Mean.from_values(jax.nn.softplus(-real) + jax.nn.softplus(false), mask)
      return loss.value, (stats, loss)

    slope, (stats, made, made_loss) = jax.grad(of_generator, has_aux=True)(one.params)
    moved = _updated(one, slope, stats, state.learning_rate)
    slope, (stats, told_loss) = jax.grad(of_discriminator, has_aux=True)(two.params, made)
    other = _updated(two, slope, stats, state.learning_rate)
    info = {"generator_loss": made_loss, "discriminator_loss": told_loss}
    return State(moved, other, state.step + 1, state.learning_rate), info

  return train_step


class _Program(NamedTuple):
  init: Callable[[jax.Array], tuple[Any, Any]]
  train_epochs: training.TrainEpochs
  score: Callable[..., jax.Array]


@functools.lru_cache(maxsize=8)
def _compiled(
  network: networks.LeNet, shape: tuple[int, ...], latent: int, batch_size: int
) -> _Program:
  generator = encoders.LeNetDecoder(network.channels, (*network.dense, latent), shape)
  discriminator = Discriminator(encoders.LeNetEncoder(network.channels, network.dense))
  adam = optax.scale_by_adam()

  def init(key: jax.Array) -> tuple[Any, Any]:
    one, two = jax.random.split(key)
    return generator.init(one, jnp.zeros((1, latent))), discriminator.init(
      two, jnp.zeros((1, *shape))
    )

  def value(z: jax.Array, variables: Any, x: jax.Array, features: jax.Array) -> jax.Array:
    made: Any = generator.apply(variables["generator"], z)
    found: Any = discriminator.apply(variables["discriminator"], made)
    return anomaly(x, made, features, found[1], variables["discrimination"])

  @functools.partial(jax.jit, donate_argnums=0)
  def searched(carry: Any, variables: Any, x: jax.Array, features: jax.Array) -> Any:
    z, opt_state = carry
    slope = jax.grad(lambda z: jnp.sum(value(z, variables, x, features)))(z)
    updates, opt_state = adam.update(slope, opt_state)
    return z - variables["rate"] * updates, opt_state

  jitted_value = jax.jit(value)
  jitted_features = jax.jit(lambda variables, x: discriminator.apply(variables, x)[1])

  def score(variables: Any, steps: int, x: jax.Array) -> jax.Array:
    """Step by step, as gradients of convolutions are slow in a compiled loop on a CPU."""
    x = jnp.asarray(x)
    features = jitted_features(variables["discriminator"], x)
    z = jnp.tile(variables["start"][None], (len(x), 1))
    carry = z, adam.init(z)
    for _ in range(steps):
      carry = searched(carry, variables, x, features)
    return jitted_value(carry[0], variables, x, features)

  step = make_train_step(generator, discriminator, latent)
  return _Program(jax.jit(init), training.compile_train_epochs(step, batch_size), score)


class AnoGAN(fitting.OneClass):
  """A generator of typical images, and the search for the image that is nearest to a given one.

  Attributes:
    variables: of both networks, for the search; None before ``fit``.
  """

  title, settings, axes = "AnoGAN", Settings, {3: "images"}
  variables: Any = None

  @classmethod
  def suiting(cls, shape: tuple[int, ...], network: nn.Module | None) -> networks.LeNet:
    """A LeNet, whose body the discriminator has and whose mirror the generator is.

    Raises:
      ValueError: another network, or one that does not suit the shape.
    """
    network = super().suiting(shape, network)
    if not isinstance(network, networks.LeNet) or not network.channels:
      raise ValueError(f"AnoGAN takes a LeNet, got {type(network).__name__}.")
    return network

  def _fit(self, x: np.ndarray, batch_size: int) -> None:
    settings = self._settings
    program = _compiled(self._network, self._shape, settings.latent, batch_size)
    init_key, train_key = recipe.keys(self._seed)
    one, two = program.init(init_key)
    rate = jnp.asarray(settings.learning_rate, jnp.float32)
    start: Any = State(player(one), player(two), jnp.zeros((), jnp.int32), rate)
    epochs = fitting.epochs_of(settings.epochs, len(x), batch_size)
    data = training.to_device(x)
    state: Any
    ((_, state),) = fitting.train(program.train_epochs, start, data, train_key, epochs)
    drawn = jax.random.normal(jax.random.fold_in(init_key, 1), (settings.latent,))
    self.variables = jax.tree.map(
      np.array,
      {
        "generator": state.generator.variables,
        "discriminator": state.discriminator.variables,
        "start": drawn,
        "discrimination": np.float32(settings.discrimination),
        "rate": np.float32(settings.search_rate),
      },
    )
    self.parameters = sum(
      num_parameters(self.variables[name]["params"]) for name in ("generator", "discriminator")
    )
    self._score = fitting.on_rows(
      lambda variables, rows: program.score(variables, settings.steps, rows),
      self.variables,
      self._shape,
    )
    health.check_scores(self.score(fitting.examined(x)[: fitting.SCORED]))


make = AnoGAN.make
