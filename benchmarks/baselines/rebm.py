"""REBM: an energy that a network learns by denoising; anomalous records have a high one.

For tables (the paper's DSEBM), with softplus layers ``h_l`` of which ``h_L`` is the last, and for
series (its recurrent form) with the state ``s_t`` of a recurrent network over ``x_1 .. x_t``:

    E(x) = 1/2 |x - b'|^2 - sum_j h_L,j(x)
    E(x) = sum_t 1/2 |x_t - b'_t|^2 - sum_j softplus(W x_t + b_t)_j,
           b'_t and b_t affine in s_(t-1)

The energy's gradient gives a reconstruction, ``f(x) = x - sigma^2 grad E(x)``, and training is
score matching by denoising, with normal noise ``e`` of deviation sigma:

    mean |x - f(x + e)|^2

The score is the energy ("energy", the paper's DSEBM-e) or ``|x - f(x)|^2`` ("reconstruction",
DSEBM-r). The paper has no sigma in ``f``; at sigma = 1 both are the same. Its reconstruction at
step t does not say whether the gradient goes through later states; here it does, as the gradient of
the whole energy. Our recurrent network is an LSTM, as the DROCC paper says of all its baselines.
Implements ``Baseline``, of records ``[n, d]`` and ``[n, time, channels]``.

References:
  Zhai et al., Deep Structured Energy Based Models for Anomaly Detection, ICML 2016.
  Vincent, A Connection between Score Matching and Denoising Autoencoders, 2011.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baselines import fitting
from detector_jax import health, training
from detector_jax.batching import Batch, Mean, num_parameters
from drocc_jax import recipe

SCORES = ("energy", "reconstruction")
EnergyFunction = Callable[[Any, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Settings(fitting.Settings):
  """Settings of REBM.

  Attributes:
    hidden: widths of the layers of a table's energy; of a series' the first is that of the LSTM,
      the last that of ``W x_t``.
    noise: ``sigma`` > 0, of standardised records.
    score: "energy" or "reconstruction".
  """

  hidden: tuple[int, ...] = (128, 128)
  noise: float = 1.0
  score: str = "energy"

  def __post_init__(self) -> None:
    super().__post_init__()
    positive = bool(self.hidden) and min(self.hidden) >= 1
    fitting.require(positive, "hidden", "widths >= 1", self.hidden)
    fitting.require(0 < self.noise < np.inf, "noise", "> 0", self.noise)
    fitting.require(self.score in SCORES, "score", f"one of {SCORES}", self.score)


class Energy(nn.Module):
  """The energy of a table's records.

  Attributes:
    hidden: widths of the layers.
  """

  hidden: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, d]`` to energies ``[batch]``."""
    centre = self.param("centre", nn.initializers.zeros, x.shape[1:])
    hidden = x
    for width in self.hidden:
      hidden = nn.softplus(nn.Dense(width)(hidden))
    return 0.5 * jnp.sum(jnp.square(x - centre[None]), axis=1) - jnp.sum(hidden, axis=1)


class RecurrentEnergy(nn.Module):
  """The energy of series: what came before sets the biases of each step.

  Attributes:
    state: size of the LSTM's state.
    width: of ``W x_t``.
  """

  state: int
  width: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, time, channels]`` to energies ``[batch]``."""
    states: Any = nn.RNN(nn.OptimizedLSTMCell(self.state))(x)
    before = jnp.pad(states[:, :-1], ((0, 0), (1, 0), (0, 0)))
    centre = nn.Dense(x.shape[2], name="visible_bias")(before)
    bias = nn.Dense(self.width, name="hidden_bias")(before)
    hidden = nn.softplus(nn.Dense(self.width, use_bias=False, name="visible")(x) + bias)
    return 0.5 * jnp.sum(jnp.square(x - centre), axis=(1, 2)) - jnp.sum(hidden, axis=(1, 2))


def reconstruction(
  energy: EnergyFunction, params: Any, x: jax.Array, noise: jax.typing.ArrayLike
) -> jax.Array:
  """``x - sigma^2 grad E(x)`` of records ``[batch, ...]``."""
  slope = jax.grad(lambda rows: jnp.sum(energy(params, rows)))(x)
  return x - jnp.square(noise) * slope


def make_objective(energy: EnergyFunction) -> fitting.Objective:
  """Denoising on a batch of typical records; ``constants`` are ``{"noise"}``."""

  def objective(
    params: Any, stats: Any, constants: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[Any, dict[str, Mean]]]:
    noise = constants["noise"]
    noisy = batch.inputs + noise * jax.random.normal(key, batch.inputs.shape)
    squares = jnp.square(batch.inputs - reconstruction(energy, params, noisy, noise))
    error = Mean.from_values(jnp.sum(squares, axis=tuple(range(1, squares.ndim))), batch.mask)
    return error.value, (stats, {"denoising_error": error})

  return objective


class _Program(NamedTuple):
  init: Any
  train_epochs: training.TrainEpochs
  scores: dict[str, fitting.RowFunction]


@functools.lru_cache(maxsize=8)
def _compiled(network: nn.Module, batch_size: int) -> _Program:
  def energy(params: Any, x: jax.Array) -> jax.Array:
    value: Any = network.apply({"params": params}, x)
    return value

  def error(variables: Any, x: jax.Array) -> jax.Array:
    squares = jnp.square(x - reconstruction(energy, variables["params"], x, variables["noise"]))
    return jnp.sum(squares, axis=tuple(range(1, squares.ndim)))

  step = fitting.make_train_step(make_objective(energy))
  scores = {"energy": lambda variables, x: energy(variables["params"], x), "reconstruction": error}
  return _Program(
    jax.jit(network.init),
    training.compile_train_epochs(step, batch_size),
    {name: jax.jit(function) for name, function in scores.items()},
  )


class REBM(fitting.OfItsOwnNetwork):
  """The energy of records of one shape."""

  title, settings, axes = "REBM", Settings, {1: "tables", 2: "series"}

  def _fit(self, x: np.ndarray, batch_size: int) -> None:
    settings = self._settings
    hidden = settings.hidden
    table = len(self._shape) == 1
    program = _compiled(
      Energy(hidden) if table else RecurrentEnergy(hidden[0], hidden[-1]), batch_size
    )
    init_key, train_key = recipe.keys(self._seed)
    params = program.init(init_key, jnp.zeros((1, *self._shape)))["params"]
    constants = {"noise": jnp.asarray(settings.noise, jnp.float32)}
    state = fitting.train_typical(
      program.train_epochs, x, train_key, settings, params, constants=constants
    )
    variables = jax.tree.map(np.array, {"params": state.params, **constants})
    self._score = fitting.on_rows(program.scores[settings.score], variables, self._shape)
    self.parameters = num_parameters(variables["params"])
    health.check_scores(self.score(fitting.examined(x)))


make = REBM.make
