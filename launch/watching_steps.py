"""Watches a series step by step with a detector of windows."""

import collections
import logging
from typing import Any

import numpy as np

import detector_jax
from launch.data.windows import jumps, seconds_of_times
from launch.watching import Watcher, parsed

logger = logging.getLogger(__name__)

RECENT = 101  # steps of time whose median is the usual one


class StepWatcher(Watcher):
  """As ``Watcher``, of lines that are time steps: the last ones are the window that is scored.

  The monitor sees windows that share no step, since overlapping ones resemble one another and would
  count as evidence again and again. A line that cannot be read ends the window: the next one begins
  after it; and so does one whose time does not follow that of the line before by the usual step,
  the median of the last ones, with which the next window begins. What is held of a window is no
  part of the saved state.

  Args:
    detector: calibrated, of records ``[window, channels]``.
    stride: lines between windows, >= 1.
    time: name of the times in a line, numbers or ISO 8601; empty where lines are even in time.
    **settings: of ``Watcher``.

  Raises:
    ValueError: as ``Watcher``; or the detector's records are no windows.
  """

  def __init__(
    self, detector: detector_jax.Detector, *, stride: int = 1, time: str = "", **settings: Any
  ):
    if len(detector.input_shape) != 2:
      raise ValueError(
        f"--window is for detectors of windows of a series; records are {detector.input_shape}."
      )
    super().__init__(detector, **settings)
    self._window, *channels = detector.input_shape
    self._shape = tuple(channels)
    self._stride = stride
    self._held = collections.deque[np.ndarray](maxlen=self._window)
    self._wait, self._apart = 0, 0  # lines until the next window; to the next that shares no step
    self._time, self._before = time, np.nan
    self._steps = collections.deque[float](maxlen=RECENT)

  def take(self, line: bytes | str) -> dict[str, Any] | None:
    """Takes one step and scores the window that it ends, if it ends one.

    Args:
      line: JSON, a list of the channels, or an object: name -> number.

    Returns:
      As ``Watcher.take``, or None.

    Raises:
      ValueError: as there.
    """
    self._apart = max(0, self._apart - 1)
    try:
      values = parsed(line)
      if self._time and self._jumped(values):
        self._begin_anew()
      self._held.append(self._record(values))
    except ValueError:
      self._begin_anew()
      raise
    self._wait = max(0, self._wait - 1)
    if len(self._held) < self._window or self._wait:
      return None
    self._wait, seen = self._stride, not self._apart
    if seen:
      self._apart = self._window
    return self._verdict(np.stack(self._held), seen)

  def _begin_anew(self) -> None:
    self._held.clear()
    self._wait = 0

  def _jumped(self, values: Any) -> bool:
    """Takes the time out of a line, and says whether it does not follow that of the line before."""
    if not isinstance(values, dict) or self._time not in values:
      raise ValueError(f"has no {self._time!r}, which --time names")
    told, before = values.pop(self._time), self._before
    (self._before,) = seconds_of_times([told]).tolist()
    if np.isnan(self._before):
      raise ValueError(f"has {str(told)[:40]!r} in {self._time!r}, no number or ISO 8601 time")
    if np.isnan(before):  # the first line, or after one that has no time
      return False
    step = self._before - before
    self._steps.append(step)
    (jumped,), usual = jumps(np.array([step]), float(np.median(self._steps)))
    if jumped:
      logger.warning("Time goes on by %g where %g is usual: a new window begins.", step, usual)
    return bool(jumped)
