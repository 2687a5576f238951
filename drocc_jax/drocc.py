"""DROCC: one-class classification against adversarially generated negatives.

    min_theta  lambda |theta|^2 + mean_i [ l(f(x_i), +1) + mu max_{z in N_i(r)} l(f(z), -1) ]
    N_i(r) = { z : r <= |z - x_i|_2 <= gamma r }

``make_init`` makes a pure ``init(hyper, sample, key) -> state``, ``make_train_step`` a pure
``step(state, batch, key) -> (state, info)``.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import chex
from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
import optax

from detector_jax.batching import Batch, Mean
from drocc_jax import losses, networks, projections
from drocc_jax.search import search

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine", "released")


@dataclasses.dataclass
class Config:
  """Settings of DROCC; frozen in spirit.

  Attributes:
    radius: ``r`` > 0, distance of the negatives from the data, in units of the standardised
      inputs. None takes the rule of ``recipe.auto_radius``.
    gamma: >= 1; negatives lie between ``r`` and ``gamma r``. The paper has 2, and 1 for images.
    mu: >= 0, weight of the negatives; the paper takes 0.5 or 1.
    step_size: ascent step ``eta`` > 0, in the units of ``radius``. None takes a tenth of it.
    num_steps: ascent steps ``m`` >= 0; 0 is DROCC-Rand (Table 8).
    project_every: project after every so many ascent steps (and after the last).
    warmup_steps: ``n0`` >= 0 first steps without negatives. Anything above 0 turns the scores
      upside down first and hurts on most data.
    optimizer: "adam" or "sgd".
    momentum: of SGD, in [0, 1).
    learning_rate: > 0.
    schedule: "constant", "cosine" (to 0), or "released": times 0.1 at 30, 60 and 90 % of what
      follows the warm-up.
    total_steps: steps over which the schedule runs; 0 takes the length of training.
    weight_decay: ``lambda`` >= 0, a term of the objective (not decoupled), biases included.
    average_decay: in [0, 1); the network that scores is the exponential moving average of the
      trained one over about ``1 / (1 - average_decay)`` steps, and with 0 the trained one itself.
      Training against a moving adversary ends in a cycle, not at a point: on Thyroid the AUROC of
      single epochs scatters, and that of the average does not. Not in the paper.
  """

  radius: float | None = None
  gamma: float = 2.0
  mu: float = 1.0
  step_size: float | None = None
  num_steps: int = 10
  project_every: int = 1
  warmup_steps: int = 0
  optimizer: str = "adam"
  momentum: float = 0.9
  learning_rate: float = 1e-3
  schedule: str = "constant"
  total_steps: int = 0
  weight_decay: float = 0.0
  average_decay: float = 0.998

  def validate(self) -> None:
    """Raises a ValueError that names the first field out of its range."""
    if self.radius is not None:
      _require(self.radius > 0, "radius", "> 0", self.radius)
    _require(self.gamma >= 1, "gamma", ">= 1", self.gamma)
    _require(self.mu >= 0, "mu", ">= 0", self.mu)
    if self.step_size is not None:
      _require(self.step_size > 0, "step_size", "> 0", self.step_size)
    _require(self.num_steps >= 0, "num_steps", ">= 0", self.num_steps)
    _require(self.project_every >= 1, "project_every", ">= 1", self.project_every)
    _require(self.warmup_steps >= 0, "warmup_steps", ">= 0", self.warmup_steps)
    _require(self.optimizer in OPTIMIZERS, "optimizer", f"one of {OPTIMIZERS}", self.optimizer)
    _require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
    _require(self.learning_rate > 0, "learning_rate", "> 0", self.learning_rate)
    _require(self.schedule in SCHEDULES, "schedule", f"one of {SCHEDULES}", self.schedule)
    _require(self.total_steps >= 0, "total_steps", ">= 0", self.total_steps)
    _require(self.weight_decay >= 0, "weight_decay", ">= 0", self.weight_decay)
    _require(0 <= self.average_decay < 1, "average_decay", "in [0, 1)", self.average_decay)

  def static(self) -> "Static":
    """The part that a compiled step is compiled for; the rest is traced."""
    constant, released = self.schedule == "constant", self.schedule == "released"
    return Static(
      self.project_every,
      self.optimizer,
      self.momentum,
      self.schedule,
      schedule_start=self.warmup_steps if released else 0,
      schedule_steps=0 if constant else self.total_steps,
    )

  def hyper(self) -> "Hyper":
    """The traced part, as device scalars.

    Raises:
      ValueError: a setting is out of its range, or ``radius`` or ``step_size`` is None.
    """
    self.validate()
    if self.radius is None or self.step_size is None:
      raise ValueError("radius and step_size must be numbers here; recipe.resolve sets them.")
    return Hyper(
      **{
        field.name: jnp.asarray(
          getattr(self, field.name), jnp.int32 if field.name.endswith("_steps") else jnp.float32
        )
        for field in dataclasses.fields(Hyper)
      }
    )


def _require(holds: Any, name: str, wanted: str, value: Any) -> None:
  if not holds:
    raise ValueError(f"{name} must be {wanted}, got {value!r}.")


class Static(NamedTuple):
  """Settings that change the compiled program; see ``Config``."""

  project_every: int = 1
  optimizer: str = "adam"
  momentum: float = 0.9
  schedule: str = "constant"
  schedule_start: int = 0
  schedule_steps: int = 0


@struct.dataclass
class Hyper:
  """Settings that are traced: scalars, or ``[models]`` when vmapped; see ``Config``."""

  radius: jax.Array
  gamma: jax.Array
  mu: jax.Array
  step_size: jax.Array
  num_steps: jax.Array
  warmup_steps: jax.Array
  learning_rate: jax.Array
  weight_decay: jax.Array
  average_decay: jax.Array


@struct.dataclass
class State:
  """What training carries on.

  Attributes:
    params: the network's parameters.
    stats: its other collections, e.g. running batch statistics; may be empty.
    average: ``{"params", "stats"}``, their moving average: what is scored with.
    opt_state: state of the optimiser.
    step: int32, number of steps taken.
    hyper: traced hyper-parameters.
  """

  params: Any
  stats: Any
  average: Any
  opt_state: Any
  step: jax.Array
  hyper: Hyper


@struct.dataclass
class Info:
  """What one may look at after a step; every field a ``Mean``.

  Attributes:
    positive_loss: ``l(f(x), +1)`` per example.
    negative_loss: ``l(f(z), -1)`` per negative.
    search_gain: by how much the search raised the loss of its negative.
    search_travel: Euclidean distance that the search moved its negative.
    projected: share of negatives that the last projection moved.
    distance: Euclidean distance of the negatives from their examples.
    gradient_norm: norm of the gradient, per step.
  """

  positive_loss: Mean
  negative_loss: Mean
  search_gain: Mean
  search_travel: Mean
  projected: Mean
  distance: Mean
  gradient_norm: Mean


def means(info: Any) -> dict[str, float]:
  """The means in an ``Info``, by name, as Python floats on the host."""
  return {field.name: float(getattr(info, field.name).value) for field in dataclasses.fields(info)}


TrainStep = Callable[[State, Batch, jax.Array], tuple[State, Info]]


def make_init(network: nn.Module, static: Static = Static()) -> Callable[..., State]:
  """Makes ``init(hyper, sample, key) -> State``, pure and jittable.

  ``sample`` is any input ``[batch, ...]`` of the right shape, ``key`` the PRNG key of the initial
  weights.
  """
  forward, optimizer = networks.as_forward(network), make_optimizer(static)

  def init(hyper: Hyper, sample: jax.Array, key: jax.Array) -> State:
    params, stats = forward.init(key, sample)
    average = jax.tree.map(jnp.copy, {"params": params, "stats": stats})
    return State(params, stats, average, optimizer.init(params), jnp.zeros((), jnp.int32), hyper)

  return init


def make_optimizer(static: Static) -> optax.GradientTransformation:
  """Direction of the outer step with the schedule applied, for a learning rate of 1."""
  if static.schedule == "cosine":
    schedule = optax.cosine_decay_schedule(1.0, static.schedule_steps)
  elif static.schedule == "released":
    start, length = static.schedule_start, static.schedule_steps - static.schedule_start
    drops = {start + int(share * length): 0.1 for share in (0.3, 0.6, 0.9)}
    schedule = optax.piecewise_constant_schedule(1.0, drops)
  else:
    schedule = optax.constant_schedule(1.0)
  direction = optax.scale_by_adam() if static.optimizer == "adam" else optax.trace(static.momentum)
  return optax.chain(direction, optax.scale_by_schedule(schedule), optax.scale(-1.0))


def make_train_step(
  network: nn.Module, static: Static = Static(), *, axis_name: str | None = None
) -> TrainStep:
  """Makes one step of Algorithm 1.

  The objective takes means over the batch where the paper writes sums, as the released code does.
  Typical examples and negatives go through the network as one batch of twice the size (the
  released code passes them one after the other): with batch normalisation both then share their
  statistics, and the statistics cannot tell them apart. The search sees running statistics.

  Args:
    network: maps ``[batch, ...]`` to one logit.
    static: what the program is compiled for; ``Config.static()`` gives it.
    axis_name: name of a mapped device axis to reduce gradient and metrics over; a network with
      batch statistics reduces those itself, over the axis that it was built with.

  Returns:
    ``step(state, batch, key) -> (state, info)``, pure. ``key`` is the step's own,
    ``fold_in(run_key, state.step)``.

  References:
    DROCC (Goyal et al., 2020), Algorithm 1.
  """
  forward = networks.as_forward(network)
  optimizer = make_optimizer(static)

  def reduce(tree: Any) -> Any:
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)

  def step(state: State, batch: Batch, key: jax.Array) -> tuple[State, Info]:
    size = batch.mask.shape[0]
    chex.assert_shape([batch.mask, batch.index], (size,))
    chex.assert_axis_dimension(batch.inputs, 0, size)
    hyper, warm = state.hyper, state.step < state.hyper.warmup_steps
    negatives, search_info = find_negatives(forward, state, batch.inputs, batch.index, key, static)
    share = batch.mask / jnp.maximum(reduce(jnp.sum(batch.mask)), 1.0)

    def objective(params: Any) -> tuple[jax.Array, Any]:
      logits, stats = forward.train(
        params,
        state.stats,
        jnp.concatenate([batch.inputs, negatives]),
        jnp.concatenate([batch.mask, jnp.where(warm, 0.0, batch.mask)]),
      )
      positive = losses.logistic(logits[:size], 1.0)
      negative = losses.logistic(logits[size:], -1.0)
      loss = jnp.sum(share * (positive + jnp.where(warm, 0.0, hyper.mu) * negative))
      return loss, (stats, positive, negative)

    grads, (stats, positive, negative) = jax.grad(objective, has_aux=True)(state.params)
    grads = reduce(grads)
    grads = jax.tree.map(lambda g, p: g + 2.0 * hyper.weight_decay * p, grads, state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda update: hyper.learning_rate * update, updates)
    info = Info(
      positive_loss=Mean.of(positive, batch.mask),
      negative_loss=Mean.of(negative, batch.mask),
      search_gain=Mean.of(search_info.gain, batch.mask),
      search_travel=Mean.of(search_info.travel, batch.mask),
      projected=Mean.of(search_info.projected, batch.mask),
      distance=Mean.of(search_info.norm, batch.mask),
      gradient_norm=Mean(optax.tree.norm(grads), jnp.ones(())),
    )
    params = optax.apply_updates(state.params, updates)
    new_state = dataclasses.replace(
      state,
      params=params,
      stats=stats,
      average=_moving_average(state, {"params": params, "stats": stats}),
      opt_state=opt_state,
      step=state.step + 1,
    )
    return new_state, reduce(info)

  return step


def _moving_average(state: State, new: Any) -> Any:
  """The average over the last steps; over all of them while these are fewer than its span."""
  step = state.step.astype(jnp.float32)
  decay = jnp.minimum(state.hyper.average_decay, (1.0 + step) / (10.0 + step))
  decay = jnp.where(state.hyper.average_decay > 0.0, decay, 0.0)
  return optax.incremental_update(new, state.average, 1.0 - decay)


def find_negatives(
  forward: networks.Forward,
  state: State,
  inputs: jax.Array,
  index: jax.Array,
  key: jax.Array,
  static: Static,
) -> tuple[jax.Array, Any]:
  """Runs the search for every example of a batch: the one place where it is vmapped.

  Args:
    forward: the network's pure functions.
    state: current state; its parameters and running statistics are held fixed.
    inputs: ``[batch, ...]``.
    index: ``[batch]`` rows' numbers, from which each example's noise is drawn.
    key: the step's key.
    static: gives ``project_every``.

  Returns:
    Negatives ``[batch, ...]`` and a ``SearchInfo`` of ``[batch]`` arrays.
  """
  hyper = state.hyper
  num_steps = jnp.where(state.step < hyper.warmup_steps, 0, hyper.num_steps)

  def logit(x: jax.Array) -> jax.Array:
    return forward.evaluate(state.params, state.stats, x[None])[0]

  def project(delta: jax.Array) -> jax.Array:
    return projections.project_shell(delta, hyper.radius, hyper.gamma)

  def one(x: jax.Array, row: jax.Array) -> tuple[jax.Array, Any]:
    noise = jax.random.normal(jax.random.fold_in(key, row), x.shape, x.dtype)
    return search(logit, x, noise, project, hyper.step_size, num_steps, static.project_every)

  return jax.vmap(one)(inputs, index)
