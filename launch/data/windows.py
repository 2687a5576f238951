"""A long series cut into windows: records ``[window, channels]``."""

from collections.abc import Iterable, Iterator
import dataclasses
import pathlib
from typing import Any, ClassVar

import numpy as np

from detector_jax import cells, table
from detector_jax.table import unfit
from launch.data.files import read_table
from launch.data.formats import DataError
from launch.data.formats.reader import Fault, Piece
from launch.data.source import Source
from launch.data.splits import Splits

BLOCKS = 20  # stretches of the training series of which some are held out whole
FOLDS = 5
ENOUGH = 1000  # windows side by side of which a fifth, held out, says enough of the scores


@dataclasses.dataclass(kw_only=True)
class Windows(Source):
  """Windows of a long series; those of a clean stretch are typical.

  A window of the test series is anomalous where any of its steps is. Windows that set the threshold
  share no step with those that trained what scores them: they are of another stretch of the
  training series.

  Attributes:
    train: .csv, .parquet or .npy of ``[time, channels]``, clean.
    test: likewise, to test on; empty: none.
    label: column of the labels, 1 = anomalous step; one of the series must have it, and training
      windows with such a step are left out. Empty: none.
    time: column to leave out, of numbers such as seconds or of ISO 8601 times; it must rise in
      equal steps. Empty: none.
    window: steps of a window, >= 2.
    stride: steps between windows, in the mean for those that train, see ``starts``; 0 takes a
      quarter of a window.
    folds: stretches of the training series, each of which is scored for the threshold by a detector
      that trained on the others; what is kept has trained on all. 0 trains once, and holds some of
      20 stretches out. None takes 5 where fewer than 1,000 windows fit side by side: held-out
      windows overlap, and those of one stretch tell little of the next.
  """

  names: ClassVar[tuple[str, ...]] = ("windows",)

  name: str = "windows"
  train: str = ""
  test: str = ""
  label: str = ""
  time: str = ""
  window: int = 64
  stride: int = 0
  folds: int | None = None

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
    if self.folds is not None and (self.folds < 0 or self.folds == 1):
      raise DataError(f"folds must be 0 or at least 2, got {self.folds}.")
    series, dirty, names = self._series(self.train, required=not self.test)
    first = starts(len(series), self.window, self.step, self.seed)
    x = _windows(series, self.window, first, self.train)
    inside, facts = self._stretches(len(series), first)
    if dirty is not None:
      inside &= ~_windows(dirty[:, None], self.window, first, self.train).any(axis=(1, 2))
    if not inside.any():
      raise DataError(f"{self.train} leaves no window to train on: give a longer clean stretch.")
    facts = {name: values[inside] for name, values in facts.items()}
    name = pathlib.Path(self.train).name
    described = (
      f"{name}, windows of {self.window}, {self.step} steps apart in the mean, of which "
      f"{len(series) // self.window} fit side by side"
    )
    if not self.test:
      return Splits(x[inside], feature_names=names, description=described, **facts)
    tested, labels, _ = self._series(self.test, required=dirty is None, channels=names)
    x_test = cut(tested, self.window, self.step, self.test)
    y_test = None
    if labels is not None:
      y_test = cut(labels[:, None], self.window, self.step, self.test).max(axis=(1, 2))
      y_test = y_test.astype(np.int64)
    return Splits(x[inside], x_test, y_test, names, description=described, **facts)

  def _stretches(self, steps: int, first: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Which windows may train, bool ``[windows]``, and in which stretches they lie."""
    side_by_side = steps // self.window
    folds = self.folds
    if folds is None:
      folds = FOLDS if side_by_side < ENOUGH else 0
    if folds and side_by_side < folds:
      raise DataError(
        f"{self.train} has {steps} steps, fewer than {folds} windows of {self.window} side by "
        "side: give a longer series, or set window."
      )
    if folds:
      ends = np.stack([first, first + self.window - 1], axis=1)
      return np.ones(len(first), bool), {"stretches": ends * folds // steps}
    length = max(2 * self.window, -(-steps // BLOCKS))
    block = first // length
    return block == (first + self.window - 1) // length, {"groups": block}

  def _series(
    self, path: str, required: bool, channels: tuple[str, ...] | None = None
  ) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None]:
    """The series ``[time, channels]`` of a file, the labels of its steps, and its channels."""
    if pathlib.Path(path).expanduser().is_dir():
      raise DataError(f"{path} is a folder; a series is one file.")
    found = read_table(
      path,
      self.label or None,
      label_required=required,
      group=self.time or None,
      role="time",
      trained=channels,
    )
    if found.x.ndim != 2:
      raise DataError(f"{path} has shape {list(found.x.shape)}; a series is [time, channels].")
    if found.groups is not None:
      _check_even(path, self.time, found.groups)
    return found.x, found.labels, found.names if found.named else None


def cut(x: np.ndarray, window: int, stride: int, path: str) -> np.ndarray:
  """Windows ``[n, window, channels]`` of a series ``[time, channels]``, ``stride`` steps apart.

  Raises:
    DataError: it is shorter than a window.
  """
  return _windows(x, window, slice(None, None, stride), path)


def starts(steps: int, window: int, stride: int, seed: int = 0) -> np.ndarray:
  """First steps of the windows that train: that of the series, then a random one of each stride.

  At equal distances they would meet a series that repeats itself (a day, a turn) at the same few
  of its phases again and again, and so would those that set the threshold, while the next stream
  begins at another. Any rule for the distances does so with some period.
  """
  first = np.arange(0, max(1, steps - window + 1), stride)
  first[1:] += np.random.default_rng(seed).integers(stride, size=len(first) - 1)
  return first[first <= max(0, steps - window)]


def _windows(x: np.ndarray, window: int, which: slice | np.ndarray, path: str) -> np.ndarray:
  """Windows ``[n, window, channels]`` of a series ``[time, channels]``, by their first steps."""
  if len(x) < window:
    raise DataError(f"{path} has {len(x)} steps, fewer than a window of {window}; set window.")
  views = np.lib.stride_tricks.sliding_window_view(x, window, axis=0)[which]
  return np.array(views.swapaxes(1, 2), order="C")


def _check_even(path: str, name: str, values: np.ndarray) -> None:
  """Raises a DataError where time does not rise in equal steps."""
  time = seconds_of_times(values)
  if (wrong := np.isnan(time)).any():
    row = int(wrong.argmax())
    said = f"holds {str(values[row])[:40]!r} in record {row}, no number or ISO 8601 time: repair it"
  elif (found := jumps(np.diff(time)))[0].any():
    row = int(found[0].argmax())
    before, after = (f"{t:g}" if isinstance(t, float) else t for t in values[row : row + 2])
    said = (
      f"goes from {before} to {after} after record {row} where others are {found[1]:g} apart: fill "
      "the gap, or cut the series there"
    )
    if (time[1:] < time[:-1]).mean() > 0.5:
      said = f"falls, from {before} to {after} after record {row}: sort the records by it"
  else:
    return
  raise DataError(f"Column {name!r} of {path} {said}.")


def seconds_of_times(values: Iterable[Any]) -> np.ndarray:
  """Times as numbers: as they are, or seconds since 1970; NaN where a value is neither."""
  numbers = ((table.number(str(value)), value) for value in values)
  return np.array([cells.seconds_of(v) if np.isnan(n) else n for n, v in numbers], np.float64)


def jumps(steps: np.ndarray, usual: float | None = None) -> tuple[np.ndarray, float | None]:
  """Which steps of time are not the usual one, and the usual one: what most of them are."""
  if usual is None and len(steps):
    usual = float(np.nanmedian(steps)) if not np.isnan(steps).all() else None
  if usual is None:
    return np.isnan(steps), None
  return ~np.isclose(steps, usual, rtol=1e-3) | (steps <= 0), usual


def whole_pieces(pieces: Iterable[Piece], shape: tuple[int, ...], name: str) -> Iterator[Piece]:
  """The same pieces, which hold records of a shape, and no long series to be cut into them.

  Raises:
    DataError: it is one.
  """
  for piece in pieces:
    if len(shape) == 2 and piece.x.ndim == 2 and piece.x.shape[1] == shape[1]:
      raise DataError(
        f"{name} is a long series, and the detector scores windows of {shape[0]} steps: say how "
        f"many steps apart, such as --stride={max(1, shape[0] // 4)}."
      )
    yield piece


def window_pieces(
  pieces: Iterable[Piece], window: int, stride: int, name: str, time: str = ""
) -> Iterator[Piece]:
  """Windows of a series that is read in pieces of steps.

  A window with a bad step is bad, and so is one over which time jumps.

  Args:
    pieces: of steps ``[n, channels]``; their groups, where they have some, are times.
    window: steps of a window.
    stride: steps between windows.
    name: of the input, for messages.
    time: name of the column of times.

  Raises:
    DataError: the series is shorter than a window.
  """
  held, first, number, skipped = np.zeros((0, 0)), 0, 0, 0
  for piece in _with_jumps(pieces, name):
    steps, skipped = piece.x[skipped:], max(0, skipped - len(piece.x))
    held = np.concatenate([held, steps]) if held.size else steps
    if len(held) < window:
      continue
    count = (len(held) - window) // stride + 1
    x = cut(held[: (count - 1) * stride + window], window, stride, name)
    jump = x[:, 1:, -1] > 0.0
    x = x[..., :-1]
    x[jump.any(axis=1)] = np.nan

    def fault(row: int, x: np.ndarray = x, jump: np.ndarray = jump, first: int = first) -> Fault:
      start = first + row * stride
      if jump[row].any():
        step = start + 1 + int(jump[row].argmax())
        return Fault(f"step {step}", f"does not follow the one before it in column {time!r}")
      step = start + int(np.argwhere(unfit(x[row]))[0, 0])
      return Fault(f"step {step}", "holds no number in a channel")

    yield Piece(x, number, piece.done, name, fault)
    skipped = max(0, count * stride - len(held))  # of the next pieces, where a stride leaves gaps
    held, first, number = held[count * stride :], first + count * stride, number + count
  if not number:
    raise DataError(f"{name} has fewer steps than a window of {window}.")


def _with_jumps(pieces: Iterable[Piece], name: str) -> Iterator[Piece]:
  """The pieces with one more channel: 1 where time jumps from the step before, else 0."""
  last, usual = np.zeros(0), None
  for piece in pieces:
    if piece.x.ndim != 2:
      raise DataError(
        f"{name} has records of {piece.x.ndim - 1} axes; a series is [time, channels]."
      )
    jump = np.zeros(len(piece.x))
    if piece.groups is not None:
      seconds = np.concatenate([last, seconds_of_times(piece.groups)])
      wrong, usual = jumps(np.diff(seconds), usual)
      jump[len(jump) - len(wrong) :] = wrong
      last = seconds[-1:]
    yield dataclasses.replace(piece, x=np.column_stack([piece.x, jump]))
