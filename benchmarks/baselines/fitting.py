"""What the baselines with negatives share: settings, checks of records, epochs of Adam."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import logging
from typing import Any, ClassVar, Self

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.exceptions import NotFittedError

from detector_jax import batching, health, training
from detector_jax.batching import Batch, Mean
from drocc_jax import networks, recipe
from drocc_jax.drocc import require

logger = logging.getLogger(__name__)

SCORED = 256
EXAMINED = 1000
ADAM = optax.scale_by_adam()

Objective = Callable[[Any, Any, Any, Batch, jax.Array], tuple[jax.Array, tuple[Any, Any]]]
RowFunction = Callable[[Any, jax.Array], jax.Array]
ScoreFunction = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of a training.

  Attributes:
    epochs: >= 1; None takes as many as make about 1,500 steps, as our own training has.
    batch_size: records per step, >= 1; at most as many as there are.
    learning_rate: of Adam, > 0, constant.
    weight_decay: ``lambda`` >= 0 of the term ``lambda / 2 |theta|^2`` of the objective (coupled:
      Adam sees its gradient), biases included.
  """

  epochs: int | None = None
  batch_size: int = 64
  learning_rate: float = 1e-3
  weight_decay: float = 0.0

  def __post_init__(self) -> None:
    if self.epochs is not None:
      require(self.epochs >= 1, "epochs", ">= 1", self.epochs)
    require(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)
    require(0 < self.learning_rate < np.inf, "learning_rate", "> 0", self.learning_rate)
    require(0 <= self.weight_decay < np.inf, "weight_decay", ">= 0", self.weight_decay)


def epochs_of(epochs: int | None, num_rows: int, batch_size: int) -> int:
  """``epochs``, or as many as make about ``recipe.TRAIN_STEPS`` steps."""
  if epochs is not None:
    return epochs
  return max(1, round(recipe.TRAIN_STEPS / training.steps_per_epoch(num_rows, batch_size)))


def network_for(shape: tuple[int, ...], network: nn.Module | None) -> nn.Module:
  """``network``, or the one that DROCC takes for records of that shape.

  Raises:
    ValueError: an LSTM or a LeNet for records that are no series or images of its size.
  """
  if network is None:
    return recipe.default_network(shape)
  axes = {networks.LSTM: 2, networks.LeNet: 3}.get(type(network), len(shape))
  if len(shape) != axes:
    raise ValueError(
      f"{type(network).__name__} takes records of {axes} axes, these have shape {list(shape)}."
    )
  if isinstance(network, networks.LeNet) and min(shape[:2]) < 2 ** len(network.channels):
    raise ValueError(
      f"Images of {shape[0]} x {shape[1]} are too small for {len(network.channels)} poolings."
    )
  return network


def checked(name: str, x: np.ndarray, shape: tuple[int, ...], least: int = 1) -> np.ndarray:
  """Records ``[n, *shape]`` as float32.

  Raises:
    ValueError: another shape, fewer than ``least``, or values that are not finite; names ``name``.
  """
  x = np.asarray(x, np.float32)
  if x.shape[1:] != shape or x.ndim != len(shape) + 1:
    raise ValueError(f"{name} must have shape [n, {', '.join(map(str, shape))}], got {x.shape}.")
  if len(x) < least:
    raise ValueError(f"There are {len(x)} {name}; at least {least} are needed.")
  if not np.isfinite(x).all():
    raise ValueError(f"{name} hold NaN or infinite values; remove or impute them first.")
  return x


@struct.dataclass
class State:
  """What training carries on.

  Attributes:
    params: the network's parameters.
    stats: its other collections, e.g. running batch statistics; may be empty.
    opt_state: of Adam.
    step: int32, number of steps taken.
    hyper: learning rate and weight decay, traced.
    constants: what else the objective reads and no step changes.
  """

  params: Any
  stats: Any
  opt_state: Any
  step: jax.Array
  hyper: dict[str, jax.Array]
  constants: Any


def start(
  params: Any, stats: Any, learning_rate: float, weight_decay: float, constants: Any
) -> State:
  """The state before the first step; holds copies, as training donates it."""
  params, stats, constants = jax.tree.map(jnp.copy, (params, stats, constants))
  hyper = {
    "learning_rate": jnp.asarray(learning_rate, jnp.float32),
    "weight_decay": jnp.asarray(weight_decay, jnp.float32),
  }
  return State(params, stats, ADAM.init(params), jnp.zeros((), jnp.int32), hyper, constants)


def make_train_step(objective: Objective) -> Callable[..., tuple[State, dict[str, Mean]]]:
  """Makes one step of Adam, ``(state, batch, key) -> (state, info)``.

  Args:
    objective: ``(params, stats, constants, batch, key) -> (loss, (stats, {name: Mean}))``.
  """

  def train_step(state: State, batch: Batch, key: jax.Array) -> tuple[State, dict[str, Mean]]:
    gradients, (stats, info) = jax.grad(objective, has_aux=True)(
      state.params, state.stats, state.constants, batch, key
    )
    decay, rate = state.hyper["weight_decay"], state.hyper["learning_rate"]
    gradients = jax.tree.map(lambda g, p: g + decay * p, gradients, state.params)
    updates, opt_state = ADAM.update(gradients, state.opt_state, state.params)
    params = jax.tree.map(lambda p, update: p - rate * update, state.params, updates)
    step = state.step + 1
    return State(params, stats, opt_state, step, state.hyper, state.constants), info

  return train_step


def train(
  train_epochs: training.TrainEpochs,
  state: State,
  data: training.Data,
  key: jax.Array,
  epochs: int,
  points: int = 1,
) -> Iterator[tuple[int, State]]:
  """Trains, and stops at ``points`` evenly spread epochs, of which the last is the last epoch.

  However many stops there are, training ends with the same bits.

  Args:
    train_epochs: see ``detector_jax.training``.
    state: donated.
    data: training rows.
    key: key of the run.
    epochs: how many.
    points: >= 1; at most one stop per epoch is made.

  Yields:
    Number of epochs done, and the state, which must be copied to outlive the next stop.

  Raises:
    HealthError: training diverged.
  """
  first = 0
  ends = np.unique(np.linspace(0, epochs, min(points, epochs) + 1)[1:].round().astype(int))
  for last in map(int, ends):
    state, info = train_epochs(state, data, key, first, last)
    means = {name: float(mean.value) for name, mean in info.items()}
    health.check_loss(means, int(state.step))
    yield last, state
    first = last


def train_typical(
  train_epochs: training.TrainEpochs,
  x: np.ndarray,
  key: jax.Array,
  settings: Settings,
  params: Any,
  stats: Any = None,
  constants: Any = None,
) -> State:
  """Trains on typical records ``[n, ...]`` to the last epoch of ``settings``.

  Args:
    train_epochs: compiled for batches of ``settings.batch_size``, or of all records if fewer.
    x: standardised records.
    key: key of the run.
    settings: of the training.
    params: the network's parameters before.
    stats: its other collections; None where it has none.
    constants: what else the objective reads; None where that is nothing.

  Raises:
    HealthError: training diverged.
  """
  begin = start(params, stats or {}, settings.learning_rate, settings.weight_decay, constants or {})
  epochs = epochs_of(settings.epochs, len(x), min(settings.batch_size, len(x)))
  ((_, state),) = train(train_epochs, begin, training.to_device(x), key, epochs)
  return state


def on_rows(function: RowFunction, variables: Any, shape: tuple[int, ...]) -> ScoreFunction:
  """A jitted ``function(variables, [batch, ...])`` as one of NumPy records ``[m, ...]``.

  Args:
    function: must not depend on which rows come together.
    variables: what it reads; kept.
    shape: of a record; others are refused with a ValueError.
  """
  return lambda x: batching.in_batches(
    lambda rows: function(variables, rows), checked("records", x, shape), SCORED
  )


def examined(*parts: np.ndarray) -> np.ndarray:
  """At most 1,000 evenly spread rows of each part ``[n, ...]``, to look for collapse in."""
  return np.concatenate(
    [part[np.linspace(0, len(part) - 1, min(len(part), EXAMINED)).astype(int)] for part in parts]
  )


def scores_or_guesses(
  name: str, model: Any, x: np.ndarray, x_tests: Sequence[np.ndarray]
) -> list[np.ndarray]:
  """Trains a baseline on ``[n, ...]`` and scores each test set; one that stops guesses: all 0.

  A long table does not end where one method does, e.g. Deep SVDD by collapsing.
  """
  try:
    model.fit(x)
    return [model.score(part) for part in x_tests]
  except health.HealthError as error:
    logger.warning("%s stopped, and counts as one that guesses: %s", name, error)
    return [np.zeros(len(part)) for part in x_tests]


class Fitted:
  """What every baseline here is: made for records of one shape, fitted, and asked for scores.

  Args:
    seed: of everything random: the same seed gives the same numbers.
    shape: of a record.
    settings: of the training.
    network: what ``suiting`` gives.

  Attributes:
    parameters: how many numbers training found, or None before ``fit``.
  """

  title: ClassVar[str] = "This baseline"
  settings: ClassVar[type[Settings]] = Settings
  axes: ClassVar[dict[int, str]] = {1: "tables", 2: "series", 3: "images"}

  def __init__(self, seed: int, shape: tuple[int, ...], settings: Any, network: Any = None) -> None:
    self._seed, self._shape, self._settings, self._network = seed, shape, settings, network
    self.parameters: int | None = None
    self._score: ScoreFunction | None = None

  @classmethod
  def make(
    cls, seed: int, shape: tuple[int, ...], *, network: nn.Module | None = None, **settings: Any
  ) -> Self:
    """The baseline for records of that shape.

    Args:
      seed: decides everything random.
      shape: of a record, e.g. ``(28, 28, 1)``.
      network: of ``drocc_jax.networks``; None takes the one that ``suiting`` says.
      **settings: fields of the method's ``Settings``.

    Raises:
      ValueError: records that are not of its kinds, a setting out of its range, or a network that
        does not suit the shape or the method.
    """
    shape = tuple(shape)
    if len(shape) not in cls.axes:
      kinds = " and ".join(cls.axes.values())
      raise ValueError(f"{cls.title} is for {kinds}; records have shape {list(shape)}.")
    return cls(seed, shape, cls.settings(**settings), cls.suiting(shape, network))

  @classmethod
  def suiting(cls, shape: tuple[int, ...], network: nn.Module | None) -> Any:
    """``network``, or the one that DROCC takes for records of that shape."""
    return network_for(shape, network)

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores standardised records ``[k, ...]`` to ``[k]``; higher = more anomalous.

    Raises:
      NotFittedError: before ``fit``.
      ValueError: records of another shape, none, or values that are not finite.
    """
    if self._score is None:
      raise NotFittedError("Call fit before score.")
    return self._score(x)


class OneClass(Fitted):
  """A baseline that learns from typical records alone; a subclass says how, in ``_fit``."""

  def fit(self, x: np.ndarray) -> Self:
    """Trains on standardised typical records ``[n, ...]``.

    Raises:
      HealthError: training diverged or collapsed, or all scores are the same.
      ValueError: records of another shape, none, or values that are not finite.
    """
    x = checked("typical records", x, self._shape)
    self._fit(x, min(self._settings.batch_size, len(x)))
    return self

  def _fit(self, x: np.ndarray, batch_size: int) -> None:
    """Trains; sets ``_score`` and ``parameters``, and looks at the scores of some records."""
    raise NotImplementedError


class OfItsOwnNetwork(OneClass):
  """A one-class baseline whose network is not one of ours."""

  @classmethod
  def suiting(cls, shape: tuple[int, ...], network: nn.Module | None) -> None:
    """None; the settings say all."""
    if network is not None:
      raise ValueError(f"{cls.title} has a network of its own: leave out network.")


class TrainedBaseline(Fitted):
  """What the baselines with negatives have in common; a subclass says how it trains.

  Attributes:
    variables: NumPy arrays of the network that scores, or None before ``fit``.
  """

  least_negatives: ClassVar[int] = 1
  variables: Any = None

  def fit(self, x: np.ndarray, negatives: np.ndarray) -> Self:
    """Trains to the last epoch; arguments and errors as of ``trajectory``."""
    for _ in self.trajectory(x, negatives, 1):
      pass
    return self

  def trajectory(
    self, x: np.ndarray, negatives: np.ndarray, points: int
  ) -> Iterator[tuple[int, ScoreFunction]]:
    """Trains as ``fit`` does, to the same bits, with stops.

    Args:
      x: ``[n, ...]`` standardised typical records, n >= 1.
      negatives: ``[m, ...]`` standardised negatives, m >= ``least_negatives``.
      points: >= 1, at how many evenly spread epochs to stop; the last stop is the last epoch.

    Returns:
      Iterator of the number of epochs done and the score function then, ``[k, ...] -> [k]``.

    Raises:
      HealthError: while iterating: training diverged or collapsed.
      ValueError: records of another shape, too few of a kind, or values that are not finite.
    """
    require(points >= 1, "points", ">= 1", points)
    return self._trained(
      checked("typical records", x, self._shape),
      checked("negatives", negatives, self._shape, self.least_negatives),
      points,
    )

  def _trained(
    self, x: np.ndarray, negatives: np.ndarray, points: int
  ) -> Iterator[tuple[int, ScoreFunction]]:
    for epoch, variables, score in self._train(x, negatives, points):
      self.variables, self._score = variables, score
      yield epoch, score

  def _train(
    self, x: np.ndarray, negatives: np.ndarray, points: int
  ) -> Iterator[tuple[int, Any, ScoreFunction]]:
    """Yields at each stop the number of epochs done, NumPy variables and the score function."""
    raise NotImplementedError
