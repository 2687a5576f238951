"""What a detector costs beside the records it was trained on: --case=neighbours.

``DROCC()`` against five nearest neighbours, both trained on more and more standard-normal records
of 20 features: seconds to score 10,000 others, and bytes on disk.
"""

import pathlib
import pickle
import tempfile
from typing import Any

import numpy as np

from benchmarks import speed_timing
from benchmarks.baselines import nearest_neighbour
from benchmarks.records import SpeedRecord
from drocc_jax import DROCC

CASES = ("neighbours",)
FEATURES, SCORED, NEIGHBOURS = 20, 10_000, 5
TRAINED = (1_000, 10_000, 100_000)


def measure(case: str, runs: int, rate: float) -> tuple[list[SpeedRecord], dict[str, Any]]:
  """Scoring with either, trained on each number of records.

  Args:
    case: one of ``CASES``.
    runs: interleaved runs of both sides.
    rate: unused, for its peers' sake; there is no floor.

  Returns:
    A record per number of training records, and as facts the bytes of either on disk.
  """
  del case, rate
  records, sizes = [], {}
  for trained in TRAINED:
    record, sizes[str(trained)] = compare(trained, runs)
    records.append(record)
  return records, {"bytes": sizes}


def compare(
  trained: int, runs: int, scored: int = SCORED, **settings: Any
) -> tuple[SpeedRecord, dict[str, int]]:
  """Both sides on ``trained`` records; ``settings`` are DROCC's."""
  rng = np.random.default_rng(trained)
  x = rng.normal(size=(trained, FEATURES)).astype(np.float32)
  z = rng.normal(size=(scored, FEATURES)).astype(np.float32)
  detector = DROCC(random_state=0, **settings).fit(x).detector_
  neighbours = nearest_neighbour.make(0, NEIGHBOURS).fit(x)
  sides = {"ours": lambda: detector.score(z), "neighbours": lambda: neighbours.score(z)}
  seconds, _ = speed_timing.interleaved(f"{trained:,} records", sides, runs)
  with tempfile.TemporaryDirectory() as folder:
    detector.save(pathlib.Path(folder) / "detector")
    size = sum(p.stat().st_size for p in (pathlib.Path(folder) / "detector").iterdir())
  case = f"score {scored:,} records, trained on {trained:,}"
  peer = f"{NEIGHBOURS} nearest neighbours"
  record = speed_timing.record(case, peer, seconds["ours"], seconds["neighbours"], 0.0)
  return record, {"ours": size, "neighbours": len(pickle.dumps(neighbours))}
