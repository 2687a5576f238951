"""Binary cross-entropy between typical records and the negatives at hand.

The standard classifier of the DROCC paper's section 5.2: nothing in it knows of negatives that
are not at hand. Implements ``BaselineWithNegatives``.
"""

from collections.abc import Iterator
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baselines import fitting
from detector_jax import health, training
from detector_jax.batching import Batch, Mean
from drocc_jax import losses, networks, recipe

Settings = fitting.Settings


def make_objective(network: nn.Module) -> fitting.Objective:
  """The class-balanced logistic loss, for ``fitting.make_train_step``.

      mean_typical l(f(x), +1) + mean_negatives l(f(z), -1)

  With each batch of typical records goes one of as many negatives (see ``training.Data``), so
  that both classes weigh the same however many records they have. Both go through the network as
  one batch and share its batch statistics.
  """
  forward = networks.as_forward(network)

  def objective(
    params: Any, stats: Any, constants: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[Any, dict[str, Mean]]]:
    del constants, key
    size, negatives = batch.mask.shape[0], batch.negatives
    assert negatives is not None
    inputs = jnp.concatenate([batch.inputs, negatives.inputs])
    mask = jnp.concatenate([batch.mask, negatives.mask])
    logits, stats = forward.train(params, stats, inputs, mask)
    info = {
      "typical_loss": Mean.from_values(losses.logistic(logits[:size], 1.0), batch.mask),
      "negative_loss": Mean.from_values(losses.logistic(logits[size:], -1.0), negatives.mask),
    }
    return info["typical_loss"].value + info["negative_loss"].value, (stats, info)

  return objective


class _Program(NamedTuple):
  init: Any
  train_epochs: training.TrainEpochs
  score: fitting.RowFunction


@functools.lru_cache(maxsize=16)
def _compiled(network: nn.Module, batch_size: int) -> _Program:
  score = recipe.NegativeLogit(network)
  step = fitting.make_train_step(make_objective(network))
  return _Program(
    jax.jit(networks.as_forward(network).init),
    training.compile_train_epochs(step, batch_size),
    jax.jit(score),
  )


class BinaryCrossEntropy(fitting.TrainedBaseline):
  """A classifier of typical records against negatives; the score is minus its logit.

  The scoring network sees running batch statistics. An epoch is one pass over the typical records.
  """

  def _train(
    self, x: np.ndarray, negatives: np.ndarray, points: int
  ) -> Iterator[tuple[int, Any, fitting.ScoreFunction]]:
    settings, batch_size = self._settings, min(self._settings.batch_size, len(x))
    program = _compiled(self._network, batch_size)
    init_key, train_key = recipe.keys(self._seed)
    params, stats = program.init(init_key, jnp.zeros((1, *self._shape)))
    start = fitting.start(params, stats, settings.learning_rate, settings.weight_decay, {})
    epochs = fitting.epochs_of(settings.epochs, len(x), batch_size)
    data = training.to_device(x, negatives=negatives)
    stops = fitting.train(program.train_epochs, start, data, train_key, epochs, points)
    some = fitting.examined(x, negatives)
    for epoch, state in stops:
      variables = jax.tree.map(np.array, {"params": state.params, "stats": state.stats})
      score = fitting.on_rows(program.score, variables, self._shape)
      health.check_scores(score(some))
      yield epoch, variables, score


make = BinaryCrossEntropy.make
