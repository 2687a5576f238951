"""Why a training diverged: the step at which numbers stopped being finite, and its records."""

from collections.abc import Callable, Iterator
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import atomic, training
from drocc_jax import ensemble, networks
from drocc_jax import recipe as drocc_recipe
from fingerprint_jax import train as fingerprint_train

FILE = "failure.json"
MAX_VALUES = 20


class Step(NamedTuple):
  """One step of an epoch.

  Attributes:
    state: after it.
    info: pytree of what it reported.
    rows: numbers of its training records.
    negatives: numbers of its labelled negatives, or None.
  """

  state: Any
  info: Any
  rows: np.ndarray
  negatives: np.ndarray | None = None


Steps = Callable[[Any, int], Iterator[Step]]


def steps_of(
  step: Callable[..., Any],
  data: training.Data,
  key: jax.Array,
  batch_size: int,
  rows: np.ndarray | None = None,
) -> Steps:
  """The steps of an epoch one by one, as ``training.make_train_epochs`` takes them.

  Args:
    step: the train step.
    data: its training rows.
    key: of the run.
    batch_size: examples per step.
    rows: ``[n]``, number of each training row among the records that were loaded; None: its own.

  Returns:
    ``(state, epoch) -> steps``, the same numbers as the compiled loop's to float32 rounding.
  """

  def steps(state: Any, epoch: int) -> Iterator[Step]:
    order_key, step_key = jax.random.split(key)
    orders = training.orders_of(order_key, jnp.asarray(epoch, jnp.int32), data)

    @jax.jit
    def one_step(state: Any, position: jax.Array) -> Any:
      batch = training.batch_at(data, orders, position, batch_size)
      state, info = step(state, batch, jax.random.fold_in(step_key, state.step))
      given = None if batch.negatives is None else batch.negatives.index
      return state, info, batch.index, batch.mask, given

    for position in range(training.steps_per_epoch(int(data.num_rows), batch_size)):
      state, info, index, mask, given = one_step(state, jnp.asarray(position, jnp.int32))
      chosen = np.asarray(index)[np.asarray(mask) > 0]
      chosen = chosen if rows is None else rows[chosen]
      yield Step(state, info, chosen, None if given is None else np.asarray(given))

  return steps


def drocc_steps(prepared: Any, key: jax.Array, rows: np.ndarray) -> Steps:
  """``steps_of`` a ``drocc_jax.recipe.Prepared``; ``rows`` as there.

  Of an ensemble they are those of its first member that does not end the epoch with finite numbers.
  """
  algorithm, network = drocc_recipe.algorithm_of(prepared.config), prepared.network
  step = algorithm.make_train_step(ensemble.member_of(network), prepared.config.static())
  step = networks.in_training_form(step)

  def steps_with(key: jax.Array, number: int) -> Steps:
    data, trained = ensemble.data_of(prepared.data, number), rows[prepared.rows]
    trained = trained if prepared.parts is None else trained[prepared.parts[number]]
    return steps_of(step, data, key, prepared.batch_size, trained)

  if not isinstance(network, ensemble.Ensemble):
    return steps_with(key, 0)
  member_keys = ensemble.member_keys(key, network)

  def steps(states: Any, epoch: int) -> Iterator[Step]:
    for number, member_key in enumerate(member_keys):
      state = jax.tree.map(lambda leaf, at=number: leaf[at], states)
      taken = list(steps_with(member_key, number)(state, epoch))
      if not all(all(_finite((step.state, step.info))) for step in taken):
        yield from taken
        return

  return steps


def fingerprint_steps(prepared: Any, key: jax.Array, rows: np.ndarray) -> Steps:
  """``steps_of`` a ``fingerprint_jax.recipe.Prepared``; ``rows`` as there."""
  config, num_rows = prepared.config, int(prepared.data.num_rows)
  batch_size = min(config.batch_size, num_rows)
  total = config.epochs * training.steps_per_epoch(num_rows, batch_size)
  optimizer = fingerprint_train.make_optimizer(config, total)
  step = fingerprint_train.make_train_step(prepared.fingerprint, optimizer)
  return steps_of(step, prepared.data, key, batch_size, rows)


def streamed_steps(prepared: Any, key: jax.Array) -> Steps:
  """As ``steps_of``, for a ``launch.methods.streamed.Prepared``; rows are those of the source."""

  def steps(state: Any, epoch: int) -> Iterator[Step]:
    per_epoch = prepared.stream.steps_per_epoch
    for batch in prepared.stream.batches(epoch * per_epoch, (epoch + 1) * per_epoch):
      state, info = prepared.program.step(state, prepared.preprocessing, batch, key)
      yield Step(on_host(state), info, batch.rows[batch.mask > 0])

  return steps


def on_host(state: Any) -> Any:
  """A copy of a state that no donation can overwrite: NumPy arrays, and typed keys as they are."""

  def copied(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      values = jnp.array(jax.random.key_data(leaf))
      return jax.random.wrap_key_data(values, impl=jax.random.key_impl(leaf))
    return np.array(leaf)

  return jax.tree.map(copied, state)


def locate_divergence(
  advance: Callable[[Any, int, int], tuple[Any, dict[str, float]]],
  steps: Steps | None,
  state: Any,
  first: int,
  last: int,
) -> dict[str, Any]:
  """Trains epochs again, one by one, to the first one whose numbers are not finite.

  Args:
    advance: of the stage.
    steps: of the stage, or None.
    state: after ``first`` epochs, on the host.
    first: number of the first epoch to look at.
    last: number of the last one, plus 1: after it some number was not finite.

  Returns:
    ``epoch`` (from 0), ``scalars`` after it by name. Where ``steps`` finds the step too: ``step``
    (its number in the run, from 1), ``position`` (in the epoch, from 0), ``rows``, and
    ``negatives`` where there are any.
  """
  epoch, start = first, state
  scalars: dict[str, float] = {}
  for epoch in range(first, last):
    start = state
    state, scalars = advance(start, epoch, epoch + 1)
    state = on_host(state)
    if not all(map(np.isfinite, scalars.values())):
      break
  told: dict[str, Any] = {
    "epoch": epoch,
    "scalars": {name: repr(float(value)) for name, value in list(scalars.items())[:MAX_VALUES]},
  }
  if steps is not None:
    told |= _find_step(steps, start, epoch)
  return told


def _find_step(steps: Steps, state: Any, epoch: int) -> dict[str, Any]:
  before = _finite(state)
  for position, step in enumerate(steps(state, epoch)):
    # What was not finite before training is left out: it is so by intent.
    broken = [a and not b for a, b in zip(before, _finite(step.state), strict=True)]
    if any(broken) or not all(_finite(step.info)):
      number = int(np.max(getattr(state, "step", 0))) + position + 1
      found = {"step": number, "position": position, "rows": step.rows.tolist()}
      return found if step.negatives is None else found | {"negatives": step.negatives.tolist()}
  return {}


def _finite(tree: Any) -> list[bool]:
  leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
  return [bool(np.isfinite(np.asarray(leaf)).all()) for leaf in leaves]


def write(workdir: pathlib.Path, told: dict[str, Any]) -> pathlib.Path:
  """Writes ``failure.json``, whole or not at all; returns its path."""
  atomic.write_text(workdir / FILE, json.dumps(told, indent=2) + "\n")
  return workdir / FILE
