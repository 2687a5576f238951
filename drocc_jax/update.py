"""The outer step that the three algorithms share: terms of the objective in, new state out."""

from collections.abc import Callable
import dataclasses
import functools
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
# How often a step's negatives feed the running statistics, by ``Config.batch_statistics``. The
# released trainer passes them through the network in training mode for each of 50 ascent steps, and
# once more for the loss: it scores with statistics of the negatives.
FEEDS = {"joint": 1, "separate": 1, "released": 51}


class Term(NamedTuple):
  """One sum of the objective: ``weight * mean_i l(f(inputs_i), label)``.

  Attributes:
    inputs: ``[batch, ...]``, constants.
    label: +1 or -1.
    mask: ``[batch]``, 1 for an example that counts.
    weight: scalar >= 0.
    active: scalar; where False the term is left out, of batch statistics too.
    searched: whether these are negatives of the search, see ``FEEDS``.
  """

  inputs: jax.Array
  label: float
  mask: jax.Array
  weight: jax.typing.ArrayLike = 1.0
  active: jax.typing.ArrayLike = True
  searched: bool = False


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
  statistics, and the statistics cannot tell them apart. Unless ``static.batch_statistics`` is
  "joint" each is a batch of its own, and they feed the running statistics in their order. The first
  term is always active.

  Args:
    forward: the network's pure functions.
    static: names the optimiser and the batch statistics.
    axis_name: device axis to reduce gradient and masks over, or None.

  Returns:
    The update. ``terms`` go by name; ``means`` has the mean loss of each, and ``gradient_norm``,
    not yet reduced over devices.
  """
  optimizer = make_optimizer(static)
  passes = _joint if static.batch_statistics == "joint" else _separate
  feeds = FEEDS[static.batch_statistics]

  def update(state: Any, named: dict[str, Term]) -> tuple[Any, dict[str, Mean]]:
    hyper, terms = state.hyper, tuple(named.values())
    shares = [
      jnp.where(term.active, term.weight, 0.0)
      * term.mask
      / jnp.maximum(training.psum_if(jnp.sum(term.mask), axis_name), 1.0)
      for term in terms
    ]

    def objective(params: Any) -> tuple[jax.Array, Any]:
      logits, stats = passes(forward, params, state.stats, terms, feeds)
      parts = [losses.logistic(part, term.label) for part, term in zip(logits, terms, strict=True)]
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


def _joint(
  forward: networks.Forward, params: Any, stats: Any, terms: tuple[Term, ...], feeds: int
) -> tuple[list[jax.Array], Any]:
  """Logits of each term, and new statistics, of one pass for all."""
  del feeds
  masks = [jnp.where(term.active, term.mask, 0.0) for term in terms]
  ends = [sum(len(term.mask) for term in terms[: place + 1]) for place in range(len(terms) - 1)]
  inputs = jnp.concatenate([term.inputs for term in terms])
  logits, stats = forward.train(params, stats, inputs, jnp.concatenate(masks))
  return jnp.split(logits, ends), stats


def _separate(
  forward: networks.Forward, params: Any, stats: Any, terms: tuple[Term, ...], feeds: int
) -> tuple[list[jax.Array], Any]:
  """The same of a pass for each; negatives of the search feed the statistics ``feeds`` times."""
  found = []
  for term in terms:
    logits, fed = forward.train(params, stats, term.inputs, term.mask)
    if term.searched and feeds > 1:
      again = functools.partial(_feed, forward, jax.lax.stop_gradient(params), term)
      fed = jax.lax.fori_loop(1, feeds, again, jax.lax.stop_gradient(fed))
    stats = jax.tree.map(lambda old, new, on=term.active: jnp.where(on, new, old), stats, fed)
    found.append(logits)
  return found, stats


def _feed(forward: networks.Forward, params: Any, term: Term, _: Any, stats: Any) -> Any:
  return forward.train(params, stats, term.inputs, term.mask)[1]


def _moving_average(state: Any, new: Any) -> Any:
  """The average over the last steps; over all of them while these are fewer than its span."""
  step = state.step.astype(jnp.float32)
  decay = jnp.minimum(state.hyper.average_decay, (1.0 + step) / (10.0 + step))
  decay = jnp.where(state.hyper.average_decay > 0.0, decay, 0.0)
  return optax.incremental_update(new, state.average, 1.0 - decay)
