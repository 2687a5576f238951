"""DROCC-OE: DROCC on the typical records, plus plain classification of given negatives.

    min_theta  lambda |theta|^2 + mean_i [ l(f(x_i), +1) + mu max_{z in N_i(r)} l(f(z), -1) ]
                                + nu mean_k l(f(x'_k), -1)

The same names as ``drocc``; its batches carry ``negatives``, see ``detector_jax.batching``.
"""

import dataclasses
from typing import ClassVar

from flax import linen as nn
from flax import struct
import jax

from detector_jax import training
from detector_jax.batching import Batch, Mean
from drocc_jax import drocc, networks, update
from drocc_jax.algorithm import Algorithm
from drocc_jax.drocc import State, Static, TrainStep, find_negatives, make_init
from drocc_jax.update import Term

__all__ = (
  "ALGORITHM",
  "Config",
  "Hyper",
  "Info",
  "State",
  "Static",
  "find_negatives",
  "make_init",
  "make_train_step",
)


@struct.dataclass
class Hyper(drocc.Hyper):
  """Settings that are traced; see ``Config``."""

  nu: jax.Array


@dataclasses.dataclass
class Config(drocc.Config):
  """Settings of DROCC-OE: those of DROCC, and one more.

  Attributes:
    nu: >= 0, weight of the given negatives. Both classes enter as means, so that 1 gives a hundred
      negatives the weight of ten thousand typical records. (The paper and the released code add up
      over a mixed batch, which weighs the classes by their sizes.)
  """

  hyper_class: ClassVar[type] = Hyper

  nu: float = 1.0

  def validate(self) -> None:
    """Raises a ValueError that names the first field out of its range."""
    super().validate()
    drocc.require(self.nu >= 0, "nu", ">= 0", self.nu)


@struct.dataclass
class Info(drocc.Info):
  """What one may look at after a step; every field a ``Mean``.

  Attributes:
    given_loss: ``l(f(x'), -1)`` per given negative.
  """

  given_loss: Mean


def make_train_step(
  network: nn.Module, static: Static = Static(), *, axis_name: str | None = None
) -> TrainStep:
  """Makes one step of DROCC-OE; arguments and result as for ``drocc.make_train_step``.

  The first ``warmup_steps`` steps leave the searched negatives out and keep the given ones, as
  Algorithm 2 has it.

  References:
    DROCC (Goyal et al., 2020), section 4.
  """
  forward = networks.as_forward(network)
  outer = update.make_update(forward, static, axis_name)

  def step(state: State, batch: Batch, key: jax.Array) -> tuple[State, Info]:
    negatives, found = find_negatives(forward, state, batch.inputs, batch.index, key, static)
    state, means = outer(state, make_terms(state, batch, negatives))
    info = Info(**means, **drocc.search_means(found, batch.mask))
    return state, training.psum_if(info, axis_name)

  return step


def make_terms(state: State, batch: Batch, negatives: jax.Array) -> dict[str, Term]:
  """The terms of the objective, by the name of their loss in ``Info``.

  Args:
    state: gives the weights.
    batch: typical examples ``[batch, ...]`` and given negatives ``[given, ...]``.
    negatives: what the search found, ``[batch, ...]``.

  Raises:
    ValueError: the batch has no given negatives.
  """
  if batch.negatives is None:
    raise ValueError("DROCC-OE and DROCC-LF learn from given negatives; the batch has none.")
  given = batch.negatives
  return {
    **drocc.make_terms(state, batch, negatives),
    "given_loss": Term(given.inputs, -1.0, given.mask, state.hyper.nu),
  }


ALGORITHM = Algorithm(
  "DROCC-OE", Config, make_init, make_train_step, find_negatives, needs_negatives=True
)
