"""Scores of the time steps of a series, from those of the windows that hold them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from launch.data.scoring import ScoreWriter


class StepWriter(ScoreWriter):
  """As ``ScoreWriter``; takes windows in their order and writes a row for each time step.

  A step has the mean score of the windows that hold it and have one; none where no window does.
  The decision is that of the mean at the threshold of the windows, whose rate is stated; no rate
  is stated of steps.

  Args:
    path: the file.
    threshold: of the decisions.
  """

  def __init__(self, path: Any, threshold: float):
    super().__init__(path)
    self._threshold = np.float32(threshold)
    self._start = 0  # of what is held
    self._sums, self._counts = np.zeros(0), np.zeros(0, np.int64)

  def write(self, columns: Mapping[str, Any]) -> None:
    """Takes windows: ``first``, ``last`` and ``score`` ``[n]``, ``first`` in ascending order."""
    first, last = np.asarray(columns["first"]), np.asarray(columns["last"])
    if not len(first):
      return
    self._hold(int(last[-1]) + 1)
    for a, b, score in zip(first - self._start, last - self._start, columns["score"], strict=True):
      if score is not np.ma.masked:
        self._sums[a : b + 1] += score
        self._counts[a : b + 1] += 1
    self._write(int(first[-1]))

  def finish(self, steps: int) -> None:
    """Writes the steps that are left, of ``steps`` in all; no window comes any more."""
    self._hold(steps)
    self._write(self._start + len(self._sums))

  def _hold(self, end: int) -> None:
    more = max(0, end - self._start - len(self._sums))
    self._sums = np.concatenate([self._sums, np.zeros(more)])
    self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)])

  def _write(self, end: int) -> None:
    """Writes the steps before ``end``, which no later window holds."""
    count = end - self._start
    if not count:
      return
    sums, counts = self._sums[:count], self._counts[:count]
    mean = np.ma.masked_array(sums / np.maximum(counts, 1), counts == 0)
    flagged = np.ma.masked_array((mean.data > self._threshold).astype(np.int64), counts == 0)
    step = np.arange(self._start, end)
    super().write({"step": step, "score": mean.astype(np.float32), "decision": flagged})
    self._start, self._sums, self._counts = end, self._sums[count:], self._counts[count:]
