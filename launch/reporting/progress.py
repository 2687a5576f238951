"""Progress bars and scalar logs."""

from collections.abc import Iterator
import contextlib
import json
import pathlib
import sys
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
from tensorboardX import SummaryWriter


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
    TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
  )  # fmt: skip
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
  folder: so each stage has a folder of event files.

  Args:
    workdir: the run's folder.
    stage: name of the stage.
    epoch: epoch that the stage resumes after; what an interrupted run logged beyond it is dropped.
  """

  def __init__(self, workdir: pathlib.Path, stage: str, epoch: int = 0):
    self._stage = stage
    path = workdir / "metrics.jsonl"
    kept = [
      record
      for record in read_scalars(workdir)
      if record.get("stage") != stage or record["epoch"] <= epoch
    ]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
    temporary.replace(path)
    self._file = path.open("a")
    self._writer = SummaryWriter(str(workdir / "tensorboard" / stage), purge_step=epoch + 1)

  def write(self, epoch: int, values: dict[str, float]) -> None:
    """Logs ``values`` as those after ``epoch`` epochs of the stage."""
    self._file.write(json.dumps({"stage": self._stage, "epoch": epoch, **values}) + "\n")
    self._file.flush()
    for name, value in values.items():
      self._writer.add_scalar(f"{self._stage}/{name}", value, epoch)

  def close(self) -> None:
    """Writes out what is buffered."""
    self._file.close()
    self._writer.close()


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
