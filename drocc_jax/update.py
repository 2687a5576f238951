"""The outer step that the three algorithms share: terms of the objective in, new state out."""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from detector_jax import training
from detector_jax.batching import Mean
from drocc_jax import losses, networks

# Shares of the steps after the warm-up at which the released trainers take a tenth of the rate.
DROPS = {
  "released": (0.3, 0.6, 0.9),
  "released_images": (0.4, 0.8),
  "released_series": (0.5,),
}


class Term(NamedTuple):
  """One sum of the objective: ``weight * mean_i l(f(inputs_i), label)``.

  Attributes:
    inputs: ``[batch, ...]``, constants.
    label: +1 or -1.
    mask: ``[batch]``, 1 for an example that counts.
    weight: scalar >= 0.
    active: scalar; where False the term is left out, of batch statistics too.
  """

  inputs: jax.Array
  label: float
  mask: jax.Array
  weight: jax.typing.ArrayLike = 1.0
  active: jax.typing.ArrayLike = True


def make_optimizer(static: Any) -> optax.GradientTransformation:
  """Direction of the outer step with the schedule applied, for a learning rate of 1."""
  if static.schedule == "cosine":
    schedule = optax.cosine_decay_schedule(1.0, static.schedule_steps)
  elif static.schedule in DROPS:
    start, length = static.schedule_start, static.schedule_steps - static.schedule_start
    drops = {start + int(share * length): 0.1 for share in DROPS[static.schedule]}
    schedule = optax.piecewise_constant_schedule(1.0, drops)
  else:
    schedule = optax.constant_schedule(1.0)
  direction = optax.scale_by_adam() if static.optimizer == "adam" else optax.trace(static.momentum)
  return optax.chain(direction, optax.scale_by_schedule(schedule), optax.scale(-1.0))


def make_update(
  forward: networks.Forward, static: Any, axis_name: str | None = None
) -> Callable[[Any, dict[str, Term]], tuple[Any, dict[str, Mean]]]:
  """Makes ``update(state, terms) -> (state, means)``.

  All terms go through the network as one batch: with batch normalisation they share their
  statistics, and the statistics cannot tell them apart. The first term is always active.

  Args:
    forward: the network's pure functions.
    static: names the optimiser.
    axis_name: device axis to reduce gradient and masks over, or None.

  Returns:
    The update. ``terms`` go by name; ``means`` has the mean loss of each, and ``gradient_norm``,
    not yet reduced over devices.
  """
  optimizer = make_optimizer(static)

  def update(state: Any, named: dict[str, Term]) -> tuple[Any, dict[str, Mean]]:
    hyper, terms = state.hyper, tuple(named.values())
    inputs = jnp.concatenate([term.inputs for term in terms])
    masks = [jnp.where(term.active, term.mask, 0.0) for term in terms]
    ends = [sum(len(term.mask) for term in terms[: place + 1]) for place in range(len(terms) - 1)]
    shares = [
      jnp.where(term.active, term.weight, 0.0)
      * term.mask
      / jnp.maximum(training.psum_if(jnp.sum(term.mask), axis_name), 1.0)
      for term in terms
    ]

    def objective(params: Any) -> tuple[jax.Array, Any]:
      logits, stats = forward.train(params, state.stats, inputs, jnp.concatenate(masks))
      parts = [
        losses.logistic(part, term.label)
        for part, term in zip(jnp.split(logits, ends), terms, strict=True)
      ]
      total = sum(jnp.sum(share * part) for share, part in zip(shares, parts, strict=True))
      return jnp.asarray(total), (stats, parts)

    grads, (stats, parts) = jax.grad(objective, has_aux=True)(state.params)
    grads = training.psum_if(grads, axis_name)
    grads = jax.tree.map(lambda g, p: g + 2.0 * hyper.weight_decay * p, grads, state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda update: hyper.learning_rate * update, updates)
    params = optax.apply_updates(state.params, updates)
    new_state = dataclasses.replace(
      state,
      params=params,
      stats=stats,
      average=_moving_average(state, {"params": params, "stats": stats}),
      opt_state=opt_state,
      step=state.step + 1,
    )
    means = {
      name: Mean.from_values(part, term.mask)
      for (name, term), part in zip(named.items(), parts, strict=True)
    }
    return new_state, {**means, "gradient_norm": Mean(optax.tree.norm(grads), jnp.ones(()))}

  return update


def _moving_average(state: Any, new: Any) -> Any:
  """The average over the last steps; over all of them while these are fewer than its span."""
  step = state.step.astype(jnp.float32)
  decay = jnp.minimum(state.hyper.average_decay, (1.0 + step) / (10.0 + step))
  decay = jnp.where(state.hyper.average_decay > 0.0, decay, 0.0)
  return optax.incremental_update(new, state.average, 1.0 - decay)
