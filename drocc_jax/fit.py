"""DROCC's train step over whole epochs, compiled once and cached."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax

from detector_jax import epoch_loop
from drocc_jax import drocc, networks


class Program(NamedTuple):
  """Compiled functions of one algorithm, network and batch size.

  Attributes:
    init: ``(hyper, sample, key) -> state``.
    train_epochs: see ``detector_jax.epoch_loop``; the state passed in is donated.
  """

  init: Callable[..., Any]
  train_epochs: epoch_loop.TrainEpochs


@functools.lru_cache(maxsize=64)
def compiled(
  network: nn.Module, static: drocc.Static, batch_size: int, algorithm: Any = drocc
) -> Program:
  """The jitted functions that train one algorithm, the module ``drocc``, ``_oe`` or ``_lf``.

  Cached: fits which differ only in radius, gamma, mu, step size, number of ascent steps, learning
  rate, weight decay, seed or (within ``batching.padded_length``) number of rows share one program.
  """
  network = networks.for_training(network)
  step = algorithm.make_train_step(network, static)
  return Program(
    init=jax.jit(algorithm.make_init(network, static)),
    train_epochs=jax.jit(epoch_loop.make_train_epochs(step, batch_size), donate_argnums=0),
  )
