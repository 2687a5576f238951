"""DAGMM: an autoencoder and a Gaussian mixture of its codes, trained together.

A record's code ``z`` is the autoencoder's, with two features of its reconstruction: the relative
Euclidean distance ``|x - x'| / |x|`` and the cosine similarity. A small network gives each record
its soft memberships ``gamma`` in ``K`` components; these make the mixture (weights ``phi``, means
``mu``, covariances ``Sigma``) of a batch. With the energy of a record, which is its score,

    E(z) = -log sum_k phi_k N(z; mu_k, Sigma_k)

the objective is

    mean |x - x'|^2 + 0.1 mean E(z) + 0.005 sum_k sum_j 1 / Sigma_k,jj

The mixture that scores is that of all training records. Network sizes are the paper's for tables of
few columns (6 features: 12, 4, 1; two components). Covariances have 1e-3 added to their diagonal,
where the reference implementations have 1e-6 to 1e-12: without it training often diverges.
Implements ``Baseline``, of records ``[n, d]``.

References:
  Zong et al., Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly Detection,
  ICLR 2018.
"""

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

JITTER = 1e-3
SMALLEST = 1e-6


@dataclasses.dataclass(frozen=True)
class Settings(fitting.Settings):
  """Settings of DAGMM.

  Attributes:
    hidden: widths of the encoder's layers, the code's last.
    components: ``K`` >= 1.
    energy_weight: >= 0.
    covariance_weight: >= 0.
    dropout: of the memberships' hidden layer, in [0, 1).
  """

  hidden: tuple[int, ...] = (12, 4, 1)
  components: int = 2
  energy_weight: float = 0.1
  covariance_weight: float = 0.005
  dropout: float = 0.5

  def __post_init__(self) -> None:
    super().__post_init__()
    positive = bool(self.hidden) and min(self.hidden) >= 1
    fitting.require(positive, "hidden", "widths >= 1", self.hidden)
    fitting.require(self.components >= 1, "components", ">= 1", self.components)
    fitting.require(self.energy_weight >= 0, "energy_weight", ">= 0", self.energy_weight)
    fitting.require(
      self.covariance_weight >= 0, "covariance_weight", ">= 0", self.covariance_weight
    )
    fitting.require(0 <= self.dropout < 1, "dropout", "in [0, 1)", self.dropout)


class Mixture(NamedTuple):
  """A Gaussian mixture in ``c`` dimensions.

  Attributes:
    weights: ``[K]``, sum 1.
    means: ``[K, c]``.
    covariances: ``[K, c, c]``, positive definite.
  """

  weights: jax.Array
  means: jax.Array
  covariances: jax.Array


class Network(nn.Module):
  """Autoencoder and memberships.

  Attributes:
    hidden: widths of the encoder's layers; the decoder mirrors them.
    components: of the mixture.
    dropout: of the memberships' hidden layer.
  """

  hidden: tuple[int, ...]
  components: int
  dropout: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Maps ``[batch, d]`` to ``x'``, ``z`` ``[batch, code + 2]`` and ``gamma`` ``[batch, K]``."""
    code = x
    for width in self.hidden[:-1]:
      code = nn.tanh(nn.Dense(width)(code))
    code = nn.Dense(self.hidden[-1])(code)
    back = code
    for width in self.hidden[-2::-1]:
      back = nn.tanh(nn.Dense(width)(back))
    back = nn.Dense(x.shape[1])(back)
    length, other = _norm(x), _norm(back)
    relative = _norm(x - back) / jnp.maximum(length, SMALLEST)
    cosine = jnp.sum(x * back, axis=1) / jnp.maximum(length * other, SMALLEST)
    z = jnp.concatenate([code, relative[:, None], cosine[:, None]], axis=1)
    gamma = nn.tanh(nn.Dense(10)(z))
    gamma = nn.Dropout(self.dropout, deterministic=not train)(gamma)
    return back, z, nn.softmax(nn.Dense(self.components)(gamma))


def _norm(x: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.sum(jnp.square(x), axis=1) + SMALLEST**2)


def mixture_of(z: jax.Array, gamma: jax.Array, mask: jax.Array) -> Mixture:
  """The mixture that memberships make of codes ``[batch, c]``.

  Args:
    z: codes.
    gamma: ``[batch, K]`` memberships.
    mask: ``[batch]``, 1 for a real record.
  """
  gamma = gamma * mask[:, None]
  total = jnp.maximum(jnp.sum(gamma, axis=0), SMALLEST)
  means = (gamma.T @ z) / total[:, None]
  apart = z[:, None] - means[None]
  covariances = jnp.einsum("nk,nki,nkj->kij", gamma, apart, apart) / total[:, None, None]
  covariances = covariances + JITTER * jnp.eye(z.shape[1])[None]
  return Mixture(total / jnp.sum(total), means, covariances)


def energy(mixture: Mixture, z: jax.Array) -> jax.Array:
  """``-log p(z)`` ``[batch]`` of codes ``[batch, c]``."""

  def log_density(mean: jax.Array, covariance: jax.Array) -> jax.Array:
    factor = jnp.linalg.cholesky(covariance)
    whitened = jax.scipy.linalg.solve_triangular(factor, (z - mean[None]).T, lower=True)
    constant = 0.5 * z.shape[1] * jnp.log(2.0 * jnp.pi) + jnp.sum(jnp.log(jnp.diagonal(factor)))
    return -0.5 * jnp.sum(jnp.square(whitened), axis=0) - constant

  each = jax.vmap(log_density)(mixture.means, mixture.covariances)
  return -jax.scipy.special.logsumexp(each + jnp.log(mixture.weights)[:, None], axis=0)


def make_objective(network: nn.Module, settings: Settings) -> fitting.Objective:
  """The objective on a batch of typical records."""

  def objective(
    params: Any, stats: Any, constants: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[Any, dict[str, Mean]]]:
    del constants
    output: Any = network.apply({"params": params}, batch.inputs, True, rngs={"dropout": key})
    back, z, gamma = output
    mixture = mixture_of(z, gamma, batch.mask)
    narrow = jnp.sum(1.0 / jnp.diagonal(mixture.covariances, axis1=1, axis2=2))
    info = {
      "reconstruction_error": Mean.from_values(
        jnp.sum(jnp.square(batch.inputs - back), axis=1), batch.mask
      ),
      "energy": Mean.from_values(energy(mixture, z), batch.mask),
    }
    loss = info["reconstruction_error"].value + settings.energy_weight * info["energy"].value
    return loss + settings.covariance_weight * narrow, (stats, info)

  return objective


class _Program(NamedTuple):
  init: Any
  train_epochs: training.TrainEpochs
  codes: fitting.RowFunction
  energy: fitting.RowFunction


@functools.lru_cache(maxsize=8)
def _compiled(settings: Settings, batch_size: int) -> _Program:
  network = Network(settings.hidden, settings.components, settings.dropout)

  def codes(params: Any, x: jax.Array) -> Any:
    output: Any = network.apply({"params": params}, x)
    return output[1:]

  step = fitting.make_train_step(make_objective(network, settings))
  return _Program(
    jax.jit(network.init),
    training.compile_train_epochs(step, batch_size),
    jax.jit(codes),
    jax.jit(lambda variables, x: energy(variables[1], codes(variables[0], x)[0])),
  )


class Dagmm(fitting.OfItsOwnNetwork):
  """DAGMM for tables.

  Attributes:
    mixture: of the training records' codes, or None before ``fit``.
  """

  title, settings, axes = "DAGMM", Settings, {1: "tables"}
  mixture: Mixture | None = None

  def _fit(self, x: np.ndarray, batch_size: int) -> None:
    settings = self._settings
    program = _compiled(settings, batch_size)
    init_key, train_key = recipe.keys(self._seed)
    params = program.init(init_key, jnp.zeros((1, *self._shape)))["params"]
    state = fitting.train_typical(program.train_epochs, x, train_key, settings, params)
    params = jax.tree.map(np.array, state.params)
    z, gamma = fitting.on_rows(program.codes, params, self._shape)(x)
    self.mixture = mixture_of(jnp.asarray(z), jnp.asarray(gamma), jnp.ones(len(x)))
    self._score = fitting.on_rows(program.energy, (params, self.mixture), self._shape)
    self.parameters = num_parameters((params, self.mixture))
    health.check_scores(self.score(fitting.examined(x)))


make = Dagmm.make
