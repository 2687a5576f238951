"""A long series cut into windows: records ``[window, channels]``."""

from collections.abc import Iterable, Iterator
import dataclasses
import pathlib
from typing import ClassVar

import numpy as np

from launch.data.columns import DataError
from launch.data.files import read_table
from launch.data.pieces import Piece, unfit
from launch.data.source import Source
from launch.data.splits import Splits

BLOCKS = 20  # stretches of the training series of which some are held out whole


@dataclasses.dataclass(kw_only=True)
class Windows(Source):
  """Windows of a long series; those of a clean stretch are typical.

  A window of the test series is anomalous where any of its steps is. Training and held-out windows
  share no step: they are of different stretches of the training series.

  Attributes:
    train: .csv, .parquet or .npy of ``[time, channels]``, clean.
    test: likewise, to test on; empty: none.
    label: column of the labels, 1 = anomalous step; one of the series must have it, and training
      windows with such a step are left out. Empty: none.
    time: column of numbers to leave out, such as seconds; it must rise in equal steps. Empty: none.
    window: steps of a window, >= 2.
    stride: steps between windows; 0 takes a quarter of a window.
  """

  names: ClassVar[tuple[str, ...]] = ("windows",)

  name: str = "windows"
  train: str = ""
  test: str = ""
  label: str = ""
  time: str = ""
  window: int = 64
  stride: int = 0

  @property
  def is_tested(self) -> bool:
    """Whether there is a test series."""
    return bool(self.test)

  @property
  def step(self) -> int:
    """Steps between windows."""
    return self.stride or max(1, self.window // 4)

  def read(self) -> Splits:
    """Reads and cuts both series.

    Raises:
      DataError: a file or setting that cannot be used, a time column that jumps, or a series
        shorter than a window.
    """
    if not self.train:
      raise DataError("The data set 'windows' needs a series to train on: set train.")
    if self.window < 2 or self.stride < 0:
      raise DataError(f"window must be >= 2 and stride >= 0, got {self.window} and {self.stride}.")
    series, dirty, names = self._series(self.train, required=not self.test)
    x = cut(series, self.window, self.step, self.train)
    first = np.arange(len(x)) * self.step
    length = max(2 * self.window, -(-len(series) // BLOCKS))
    block = first // length
    inside = block == (first + self.window - 1) // length
    if dirty is not None:
      inside &= ~cut(dirty[:, None], self.window, self.step, self.train).any(axis=(1, 2))
    if not inside.any():
      raise DataError(f"{self.train} leaves no window to train on: give a longer clean stretch.")
    described = f"{pathlib.Path(self.train).name}, windows of {self.window} every {self.step} steps"
    groups = block[inside]
    if not self.test:
      return Splits(x[inside], feature_names=names, description=described, groups=groups)
    tested, labels, _ = self._series(self.test, required=dirty is None, channels=names)
    x_test = cut(tested, self.window, self.step, self.test)
    y_test = None
    if labels is not None:
      y_test = cut(labels[:, None], self.window, self.step, self.test).max(axis=(1, 2))
      y_test = y_test.astype(np.int64)
    return Splits(x[inside], x_test, y_test, names, description=described, groups=groups)

  def _series(
    self, path: str, required: bool, channels: tuple[str, ...] | None = None
  ) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None]:
    """The series ``[time, channels]`` of a file, the labels of its steps, and its channels."""
    trained = None if channels is None else (*([self.time] if self.time else []), *channels)
    table = read_table(path, self.label or None, label_required=required, trained=trained)
    x = table.x if table.x.ndim > 1 else table.x[:, None]
    if x.ndim != 2:
      raise DataError(f"{path} has shape {list(x.shape)}; a series is [time, channels].")
    names = list(table.names or ())
    if self.time:
      if self.time not in names:
        raise DataError(f"{path} has no time column {self.time!r}; it has {', '.join(names)}.")
      place = names.index(self.time)
      _check_even(path, self.time, x[:, place])
      x = np.delete(x, place, axis=1)
      names.remove(self.time)
    return x, table.labels, tuple(names) if table.named else None


def cut(x: np.ndarray, window: int, stride: int, path: str) -> np.ndarray:
  """Windows ``[n, window, channels]`` of a series ``[time, channels]``.

  Raises:
    DataError: it is shorter than a window.
  """
  if len(x) < window:
    raise DataError(f"{path} has {len(x)} steps, fewer than a window of {window}; set window.")
  views = np.lib.stride_tricks.sliding_window_view(x, window, axis=0)[::stride]
  return np.ascontiguousarray(views.swapaxes(1, 2))


def _check_even(path: str, name: str, time: np.ndarray) -> None:
  """Raises a DataError where time does not rise in equal steps."""
  steps = np.diff(time)
  usual = np.median(steps) if len(steps) else 1.0
  wrong = ~np.isclose(steps, usual, rtol=1e-3) | (steps <= 0)
  if wrong.any():
    row = int(wrong.argmax())
    raise DataError(
      f"Column {name!r} of {path} goes from {time[row]:g} to {time[row + 1]:g} after record {row} "
      f"where others are {usual:g} apart: fill the gap, or cut the series there."
    )


def window_pieces(pieces: Iterable[Piece], window: int, stride: int, name: str) -> Iterator[Piece]:
  """Windows of a series that is read in pieces of steps; a window with a bad step is bad.

  Args:
    pieces: of steps ``[n, channels]``.
    window: steps of a window.
    stride: steps between windows.
    name: of the input, for messages.

  Raises:
    DataError: the series is shorter than a window.
  """
  held, first, number, skipped = np.zeros((0, 0)), 0, 0, 0
  for piece in pieces:
    steps, skipped = np.asarray(piece.x)[skipped:], max(0, skipped - len(piece.x))
    held = np.concatenate([held, steps]) if held.size else steps
    if len(held) < window:
      continue
    count = (len(held) - window) // stride + 1
    x = cut(held[: (count - 1) * stride + window], window, stride, name)

    def explain(row: int, x: np.ndarray = x, first: int = first) -> str:
      place = np.argwhere(unfit(x[row]))[0].tolist()
      return f"step {first + row * stride + place[0]} of {name} holds no number in a channel"

    yield Piece(x, number, piece.done, explain)
    skipped = max(0, count * stride - len(held))  # of the next pieces, where a stride leaves gaps
    held, first, number = held[count * stride :], first + count * stride, number + count
  if not number:
    raise DataError(f"{name} has fewer steps than a window of {window}.")
