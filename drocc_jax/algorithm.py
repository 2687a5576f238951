"""What an algorithm is: the functions and facts that training, checks and estimators ask of it."""

from collections.abc import Callable
import dataclasses
from typing import Any


def _as_it_is(config: Any, epoch_steps: int) -> Any:
  del epoch_steps
  return config


def averaged(state: Any) -> Any:
  """The state with the averaged network, the one that scores, in the place of the trained one."""
  return dataclasses.replace(state, params=state.average["params"], stats=state.average["stats"])


@dataclasses.dataclass(frozen=True)
class Algorithm:
  """DROCC or a relative of it; equal ones share their compiled programs.

  Attributes:
    name: for people, e.g. "DROCC-OE".
    config: class of its settings.
    make_init: ``(network, static) -> init``, see ``drocc.make_init``.
    make_train_step: ``(network, static, axis_name=None) -> step``, see ``drocc.make_train_step``.
    find_negatives: ``(forward, state, inputs, index, key, static) -> (negatives, SearchInfo)``.
    needs_negatives: whether it learns from given negatives, and cannot do without.
    euclidean: whether the searched negatives lie between ``radius`` and ``gamma * radius`` in
      Euclidean distance.
    averaged: ``state -> state`` that searches against the averaged network.
    settle: ``(config, steps of an epoch) -> config``, fills in what hangs on the data's size.
  """

  name: str
  config: type
  make_init: Callable[..., Any]
  make_train_step: Callable[..., Any]
  find_negatives: Callable[..., Any]
  needs_negatives: bool = False
  euclidean: bool = True
  averaged: Callable[[Any], Any] = averaged
  settle: Callable[[Any, int], Any] = _as_it_is
