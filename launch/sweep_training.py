"""Many models in one compiled program: one after the other, or groups of them vmapped."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import functools
import logging
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from detector_jax import training
from drocc_jax import recipe

logger = logging.getLogger(__name__)

AUTO_GROUP = 32


@dataclasses.dataclass(frozen=True)
class Member:
  """One model of a sweep.

  Attributes:
    number: from 0.
    settings: the values of the axes, by name.
    config: settings of the algorithm, everything filled in.
    seed: of weights, data order and noise.
  """

  number: int
  settings: dict[str, float]
  config: Any
  seed: int


class Trained(NamedTuple):
  """What training made of one member.

  Attributes:
    member: the member.
    state: training state after the last epoch, NumPy arrays.
    info: what the last epoch reports, summed over its steps, NumPy arrays.
    seconds: of its training without compilation; a vmapped model's share of its group's.
    compile_seconds: that its group waited for the program before that.
  """

  member: Member
  state: Any
  info: Any
  seconds: float
  compile_seconds: float


class Trainer:
  """Trains groups of members on the same data by the same program.

  Args:
    prepared: data, number of epochs and program, which all members share.
  """

  def __init__(self, prepared: recipe.Prepared):
    self._prepared = prepared
    self.alone = prepared.program.train_epochs
    self.together = _vmapped(prepared.program.train_epochs)

  def train(self, group: Sequence[Member], size: int) -> list[Trained]:
    """Trains one group.

    Args:
      group: at least one member.
      size: models trained at a time, at least as many as ``group`` has; the group is filled up
        with repeats of its last, so that a smaller last group compiles nothing. 1 takes the program
        that trains a single model.

    Raises:
      JaxRuntimeError: the device is out of memory.
    """
    members = [*group, *[group[-1]] * (size - len(group))]
    states = [self._init(member) for member in members]
    keys = [recipe.keys(member.seed)[1] for member in members]
    if size == 1:
      train, state, key = self.alone, states[0], keys[0]
    else:
      train, state, key = self.together, _stacked(states), jnp.stack(keys)
    del states
    data, epochs = self._prepared.data, self._prepared.epochs
    begin = time.perf_counter()
    state, _ = jax.block_until_ready(train(state, data, key, 0, 0))  # compiles, trains nothing
    compiled = time.perf_counter()
    state, info = jax.block_until_ready(train(state, data, key, 0, epochs))
    seconds = (time.perf_counter() - compiled) / len(group)
    state, info = jax.device_get((state, info))
    if size == 1:
      return [Trained(group[0], state, info, seconds, compiled - begin)]
    return [
      Trained(member, _at(state, place), _at(info, place), seconds, compiled - begin)
      for place, member in enumerate(group)
    ]

  def _init(self, member: Member) -> Any:
    init_key, _ = recipe.keys(member.seed)
    return self._prepared.program.init(member.config.hyper(), self._prepared.sample, init_key)


@functools.lru_cache(maxsize=8)
def _vmapped(train_epochs: training.TrainEpochs) -> training.TrainEpochs:
  """``train_epochs`` of many states and keys on the same data and epochs; donates the states."""
  return jax.jit(jax.vmap(train_epochs, in_axes=(0, None, 0, None, None)), donate_argnums=0)


def _stacked(trees: list[Any]) -> Any:
  """One tree of ``[models, ...]`` arrays."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _at(tree: Any, place: int) -> Any:
  return jax.tree.map(lambda leaf: leaf[place], tree)


def auto_group_size() -> int:
  """1 on a CPU, where a group of models is slower than one after the other; 32 elsewhere."""
  return 1 if jax.default_backend() == "cpu" else AUTO_GROUP


def groups(
  members: Sequence[Member],
  size: int,
  train: Callable[[Sequence[Member], int], list[Trained]],
  kept: Iterable[int] = (),
) -> Iterator[list[Trained]]:
  """Trains members group by group; a group that does not fit into memory is halved.

  Which members form a group, and the program that trains them, do not depend on what an earlier
  process has kept, so that a sweep that was killed ends with the bits of one that was not.

  Args:
    members: all of the sweep.
    size: models at a time, >= 1.
    train: see ``Trainer.train``.
    kept: numbers of members that are not needed; a group of nothing else is not trained.

  Yields:
    What was trained and is needed, one group at a time.

  Raises:
    ValueError: one model alone does not fit.
  """
  size, start, kept = max(1, min(size, len(members))), 0, set(kept)
  while start < len(members):
    group = members[start : start + size]
    if kept.issuperset(member.number for member in group):
      start += size
      continue
    try:
      trained = train(group, size)
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      if size == 1:
        raise ValueError(
          "The device has too little memory for one model: lower batch_size, or take fewer records "
          "(data.limit)."
        ) from error
      logger.warning("Out of memory with %d models at a time; going on with %d.", size, size // 2)
      size, start = size // 2, 0  # groups begin where they would, had the first been too large
      continue
    yield [each for each in trained if each.member.number not in kept]
    kept.update(member.number for member in group)
    start += size
