"""DROCC's train step over whole epochs, compiled once and cached."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax

from detector_jax import epoch_loop
from drocc_jax import drocc, networks, validation


class Program(NamedTuple):
  """Compiled functions of one algorithm, network and batch size.

  Attributes:
    init: ``(hyper, sample, key) -> state``.
    train_epochs: see ``detector_jax.epoch_loop``; the state passed in is donated.
    examine: ``(state, inputs, key) -> validation.Examined``.
  """

  init: Callable[..., Any]
  train_epochs: epoch_loop.TrainEpochs
  examine: Callable[..., validation.Examined]


def make_train_epochs(
  network: nn.Module,
  static: drocc.Static,
  batch_size: int,
  algorithm: Any = drocc,
  axis_name: str | None = None,
) -> epoch_loop.TrainEpochs:
  """Makes the pure function that trains one algorithm over whole epochs; nothing is compiled yet.

  Args:
    network: maps ``[batch, ...]`` to one logit. With ``axis_name``, one that takes batch
      statistics must have a field ``axis_name``, over which it reduces them.
    static: what the program is compiled for.
    batch_size: examples per step.
    algorithm: the module ``drocc``, ``drocc_oe`` or ``drocc_lf``.
    axis_name: of the mapped axis of devices, see ``epoch_loop.make_train_epochs``.
  """
  network = networks.for_training(network)
  if axis_name is not None and hasattr(network, "axis_name"):
    network = network.clone(axis_name=axis_name)
  step = algorithm.make_train_step(network, static, axis_name=axis_name)
  return epoch_loop.make_train_epochs(step, batch_size, axis_name)


@functools.lru_cache(maxsize=64)
def compiled(
  network: nn.Module, static: drocc.Static, batch_size: int, algorithm: Any = drocc
) -> Program:
  """The jitted functions that train one algorithm, the module ``drocc``, ``_oe`` or ``_lf``.

  Cached: fits which differ only in radius, gamma, mu, step size, number of ascent steps, learning
  rate, weight decay, seed or (within ``batching.padded_length``) number of rows share one program.
  """
  train_epochs = make_train_epochs(network, static, batch_size, algorithm)
  return Program(
    init=jax.jit(algorithm.make_init(networks.for_training(network), static)),
    train_epochs=jax.jit(train_epochs, donate_argnums=0),
    examine=jax.jit(validation.make_examine(networks.for_training(network), static, algorithm)),
  )
