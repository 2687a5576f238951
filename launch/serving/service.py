"""A detector that answers requests: scored together, watched for drift, measured."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import logging
import math
import os
import pathlib

import numpy as np

import detector_jax
from detector_jax.scorer import Prepared, Scorer
from launch import watching
from launch.reporting import reasons
from launch.serving.answers import Answers
from launch.serving.bodies import Form
from launch.serving.measures import Measures
from launch.serving.microbatches import Batcher, BusyError, Told
from launch.serving.refusals import RefusedError

logger = logging.getLogger(__name__)

BUSY = "The service is busy; send the request again in a second."
INLINE_BYTES = 2**15  # larger bodies are read and written in a thread, so that others go on
SIZES = (8, 64, 256)  # records that calls are padded to, and max_batch
MOST_EXPLAINED, MOST_EXPLAINING = 100, 8  # records of a request, and requests


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a service takes.

  Attributes:
    max_batch: records scored in one call; 0 takes the detector's.
    max_wait_ms: milliseconds that a request waits for others to be scored with it.
    max_records: in one request.
    max_mb: MiB of one request.
    max_waiting: records that wait.
    max_requests: that are being read or answered.
    remembered_mb: MiB of answers that are kept for requests that come again.
  """

  max_batch: int = 0
  max_wait_ms: float = 2.0
  max_records: int = 10_000
  max_mb: float = 16.0
  max_waiting: int = 50_000
  max_requests: int = 256
  remembered_mb: float = 64.0

  def __post_init__(self) -> None:
    for name, value in dataclasses.asdict(self).items():
      least = 1 if name in ("max_records", "max_waiting", "max_requests") else 0
      if not least <= value < math.inf:
        raise ValueError(f"{name} must be >= {least}, got {value!r}.")


class Service:
  """Scores bodies of requests.

  The detector is loaded and its programs are compiled when it is made: one for each of few numbers
  of records, to which calls are padded.

  Args:
    folder: of the detector.
    limits: what is taken.
    keep: see ``Scorer``.
    on_bad_row: see ``Scorer``.
    explain: whether requests may ask for reasons.
    false_alarm_rate: see ``launch.watching.Watcher``.
    state: see ``launch.watching.Watcher``.

  Attributes:
    scorer: the detector.
    limits: what is taken.
    watcher: of drift; None where the detector is not calibrated.
    tally: of what was scored.
    measures: for Prometheus.
    stopping: whether it is about to end.

  Raises:
    ValueError: a setting out of its range, or a detector that cannot serve so.
    OSError: the state cannot be read or written.
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    keep: Sequence[str] = (),
    on_bad_row: str = "fail",
    explain: bool = False,
    false_alarm_rate: float | None = None,
    state: pathlib.Path | None = None,
  ):
    self.limits = limits or Limits()
    self.keep, self.on_bad_row, self.explains = tuple(keep), on_bad_row, explain
    self.scorer = Scorer(folder, keep, on_bad_row)
    detector = self.scorer.detector
    if explain:
      reasons.check(detector)
    most = self.limits.max_batch or detector.batch_size
    self._sizes = sorted({min(size, most) for size in (*SIZES, most)})
    self.watcher = _watcher(detector, false_alarm_rate, state)
    self.tally = watching.Tally(
      alarm=0 if self.watcher is not None and self.watcher.alarm else None
    )
    self._saved = 0
    self._batcher = Batcher(
      self._told,
      self._watch,
      max_batch=most,
      max_wait=1e-3 * self.limits.max_wait_ms,
      max_waiting=self.limits.max_waiting,
    )
    self.measures = Measures(lambda: self._batcher.waiting, self._drift if self.watcher else None)
    self._answers = Answers(int(2**20 * self.limits.remembered_mb), self.measures.repeated.inc)
    self._explainer = ThreadPoolExecutor(1, "explain")
    self._explaining, self.stopping = 0, False
    self._compile(detector)

  @contextlib.asynccontextmanager
  async def running(self) -> AsyncIterator[None]:
    """Within it requests are answered; at its end all that came have been.

    Raises:
      OSError: the state of the monitor cannot be written.
    """
    calls = asyncio.ensure_future(self._batcher.run())
    try:
      yield
    finally:
      self.stop()
      self._batcher.close()
      await calls
      self._explainer.shutdown()
      if self.watcher is not None:
        try:
          self.watcher.save()
        finally:
          self.watcher.close()

  def stop(self) -> None:
    """Says so, and lets no request wait for others; ``running`` ends after it."""
    self.stopping = True
    self._batcher.hurry()

  async def answer(self, form: Form, body: bytes, explain: bool = False, key: str = "") -> bytes:
    """The answer to a request, in the form of its body.

    Args:
      form: of both.
      body: the records.
      explain: whether the answer says why records are flagged.
      key: of the request, "" where it has none; see ``Answers``.

    Raises:
      RefusedError: it cannot be answered.
    """
    if explain and not self.explains:
      raise RefusedError(
        422, "This service gives no reasons; leave explain out, or start it with --explain."
      )
    if not key:
      return await self._computed(form, body, explain)
    request = b"%d %s\n" % (explain, form.media.encode()) + body
    return await self._answers.of(key, request, lambda: self._computed(form, body, explain))

  @property
  def waiting(self) -> int:
    """Records that wait."""
    return self._batcher.waiting

  async def _computed(self, form: Form, body: bytes, explain: bool) -> bytes:
    large = len(body) > INLINE_BYTES
    try:
      if large:
        prepared = await asyncio.to_thread(form.prepare, body, self.scorer)
      else:
        prepared = form.prepare(body, self.scorer)
      with self._explained(prepared) if explain else contextlib.nullcontext():
        told = self.scorer.verdicts(prepared.x[:0])
        if len(prepared.rows):
          told = await self._batcher.told(prepared.x)
        if explain:
          told = {**told, "reason": await self._reasons(prepared, told["decision"] == 1)}
      self._count_bad(prepared)
      answer = self.scorer.answer(prepared, told)
      return await asyncio.to_thread(form.written, answer) if large else form.written(answer)
    except BusyError:
      raise RefusedError(503, BUSY) from None
    except ValueError as error:
      raise RefusedError(422, str(error)) from error

  @contextlib.contextmanager
  def _explained(self, prepared: Prepared) -> Iterator[None]:
    """Within it a request gets reasons; refused before anything is scored or counted."""
    if prepared.size > MOST_EXPLAINED:
      raise RefusedError(
        413,
        f"A request for reasons has at most {MOST_EXPLAINED} records, got {prepared.size:,}; send "
        "those that were flagged, in several requests.",
      )
    if self._explaining >= MOST_EXPLAINING:
      raise RefusedError(503, BUSY)
    self._explaining += 1
    try:
      yield
    finally:
      self._explaining -= 1

  async def _reasons(self, prepared: Prepared, flagged: np.ndarray) -> np.ndarray:
    """Why records ``[k]`` are flagged, masked where they are not."""
    found = np.full(len(flagged), "", object)
    if flagged.any():
      found[flagged] = await asyncio.get_running_loop().run_in_executor(
        self._explainer, reasons.texts, self.scorer.detector, prepared.x[flagged]
      )
    return np.ma.masked_array(found.astype(str), ~flagged)

  def _told(self, x: np.ndarray) -> Told:
    """What is said of records, padded to the least of the numbers that are compiled."""
    size = next((size for size in self._sizes if size >= len(x)), self._sizes[-1])
    return self.scorer.verdicts(x, size)

  def _compile(self, detector: detector_jax.Detector) -> None:
    low = 0.0 if detector.input_range is None else detector.input_range[0]
    x = np.full((1, *detector.input_shape), low, np.float32)
    for size in self._sizes:
      with contextlib.suppress(detector_jax.HealthError):  # of a record that nobody sent
        detector.with_batch_size(size).score(x, warn=False)
    if self.explains:
      with contextlib.suppress(detector_jax.HealthError):
        reasons.texts(dataclasses.replace(detector, threshold=-math.inf), x)

  def _watch(self, results: Sequence[Told]) -> None:
    """Counts what was scored in a call and lets the monitor see it."""
    if not results:
      return
    told = {name: np.concatenate([result[name] for result in results]) for name in results[0]}
    self.measures.see(told["decision"], told.get("p_value"))
    if self.watcher is not None:
      reading = self.watcher.see(told["score"])
      if reading.alarm[-1] and self.tally.alarm is None:
        self.tally.alarm = self.tally.records + int(reading.alarm.argmax()) + 1
        logger.warning(
          "Drift alarm at record %s: the records no longer look like those of the calibration "
          "(false-alarm rate %g).",
          f"{self.tally.alarm:,}",
          self.watcher.monitor.false_alarm_rate,
        )
    self.tally.anomalous += int(told["decision"].sum())
    self.tally.records += len(told["score"])
    if self.watcher is not None and self.tally.records - self._saved >= watching.SAVE_EVERY:
      self._saved = self.tally.records
      try:
        self.watcher.save()
      except OSError as error:
        logger.error("%s", error)

  def _drift(self) -> tuple[float, float]:
    assert self.watcher is not None
    told = self.watcher.told()
    return told["log10_martingale"], told["alarm"]

  def _count_bad(self, prepared: Prepared) -> None:
    bad = prepared.size - len(prepared.rows)
    self.measures.records.labels("bad").inc(bad)
    self.tally.bad += bad


def _watcher(
  detector: detector_jax.Detector, false_alarm_rate: float | None, state: pathlib.Path | None
) -> watching.Watcher | None:
  if detector.calibration.scores.size:
    return watching.Watcher(detector, false_alarm_rate=false_alarm_rate, state=state)
  if false_alarm_rate is not None or state is not None:
    raise ValueError(
      "The detector is not calibrated and drift cannot be watched: leave --false_alarm_rate and "
      "--state out, or call detector.calibrate(X_typical, fpr) with held-out typical records."
    )
  logger.warning("The detector is not calibrated: there are no p-values, and no drift alarm.")
  return None
