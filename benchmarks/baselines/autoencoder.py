"""Autoencoder: typical records are reconstructed well, anomalous ones are not.

The encoder is our network without its last layer, the decoder its mirror (``encoders``): dense,
convolutional (the DCAE of the DROCC paper's Table 1) or LSTM. The score is the squared error per
coordinate. Implements ``Baseline``, of records of any shape.

References:
  Sakurada and Yairi, Anomaly Detection Using Autoencoders with Nonlinear Dimensionality Reduction,
  MLSDA 2014.
"""

from collections.abc import Callable
from typing import Any, Self

from flax import linen as nn
import jax
import numpy as np

from benchmarks.baselines import deep_sad, encoders, fitting
from detector_jax import health, training
from detector_jax.batching import num_parameters


class Autoencoder:
  """An autoencoder and its reconstruction error.

  Args:
    seed: of initial weights and of the order of records.
    shape: of a record.
    network: one of ours; see ``encoders.autoencoder_of``.
    settings: of the training; those that begin with "pretrain" are the autoencoder's.

  Attributes:
    parameters: how many numbers training found, or None before ``fit``.

  Raises:
    ValueError: a network that there is no encoder for.
  """

  def __init__(
    self, seed: int, shape: tuple[int, ...], network: nn.Module, settings: deep_sad.Settings
  ) -> None:
    encoders.autoencoder_of(network, shape)
    self._seed, self._shape, self._network, self._settings = seed, shape, network, settings
    self._reconstruct: Callable[[np.ndarray], np.ndarray] | None = None
    self.parameters: int | None = None

  def fit(self, x: np.ndarray) -> Self:
    """Trains on standardised typical records ``[n, ...]``.

    Raises:
      HealthError: training diverged, or all scores are the same.
      ValueError: records of another shape, none, or values that are not finite.
    """
    x = fitting.checked("typical records", x, self._shape)
    batch_size = min(self._settings.batch_size, len(x))
    program = deep_sad.compiled(self._network, self._shape, batch_size)
    epochs = fitting.epochs_of(self._settings.pretrain_epochs, len(x), batch_size)
    variables = deep_sad.pretrain(
      program, training.to_device(x), self._settings, epochs, self._seed
    )
    variables = jax.tree.map(np.array, variables)
    self.parameters = num_parameters(variables["params"])
    self._reconstruct = fitting.on_rows(program.reconstruct, variables, self._shape)
    health.check_scores(self.score(fitting.examined(x)))
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores standardised records ``[m, ...]`` to ``[m]``; higher = more anomalous.

    Raises:
      NotFittedError: before ``fit``.
      ValueError: records of another shape, none, or values that are not finite.
    """
    if self._reconstruct is None:
      raise fitting.NotFittedError("Call fit before score.")
    squares = np.square(self._reconstruct(x) - np.asarray(x, np.float32))
    return squares.mean(axis=tuple(range(1, squares.ndim)))


def make(
  seed: int, shape: tuple[int, ...], *, network: nn.Module | None = None, **settings: Any
) -> Autoencoder:
  """An autoencoder with the encoder of our network for records of that shape.

  Args:
    seed: decides everything random.
    shape: of a record, e.g. ``(28, 28, 1)``.
    network: None takes the network that DROCC takes by default.
    **settings: epochs, batch_size, learning_rate, weight_decay.

  Raises:
    ValueError: a setting out of its range, or a network that does not suit the shape.
  """
  renamed = {
    f"pretrain_{name}" if name in ("epochs", "learning_rate") else name: value
    for name, value in settings.items()
  }
  shape = tuple(shape)
  network = fitting.network_for(shape, network)
  return Autoencoder(seed, shape, network, deep_sad.Settings(**renamed))
