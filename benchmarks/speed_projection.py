"""DROCC-LF's projection, all examples at once, against the released method: one after the other.

The peers follow the released code in NumPy: a Python loop over the examples of a batch, and for
each 40 random values of tau, of which the feasible one that moves least is kept (the last one,
where none is feasible). One tries the values one after the other, as the released code does; the
other is kinder and tries an example's 40 at once.
"""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import records
from drocc_jax import projections
from launch.reporting import progress

CASES = ("projection",)
PEERS = {"released method, each tau": 1, "released method, 40 tau at once": 40}
EXAMPLES, COORDINATES, RADIUS, GAMMA, POINTS = 256, 784, 16.0, 2.0, 40


def cases(seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Displacements and weights ``[256, 784]``: too near, between and too far."""
  rng = np.random.default_rng(seed)
  delta = rng.normal(size=(EXAMPLES, COORDINATES)) * np.resize([0.2, 1.0, 2.0], (EXAMPLES, 1))
  sigma = rng.exponential(size=(EXAMPLES, COORDINATES))
  sigma /= sigma.mean(axis=1, keepdims=True)
  return delta.astype(np.float32), sigma.astype(np.float32)


def released(
  delta: np.ndarray, sigma: np.ndarray, rng: np.random.Generator, at_once: int = 1
) -> np.ndarray:
  """The released method on a batch ``[n, d]``, with ``at_once`` values of tau in one operation.

  Its result may be off the shell.
  """
  projected = delta.copy()
  for row, (one, weights) in enumerate(zip(delta, sigma, strict=True)):
    length = np.sqrt(np.sum(weights * one**2))
    if RADIUS <= length <= GAMMA * RADIUS:
      continue
    least = np.inf
    for draws in np.split(rng.random((POINTS, 1), np.float32), POINTS // at_once):
      if length < RADIUS:
        tau = -draws / weights.max()
      else:
        share = GAMMA * RADIUS / length
        tau = 1.0 / (draws * share / (1.0 - share) * weights.max())
      moved = one / (1.0 + tau * weights)
      lengths = np.sqrt(np.sum(weights * moved**2, axis=1))
      feasible = lengths >= RADIUS if length < RADIUS else lengths <= GAMMA * RADIUS
      ways = np.where(feasible, np.sum((moved - one) ** 2, axis=1), np.inf)
      if ways.min() < least or least == np.inf:
        least, projected[row] = ways.min(), moved[np.argmin(ways) if feasible.any() else -1]
  return projected


def measure(runs: int) -> tuple[list[records.SpeedRecord], dict[str, Any]]:
  """Times both on the same cases; returns the record and further facts."""
  delta, sigma = cases(0)
  ours = jax.jit(jax.vmap(lambda d, s: projections.project_weighted_shell(d, s, RADIUS, GAMMA)))
  arrays = jnp.asarray(delta), jnp.asarray(sigma)
  mine = np.asarray(ours(*arrays))
  rng, seconds, theirs = np.random.default_rng(1), [], mine
  with progress.bar("projection, rounds", runs) as advance:
    for _ in range(runs):
      times = [time.perf_counter()]
      ours(*arrays).block_until_ready()
      times.append(time.perf_counter())
      for at_once in PEERS.values():
        theirs = released(delta, sigma, rng, at_once)
        times.append(time.perf_counter())
      seconds.append(np.diff(times))
      advance(1, "")
  measured = [
    records.SpeedRecord(
      case="projection",
      ours_seconds=round(statistics.median(each[0] for each in seconds), 5),
      peer=peer,
      peer_seconds=round(statistics.median(each[place] for each in seconds), 5),
      ratio=round(statistics.median(each[place] / each[0] for each in seconds), 1),
      floor_seconds=round(bytes_moved() / copy_rate(), 6),
    )
    for place, peer in enumerate(PEERS, start=1)
  ]
  return measured, {
    "off_the_shell": {"ours": off(mine, sigma), "released": off(theirs, sigma)},
    "mean_movement": {"ours": way(mine, delta), "released": way(theirs, delta)},
  }


def off(projected: np.ndarray, sigma: np.ndarray) -> int:
  """How many rows are off the shell by more than 1e-4 of its radius."""
  length = np.sqrt(np.sum(np.asarray(sigma * projected**2, np.float64), axis=1))
  return int(np.sum((length < RADIUS * (1 - 1e-4)) | (length > GAMMA * RADIUS * (1 + 1e-4))))


def way(projected: np.ndarray, delta: np.ndarray) -> float:
  """Mean Euclidean distance that the projection moved a row."""
  return round(float(np.mean(np.linalg.norm(projected - delta, axis=1))), 3)


def bytes_moved() -> float:
  """Both inputs read and the result written once."""
  return 3.0 * 4 * EXAMPLES * COORDINATES


def copy_rate(size: int = 2**26, runs: int = 5) -> float:
  """Bytes per second of a copy in memory, read and written, the best of a few."""
  source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
  seconds = []
  for _ in range(runs):
    start = time.perf_counter()
    np.copyto(target, source)
    seconds.append(time.perf_counter() - start)
  return 2.0 * size / min(seconds)
