"""Scores a stream record by record and watches it for drift."""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import sys
from typing import Any
import weakref

import numpy as np

import detector_jax
from detector_jax import atomic, cells, health, monitor, scorer, table
from detector_jax.calibration import conformal_threshold
from detector_jax.schema import Schema
from detector_jax.table import unfit
from detector_jax.unseen import Unseen
from launch import locking
from launch.watching_adapt import Follower

ON_BAD_ROW = scorer.ON_BAD_ROW
FALSE_ALARM_RATE = 0.01
SAVE_EVERY = 1000


@dataclasses.dataclass
class Tally:
  """What was met in a stream.

  Attributes:
    records: lines that were scored.
    anomalous: of them.
    bad: lines that could not be scored.
    first_bad: what is wrong with the first of them.
    alarm: the line at which the alarm was raised, 0 where it was raised in an earlier part of the
      stream, None where it was not.
  """

  records: int = 0
  anomalous: int = 0
  bad: int = 0
  first_bad: str = ""
  alarm: int | None = None


class Watcher:
  """A detector and a monitor behind one stream.

  Args:
    detector: calibrated.
    fpr: false-positive rate of the decision; None takes the detector's threshold.
    false_alarm_rate: of the monitor, in (0, 1); None takes that of the saved state, else 1 %.
    adapt: whom the threshold follows the stream by, see ``adaptation.LEARN_FROM``; None: nobody, it
      stays. The monitor goes on comparing with the calibration records.
    state: file of the state, read where it exists; None keeps none. It is locked, by a
      file beside it, as long as the process lives or until ``close``.

  Raises:
    ValueError: the detector is not calibrated, or not for that ``fpr``; or a state that is
      damaged, of another detector, calibration, ``false_alarm_rate`` or adaptation, or that
      another process keeps.
    OSError: the state's folder cannot be written.
  """

  def __init__(
    self,
    detector: detector_jax.Detector,
    *,
    fpr: float | None = None,
    false_alarm_rate: float | None = None,
    adapt: str | None = None,
    state: pathlib.Path | None = None,
  ):
    calibration = detector.calibration.scores
    rate = FALSE_ALARM_RATE if false_alarm_rate is None else false_alarm_rate
    self.monitor = monitor.Monitor(rate)
    self.state = self.monitor.init(calibration)
    self._detector = detector.with_batch_size(1)
    self._names, self._schema = detector.feature_names, detector.schema
    self._shape = detector.input_shape
    self._all_matched = False
    self._unseen = Unseen()
    self._threshold = np.float32(
      detector.threshold if fpr is None else conformal_threshold(calibration, fpr)
    )
    self.follower = None if adapt is None else Follower(detector, adapt, fpr)
    state = None if state is None else state.resolve()  # a link has the state of what it names
    self._path = state
    self._checksum = hashlib.sha256(calibration.astype("<f4").tobytes()).hexdigest()
    self._release: Callable[[], Any] = lambda: None
    if state is None:
      return
    if (lock := _locked(state)) is not None:
      self._release = weakref.finalize(self, os.close, lock)
    try:
      if state.exists():
        self._resume(state, false_alarm_rate)
    except BaseException:
      self.close()
      raise

  def close(self) -> None:
    """Lets the state go."""
    self._release()

  def findings(self) -> list[health.Finding]:
    """What the records held that training never had."""
    return self._unseen.findings()

  def told(self) -> dict[str, Any]:
    """What is said of a record that cannot be scored: nothing new."""
    threshold = {} if self.follower is None else {"threshold": None}
    unknown = {"score": None, "p_value": None, "decision": None, **threshold}
    return {**unknown, "log10_martingale": self._log10_martingale, "alarm": self.alarm}

  @property
  def _log10_martingale(self) -> float:
    capital = np.logaddexp.reduce(self.state.log_capital) - math.log(len(self.state.log_capital))
    return float(capital) / math.log(10.0)

  @property
  def alarm(self) -> bool:
    """Whether the monitor has raised its alarm."""
    return self.state.highest >= -math.log(self.monitor.false_alarm_rate)

  def take(self, line: bytes | str) -> dict[str, Any] | None:
    """Scores one record and lets the monitor see its score; None where it makes no record yet.

    Args:
      line: JSON, a list of numbers in the shape of a record, or an object: name -> number; of a
        detector with a schema name -> cell, as the table has them. With ``adapt="judged"``
        ``{"typical": record}`` gives back a record that was flagged and is typical.

    Returns:
      score (higher = more anomalous), p_value against the calibration records, decision (1 =
      anomalous), with ``adapt`` the threshold, None where it is infinite, log10_martingale and
      alarm.

    Raises:
      ValueError: the line is no such record, or one that the detector cannot score; the message
        goes on from the name of the line.
    """
    values = parsed(line)
    if self.follower is not None and (typical := self.follower.given_back(values)) is not None:
      self.follower.told(self._score(self._record(typical)))
      return None
    return self._verdict(self._record(values))

  def _score(self, x: np.ndarray) -> np.ndarray:
    try:
      return self._detector.score(x[None], warn=False)
    except ValueError as error:
      raise ValueError(f"cannot be scored: {str(error).rstrip('.')}") from error

  def _verdict(self, x: np.ndarray, seen: bool = True) -> dict[str, Any]:
    """What is said of a record; the monitor sees it where ``seen``."""
    score = self._score(x)
    self._unseen += self._detector.unseen(x[None])
    if seen:
      self.see(score)
    if self.follower is not None:
      told = self.follower.verdict(score)
    else:
      p_value = float(self._detector.calibration.p_value(score)[0])
      told = {"p_value": p_value, "decision": int(score[0] > self._threshold)}
    capital = {"log10_martingale": self._log10_martingale, "alarm": self.alarm}
    return {"score": float(score[0]), **told, **capital}

  def see(self, scores: np.ndarray) -> monitor.Reading:
    """Lets the monitor see scores ``[m]`` in the order of the stream."""
    self.state, reading = self.monitor.update(self.state, scores)
    return reading

  def save(self) -> None:
    """Writes the state, whole or not at all, where there is a file for it.

    Raises:
      OSError: it cannot be written; what was there is as it was.
    """
    if self._path is None:
      return
    saved = json.loads(self.monitor.dumps(self.state))
    content = {"calibration": self._checksum, "monitor": saved}
    if self.follower is not None:
      content["adaptation"] = self.follower.dumps()
    try:
      with atomic.written_beside(self._path) as temporary:
        temporary.write_text(json.dumps(content) + "\n")
    except OSError as error:
      raise OSError(
        f"The state cannot be written to {self._path}: {error.strerror}; what was there is as it "
        "was."
      ) from error

  def _resume(self, path: pathlib.Path, false_alarm_rate: float | None) -> None:
    try:
      content = json.loads(path.read_text())
      checksum, text = content["calibration"], json.dumps(content["monitor"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
      raise ValueError(f"{path} is no saved state of launch.watch, or damaged.") from error
    except OSError as error:
      raise OSError(f"The state cannot be read from {path}: {error.strerror}.") from error
    try:
      self.monitor, self.state = monitor.Monitor.loads(text)
      if self.follower is not None and "adaptation" in content:
        self.follower.loads(content["adaptation"])
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from error
    if checksum != self._checksum:
      raise ValueError(
        f"{path} is of another detector or calibration; name another file, or remove this one to "
        "start anew."
      )
    if ("adaptation" in content) != (self.follower is not None):
      kept = "with" if "adaptation" in content else "without"
      raise ValueError(f"{path} was kept {kept} --adapt; do the same, or name another file.")
    saved = self.monitor.false_alarm_rate
    if false_alarm_rate not in (None, saved):
      raise ValueError(
        f"{path} has a false-alarm rate of {saved:g}, not {false_alarm_rate:g}; leave the flag "
        "out, or name another file."
      )

  def _record(self, values: Any) -> np.ndarray:
    if isinstance(values, dict):
      if self._schema is not None and not set(self._schema.features) <= values.keys():
        return self._encoded(values, self._schema)
      values = self._by_name(values)
    try:
      x = np.asarray(values)
    except ValueError as error:
      raise ValueError("has lists of different lengths") from error
    if x.dtype.kind not in "iuf":
      raise ValueError("holds something that is no number")
    if x.shape != self._shape:
      raise ValueError(f"has shape {list(x.shape)} where the detector takes {list(self._shape)}")
    if unfit(x).any():
      raise ValueError("holds NaN, infinity or too large a number")
    return x

  def _by_name(self, values: dict[str, Any]) -> list[Any]:
    if not self._names:
      raise ValueError("is an object, and the detector knows no feature names: give a list")
    names = list(values)
    return [values[names[place]] for place in self._places(names, self._names)]

  def _places(self, names: Sequence[str], trained: Sequence[str]) -> list[int]:
    """Places of the columns that the detector was trained on; the others are told once."""
    try:
      places = table.match(names, trained, "the record", extra=not self._all_matched)
    except ValueError as error:
      raise ValueError(str(error).removeprefix("the record ").rstrip(".")) from error
    self._all_matched = True
    return places

  def _encoded(self, values: dict[str, Any], schema: Schema) -> np.ndarray:
    """A record as the user has it, as numbers ``[features]``."""
    left_out = {column.name for column in schema.columns if column.kind == "drop"}
    self._places([name for name in values if name not in left_out], schema.wanted)
    try:
      x = schema.encode({name: [values[name]] for name in schema.wanted})[0]
    except (TypeError, ValueError) as error:
      raise ValueError(f"cannot be scored: {table.reason_of(error)}") from error
    wrong = unfit(x)
    if wrong.any():
      name = schema.owners[int(wrong.argmax())]
      gap = bool(cells.missing_in(cells.read([values[name]]))[0])
      held = "nothing" if gap else f"{str(values[name])[:40]!r}"
      never = ", which training had never" if gap else ""
      raise ValueError(f"holds {held} in column {name!r}{never}")
    return x


def parsed(line: bytes | str) -> Any:
  """What a line of JSON says; a ValueError where it is none."""
  try:
    return json.loads(line)
  except (ValueError, RecursionError) as error:
    raise ValueError("is not JSON") from error


def _locked(state: pathlib.Path) -> int | None:
  """The open lock of a state."""
  try:
    state.parent.mkdir(parents=True, exist_ok=True)
    return locking.take(state.with_name(f".{state.name}.lock"), state)
  except locking.HeldError as error:
    raise ValueError(
      f"{state} is kept by another launch.watch or launch.serve, process {error.holder}: give each "
      "stream a --state of its own, or stop the other."
    ) from None
  except OSError as error:
    raise OSError(f"The state cannot be written to {state}: {error.strerror}.") from error


def watch(
  watcher: Watcher,
  lines: Iterable[bytes | str],
  write: Callable[[str], None],
  on_bad_row: str = "fail",
) -> Tally:
  """Says of every line of a stream what ``Watcher.take`` does; saves its state and lets it go.

  Ctrl-C and a reader that has gone away end it as the end of the stream does.

  Args:
    watcher: the detector and its monitor.
    lines: newline-delimited JSON; blank lines are left out.
    write: takes one line of JSON, with its number in the stream (from 1) as ``line``.
    on_bad_row: what becomes of a line that cannot be scored: "fail" raises, "skip" writes nothing,
      "nan" writes null for its score, p-value and decision. The monitor does not see it.

  Raises:
    ValueError: a bad line where ``on_bad_row`` is "fail".
  """
  tally = Tally(alarm=0 if watcher.alarm else None)
  try:
    for number, line in enumerate(lines, 1):
      if not line.strip():
        continue
      try:
        told = watcher.take(line)
      except ValueError as error:
        tally.bad += 1
        tally.first_bad = tally.first_bad or f"line {number} {error}"
        if on_bad_row == "fail":
          raise ValueError(
            f"Line {number} {error}; repair it, or give --on_bad_row=skip or --on_bad_row=nan."
          ) from error
        if on_bad_row == "skip":
          continue
        told = watcher.told()
      else:
        if told is None:
          continue
        tally.records += 1
        tally.anomalous += told["decision"]
        if told["alarm"] and tally.alarm is None:
          tally.alarm = number
        if tally.records % SAVE_EVERY == 0:
          watcher.save()
      write(json.dumps({"line": number, **told}) + "\n")
  except (KeyboardInterrupt, BrokenPipeError):
    pass
  finally:
    try:
      watcher.save()
    except KeyboardInterrupt:  # it came while the stream ended
      watcher.save()
    finally:
      watcher.close()
  return tally


def write_line(text: str) -> None:
  """Writes to standard output at once; a reader that has gone away leaves nothing to flush."""
  try:
    sys.stdout.write(text)
    sys.stdout.flush()
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise
  except OSError as error:
    raise OSError(f"Standard output cannot be written: {error.strerror}.") from error


def print_summary(watcher: Watcher, tally: Tally) -> None:
  """Prints a summary on standard error."""
  health.warn(watcher.findings())
  if tally.bad:
    print(f"{tally.bad} bad lines; the first: {tally.first_bad}.", file=sys.stderr)
  print(
    f"{tally.records} records, {tally.anomalous} anomalous; {alarm_in_words(tally)}.",
    file=sys.stderr,
  )


def alarm_in_words(tally: Tally, place: str = "line") -> str:
  """Whether and where the alarm was raised; ``place`` is what the stream is counted in."""
  if tally.alarm is None:
    return "no alarm"
  if tally.alarm == 0:
    return "the alarm was raised before this part of the stream"
  return f"alarm at {place} {tally.alarm}"
