"""The one form in which every benchmark speaks: what was run, where, and what came out."""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any, Self

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from detector_jax import atomic

PACKAGES = ("jax", "flax", "optax", "numpy", "scikit-learn", "torch", "pyod")


@dataclasses.dataclass(frozen=True)
class TableRecord:
  """One cell of a table.

  Attributes:
    table: its number in the paper, or its name.
    row: data set and setting.
    method: what was measured.
    column: "last", "selected" or "oracle"; see ``protocol``.
    metric: a key of ``detector_jax.metrics``.
    mean: over seeds, in percent.
    std: over seeds, in percent points.
    seeds: number of seeds.
    paper: the published number in percent, or None.
  """

  table: str
  row: str
  method: str
  column: str
  metric: str
  mean: float
  std: float
  seeds: int
  paper: float | None = None

  @classmethod
  def from_values(
    cls,
    table: str,
    row: str,
    method: str,
    metric: str,
    values: Sequence[float] | np.ndarray,
    *,
    column: str = "last",
    factor: float = 1.0,
    digits: int = 2,
    middle: Callable[..., Any] = np.mean,
    paper: float | None = None,
  ) -> Self:
    """A cell from the values of the seeds.

    Args:
      table: as the attributes, and so are row, method, metric, column and paper.
      row: see there.
      method: see there.
      metric: see there.
      values: ``[seeds]``.
      column: see there.
      factor: of mean and spread, e.g. 100 for shares.
      digits: that both are rounded to.
      middle: what stands for the mean, e.g. the median.
      paper: see there.
    """
    mean, std = (round(factor * float(f(values)), digits) for f in (middle, np.std))
    return cls(table, row, method, column, metric, mean, std, np.size(values), paper)


@dataclasses.dataclass(frozen=True)
class SpeedRecord:
  """One comparison.

  Attributes:
    case: what was timed.
    ours_seconds: median, without compilation.
    peer: who is compared with.
    peer_seconds: median.
    ratio: median over interleaved pairs of peer / ours; above 1 ours is faster.
    floor_seconds: what the arithmetic alone would take at the measured matrix-product rate.
  """

  case: str
  ours_seconds: float
  peer: str
  peer_seconds: float
  ratio: float
  floor_seconds: float


Record = TableRecord | SpeedRecord


def by_method(records: Iterable[TableRecord]) -> dict[str, tuple[list[float], list[float]]]:
  """Means and spreads of each method, in the order of the records: what bars and lines are of."""
  found: dict[str, tuple[list[float], list[float]]] = {}
  for record in records:
    mean, std = found.setdefault(record.method, ([], []))
    mean.append(record.mean)
    std.append(record.std)
  return found


def command() -> str:
  """The command as a user would type it, the output flag left out."""
  name = pathlib.Path(sys.argv[0])
  module = ".".join(name.with_suffix("").parts[-2:])
  arguments = [a for a in sys.argv[1:] if not a.startswith("--output")]
  return " ".join(("python -m", module, *arguments))


def commit() -> str:
  """Short commit, "+dirty" where tracked files differ from it, "unknown" outside git."""
  folder = pathlib.Path(__file__).parent

  def git(*arguments: str) -> str:
    return subprocess.run(
      ("git", *arguments), cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()

  try:
    dirty = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short", "HEAD") + ("+dirty" if dirty else "")
  except (OSError, subprocess.CalledProcessError):
    return "unknown"


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that numbers depend on."""
  found = {"python": platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def hardware() -> str:
  """Processor, usable cores and what JAX computes on."""
  model = platform.processor() or platform.machine()
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
  except (OSError, StopIteration):
    pass
  return f"{model}, {len(os.sched_getaffinity(0))} cores, jax on {jax.devices()[0].device_kind}"


def check_writable(path: pathlib.Path) -> None:
  """Raises an OSError before any work where ``path`` cannot be written later."""
  if path.suffix != ".json":
    raise ValueError(f"--output must name a .json file, got {path}.")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    probe = path.with_suffix(".tmp")
    probe.write_text("")
    probe.unlink()
  except OSError as error:
    raise OSError(f"{path} cannot be written: {error.strerror}.") from error


def write(path: pathlib.Path, records: Sequence[Record], **facts: Any) -> None:
  """Writes records with what they depend on, whole or not at all.

  Args:
    path: a .json file.
    records: of one benchmark.
    **facts: further JSON facts, e.g. notes on the data.
  """
  content = {
    "command": command(),
    "commit": commit(),
    "date": datetime.date.today().isoformat(),
    "hardware": hardware(),
    "versions": versions(),
    **facts,
    "records": [dataclasses.asdict(record) for record in records],
  }
  atomic.write_text(path, json.dumps(content, indent=1) + "\n")


def show(records: Sequence[Record]) -> None:
  """Prints records as a table."""
  names = [field.name for field in dataclasses.fields(records[0])]
  table = Table(*names)
  for record in records:
    table.add_row(*("" if value is None else str(value) for value in vars(record).values()))
  Console().print(table)
