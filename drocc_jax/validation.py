"""What can be known of a trained network without an anomaly: its objective, and its searches."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from detector_jax.batching import Mean
from drocc_jax import drocc, losses, networks
from drocc_jax.algorithm import Algorithm


def make_validate(
  network: nn.Module, static: drocc.Static, algorithm: Algorithm = drocc.ALGORITHM
) -> Callable[[Any, jax.Array, jax.Array, jax.Array], Mean]:
  """Makes the objective of DROCC on held-out typical records.

  Args:
    network: maps ``[batch, ...]`` to one logit.
    static: as for the train step.
    algorithm: what was trained.

  Returns:
    ``validate(state, inputs [batch, ...], mask [batch], key) -> Mean`` of ``l(f(x), +1) + mu
    l(f(z), -1)`` of the averaged network, with negatives searched round the held-out records from
    noise drawn with ``key``: the same key at every epoch makes epochs comparable. Lower is better.
    No label of an anomaly enters, so the epoch of the lowest value may be reported as ``selected``.
  """
  forward = networks.as_forward(network)

  def validate(state: drocc.State, inputs: jax.Array, mask: jax.Array, key: jax.Array) -> Mean:
    state = algorithm.averaged(state)
    index = jnp.arange(inputs.shape[0], dtype=jnp.int32)
    negatives, _ = algorithm.find_negatives(forward, state, inputs, index, key, static)
    positive = losses.logistic(forward.evaluate(state.params, state.stats, inputs), 1.0)
    negative = losses.logistic(forward.evaluate(state.params, state.stats, negatives), -1.0)
    return Mean.from_values(positive + state.hyper.mu * negative, mask)

  return validate


class SearchDiagnostics(NamedTuple):
  """What the averaged network makes of typical records and of the negatives round them.

  Attributes:
    typical: ``[batch]`` scores of the records, higher = more anomalous.
    negatives: ``[batch]`` scores of the negatives.
    travel: ``[batch]`` distance that each search moved its negative.
    distance: ``[batch]`` Euclidean distance of each negative from its record; None where the
      algorithm's shells are not Euclidean.
  """

  typical: jax.Array
  negatives: jax.Array
  travel: jax.Array
  distance: jax.Array | None


def make_examine(
  network: nn.Module, static: drocc.Static, algorithm: Algorithm = drocc.ALGORITHM
) -> Callable[[Any, jax.Array, jax.Array], SearchDiagnostics]:
  """Makes ``examine(state, inputs [batch, ...], key) -> SearchDiagnostics``; arguments as above."""
  forward = networks.as_forward(network)

  def examine(state: drocc.State, inputs: jax.Array, key: jax.Array) -> SearchDiagnostics:
    state = algorithm.averaged(state)
    index = jnp.arange(inputs.shape[0], dtype=jnp.int32)
    negatives, found = algorithm.find_negatives(forward, state, inputs, index, key, static)
    scores = [-forward.evaluate(state.params, state.stats, x) for x in (inputs, negatives)]
    return SearchDiagnostics(
      scores[0], scores[1], found.travel, found.norm if algorithm.euclidean else None
    )

  return examine
