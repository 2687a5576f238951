"""Kills trainings at random moments and gives the same command again until one ends.

python -m tests.faults.kill --kills=20

starts ``launch.train`` anew for every attempt; the tests fork it from a process that has imported
the project. Whatever is killed, the detector and the scalars in the end must be those of a run that
nobody disturbed, bit for bit.
"""

import argparse
from collections import Counter
from collections.abc import Callable
import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 300.0  # seconds that one attempt may take
METHODS = {
  "drocc": ["--config=configs/drocc_digits.py", "--config.epochs=300", "--config.checkpoints=30"],
  "lf": [
    "--config=configs/negatives_digits.py:lf",
    "--config.epochs=120",
    "--config.checkpoints=30",
    "--config.network.hidden=(16,)",
  ],
  "neuralfp": [
    "--config=configs/neuralfp_digits.py",
    "--config.classifier.training.epochs=10",
    "--config.fingerprint.epochs=20",
    "--config.combine=one_out",  # whose autoencoders are trained
    "--config.checkpoints=5",
  ],
}


class Attempt:
  """One process of a training.

  Args:
    arguments: of ``launch.train``.
    environment: of the process.
  """

  def __init__(self, arguments: list[str], environment: dict[str, str]):
    command = [sys.executable, "-m", "launch.train", *arguments]
    self._process = subprocess.Popen(
      command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )

  @property
  def pid(self) -> int:
    """Of the process."""
    return self._process.pid

  def wait(self, seconds: float) -> int | None:
    """Its exit code, minus the signal where one ended it; None where it still runs."""
    with contextlib.suppress(subprocess.TimeoutExpired):
      return self._process.wait(seconds)
    return None

  def send(self, number: int) -> None:
    """Sends a signal."""
    os.kill(self._process.pid, number)

  def said(self) -> str:
    """What it wrote to standard error, once it has ended."""
    return self._process.communicate()[1].decode()


class Forked(Attempt):
  """As ``Attempt``, forked from a server that has imported what training needs."""

  def __init__(self, arguments: list[str], environment: dict[str, str]):
    self._context = multiprocessing.get_context("forkserver")
    self._context.set_forkserver_preload(["launch.run"])
    descriptor, name = tempfile.mkstemp(suffix=".stderr")
    os.close(descriptor)
    self._errors = pathlib.Path(name)
    self._process: Any = self._context.Process(target=_train, args=(arguments, environment, name))
    self._process.start()

  def wait(self, seconds: float) -> int | None:
    self._process.join(seconds)
    return self._process.exitcode

  def said(self) -> str:
    return self._errors.read_text()


def _train(arguments: list[str], environment: dict[str, str], errors: str) -> None:
  os.environ.clear()
  os.environ.update(environment)
  os.chdir(ROOT)
  for descriptor, path in ((1, os.devnull), (2, errors)):
    os.dup2(os.open(path, os.O_WRONLY), descriptor)
  sys.argv = ["launch/train.py", *arguments]
  runpy.run_module("launch.train", run_name="__main__")


@dataclasses.dataclass
class Outcome:
  """What was done to the runs of one method.

  Attributes:
    kills: SIGKILLs that met a living process.
    runs: runs that came to their end after kills.
    moments: how often each moment was met: "before the first checkpoint", "training", ...
    different: arrays and scalars that were not those of the undisturbed run.
  """

  kills: int = 0
  runs: int = 0
  moments: Counter = dataclasses.field(default_factory=Counter)
  different: list[str] = dataclasses.field(default_factory=list)


def environment_of(folder: pathlib.Path) -> dict[str, str]:
  """Environment of an attempt; what is compiled is kept in a folder, so that a restart is cheap."""
  return {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }


@dataclasses.dataclass(frozen=True)
class Undisturbed:
  """A run that nobody disturbed.

  Attributes:
    workdir: of it.
    span: seconds from its first sign of life, when it holds the lock of its workdir, to its end.
  """

  workdir: pathlib.Path
  span: float


def undisturbed(
  arguments: list[str],
  workdir: pathlib.Path,
  environment: dict[str, str],
  attempt: Callable[[list[str], dict[str, str]], Attempt] = Attempt,
) -> Undisturbed:
  """Trains to the end."""
  process = attempt([*arguments, f"--workdir={workdir}"], environment)
  begun = alive(process, workdir)
  code = process.wait(LIMIT)
  assert code == 0, process.said()
  return Undisturbed(workdir, time.monotonic() - begun)


def disturb(
  arguments: list[str],
  kills: int,
  seed: int,
  folder: pathlib.Path,
  whole: Undisturbed,
  environment: dict[str, str],
  attempt: Callable[[list[str], dict[str, str]], Attempt] = Attempt,
) -> Outcome:
  """Kills runs of one command until it has met ``kills`` living processes, and lets the last end.

  The moment is uniform between a process's first sign of life and the time that the undisturbed
  run took from there to its end.

  Args:
    arguments: of ``launch.train``, without the workdir.
    kills: how many.
    seed: of the moments.
    folder: for workdirs.
    whole: the run to compare with.
    environment: of the processes.
    attempt: how a process is started.
  """
  rng, outcome = np.random.default_rng(seed), Outcome()
  while outcome.kills < kills:
    workdir = folder / f"killed-{outcome.runs}"
    ended = False
    while not ended:
      process = attempt([*arguments, f"--workdir={workdir}"], environment)
      alive(process, workdir)
      delay = rng.uniform(0.0, whole.span) if outcome.kills < kills else LIMIT
      code = process.wait(delay)
      if code is None:
        process.send(signal.SIGKILL)
        code = process.wait(LIMIT)
      ended = code == 0
      if not ended:
        assert code == -signal.SIGKILL, (code, process.said())
        outcome.kills += 1
        outcome.moments[_moment(workdir)] += 1
    outcome.runs += 1
    outcome.different += differences(whole.workdir, workdir)
  return outcome


def alive(process: Attempt, workdir: pathlib.Path) -> float:
  """Waits until the process holds the lock, or has ended; the time then."""
  deadline = time.monotonic() + LIMIT
  while time.monotonic() < deadline:
    with contextlib.suppress(OSError):
      if (workdir / ".lock").read_text() == f"{process.pid}\n":
        return time.monotonic()
    if process.wait(0.01) is not None:
      return time.monotonic()
  process.send(signal.SIGKILL)
  raise AssertionError("the process showed no sign of life")


def _moment(workdir: pathlib.Path) -> str:
  """How far a run had come."""
  if (workdir / "detector").exists():
    return "after the detector"
  if not (workdir / "config.json").exists():
    return "before its configuration was written"
  steps = [path.name for path in workdir.glob("checkpoints/*/*")]
  if any("tmp" in name for name in steps):
    return "while a checkpoint was written"
  return "between checkpoints" if steps else "before the first checkpoint"


def differences(one: pathlib.Path, two: pathlib.Path) -> list[str]:
  """Names of the arrays, and the scalars, that differ between two finished runs."""
  found = []
  with np.load(one / "detector/arrays.npz") as first, np.load(two / "detector/arrays.npz") as other:
    if first.files != other.files:
      found.append(f"{two.name}: names of arrays")
    for name in set(first.files) & set(other.files):
      a, b = first[name], other[name]
      if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
        found.append(f"{two.name}: {name}")
  if (one / "metrics.jsonl").read_text() != (two / "metrics.jsonl").read_text():
    found.append(f"{two.name}: metrics.jsonl")
  return found


def line_of(method: str, outcome: Outcome, seconds: float) -> str:
  """What happened to the runs of a method, as one line of JSON."""
  return json.dumps({"method": method, **vars(outcome), "seconds": round(seconds)})


def main() -> None:
  """Prints a line of JSON for each method; exit code 1 where a bit differed."""
  parser = argparse.ArgumentParser(description="Kills trainings at random moments.")
  parser.add_argument("--kills", type=int, default=20)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--methods", default=",".join(METHODS))
  chosen = parser.parse_args()
  wrong = False
  for method in chosen.methods.split(","):
    start, arguments = time.monotonic(), METHODS[method]
    with tempfile.TemporaryDirectory() as name:
      folder = pathlib.Path(name)
      environment = environment_of(folder)
      undisturbed(arguments, folder / "first", environment)  # fills the cache of programs
      whole = undisturbed(arguments, folder / "whole", environment)
      got = disturb(arguments, chosen.kills, chosen.seed, folder, whole, environment)
      got.different += differences(whole.workdir, folder / "first")
    print(line_of(method, got, time.monotonic() - start), flush=True)
    wrong = wrong or bool(got.different)
  sys.exit(int(wrong))


if __name__ == "__main__":
  main()
