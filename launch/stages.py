"""A stage of training: the loop over epochs, which can be stopped at any moment and taken up."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np

from detector_jax import health
from launch import checkpoints as store
from launch import costs, devices, failures, stopping, workdirs
from launch.reporting import progress

LISTENING = 10.0  # seconds of training between two looks at the signals


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
    steps: the steps of an epoch one by one, see ``failures.Steps``; where training diverges they
      tell at which records. None: only the epoch is told.
    task: what is trained, so that its cost can be told before; None: it is not.
    followed: by how many stages of the run that cost about as much.
    began: when what they do again began, such as fitting features; see ``costs.estimate``.
  """

  name: str
  epochs: int
  advance: Callable[[Any, int, int], tuple[Any, dict[str, float]]]
  steps: failures.Steps | None = None
  task: costs.Task | None = None
  followed: int = 0
  began: float | None = None


class _Tried(BaseException):
  """The last stage of a trial has been reached."""


@dataclasses.dataclass
class _Trial:
  """What ``trial`` is about; there is one at a time."""

  last: str
  began: float
  found: list[costs.Estimate]


_trial: _Trial | None = None


@contextlib.contextmanager
def trial(last: str) -> Iterator[list[costs.Estimate]]:
  """Within it ``run`` tells what stages cost and trains none; the stage ``last`` ends it.

  Yields what has been found, stage by stage. Whatever a run does beside its stages it does.
  """
  global _trial
  _trial = _Trial(last, time.monotonic(), [])
  try:
    yield _trial.found
  except _Tried:
    pass
  finally:
    _trial = None


def _tried(stage: Stage, state: Any) -> Any:
  """The state after a trial of the stage, as it came."""
  assert _trial is not None
  assert stage.task is not None
  before = time.monotonic() - _trial.began
  followed, began = stage.followed, stage.began
  told = costs.estimate(stage.name, stage.task, state, stage.epochs, before, followed, began)
  _trial.found.append(told)
  if stage.name == _trial.last:
    raise _Tried
  return state


def run(stage: Stage, state: Any, workdir: pathlib.Path, checkpoints: int) -> Any:
  """Trains one stage from its newest checkpoint, or from ``state`` where there is none.

  A finished stage is restored and trains nothing, so a run of several stages given again goes on in
  the one that was interrupted. SIGTERM and Ctrl-C are heard about every 10 seconds, at the end of
  an epoch; a checkpoint is written then. How long it takes is said once, after some steps that are
  thrown away.

  Args:
    stage: what to train.
    state: pytree of JAX arrays before the first epoch; its ``step``, where it has one, is named
      when training diverges, the epoch otherwise.
    workdir: the run's folder.
    checkpoints: how many to write, evenly spread over the epochs.

  Returns:
    The state after the last epoch.

  Raises:
    HealthError: a scalar is not finite; ``workdir/failure.json`` tells where, see ``failures``.
    ValueError: ``checkpoints`` is below 1, or no checkpoint can be read.
    OSError: a checkpoint or scalars cannot be written; the last good checkpoint is kept.
    Stopped: by a signal.
  """
  check_checkpoints(checkpoints)
  if _trial is not None:
    return _tried(stage, state)
  claimed = (workdir / "config.json").is_file()
  every = max(1, stage.epochs // checkpoints)
  with _checkpoints(workdir, stage.name) as saved:
    found = None if saved is None else saved.newest(state)
    epoch, state = devices.shared(found or (0, state))
    if epoch >= stage.epochs:
      return state
    with (
      _scalars(workdir, stage.name, epoch) as scalars,
      _bar(stage, epoch) as advance,
      stopping.deferred_signals() as signalled,
    ):
      if stage.task is not None:
        left, then = stage.epochs - epoch, stage.followed
        told = costs.estimate(stage.name, stage.task, state, left, 0.0, then, stage.began)
        if devices.primary():
          print(told, file=sys.stderr, flush=True)
      while epoch < stage.epochs:
        due, start = min(epoch - epoch % every + every, stage.epochs), failures.on_host(state)
        state, values, last = _train(stage, state, epoch, due, signalled)
        if claimed:
          workdirs.check_there(workdir)
        _check(stage, values, state, (start, epoch, last), workdir)
        if last == due:  # so that a run which was stopped logs what the others do
          scalars(last, values)
        if saved is not None:
          saved.save(last, state, {"epoch": last})
        advance(last - epoch, _note(values))
        epoch = last
        if (number := signalled()) is not None:
          raise stopping.Stopped(
            f"stopped after epoch {epoch} of {stage.epochs} of {stage.name}; the same command "
            "goes on.",
            number,
          )
  return state


def _train(
  stage: Stage, state: Any, first: int, due: int, signalled: Callable[[], int | None]
) -> tuple[Any, dict[str, float], int]:
  """Trains to epoch ``due``, or to an epoch before it where a signal came; says which one."""
  epoch, length = first, due - first if jax.process_count() > 1 else 1
  while True:
    last = min(epoch + length, due)
    start = time.monotonic()
    state, values = stage.advance(state, epoch, last)
    pace = (time.monotonic() - start) / (last - epoch)
    epoch, length = last, max(1, int(LISTENING / max(pace, 1e-6)))
    if epoch == due or signalled() is not None:
      return state, values, epoch


def _check(
  stage: Stage,
  values: dict[str, float],
  state: Any,
  chunk: tuple[Any, int, int],
  workdir: pathlib.Path,
) -> None:
  """Stops at values that are not finite, and writes what is known of the cause.

  Args:
    stage: what is trained.
    values: its scalars.
    state: after the epochs of ``chunk``.
    chunk: state before them on the host, number of the first, and of the last plus 1.
    workdir: the run's folder.
  """
  start, first, last = chunk
  try:
    health.check_loss(values, int(np.max(getattr(state, "step", last))))
  except health.HealthError as error:
    told = {
      "stage": stage.name,
      **failures.locate_divergence(stage.advance, stage.steps, start, first, last),
    }
    path = failures.write(workdir, told) if devices.primary() else workdir / failures.FILE
    where, had = f"in epoch {told['epoch']}", "its scalars"
    if "step" in told:
      where, had = f"{where} at step {told['step']}", "the records of that step"
    kept = f"the checkpoint of epoch {first} is kept" if first else "no checkpoint was written"
    raise health.HealthError(f"{error} It began {where}; {path} has {had}; {kept}.") from error


@contextlib.contextmanager
def _checkpoints(workdir: pathlib.Path, stage: str) -> Iterator[store.Checkpoints | None]:
  """The checkpoints of a stage; None where another process reads and writes them."""
  if not devices.primary():
    yield None
    return
  with store.open_checkpoints(workdir / "checkpoints" / stage) as saved:
    yield saved


def _bar(stage: Stage, epoch: int) -> contextlib.AbstractContextManager[Any]:
  """The progress bar of a stage, which one process shows."""
  if devices.primary():
    return progress.bar(stage.name, stage.epochs, epoch)
  return contextlib.nullcontext(lambda *_: None)


@contextlib.contextmanager
def _scalars(
  workdir: pathlib.Path, stage: str, epoch: int
) -> Iterator[Callable[[int, dict[str, float]], None]]:
  """Opens the log of a stage; what cannot be written is an OSError of one sentence."""
  if not devices.primary():
    yield lambda *_: None
    return

  @contextlib.contextmanager
  def named() -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise OSError(
        f"The scalars of {workdir} cannot be written: {store.reason_of(error)}; checkpoints are as "
        "they were. Rerun the same command when they can."
      ) from error

  def write(last: int, values: dict[str, float]) -> None:
    with named():
      scalars.write(last, values)

  with named():
    scalars = progress.Scalars(workdir, stage, epoch)
  try:
    yield write
  except BaseException:
    with contextlib.suppress(OSError):  # what is under way says more
      scalars.close()
    raise
  with named():
    scalars.close()


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
  if not devices.primary():
    return devices.shared(like)
  folder = workdir / "checkpoints" / name
  if folder.is_dir():
    with store.open_checkpoints(folder) as saved:
      if saved.latest() == epochs:
        try:
          return devices.shared(saved.restore(epochs, like)[0])
        except ValueError as error:
          reason = str(error).rstrip(".")
          raise ValueError(f"{reason}: give its launch.train command again.") from error
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
