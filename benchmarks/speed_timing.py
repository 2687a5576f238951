"""What the cases of the speed benchmark share: interleaved runs, their record, and the floor."""

from collections.abc import Callable, Mapping, Sequence
import statistics
import time

import jax
import jax.numpy as jnp

from benchmarks.records import SpeedRecord
from launch.reporting import progress

RATE_PEER = "matrix products at the measured rate"


def interleaved(
  name: str, sides: Mapping[str, Callable[[], object]], runs: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
  """Runs every side once, then all of them in turn ``runs`` times.

  Args:
    name: shown beside the progress.
    sides: name -> function that returns when its work is done. The first call compiles.
    runs: >= 1.

  Returns:
    Name -> seconds of each run but the first; and likewise the processor's seconds, of all threads
    of this process, to which other work on the machine adds less.
  """
  seconds: dict[str, list[float]] = {side: [] for side in sides}
  processor: dict[str, list[float]] = {side: [] for side in sides}
  with progress.bar(f"{name}, runs", runs + 1) as advance:
    for run in range(runs + 1):
      for side, work in sides.items():
        start, used = time.perf_counter(), time.process_time()
        work()
        if run:
          seconds[side].append(time.perf_counter() - start)
          processor[side].append(time.process_time() - used)
      advance(1, ", ".join(f"{side} {each[-1]:.2f} s" for side, each in seconds.items() if each))
  return seconds, processor


def record(
  case: str, peer: str, mine: Sequence[float], theirs: Sequence[float], floor: float
) -> SpeedRecord:
  """The record of interleaved runs.

  Args:
    case: what was timed.
    peer: who is compared with.
    mine: seconds of our runs.
    theirs: seconds of the peer's, in the same order.
    floor: seconds that the arithmetic alone would take.
  """
  ratio = statistics.median(t / m for m, t in zip(mine, theirs, strict=True))
  return SpeedRecord(
    case=case,
    ours_seconds=rounded(statistics.median(mine)),
    peer=peer,
    peer_seconds=rounded(statistics.median(theirs)),
    ratio=rounded(ratio, 3),
    floor_seconds=rounded(floor),
  )


def pairs(seconds: Mapping[str, Sequence[float]]) -> list[list[float]]:
  """What each round took, side by side in the order of the sides."""
  return [[rounded(each) for each in turn] for turn in zip(*seconds.values(), strict=True)]


def rounded(value: float, digits: int = 4) -> float:
  """``value`` with so many significant digits."""
  return float(f"{value:.{digits}g}")


def matrix_product_rate(
  size: int = 0, runs: int = 5, dtype: jax.typing.DTypeLike = jnp.float32
) -> float:
  """Operations per second of a large matrix product, the best of a few.

  Args:
    size: of the square matrices; 0 takes 2048 on a CPU and 8192 on an accelerator.
    runs: timed after one that compiles.
    dtype: of both matrices and of the product.
  """
  size = size or (2048 if jax.default_backend() == "cpu" else 8192)
  matrix = jnp.ones((size, size), dtype)
  product = jax.jit(jnp.dot)
  product(matrix, matrix).block_until_ready()
  seconds = []
  for _ in range(runs):
    start = time.perf_counter()
    product(matrix, matrix).block_until_ready()
    seconds.append(time.perf_counter() - start)
  return 2.0 * size**3 / min(seconds)
