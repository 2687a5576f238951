"""DROCC's train step over whole epochs, compiled once and cached."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax

from detector_jax import training
from detector_jax.batching import Mean
from drocc_jax import drocc, ensemble, networks, validation
from drocc_jax.algorithm import Algorithm


class Program(NamedTuple):
  """Compiled functions of one algorithm, network and batch size.

  Attributes:
    init: ``(hyper, sample, key) -> state``.
    train_epochs: see ``detector_jax.training``; the state passed in is donated.
    examine: ``(state, inputs, key) -> validation.SearchDiagnostics``.
    validate: ``(state, inputs, mask, key) -> Mean``, see ``validation.make_validate``.
  """

  init: Callable[..., Any]
  train_epochs: training.TrainEpochs
  examine: Callable[..., validation.SearchDiagnostics]
  validate: Callable[..., Mean]


def make_train_epochs(
  network: ensemble.Network,
  static: drocc.Static,
  batch_size: int,
  algorithm: Algorithm = drocc.ALGORITHM,
  axis_name: str | None = None,
) -> training.TrainEpochs:
  """Makes the pure function that trains one algorithm over whole epochs; nothing is compiled yet.

  Args:
    network: maps ``[batch, ...]`` to one logit, or an ensemble of such. One that takes batch
      statistics reduces them over ``networks.device_axis()``.
    static: what the program is compiled for.
    batch_size: examples per step.
    algorithm: what is trained.
    axis_name: of the mapped axis of devices, see ``training.make_train_epochs``.
  """
  member = ensemble.member_of(network)
  step = algorithm.make_train_step(member, static, axis_name=axis_name)
  step = networks.in_training_form(step, axis_name)
  train_epochs = training.make_train_epochs(step, batch_size, axis_name)
  return ensemble.make_train_epochs(train_epochs, network)


@functools.lru_cache(maxsize=64)
def compile_program(
  network: ensemble.Network,
  static: drocc.Static,
  batch_size: int,
  algorithm: Algorithm = drocc.ALGORITHM,
) -> Program:
  """The jitted functions that train one algorithm.

  Cached: fits which differ only in radius, gamma, mu, step size, number of ascent steps, learning
  rate, weight decay, seed or (within ``batching.padded_length``) number of rows share one program.
  """
  train_epochs = make_train_epochs(network, static, batch_size, algorithm)
  member = ensemble.member_of(network)
  examine = networks.in_training_form(validation.make_examine(member, static, algorithm))
  validate = networks.in_training_form(validation.make_validate(member, static, algorithm))
  return Program(
    init=jax.jit(ensemble.make_init(algorithm.make_init(member, static), network)),
    train_epochs=jax.jit(train_epochs, donate_argnums=0),
    examine=jax.jit(ensemble.make_each(examine, network)),
    validate=jax.jit(ensemble.make_each(validate, network)),
  )
