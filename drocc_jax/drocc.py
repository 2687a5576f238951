"""DROCC: one-class classification against adversarially generated negatives.

    min_theta  lambda |theta|^2 + mean_i [ l(f(x_i), +1) + mu max_{z in N_i(r)} l(f(z), -1) ]
    N_i(r) = { z : r <= |z - x_i|_2 <= gamma r }

``make_init`` makes a pure ``init(hyper, sample, key) -> state``, ``make_train_step`` a pure
``step(state, batch, key) -> (state, info)``.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, ClassVar, Self

import chex
from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from detector_jax import training
from detector_jax.batching import Batch, Mean, whole
from drocc_jax import networks, projections, update, wide_search
from drocc_jax.algorithm import Algorithm
from drocc_jax.search import SearchInfo, search
from drocc_jax.update import Term

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine", *update.DROPS)
AUTOMATIC = ("radius", "mu", "step_size", "num_steps", "noise_scale", "learning_rate", "schedule")


@dataclasses.dataclass(frozen=True)
class Static:
  """Settings that change the compiled program; see ``Config``."""

  project_every: int = 1
  optimizer: str = "adam"
  momentum: float = 0.9
  schedule: str = "constant"
  schedule_start: int = 0
  schedule_steps: int = 0
  precision: str = "float32"
  batch_statistics: str = "joint"


@struct.dataclass
class Hyper:
  """Settings that are traced: scalars, or ``[models]`` when vmapped; see ``Config``."""

  radius: jax.Array
  gamma: jax.Array
  mu: jax.Array
  step_size: jax.Array
  num_steps: jax.Array
  noise_scale: jax.Array
  warmup_steps: jax.Array
  learning_rate: jax.Array
  weight_decay: jax.Array
  average_decay: jax.Array


@dataclasses.dataclass
class Config:
  """Settings of DROCC; treat as immutable.

  Attributes:
    radius: ``r`` > 0, distance of the negatives from the data, in units of the standardised
      inputs. None takes the rule of ``recipe.auto_radius``.
    gamma: >= 1; negatives lie between ``r`` and ``gamma r``. The paper has 2, and 1 for images.
    mu: >= 0, weight of the negatives; the paper takes 0.5 or 1. None takes ``recipe.resolve``'s
      for the shape of a record, as do ``num_steps``, ``learning_rate`` and ``schedule``.
    step_size: ascent step ``eta`` > 0, in the units of ``radius``. None takes a tenth of it, and
      where ``num_steps`` is None, too, the share of it that goes with that number.
    num_steps: ascent steps ``m`` >= 0; 0 is DROCC-Rand (Table 8).
    project_every: project after every so many ascent steps (and after the last).
    noise_scale: > 0; the search starts at ``h ~ Normal(0, noise_scale^2 I)``. The paper has 1,
      which in ``d`` coordinates is a start of length sqrt(d), whatever the radius. None takes
      ``radius / (10 sqrt(d))``, a start of a tenth of the radius.
    warmup_steps: ``n0`` >= 0 first steps without negatives. Anything above 0 turns the scores
      upside down first and hurts on most data.
    optimizer: "adam" or "sgd".
    momentum: of SGD, in [0, 1).
    learning_rate: > 0.
    schedule: "constant", "cosine" (to 0), or that of a released trainer: times 0.1 at 30, 60 and
      90 % of what follows the warm-up ("released", of tables), at 40 and 80 % ("released_images")
      or at 50 % ("released_series").
    total_steps: steps over which the schedule runs; 0 takes the length of training.
    weight_decay: ``lambda`` >= 0, a term of the objective (not decoupled), biases included.
    average_decay: in [0, 1); the network that scores is the exponential moving average of the
      trained one over about ``1 / (1 - average_decay)`` steps, and with 0 the trained one itself.
      Training against a moving adversary ends in a cycle, not at a point: on Thyroid the AUROC of
      single epochs scatters, and that of the average does not. Not in the paper.
    precision: "float32", or "bf16": the layers' products in the search take and give bfloat16, see
      ``networks.in_precision``. Displacements, their projections and the outer step stay float32.
      For accelerators; a CPU computes no faster.
    batch_statistics: which examples share them in a network with batch normalisation. "joint": all
      terms of the objective are one batch, and statistics cannot tell them apart. "separate": each
      term is a pass of its own. "released": the same, and the negatives of a step feed the running
      statistics as often as the passes of the released trainer do, see ``update.FEEDS``.
  """

  static_class: ClassVar[type] = Static
  hyper_class: ClassVar[type] = Hyper

  radius: float | None = None
  gamma: float = 2.0
  mu: float | None = 1.0
  step_size: float | None = None
  num_steps: int | None = 10
  project_every: int = 1
  noise_scale: float | None = 1.0
  warmup_steps: int = 0
  optimizer: str = "adam"
  momentum: float = 0.9
  learning_rate: float | None = 1e-3
  schedule: str | None = "constant"
  total_steps: int = 0
  weight_decay: float = 0.0
  average_decay: float = 0.998
  precision: str = "float32"
  batch_statistics: str = "joint"

  @classmethod
  def automatic(cls, **given: Any) -> Self:
    """Settings that go by the shape of a record, but for those given: what ``DROCC()`` trains."""
    return cls(**{"mu": None, "num_steps": None, "learning_rate": None, "schedule": None, **given})

  def validate(self) -> None:
    """Raises a ValueError that names the first field out of its range."""
    if self.radius is not None:
      require(self.radius > 0, "radius", "> 0", self.radius)
    require(self.gamma >= 1, "gamma", ">= 1", self.gamma)
    if self.mu is not None:
      require(self.mu >= 0, "mu", ">= 0", self.mu)
    if self.step_size is not None:
      require(self.step_size > 0, "step_size", "> 0", self.step_size)
    if self.num_steps is not None:
      whole("num_steps", self.num_steps, 0)
    whole("project_every", self.project_every)
    whole("warmup_steps", self.warmup_steps, 0)
    whole("total_steps", self.total_steps, 0)
    if self.noise_scale is not None:
      require(self.noise_scale > 0, "noise_scale", "> 0", self.noise_scale)
    require(self.optimizer in OPTIMIZERS, "optimizer", f"one of {OPTIMIZERS}", self.optimizer)
    require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
    if self.learning_rate is not None:
      require(self.learning_rate > 0, "learning_rate", "> 0", self.learning_rate)
    if self.schedule is not None:
      require(self.schedule in SCHEDULES, "schedule", f"one of {SCHEDULES}", self.schedule)
    require(self.weight_decay >= 0, "weight_decay", ">= 0", self.weight_decay)
    require(0 <= self.average_decay < 1, "average_decay", "in [0, 1)", self.average_decay)
    known = tuple(networks.PRECISIONS)
    require(self.precision in known, "precision", f"one of {known}", self.precision)
    chosen, known = self.batch_statistics, tuple(update.FEEDS)
    require(chosen in known, "batch_statistics", f"one of {known}", chosen)

  def static(self) -> Any:
    """The part that a compiled step is compiled for, a ``Static``; the rest is traced."""
    constant, released = self.schedule == "constant", self.schedule in update.DROPS
    chosen = vars(self) | {
      "schedule_start": self.warmup_steps if released else 0,
      "schedule_steps": 0 if constant else self.total_steps,
    }
    static = self.static_class
    return static(**{field.name: chosen[field.name] for field in dataclasses.fields(static)})

  def hyper(self) -> Any:
    """The traced part, a ``Hyper``, as device scalars.

    Raises:
      ValueError: a setting is out of its range, or one that ``recipe.resolve`` sets is None.
    """
    self.validate()
    if None in (getattr(self, name) for name in AUTOMATIC):
      raise ValueError(f"{', '.join(AUTOMATIC)} must be set here; recipe.resolve sets them.")
    return self.hyper_class(
      **{
        field.name: jnp.asarray(
          getattr(self, field.name), jnp.int32 if field.name.endswith("_steps") else jnp.float32
        )
        for field in dataclasses.fields(self.hyper_class)
      }
    )


def require(holds: Any, name: str, wanted: str, value: Any) -> None:
  """Raises a ValueError that names a setting where ``holds`` is False."""
  if not holds:
    raise ValueError(f"{name} must be {wanted}, got {value!r}.")


@struct.dataclass
class State:
  """What training carries on.

  Attributes:
    params: the network's parameters.
    stats: its other collections, e.g. running batch statistics; may be empty.
    average: ``{"params", "stats"}``, their moving average: what is scored with.
    opt_state: state of the optimiser.
    step: int32, number of steps taken.
    hyper: traced hyper-parameters, a ``Hyper``.
  """

  params: Any
  stats: Any
  average: Any
  opt_state: Any
  step: jax.Array
  hyper: Any


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


TrainStep = Callable[[Any, Batch, jax.Array], tuple[Any, Any]]


def make_init(network: nn.Module, static: Static = Static()) -> Callable[..., State]:
  """Makes ``init(hyper, sample, key) -> State``, pure and jittable.

  ``sample`` is any input ``[batch, ...]`` of the right shape, ``key`` the PRNG key of the initial
  weights.
  """
  forward, optimizer = networks.as_forward(network), update.make_optimizer(static)

  def init(hyper: Hyper, sample: jax.Array, key: jax.Array) -> State:
    params, stats = forward.init(key, sample)
    average = jax.tree.map(jnp.copy, {"params": params, "stats": stats})
    return State(params, stats, average, optimizer.init(params), jnp.zeros((), jnp.int32), hyper)

  return init


def make_train_step(
  network: nn.Module, static: Static = Static(), *, axis_name: str | None = None
) -> TrainStep:
  """Makes one step of Algorithm 1.

  The objective takes means over the batch where the paper writes sums, as the released code does.
  Typical examples and negatives go through the network as one batch of twice the size, unless
  ``Config.batch_statistics`` says otherwise. The search sees running statistics, in the released
  code those of its batch.

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
  outer = update.make_update(forward, static, axis_name)

  def step(state: State, batch: Batch, key: jax.Array) -> tuple[State, Info]:
    negatives, found = find_negatives(forward, state, batch.inputs, batch.index, key, static)
    state, means = outer(state, make_terms(state, batch, negatives))
    info = Info(**means, **search_means(found, batch.mask))
    return state, training.psum_if(info, axis_name)

  return step


def make_terms(state: State, batch: Batch, negatives: jax.Array) -> dict[str, Term]:
  """The terms of the objective, by the name of their loss in ``Info``.

  Args:
    state: gives the weight of the negatives and says whether the warm-up is over.
    batch: typical examples, ``[batch, ...]``.
    negatives: what the search found, ``[batch, ...]``.
  """
  size = batch.mask.shape[0]
  chex.assert_shape([batch.mask, batch.index], (size,))
  chex.assert_equal_shape([batch.inputs, negatives])
  started = state.step >= state.hyper.warmup_steps
  return {
    "positive_loss": Term(batch.inputs, 1.0, batch.mask),
    "negative_loss": Term(negatives, -1.0, batch.mask, state.hyper.mu, started, True),
  }


def search_means(found: SearchInfo, mask: jax.Array) -> dict[str, Mean]:
  """What an ``Info`` tells of the searches of a batch."""
  return {
    "search_gain": Mean.from_values(found.gain, mask),
    "search_travel": Mean.from_values(found.travel, mask),
    "projected": Mean.from_values(found.projected, mask),
    "distance": Mean.from_values(found.norm, mask),
  }


def find_negatives(
  forward: networks.Forward,
  state: State,
  inputs: jax.Array,
  index: jax.Array,
  key: jax.Array,
  static: Static,
) -> tuple[jax.Array, SearchInfo]:
  """Runs the search for every example of a batch.

  Args:
    forward: the network's pure functions.
    state: current state; its parameters and running statistics are held fixed.
    inputs: ``[batch, ...]``.
    index: ``[batch]`` rows' numbers, from which each example's noise is drawn.
    key: the step's key.
    static: gives ``project_every`` and ``precision``.

  Returns:
    Negatives ``[batch, ...]`` and a ``SearchInfo`` of ``[batch]`` arrays.
  """

  def project(delta: jax.Array, _: None) -> jax.Array:
    return projections.project_shell(delta, state.hyper.radius, state.hyper.gamma)

  return search_batch(forward, state, inputs, index, key, static, project, None, radial=True)


def search_batch(
  forward: networks.Forward,
  state: State,
  inputs: jax.Array,
  index: jax.Array,
  key: jax.Array,
  static: Static,
  project: Callable[[jax.Array, Any], jax.Array],
  weights: Any,
  radial: bool = False,
) -> tuple[jax.Array, SearchInfo]:
  """Maps the search over a batch: the one place where it is vmapped.

  Args are those of ``find_negatives``, with ``project(delta, weights)`` for one example and
  ``weights``, a pytree of ``[batch, ...]`` arrays or None. ``radial`` says that the projection
  only scales a displacement; a network with a wide first layer is then searched from that
  layer's outputs, see ``wide_search``.
  """
  hyper = state.hyper
  num_steps = jnp.where(state.step < hyper.warmup_steps, 0, hyper.num_steps)
  layer: wide_search.Layer | None = None
  rest: Any = None
  if radial and static.precision == "float32" and forward.split is not None:
    kernel, bias, rest = forward.split(state.params, state.stats)
    layer = wide_search.Layer.from_parameters(kernel, bias) if wide_search.pays(kernel) else None
  logits = networks.in_precision(forward, state.params, state.stats, static.precision)

  def one(x: jax.Array, row: jax.Array, weight: Any) -> tuple[jax.Array, SearchInfo]:
    noise = hyper.noise_scale * jax.random.normal(jax.random.fold_in(key, row), x.shape, x.dtype)
    settings = (lambda h: project(h, weight), hyper.step_size, num_steps, static.project_every)
    if layer is not None:
      return wide_search.search(lambda z: rest(z[None])[0], layer, x, noise, *settings)
    return search(lambda x: logits(x[None])[0], x, noise, *settings)

  return jax.vmap(one)(inputs, index, weights)


ALGORITHM = Algorithm("DROCC", Config, make_init, make_train_step, find_negatives)
