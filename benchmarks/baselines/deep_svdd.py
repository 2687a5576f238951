"""Deep SVDD: a network maps typical records near a centre.

    one-class      min_W  1/n sum_i |phi(x_i) - c|^2 + lambda/2 |W|^2
    soft-boundary  min_W  R^2 + 1/(nu n) sum_i max(0, |phi(x_i) - c|^2 - R^2) + lambda/2 |W|^2

``phi`` is our network without its last layer and without biases, pretrained as the encoder of an
autoencoder, and ``c`` the mean of a first forward pass. The score is ``|phi(x) - c|^2``. The
one-class form is ``deep_sad`` without negatives. The soft boundary comes after as many epochs of
the one-class objective as the reference has (there R is 0); then ``R^2`` is the ``1 - nu`` quantile
of the distances in the batch, as in the reference, which takes it one batch late. Implements
``Baseline``, of records of any shape.

References:
  Ruff et al., Deep One-Class Classification, ICML 2018, and its code, Deep-SVDD-PyTorch.
"""

import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baselines import deep_sad, encoders, fitting
from detector_jax import health, training
from detector_jax.batching import Batch, Mean, num_parameters
from drocc_jax import recipe

OBJECTIVES = ("one-class", "soft-boundary")


@dataclasses.dataclass(frozen=True)
class Settings(deep_sad.Settings):
  """Settings of Deep SVDD; ``eta`` is unused.

  Attributes:
    objective: "one-class" or "soft-boundary".
    nu: in (0, 1), share of typical records that may lie outside the soft boundary.
    warm_up_epochs: >= 0, first epochs of the soft boundary, where R is 0; at most half of them.
  """

  objective: str = "one-class"
  nu: float = 0.1
  warm_up_epochs: int = 10

  def __post_init__(self) -> None:
    super().__post_init__()
    known = self.objective in OBJECTIVES
    fitting.require(known, "objective", f"one of {OBJECTIVES}", self.objective)
    fitting.require(0 < self.nu < 1, "nu", "in (0, 1)", self.nu)
    fitting.require(self.warm_up_epochs >= 0, "warm_up_epochs", ">= 0", self.warm_up_epochs)


def make_soft_objective(encoder: nn.Module) -> fitting.Objective:
  """The soft boundary on a batch of typical records; ``constants`` are ``{"centre", "nu"}``."""

  def objective(
    params: Any, stats: Any, constants: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[Any, dict[str, Mean]]]:
    del key
    codes, stats = encoder.apply(
      {"params": params, **stats}, batch.inputs, train=True, mask=batch.mask, mutable=list(stats)
    )
    distance = jnp.sum(jnp.square(codes - constants["centre"][None]), axis=1)
    nu = constants["nu"]
    real = jnp.where(batch.mask > 0, jax.lax.stop_gradient(distance), jnp.nan)
    square = jnp.nanquantile(real, 1.0 - nu)
    outside = jnp.maximum(distance - square, 0.0) / nu
    info = {
      "loss": Mean.from_values(outside + square, batch.mask),
      "typical_distance": Mean.from_values(distance, batch.mask),
    }
    return info["loss"].value, (stats, info)

  return objective


@functools.lru_cache(maxsize=16)
def _soft_epochs(
  network: nn.Module, shape: tuple[int, ...], batch_size: int
) -> training.TrainEpochs:
  encoder = encoders.autoencoder_of(network, shape).encoder
  return training.compile_train_epochs(
    fitting.make_train_step(make_soft_objective(encoder)), batch_size
  )


class DeepSVDD(deep_sad.OfAnEncoder, fitting.OneClass):
  """Deep SVDD with the encoder of one of our networks.

  Attributes:
    centre: float32 ``[width]``, or None before ``fit``.
  """

  title, settings = "Deep SVDD", Settings
  centre: np.ndarray | None = None

  def _fit(self, x: np.ndarray, batch_size: int) -> None:
    settings = self._settings
    program = deep_sad.compiled(self._network, self._shape, batch_size)
    pretrained = deep_sad.pretrain(program, x, settings, self._seed)
    variables = deep_sad.encoder_variables(pretrained)
    centre = deep_sad.centre_of(fitting.on_rows(program.encode, variables, self._shape)(x))

    epochs = fitting.epochs_of(settings.epochs, len(x), batch_size)
    hard = epochs
    phases = []
    if settings.objective == "soft-boundary":
      hard = min(settings.warm_up_epochs, epochs // 2)
      phases.append((_soft_epochs(self._network, self._shape, batch_size), epochs - hard))
    phases.insert(0, (program.train_epochs, hard))
    key = recipe.keys(self._seed)[1]
    constants = {
      "centre": jnp.asarray(centre),
      "eta": jnp.asarray(1.0),
      "nu": jnp.asarray(settings.nu),
    }
    for number, (train_epochs, count) in enumerate(phases, 1):
      if count:
        state = fitting.train_typical(
          train_epochs,
          x,
          jax.random.fold_in(key, number),
          dataclasses.replace(settings, epochs=count),
          variables["params"],
          variables["stats"],
          constants,
        )
        variables = jax.tree.map(np.array, {"params": state.params, "stats": state.stats})
    encode = fitting.on_rows(program.encode, variables, self._shape)
    codes = encode(fitting.examined(x))
    deep_sad.check_not_collapsed(codes, centre, "Deep SVDD")
    health.check_scores(deep_sad.distance(codes, centre))
    self._score, self.centre = deep_sad.distances(encode, centre), centre
    self.parameters = num_parameters(variables["params"])


make = DeepSVDD.make
