"""DROCC-LF: DROCC-OE whose shells follow the influence of each coordinate.

    min_theta  lambda |theta|^2 + mean_i [ l(f(x_i), +1) + mu max_{z in N_i(r)} l(f(z), -1) ]
                                + nu mean_k l(f(x'_k), -1)
    N_i(r) = { x_i + delta : r <= |delta|_Sigma <= gamma r }
    |delta|_Sigma^2 = sum_j sigma_j delta_j^2 ,   sigma_j = |d f(x_i) / d x_j|

Given negatives teach the network which coordinates matter; those that do not cost no distance, so
that a negative may lie far off in them. The same names as ``drocc``.

``noise_scale`` decides how much of that is left. In coordinates without influence nothing holds a
start of length sqrt(d) back, and the network learns to look for it there: all coordinates stay in
use, as is right where unseen negatives may differ in any of them. From a short start
(``noise_scale=None``) negatives leave an example where the given ones do, and only there: right
where the other coordinates are noise, and wrong otherwise.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, ClassVar

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from detector_jax import training
from detector_jax.batching import Batch, Mean
from drocc_jax import algorithm, drocc, drocc_oe, losses, networks, projections, update
from drocc_jax.search import SearchInfo

SIGMA_FROM = ("logit", "loss")
SIGMA_SCALES = ("mean", "none")


@dataclasses.dataclass(frozen=True)
class Static(drocc.Static):
  """Settings that change the compiled program; see ``Config``."""

  solver: str = "secular"
  sigma_from: str = "logit"
  sigma_scale: str = "mean"


@struct.dataclass
class Hyper(drocc_oe.Hyper):
  """Settings that are traced; see ``Config``."""

  sigma_steps: jax.Array


@dataclasses.dataclass
class Config(drocc_oe.Config):
  """Settings of DROCC-LF: those of DROCC-OE, whose ``radius`` is now a weighted length, and more.

  Attributes:
    solver: of the projection, "secular" or "grid"; see ``projections.project_weighted_shell``.
    sigma_from: gradient of the "logit" (the paper) or of the "loss" toward typical (the released
      code). Scaled to mean 1 they are the same but for rounding; the loss's underflows.
    sigma_scale: "mean": sigma of each example has mean 1 over its coordinates (the released code),
      so that the radius means the same at any steepness of the network; "none": as it is (the
      paper).
    sigma_steps: sigma is computed with the network as it was at the start of every so many steps:
      1 is the released code, 0 takes an epoch, as the paper has it.
  """

  static_class: ClassVar[type] = Static
  hyper_class: ClassVar[type] = Hyper

  solver: str = "secular"
  sigma_from: str = "logit"
  sigma_scale: str = "mean"
  sigma_steps: int = 1

  def validate(self) -> None:
    """Raises a ValueError that names the first field out of its range."""
    super().validate()
    for name, known in (
      ("solver", projections.SOLVERS),
      ("sigma_from", SIGMA_FROM),
      ("sigma_scale", SIGMA_SCALES),
    ):
      drocc.require(getattr(self, name) in known, name, f"one of {known}", getattr(self, name))
    drocc.require(self.sigma_steps >= 0, "sigma_steps", ">= 0", self.sigma_steps)


@struct.dataclass
class State(drocc.State):
  """What training carries on.

  Attributes:
    influence: ``{"params", "stats"}`` of the network that sigma is computed with.
  """

  influence: Any


@struct.dataclass
class Info(drocc_oe.Info):
  """What one may look at after a step; every field a ``Mean``.

  ``distance`` is the weighted length of the negatives here.

  Attributes:
    effective_coordinates: ``(sum_j sigma_j)^2 / sum_j sigma_j^2``: over how many coordinates sigma
      spreads, from 1 to ``d``.
  """

  effective_coordinates: Mean


def make_init(network: nn.Module, static: Static = Static()) -> Callable[..., State]:
  """Makes ``init(hyper, sample, key) -> State``; see ``drocc.make_init``."""
  init_drocc = drocc.make_init(network, static)

  def init(hyper: Hyper, sample: jax.Array, key: jax.Array) -> State:
    state = init_drocc(hyper, sample, key)
    return State(**vars(state), influence=jax.tree.map(jnp.copy, state.average))

  return init


def make_train_step(
  network: nn.Module, static: Static = Static(), *, axis_name: str | None = None
) -> drocc.TrainStep:
  """Makes one step of Algorithm 2; arguments and result as for ``drocc.make_train_step``.

  References:
    DROCC (Goyal et al., 2020), section 4, Proposition 1 and Algorithm 2.
  """
  forward = networks.as_forward(network)
  outer = update.make_update(forward, static, axis_name)

  def step(state: State, batch: Batch, key: jax.Array) -> tuple[State, Info]:
    state = refresh(state)
    sigma = influence(forward, state, batch.inputs, static)
    negatives, found = find_negatives(forward, state, batch.inputs, batch.index, key, static, sigma)
    new_state, means = outer(state, drocc_oe.make_terms(state, batch, negatives))
    spread = jax.vmap(lambda s: jnp.sum(s) ** 2 / jnp.maximum(jnp.sum(s**2), 1e-30))(sigma)
    info = Info(
      **means,
      **drocc.search_means(found, batch.mask),
      effective_coordinates=Mean.from_values(spread, batch.mask),
    )
    return new_state, training.psum_if(info, axis_name)

  return step


def refresh(state: State) -> State:
  """Takes over the present network for sigma, if it is time."""
  due = state.step % jnp.maximum(state.hyper.sigma_steps, 1) == 0
  present = {"params": state.params, "stats": state.stats}
  chosen = jax.tree.map(lambda new, old: jnp.where(due, new, old), present, state.influence)
  return dataclasses.replace(state, influence=chosen)


def influence(
  forward: networks.Forward, state: State, inputs: jax.Array, static: Static
) -> jax.Array:
  """The weights of the coordinates of each example.

  Args:
    forward: the network's pure functions; it is evaluated with frozen batch statistics.
    state: gives the network, see ``refresh``.
    inputs: ``[batch, ...]``.
    static: gives ``sigma_from`` and ``sigma_scale``.

  Returns:
    sigma >= 0, shaped like ``inputs``; 1 for every coordinate of an example that the network does
    not react to at all, which makes its shell Euclidean.
  """
  params, stats = state.influence["params"], state.influence["stats"]

  def value(x: jax.Array) -> jax.Array:
    logit = forward.evaluate(params, stats, x[None])[0]
    return losses.logistic(logit, 1.0) if static.sigma_from == "loss" else logit

  def one(x: jax.Array) -> jax.Array:
    sigma = jnp.abs(jax.grad(value)(x))
    mean = jnp.mean(sigma)
    scale = 1.0 if static.sigma_scale == "none" else jnp.where(mean > 0.0, mean, 1.0)
    return jnp.where(mean > 0.0, sigma / scale, 1.0)

  return jax.lax.stop_gradient(jax.vmap(one)(inputs))


def find_negatives(
  forward: networks.Forward,
  state: State,
  inputs: jax.Array,
  index: jax.Array,
  key: jax.Array,
  static: Static,
  sigma: jax.Array | None = None,
) -> tuple[jax.Array, SearchInfo]:
  """Runs the search for every example of a batch; see ``drocc.find_negatives``.

  Args:
    forward: the network's pure functions.
    state: current state.
    inputs: ``[batch, ...]``.
    index: ``[batch]`` rows' numbers.
    key: the step's key.
    static: gives ``project_every``, ``precision`` and ``solver``. sigma is float32 always.
    sigma: ``[batch, ...]``; None computes it.

  Returns:
    Negatives ``[batch, ...]`` and a ``SearchInfo`` of ``[batch]`` arrays, whose ``norm`` is the
    weighted one.
  """
  if sigma is None:
    sigma = influence(forward, state, inputs, static)
  hyper = state.hyper

  def project(delta: jax.Array, weights: jax.Array) -> jax.Array:
    return projections.project_weighted_shell(
      delta, weights, hyper.radius, hyper.gamma, static.solver
    )

  negatives, found = drocc.search_batch(forward, state, inputs, index, key, static, project, sigma)
  norm = jax.vmap(projections.weighted_norm)(negatives - inputs, sigma)
  return negatives, dataclasses.replace(found, norm=norm)


def averaged(state: State) -> State:
  """The state with the averaged network in the place of the trained one, for sigma too."""
  return dataclasses.replace(algorithm.averaged(state), influence=state.average)


def settle(config: Config, epoch_steps: int) -> Config:
  """Fills in the age of sigma: an epoch, where it is 0."""
  return config if config.sigma_steps else dataclasses.replace(config, sigma_steps=epoch_steps)


ALGORITHM = algorithm.Algorithm(
  "DROCC-LF",
  Config,
  make_init,
  make_train_step,
  find_negatives,
  needs_negatives=True,
  euclidean=False,
  averaged=averaged,
  settle=settle,
)
