"""Requests that arrive together are scored in one call, each as if it were alone."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import logging
import time
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

Told = dict[str, Any]


class BusyError(Exception):
  """Too many records wait already, or no more are taken."""


@dataclasses.dataclass(eq=False)
class _Waiting:
  """Records ``[k, ...]`` that wait, k >= 1; ``told`` is what will be said of them."""

  x: np.ndarray
  arrived: float
  told: asyncio.Future[Told]


class Batcher:
  """Scores what waits, in the order in which it came, in a thread of its own.

  A call begins when ``max_batch`` records wait or the first of them has waited ``max_wait``
  seconds, and takes whole requests, as many as fit; one that is larger has a call to itself. A
  request so waits at most ``max_wait`` and for the records ahead of it, at most ``max_waiting``.

  Args:
    score: what is said of records ``[n, ...]`` by name ``[n]``.
    watch: is given the same after those who asked have it; returns when it has seen it.
    max_batch: records in one call.
    max_wait: seconds.
    max_waiting: records.

  Attributes:
    waiting: records that wait.
  """

  def __init__(
    self,
    score: Callable[[np.ndarray], Told],
    watch: Callable[[Sequence[Told]], None],
    *,
    max_batch: int,
    max_wait: float,
    max_waiting: int,
  ):
    self._score, self._watch = score, watch
    self._max_batch, self._max_wait, self._max_waiting = max_batch, max_wait, max_waiting
    self.waiting = 0
    self._queue: deque[_Waiting] = deque()
    self._came, self._closing = asyncio.Event(), False

  async def told(self, x: np.ndarray) -> Told:
    """What is said of records ``[k, ...]``, k >= 1.

    Raises:
      BusyError: there are too many ahead of them.
      ValueError: as ``score``, of these records alone.
    """
    if self._closing or (self.waiting and self.waiting + len(x) > self._max_waiting):
      raise BusyError
    one = _Waiting(x, time.monotonic(), asyncio.get_running_loop().create_future())
    self._queue.append(one)
    self.waiting += len(x)
    self._came.set()
    return await one.told

  def hurry(self) -> None:
    """From now on no request waits for others."""
    self._max_wait = 0.0
    self._came.set()

  def close(self) -> None:
    """What waits is scored at once, and then ``run`` ends."""
    self._closing = True
    self._came.set()

  async def run(self) -> None:
    """Scores until ``close``."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "score") as thread:
      while batch := await self._next():
        results = await loop.run_in_executor(thread, self._together, [one.x for one in batch])
        good = []
        for one, result in zip(batch, results, strict=True):
          if isinstance(result, dict):
            good.append(result)
          if one.told.done():  # whoever asked was cancelled
            continue
          if isinstance(result, dict):
            one.told.set_result(result)
          else:
            one.told.set_exception(result)
        try:
          await loop.run_in_executor(thread, self._watch, good)
        except Exception:
          logger.exception("What was scored could not be watched.")

  async def _next(self) -> list[_Waiting]:
    """The requests of the next call; none at the end."""
    while not self._queue and not self._closing:
      self._came.clear()
      await self._came.wait()
    if not self._queue:
      return []
    while self.waiting < self._max_batch and not self._closing:
      left = self._queue[0].arrived + self._max_wait - time.monotonic()
      if left <= 0.0:
        break
      self._came.clear()
      with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(self._came.wait(), left)
    batch: list[_Waiting] = []
    records = 0
    while self._queue and (not batch or records + len(self._queue[0].x) <= self._max_batch):
      batch.append(self._queue.popleft())
      records += len(batch[-1].x)
    self.waiting -= records
    return batch

  def _together(self, parts: Sequence[np.ndarray]) -> list[Told | Exception]:
    """What is said of the records of each request, or why nothing can be."""
    try:
      told = self._score(parts[0] if len(parts) == 1 else np.concatenate(parts))
    except Exception as error:
      if len(parts) == 1:
        return [error]
      return [self._together([x])[0] for x in parts]  # the others are not hurt by one
    ends = np.cumsum([len(x) for x in parts])[:-1]
    split = {name: np.split(values, ends) for name, values in told.items()}
    return [{name: split[name][i] for name in split} for i in range(len(parts))]
