"""What a training costs, before it is spent: a few of its steps are timed and thrown away."""

from collections.abc import Callable
import dataclasses
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import batching, training
from launch import failures

ENOUGH = 0.1  # seconds of steps that say how long one takes
OF_SEVERAL = 4  # steps that are timed where several processes must take equally many


@dataclasses.dataclass(frozen=True)
class Task:
  """What a stage trains, and how to try it.

  Attributes:
    network: in words.
    records: that train.
    batch_size: of them in a step.
    arrays: on the device beside the state.
    attempt: ``(state, n) -> state`` after the first n steps; what it is given may be donated.
    members: networks that each have so many records of their own.
  """

  network: str
  records: int
  batch_size: int
  arrays: Any
  attempt: Callable[[Any, int], Any]
  members: int = 1

  @property
  def steps(self) -> int:
    """Steps of an epoch."""
    return training.steps_per_epoch(self.records, self.batch_size)


def of_data(
  network: str,
  train_epochs: training.TrainEpochs,
  data: training.Data,
  key: jax.Array,
  batch_size: int,
) -> Task:
  """The task of training on rows that are on the device.

  The steps that are tried run in the program that trains, which is told of fewer rows.

  Args:
    network: in words.
    train_epochs: see ``training``.
    data: its rows.
    key: of the run.
    batch_size: examples per step.
  """
  records = int(np.max(data.num_rows))  # members may have rows of their own

  def attempt(state: Any, steps: int) -> Any:
    rows = jnp.minimum(steps * batch_size, data.num_rows)
    return train_epochs(state, data._replace(num_rows=rows), key, 0, 1)[0]

  return Task(network, records, batch_size, data, attempt, int(np.size(data.num_rows)))


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What the rest of a stage takes.

  Attributes:
    stage: its name.
    task: what it trains.
    epochs: that are left.
    parameters: numbers that are trained.
    device_bytes: of state and training records.
    process_bytes: the most memory that this process has taken so far.
    timed: steps that were timed.
    step_seconds: of one of them.
    before: seconds from the start of the command to here, where that was measured.
    followed: by how many stages that cost about as much.
    again: seconds that each of these needs before its steps, as this one did.
  """

  stage: str
  task: Task
  epochs: int
  parameters: int
  device_bytes: int
  process_bytes: int
  timed: int
  step_seconds: float
  before: float = 0.0
  followed: int = 0
  again: float = 0.0

  @property
  def seconds(self) -> float:
    """That are left of the stage."""
    return self.epochs * self.task.steps * self.step_seconds

  def __str__(self) -> str:
    """One line: what is left, and how long it takes."""
    return f"{self.stage}: {self.spread}, about {words(self.seconds)} left{self._then}"

  @property
  def spread(self) -> str:
    """Epochs and steps."""
    epochs = f"{self.epochs:,} epoch{'s' * (self.epochs != 1)}"
    return f"{epochs} of {self.task.steps:,} step{'s' * (self.task.steps != 1)}"

  @property
  def _then(self) -> str:
    """What comes after the stage, for the end of a sentence."""
    whole = words(self.seconds + self.followed * (self.again + self.seconds))
    more = f"{self.followed} more training{'s' * (self.followed != 1)} like it"
    return f", then {more}, {whole} in all" if self.followed else ""

  @property
  def lines(self) -> list[str]:
    """Everything, a fact a line."""
    task = self.task
    each = f" for each of {task.members} members" if task.members > 1 else ""
    return [
      f"{self.stage}:",
      f"  network  {task.network}, {self.parameters:,} parameters",
      f"  records  {task.records:,}{each}, {min(task.batch_size, task.records):,} in a step",
      f"  steps    {self.spread}, {self.epochs * task.steps:,} in all",
      f"  memory   {self.device_bytes / 1e6:,.1f} MB of state and records, "
      f"{self.process_bytes / 1e6:,.0f} MB at most in this process so far",
      f"  time     about {words(self.seconds)}{self._then}; {1000 * self.step_seconds:.2g} ms a "
      f"step in {self.timed} timed ones; {words(self.before)} went before",
    ]


def estimate(
  stage: str,
  task: Task,
  state: Any,
  epochs: int,
  before: float = 0.0,
  followed: int = 0,
  began: float | None = None,
) -> Estimate:
  """Times a few steps on a copy of the state, once they are compiled; the run is as it was.

  Args:
    stage: its name.
    task: what it trains.
    state: to start from.
    epochs: that are left.
    before: see ``Estimate``.
    followed: likewise.
    began: when what the stages that follow do again began, by ``time.monotonic``: from there to the
      end of compiling is ``Estimate.again``. None: they do nothing of it.
  """

  def spent(steps: int) -> float:
    copied, start = failures.on_host(state), time.monotonic()
    jax.block_until_ready(task.attempt(copied, steps))
    return time.monotonic() - start

  alone, most = jax.process_count() == 1, task.steps
  spent(1)  # compiles
  again = 0.0 if began is None else time.monotonic() - began
  timed = min(1 if alone else OF_SEVERAL, most)
  seconds = spent(timed)
  while alone and seconds < ENOUGH and timed < most:
    timed = min(4 * timed, most)
    seconds = spent(timed)
  held = jax.tree.leaves((state, task.arrays))
  # Linux tells it in kB, macOS in bytes.
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return Estimate(
    stage,
    task,
    epochs,
    batching.num_parameters(state.params),
    sum(int(np.size(leaf)) * leaf.dtype.itemsize for leaf in held),
    peak if sys.platform == "darwin" else 1024 * peak,
    timed,
    seconds / timed,
    before,
    followed,
    again,
  )


def words(seconds: float) -> str:
  """A time as one says it.

  Examples:
    >>> words(0.0123), words(42.3), words(200.0), words(7980.0)
    ('1 s', '42 s', '3 min', '2 h 13 min')
  """
  seconds = max(seconds, 1.0)
  if seconds < 100.0:
    return f"{seconds:.0f} s"
  minutes = round(seconds / 60.0)
  return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"
