"""From the command to its result: --case=startup times ``launch.score`` and ``launch.train``.

Each run is a process of its own: the command, the command with JAX's persistent compilation cache
(filled by a run before), and one that only imports jax, which no command here can undercut. The
file that is scored has 300 records; what is trained is ``configs/drocc_digits.py``, for 50 epochs.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import speed_timing
from benchmarks.records import SpeedRecord
from detector_jax import Detector, Standardizer
from drocc_jax import networks, recipe

CASES = ("startup",)
ROWS, FEATURES, HIDDEN, LISTED = 300, 20, 128, 12
ROOT = pathlib.Path(__file__).resolve().parents[1]
PEER = "a process that imports jax"
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| *([\w.]+)$", re.MULTILINE)


def measure(case: str, runs: int, rate: float) -> tuple[list[SpeedRecord], dict[str, Any]]:
  """Times the processes in turn.

  Args:
    case: one of ``CASES``.
    runs: of each process.
    rate: not needed; the floor is the import of jax.

  Returns:
    A record of each command without and with the cache, and as a fact the seconds that the packages
    which take longest need to be imported, each with all that it imports first.
  """
  del rate
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    command, training = score_command(folder), train_command(folder)
    cached = {"XDG_CACHE_HOME": str(folder / "cache")}
    bare = [sys.executable, "-c", "import jax"]
    seconds, _ = speed_timing.interleaved(
      case,
      {
        "launch.score": lambda: _run(command),
        "launch.score, compiled before": lambda: _run(command, cached),
        "launch.train": lambda: _run(training),
        "launch.train, compiled before": lambda: _run(training, cached),
        PEER: lambda: _run(bare),
      },
      runs,
    )
    told = _run([command[0], "-X", "importtime", *command[1:]])
  floor = min(seconds[PEER])
  records = [
    speed_timing.record(f"startup, {said}", PEER, seconds[side], seconds[PEER], floor)
    for said, side in (
      ("launch.score on 300 records", "launch.score"),
      ("the same, compiled before", "launch.score, compiled before"),
      ("launch.train on digits", "launch.train"),
      ("the same training, compiled before", "launch.train, compiled before"),
    )
  ]
  return records, {
    "seconds": {
      side: [speed_timing.rounded(each) for each in taken] for side, taken in seconds.items()
    },
    "import_seconds": dict(list(import_seconds(told).items())[:LISTED]),
  }


def score_command(folder: pathlib.Path) -> list[str]:
  """Writes a detector and records into a folder; returns the command that scores them."""
  x = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
  network, standardizer = networks.MLP((HIDDEN,)), Standardizer.fit(x)
  params = network.init(jax.random.key(0), standardizer(jnp.asarray(x[:1])))["params"]
  detector = Detector.create(
    recipe.NegativeLogit(network), {"params": params, "stats": {}}, standardizer, x.shape[1:]
  )
  detector.save(folder / "detector")
  names = ",".join(f"c{place}" for place in range(FEATURES))
  np.savetxt(folder / "x.csv", x, delimiter=",", header=names, comments="")
  return [
    sys.executable,
    "-m",
    "launch.score",
    f"--detector={folder / 'detector'}",
    f"--input={folder / 'x.csv'}",
    f"--output={folder / 'scores.csv'}",
  ]


def train_command(folder: pathlib.Path) -> list[str]:
  """A short training into a new folder, which a shell removes before."""
  workdir = folder / "run"
  command = [
    sys.executable,
    "-m",
    "launch.train",
    "--config=configs/drocc_digits.py",
    f"--workdir={workdir}",
    "--config.epochs=50",
  ]
  return ["sh", "-c", 'rm -rf "$0"; exec "$@"', str(workdir), *command]


def import_seconds(told: str) -> dict[str, float]:
  """Top-level packages in what ``python -X importtime`` told, the slowest first.

  A package's seconds hold those of what it imports first of all. What is imported twice counts
  where it came first.
  """
  found: dict[str, float] = {}
  for _, cumulative, module in IMPORT.findall(told):
    if "." not in module:
      found[module] = max(found.get(module, 0.0), int(cumulative) / 1e6)
  order = sorted(found, key=lambda module: -found[module])
  return {module: speed_timing.rounded(found[module], 3) for module in order}


def _run(command: list[str], cache: dict[str, str] | None = None) -> str:
  """What a process wrote on standard error; raises a RuntimeError where it failed.

  The process has no compilation cache but the launcher's own, in the folder that ``cache`` names.
  """
  plain = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
  caching = cache or {"JAX_ENABLE_COMPILATION_CACHE": "0"}
  done = subprocess.run(command, cwd=ROOT, env=plain | caching, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f"{' '.join(command[1:4])} failed: {done.stderr.strip()[-300:]}")
  return done.stderr
