"""How fast records are scored: --case=scoring.

A DROCC detector (20 features, hidden layer of 128) against an isolation forest and, where PyTorch
is installed, the same network and standardisation in PyTorch, all on records in memory; and
``launch.score`` on files of 5,000,000 records, with the peak memory of that process.
"""

from collections.abc import Callable, Iterator
import functools
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from benchmarks import speed_timing
from benchmarks.baselines import isolation_forest
from benchmarks.records import SpeedRecord
from detector_jax import Detector
from detector_jax.batching import num_parameters
from drocc_jax import DROCC, networks
from launch.reporting import progress

CASES = ("scoring",)
FEATURES, TRAINING_ROWS, ROWS, FILE_ROWS, BLOCK = 20, 2000, 200_000, 5_000_000, 250_000
ENDINGS = (".csv", ".npy", ".parquet")
Score = Callable[[np.ndarray], np.ndarray]
ROOT = pathlib.Path(__file__).resolve().parents[1]


def measure(case: str, runs: int, rate: float) -> tuple[list[SpeedRecord], dict[str, Any]]:
  """Scoring in memory against its peers, and of files.

  Args:
    case: one of ``CASES``.
    runs: interleaved runs of every side.
    rate: operations per second of a large matrix product, for the floor.

  Returns:
    A record per peer, and as facts rows per second of every side, and per file format rows per
    second and peak memory of ``launch.score``.
  """
  x = np.concatenate(list(_blocks(TRAINING_ROWS)))
  model = DROCC(random_state=0, network=networks.MLP()).fit(x)
  detector = model.detector_
  with progress.bar(case, 1 + len(ENDINGS)) as advance:
    files = {}
    for ending in ENDINGS:  # before memory is filled: a child may count its parent's peak
      files[ending] = score_file(detector, ending, FILE_ROWS)
      advance(1, ending)
    x_scored = np.concatenate(list(_blocks(ROWS)))
    sides = {
      name: functools.partial(score, x_scored) for name, score in sides_of(detector, x).items()
    }
    advance(1, "in memory")
  seconds, _ = speed_timing.interleaved(case, sides, runs)
  floor = 2.0 * num_parameters(detector.arrays["variables"]) * ROWS / rate
  title = f"score, {ROWS:,} records of {FEATURES} features in memory"
  records = [
    speed_timing.record(title, peer, seconds["ours"], theirs, floor)
    for peer, theirs in seconds.items()
    if peer != "ours"
  ]
  return records, {
    "rows_per_second": {
      side: round(ROWS / statistics.median(each)) for side, each in seconds.items()
    },
    "launch.score": files,
  }


def sides_of(detector: Detector, x: np.ndarray) -> dict[str, Score]:
  """Scoring functions ``[n, d] -> [n]``, ours first; PyTorch is left out where there is none.

  Args:
    detector: a DROCC detector with an ``MLP``.
    x: ``[m, d]`` records that the forest is trained on.
  """
  sides: dict[str, Score] = {
    "ours": detector.score,
    "isolation forest, 100 trees": isolation_forest.make(0).fit(x).score,
  }
  try:
    import torch  # noqa: F401
  except ImportError:
    return sides
  for batch_size in (detector.batch_size, 65_536):
    sides[f"PyTorch eager, the same network, batches of {batch_size:,}"] = torch_score(
      detector, batch_size
    )
  return sides


def torch_score(detector: Detector, batch_size: int) -> Score:
  """A DROCC detector's preprocessing and MLP, in PyTorch."""
  import torch

  standardizer, params = detector.arrays["preprocessing"], detector.arrays["variables"]["params"]
  center, scale = (torch.tensor(np.asarray(a)) for a in (standardizer.center, standardizer.scale))
  layers: list[Any] = []
  for name in sorted(params):
    kernel = np.asarray(params[name]["kernel"])
    layer = torch.nn.Linear(*kernel.shape)
    layer.weight.data = torch.tensor(kernel.T.copy())
    layer.bias.data = torch.tensor(np.asarray(params[name]["bias"]))
    layers += [torch.nn.ReLU(), layer] if layers else [layer]
  network = torch.nn.Sequential(*layers)

  def score(x: np.ndarray) -> np.ndarray:
    parts = []
    with torch.inference_mode():
      for start in range(0, len(x), batch_size):
        rows = torch.from_numpy(x[start : start + batch_size])
        z = ((rows - center) / scale).clamp(-standardizer.clip, standardizer.clip)
        parts.append(-network(z)[:, 0].numpy())
    return np.concatenate(parts)

  return score


def score_file(detector: Detector, ending: str, rows: int) -> dict[str, Any]:
  """Runs ``launch.score`` on a file of random records.

  Args:
    detector: takes ``[n, 20]``.
    ending: of the file.
    rows: its number of records.

  Returns:
    Size of the file and peak memory of the process in bytes, seconds and rows per second without
    the start of the process.
  """
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    detector.save(folder / "detector")
    source = folder / f"x{ending}"
    write_file(source, rows)
    with subprocess.Popen(
      [
        sys.executable,
        "-m",
        "launch.score",
        f"--detector={folder / 'detector'}",
        f"--input={source}",
        f"--output={folder / 'scores.csv'}",
      ],
      cwd=ROOT,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    ) as process:
      assert process.stderr is not None
      said = process.stderr.read()
      _, status, usage = os.wait4(process.pid, 0)
      process.returncode = os.waitstatus_to_exitcode(status)
    told = re.search(r"([\d,]+) rows in ([\d.]+) s, ([\d,]+) rows per second", said)
    if process.returncode or told is None:
      raise RuntimeError(f"launch.score failed on {source.name}: {said.strip()}")
    return {
      "rows": int(told[1].replace(",", "")),
      "file_bytes": source.stat().st_size,
      "seconds": float(told[2]),
      "rows_per_second": int(told[3].replace(",", "")),
      "peak_bytes": usage.ru_maxrss * 1024,
    }


def write_file(path: pathlib.Path, rows: int) -> None:
  """Writes standard-normal float32 records ``[rows, 20]``, block by block."""
  if path.suffix == ".npy":
    with path.open("wb") as file:
      _write_npy(file, rows)
    return
  schema = pa.schema([(f"c{i}", pa.float32()) for i in range(FEATURES)])
  writer: Any = arrow_csv.CSVWriter if path.suffix == ".csv" else parquet.ParquetWriter
  with writer(path, schema) as out:
    for block in _blocks(rows):
      out.write_table(pa.table([pa.array(column) for column in block.T.copy()], schema=schema))


def _write_npy(file: BinaryIO, rows: int) -> None:
  header = {"descr": "<f4", "fortran_order": False, "shape": (rows, FEATURES)}
  np.lib.format.write_array_header_1_0(file, header)
  for block in _blocks(rows):
    file.write(block.tobytes())


def _blocks(rows: int) -> Iterator[np.ndarray]:
  rng = np.random.default_rng(rows)
  for start in range(0, rows, BLOCK):
    yield rng.normal(size=(min(BLOCK, rows - start), FEATURES)).astype(np.float32)
