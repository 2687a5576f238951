"""A stage of training: the loop over epochs, which can be stopped at any moment and taken up."""

from collections.abc import Callable
import contextlib
import dataclasses
import pathlib
from typing import Any

import numpy as np

from detector_jax import health
from launch import checkpoints as store
from launch.reporting import progress


@dataclasses.dataclass(frozen=True)
class Stage:
  """What to train for how long.

  Attributes:
    name: of its checkpoints (``workdir/checkpoints/NAME``), progress bar and scalars; one stage of
      a run each.
    epochs: >= 0.
    advance: ``(state, first, last) -> (state, scalars)``: trains ``last - first`` epochs, numbered
      from ``first``, and returns scalars after epoch ``last``. A function of its arguments alone,
      the same however epochs are divided into calls; that makes a resumed run the same run.
  """

  name: str
  epochs: int
  advance: Callable[[Any, int, int], tuple[Any, dict[str, float]]]


def run(stage: Stage, state: Any, workdir: pathlib.Path, checkpoints: int) -> Any:
  """Trains one stage from its newest checkpoint, or from ``state`` where there is none.

  A finished stage is restored and trains nothing, so a run of several stages given again goes on in
  the one that was interrupted.

  Args:
    stage: what to train.
    state: pytree of JAX arrays before the first epoch; its ``step``, where it has one, is named
      when training diverges, the epoch otherwise.
    workdir: the run's folder.
    checkpoints: how many to write, evenly spread over the epochs.

  Returns:
    The state after the last epoch.

  Raises:
    HealthError: a scalar is not finite.
    ValueError: ``checkpoints`` is below 1, or a checkpoint cannot be read.
  """
  check_checkpoints(checkpoints)
  every = max(1, stage.epochs // checkpoints)
  with store.open_checkpoints(workdir / "checkpoints" / stage.name) as saved:
    epoch = saved.latest() or 0
    if epoch:
      state, _ = saved.restore(epoch, state)
    if epoch >= stage.epochs:
      return state
    with (
      contextlib.closing(progress.Scalars(workdir, stage.name, epoch)) as scalars,
      progress.bar(stage.name, stage.epochs, epoch) as advance,
    ):
      while epoch < stage.epochs:
        last = min(epoch + every, stage.epochs)
        state, values = stage.advance(state, epoch, last)
        health.check_loss(values, int(np.max(getattr(state, "step", last))))
        scalars.write(last, values)
        saved.save(last, state, {"epoch": last})
        advance(last - epoch, _note(values))
        epoch = last
  return state


def restore(name: str, epochs: int, like: Any, workdir: pathlib.Path) -> Any:
  """The state after the last epoch of a finished stage.

  Args:
    name: of the stage.
    epochs: that it trains.
    like: a state of the same structure and shapes.
    workdir: the run's folder.

  Raises:
    ValueError: the stage is not finished, or its checkpoint cannot be read.
  """
  folder = workdir / "checkpoints" / name
  if folder.is_dir():
    with store.open_checkpoints(folder) as saved:
      if saved.latest() == epochs:
        return saved.restore(epochs, like)[0]
  raise ValueError(
    f"The stage {name!r} of {workdir} is not finished: give its launch.train command again."
  )


def check_checkpoints(checkpoints: int) -> None:
  """Raises a ValueError where the number of checkpoints is below 1."""
  if checkpoints < 1:
    raise ValueError(f"checkpoints must be >= 1, got {checkpoints}.")


def _note(values: dict[str, float]) -> str:
  losses = [value for name, value in values.items() if name.endswith("loss")]
  return f"loss {sum(losses):.4f}" if losses else ""
