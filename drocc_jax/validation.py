"""A criterion for choosing an epoch that needs no anomaly."""

from collections.abc import Callable
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from detector_jax.batching import Mean
from drocc_jax import drocc, drocc_lf, losses, networks


def make_validate(
  network: nn.Module, static: drocc.Static, algorithm: Any = drocc
) -> Callable[[Any, jax.Array, jax.Array, jax.Array], Mean]:
  """Makes the objective of DROCC on held-out typical records.

  Args:
    network: maps ``[batch, ...]`` to one logit.
    static: as for the train step.
    algorithm: the module ``drocc``, ``drocc_oe`` or ``drocc_lf``.

  Returns:
    ``validate(state, inputs [batch, ...], mask [batch], key) -> Mean`` of ``l(f(x), +1) + mu
    l(f(z), -1)`` of the averaged network, with negatives searched round the held-out records from
    noise drawn with ``key``: the same key at every epoch makes epochs comparable. Lower is better.
    No label of an anomaly enters, so the epoch of the lowest value may be reported as ``selected``.
  """
  forward = networks.as_forward(network)

  def validate(state: drocc.State, inputs: jax.Array, mask: jax.Array, key: jax.Array) -> Mean:
    params, stats = state.average["params"], state.average["stats"]
    averaged = {"params": params, "stats": stats}
    if isinstance(state, drocc_lf.State):
      averaged["influence"] = state.average
    state = dataclasses.replace(state, **averaged)
    index = jnp.arange(inputs.shape[0], dtype=jnp.int32)
    negatives, _ = algorithm.find_negatives(forward, state, inputs, index, key, static)
    positive = losses.logistic(forward.evaluate(params, stats, inputs), 1.0)
    negative = losses.logistic(forward.evaluate(params, stats, negatives), -1.0)
    return Mean.of(positive + state.hyper.mu * negative, mask)

  return validate
