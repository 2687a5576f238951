"""Autoencoder: typical records are reconstructed well, anomalous ones are not.

The encoder is our network without its last layer, the decoder its mirror (``encoders``): dense,
convolutional (the DCAE of the DROCC paper's Table 1) or LSTM. The score is the squared error per
coordinate. Implements ``Baseline``, of records of any shape.

References:
  Sakurada and Yairi, Anomaly Detection Using Autoencoders with Nonlinear Dimensionality Reduction,
  MLSDA 2014.
"""

from typing import Any, Self

from flax import linen as nn
import jax
import numpy as np

from benchmarks.baselines import deep_sad, fitting
from detector_jax import health
from detector_jax.batching import num_parameters


class Autoencoder(deep_sad.OfAnEncoder, fitting.OneClass):
  """An autoencoder and its reconstruction error: DeepSAD's pretraining alone."""

  title = "The autoencoder"

  @classmethod
  def make(
    cls, seed: int, shape: tuple[int, ...], *, network: nn.Module | None = None, **settings: Any
  ) -> Self:
    """As of the base; settings are epochs, batch_size, learning_rate and weight_decay."""
    renamed = {
      f"pretrain_{name}" if name in ("epochs", "learning_rate") else name: value
      for name, value in settings.items()
    }
    return super().make(seed, shape, network=network, **renamed)

  def _fit(self, x: np.ndarray, batch_size: int) -> None:
    program = deep_sad.compiled(self._network, self._shape, batch_size)
    variables = deep_sad.pretrain(program, x, self._settings, self._seed)
    variables = jax.tree.map(np.array, variables)
    self.parameters = num_parameters(variables["params"])
    reconstruct = fitting.on_rows(program.reconstruct, variables, self._shape)

    def score(x: np.ndarray) -> np.ndarray:
      squares = np.square(reconstruct(x) - np.asarray(x, np.float32))
      return squares.mean(axis=tuple(range(1, squares.ndim)))

    self._score = score
    health.check_scores(score(fitting.examined(x)))


make = Autoencoder.make
