"""Progress bars and scalar logs."""

from collections.abc import Iterator
import contextlib
import json
import pathlib
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeElapsedColumn,
  TimeRemainingColumn,
)

from detector_jax import atomic


@contextlib.contextmanager
def bar(description: str, total: int, done: int = 0) -> Iterator[Any]:
  """A progress bar on standard error; yields ``advance(steps=1, note="")``.

  Where standard error is no terminal, a line is printed at every tenth of the way instead.
  """
  console = Console(stderr=True)
  if not console.is_terminal:
    yield _lines(description, total, done)
    return
  columns = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[note]}"),
  )
  with Progress(*columns, console=console) as progress:
    task = progress.add_task(description, total=total, completed=done, note="")

    def advance(steps: int = 1, note: str = "") -> None:
      progress.update(task, advance=steps, note=note)

    yield advance


def _lines(description: str, total: int, done: int) -> Any:
  state = {"done": done}

  def advance(steps: int = 1, note: str = "") -> None:
    before = state["done"]
    state["done"] += steps
    if state["done"] * 10 // max(total, 1) > before * 10 // max(total, 1):
      print(f"{description} {state['done']}/{total} {note}", file=sys.stderr, flush=True)

  return advance


class Scalars:
  """Scalars of one stage of a run, to ``metrics.jsonl`` and TensorBoard event files.

  Epochs restart in every stage, and TensorBoard drops what lies beyond a resumed epoch for a whole
  folder: so each stage has a folder of event files. They are written where they are asked for, and
  not by tensorboardX's thread: when that has failed, training would wait for it without end.

  Args:
    workdir: the run's folder.
    stage: name of the stage.
    epoch: epoch that the stage resumes after; what an interrupted run logged beyond it is dropped.
  """

  def __init__(self, workdir: pathlib.Path, stage: str, epoch: int = 0):
    # Imported here: it imports PyTorch where that is installed, and nobody else needs either.
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    self._stage, self._event, self._scalar = stage, Event, summary.scalar
    path = workdir / "metrics.jsonl"
    kept = [
      record
      for record in read_scalars(workdir)
      if record.get("stage") != stage or record["epoch"] <= epoch
    ]
    atomic.write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
    self._file = path.open("a")
    folder = workdir / "tensorboard" / stage
    folder.mkdir(parents=True, exist_ok=True)
    self._events = EventsWriter(str(folder / "events"), f".{epoch}")
    begun = SessionLog(status=SessionLog.SessionStatus.Value("START"))
    self._write_event(Event(session_log=begun), epoch + 1)

  def write(self, epoch: int, values: dict[str, float]) -> None:
    """Logs ``values`` as those after ``epoch`` epochs of the stage."""
    self._file.write(json.dumps({"stage": self._stage, "epoch": epoch, **values}) + "\n")
    self._file.flush()
    for name, value in values.items():
      told: Any = self._scalar(f"{self._stage}/{name}", value)
      self._write_event(self._event(summary=told), epoch)
    self._events.flush()

  def _write_event(self, event: Any, step: int) -> None:
    event.wall_time, event.step = time.time(), step
    self._events.write_event(event)

  def close(self) -> None:
    """Writes out what is buffered."""
    try:
      self._file.close()
    finally:
      self._events.close()


def read_scalars(workdir: pathlib.Path, stage: str | None = None) -> list[dict[str, Any]]:
  """The records of ``metrics.jsonl``, a line cut by a kill left out.

  Args:
    workdir: the run's folder.
    stage: None reads those of all stages.
  """
  path = workdir / "metrics.jsonl"
  if not path.exists():
    return []
  records = []
  for line in path.read_text().splitlines():
    with contextlib.suppress(ValueError):
      records.append(json.loads(line))
  return [record for record in records if stage in (None, record.get("stage"))]
