"""Watches a series step by step with a detector of windows."""

import collections
from typing import Any

import numpy as np

import detector_jax
from launch.watching import Watcher, parsed


class StepWatcher(Watcher):
  """As ``Watcher``, of lines that are time steps: the last ones are the window that is scored.

  The monitor sees windows that share no step, since overlapping ones resemble one another and would
  count as evidence again and again. A line that cannot be read ends the window: the next one begins
  after it. What is held of a window is no part of the saved state.

  Args:
    detector: calibrated, of records ``[window, channels]``.
    stride: lines between windows, >= 1.
    **settings: of ``Watcher``.

  Raises:
    ValueError: as ``Watcher``; or the detector's records are no windows.
  """

  def __init__(self, detector: detector_jax.Detector, *, stride: int = 1, **settings: Any):
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
      self._held.append(self._record(parsed(line)))
    except ValueError:
      self._held.clear()
      self._wait = 0
      raise
    self._wait = max(0, self._wait - 1)
    if len(self._held) < self._window or self._wait:
      return None
    self._wait, seen = self._stride, not self._apart
    if seen:
      self._apart = self._window
    return self._verdict(np.stack(self._held), seen)
