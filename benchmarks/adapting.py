"""Thresholds that follow a stream: --table=adaptation.

Every seed is a detector's calibration scores and a stream of 20,000 scores, watched at a stated
5 %: by the fixed threshold, by the three ways of ``detector_jax.adaptation``, and by what must not
be done, the 95 % quantile of a window of unflagged scores. Shares of the typical records, and of
the anomalies where there are any, that are flagged in the second half of a stream; with "judged"
every false alarm is given back after the 50 records that it came with. Typical scores are

gamma   four degrees of freedom: skewed, as scores mostly are.
t       three degrees of freedom: heavy tails.
edge    uniform: scores that end in an edge tell nothing of where they were cut off.
digits  of scikit-learn's digits by one DROCC, see ``benchmarks.drift``; the stream draws from 597
        others, each turned by its own angle. Their drift is 0 to 15 degrees more for every digit,
        and is no change of place and spread alone.

Slow drift moves scores by three of their interquartile ranges and doubles their spread; a jump
after a quarter of the stream moves them by one range. Anomalies lie beyond the 95 % quantile, by
1.5 ranges in the mean (exponential). "drift alarms" counts streams of 2,000 unchanged scores, 25 to
a seed, on which the monitor raised an alarm at a stated 1 % while the threshold adapted: it goes on
comparing with the calibration scores. "rate" is in thousands of records in a second of processor
time, by a DROCC of 20 columns in batches of 4,096: scored, adapted to and seen by the monitor.
"""

from collections.abc import Callable, Iterator
import functools
import math
import time

from matplotlib.figure import Figure
import numpy as np
from sklearn import datasets

from benchmarks import drift
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import Detector
from detector_jax.adaptation import BLOCK, LEARN_FROM, Adaptation
from detector_jax.monitor import Monitor
from drocc_jax import DROCC
from launch.reporting import figures

LENGTH, CALIBRATION, FPR, DRIFT_RATE = 20_000, 300, 0.05, 0.01
SHORT, STREAMS, BATCH, BATCHES = 2_000, 25, 4096, 12
FIXED, NAIVE = "fixed threshold", "quantile of unflagged"
ADAPTED = {learn_from: f"adapt={learn_from}" for learn_from in LEARN_FROM}
FALSE, FOUND = "false alarms", "anomalies found"
UNCHANGED, SPEED = "unchanged streams", "one core"
ROWS: dict[str, tuple[str, str, float]] = {
  "nothing changes": ("gamma", "", 0.0),
  "slow drift": ("gamma", "slow", 0.0),
  "jump": ("gamma", "jump", 0.0),
  "1 % anomalies": ("gamma", "", 0.01),
  "5 % anomalies": ("gamma", "", 0.05),
  "slow drift, 5 % anomalies": ("gamma", "slow", 0.05),
  "heavy tails, nothing changes": ("t", "", 0.0),
  "heavy tails, slow drift": ("t", "slow", 0.0),
  "edge, nothing changes": ("edge", "", 0.0),
  "edge, slow drift": ("edge", "slow", 0.0),
  "digits, nothing changes": ("digits", "", 0.0),
  "digits, slowly turned": ("digits", "slow", 0.0),
}
DRAWN = ("nothing changes", "slow drift", "jump", "slow drift, 5 % anomalies")


def count(seeds: int) -> int:
  """Number of cells."""
  return seeds * (len(ROWS) + 2)


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """Realised rates, alarms of drift, and records a second."""
  found = ledger.gather((*ROWS, UNCHANGED, SPEED), seeds, _measure, advance)
  records = [
    TableRecord.from_values("adaptation", row, method, metric, values)
    for (row, method, metric), values in found.items()
  ]
  return records, {"adaptation": _figure(seeds)}


def _measure(row: str, seed: int) -> Cell:
  if row == SPEED:
    return {name: {"rate": value} for name, value in _rates(seed).items()}
  if row == UNCHANGED:
    return _drift_alarms(seed)
  calibration, scores, anomalous = stream(row, seed)
  late, cell = np.arange(LENGTH) >= LENGTH // 2, {}
  for method, flagged in decisions(calibration, scores, anomalous).items():
    cell[method] = {FALSE: 100.0 * float(flagged[late & ~anomalous].mean())}
    if anomalous.any():
      cell[method][FOUND] = 100.0 * float(flagged[late & anomalous].mean())
  return cell


def stream(row: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Calibration scores ``[n]``, scores ``[LENGTH]`` and which of these are anomalous."""
  kind, change, share = ROWS[row]
  rng, clock = np.random.default_rng((list(ROWS).index(row), seed)), np.arange(LENGTH) / LENGTH
  if kind == "digits":
    detector, images = _digits()
    degrees = rng.uniform(-drift.JITTER, drift.JITTER, LENGTH) + (15.0 * clock if change else 0.0)
    turned = drift.turned(images[rng.integers(len(images), size=LENGTH)], degrees)
    return detector.calibration.scores, detector.score(turned), np.zeros(LENGTH, bool)
  low, high, end = np.quantile(_drawn(kind, np.random.default_rng(0), 10**6), [0.25, 0.75, 0.95])
  place, spread = np.zeros(LENGTH), np.ones(LENGTH)
  if change == "slow":
    place, spread = 3.0 * (high - low) * clock, 1.0 + clock
  elif change == "jump":
    place = np.where(clock < 0.25, 0.0, high - low)
  typical, anomalous = _drawn(kind, rng, LENGTH), rng.uniform(size=LENGTH) < share
  beyond = end + 1.5 * (high - low) * rng.exponential(size=LENGTH)
  scores = place + spread * np.where(anomalous, beyond, typical)
  return _drawn(kind, rng, CALIBRATION), scores, anomalous


def _drawn(kind: str, rng: np.random.Generator, size: int) -> np.ndarray:
  if kind == "edge":
    return rng.uniform(size=size)
  return rng.gamma(4.0, size=size) if kind == "gamma" else rng.standard_t(3, size=size)


@functools.cache
def _digits() -> tuple[Detector, np.ndarray]:
  """A detector of digits, and images that neither its training nor its calibration has."""
  images = datasets.load_digits().images / 16.0
  rng = np.random.default_rng(0)
  images = images[rng.permutation(len(images))]
  x = drift.turned(images, rng.uniform(-drift.JITTER, drift.JITTER, len(images)))
  model = DROCC(calibration_size=0.0, random_state=0).fit(x[: drift.TRAINING])
  used = drift.TRAINING + drift.CALIBRATION
  return model.detector_.calibrate(x[drift.TRAINING : used], FPR), images[used:]


def decisions(
  calibration: np.ndarray, scores: np.ndarray, anomalous: np.ndarray
) -> dict[str, np.ndarray]:
  """Which records ``[n]`` of a stream are flagged, by method; ``n`` a multiple of ``BLOCK``."""
  flagged = {method: np.zeros(len(scores), bool) for method in (FIXED, NAIVE, *ADAPTED.values())}
  flagged[FIXED] = scores > Adaptation(calibration, FPR).init().threshold
  for rows, threshold in _naive(calibration, scores):
    flagged[NAIVE][rows] = scores[rows] > threshold
  for learn_from, method in ADAPTED.items():
    rules = Adaptation(calibration, FPR, learn_from)
    state = rules.init()
    for rows in _blocks(len(scores)):
      state, reading = rules.update(state, scores[rows])
      flagged[method][rows] = reading.flagged
      if learn_from == "judged":
        state = rules.told(state, scores[rows][reading.flagged & ~anomalous[rows]])
  return flagged


def _naive(calibration: np.ndarray, scores: np.ndarray) -> Iterator[tuple[slice, float]]:
  window = np.asarray(calibration, np.float64)
  for rows in _blocks(len(scores)):
    rank = math.ceil((len(window) + 1) * (1.0 - FPR) - 1e-9)
    threshold = float(np.sort(window)[rank - 1])
    yield rows, threshold
    window = np.concatenate([window, scores[rows][scores[rows] <= threshold]])[-1000:]


def _blocks(length: int) -> Iterator[slice]:
  return (slice(start, start + BLOCK) for start in range(0, length, BLOCK))


def _drift_alarms(seed: int) -> Cell:
  alarms = dict.fromkeys(ADAPTED.values(), 0)
  for number in range(STREAMS):
    rng = np.random.default_rng((seed, number))
    calibration, scores = np.split(_drawn("gamma", rng, CALIBRATION + SHORT), [CALIBRATION])
    monitor = Monitor(DRIFT_RATE, seed=number)
    for learn_from, method in ADAPTED.items():
      rules = Adaptation(calibration, FPR, learn_from)
      adapted, watched = rules.init(), monitor.init(rules.calibration)
      for part in np.split(scores, 4):
        adapted, _ = rules.update(adapted, part)
        watched, reading = monitor.update(watched, part)
      alarms[method] += bool(reading.alarm[-1])
  return {method: {"drift alarms": 100.0 * n / STREAMS} for method, n in alarms.items()}


@functools.cache
def _columns() -> Detector:
  x = np.random.default_rng(0).normal(size=(2000, 20)).astype(np.float32)
  return DROCC(fpr=FPR, random_state=0).fit(x).detector_.with_batch_size(BATCH)


def _rates(seed: int) -> dict[str, float]:
  """Thousands of records in a second of processor time: scored, and with adaptation and monitor."""
  detector = _columns()
  x = np.random.default_rng(seed).normal(size=(BATCH, 20)).astype(np.float32)
  monitor, rates = Monitor(DRIFT_RATE), {}
  detector.score(x)
  for learn_from, method in {"": "scores alone", **ADAPTED}.items():
    rules = Adaptation(detector.calibration.scores, FPR, learn_from or LEARN_FROM[0])
    adapted, watched = rules.init(), monitor.init(rules.calibration)
    began = time.process_time()
    for _ in range(BATCHES):
      scores = detector.score(x)
      if learn_from:
        adapted, _ = rules.update(adapted, scores)
        watched, _ = monitor.update(watched, scores)
    rates[method] = 1e-3 * BATCH * BATCHES / (time.process_time() - began)
  return rates


def _figure(seeds: int) -> Figure:
  """Share of typical records that are flagged, along the stream, in the mean of some streams."""
  figure = Figure(figsize=(8.8, 5.6), layout="constrained")
  panels, part = figure.subplots(2, 2, sharex=True, sharey=True), 500
  places = np.arange(LENGTH // part) * part + part // 2
  for axes, row in zip(panels.flat, DRAWN, strict=True):
    shares: dict[str, list[np.ndarray]] = {}
    for seed in range(min(seeds, 10)):
      calibration, scores, anomalous = stream(row, seed)
      typical = (~anomalous).reshape(-1, part)
      for method, flagged in decisions(calibration, scores, anomalous).items():
        alarms = (flagged & ~anomalous).reshape(-1, part).sum(axis=1)
        shares.setdefault(method, []).append(100.0 * alarms / typical.sum(axis=1))
    for number, (method, values) in enumerate(shares.items()):
      style = {"color": figures.COLOURS[(5, 1, 0, 3, 2)[number]], "ls": "-" if number != 1 else ":"}
      label = method if row == DRAWN[0] else None
      axes.plot(places, np.mean(values, axis=0), label=label, lw=1.6, **style)
    axes.axhline(100.0 * FPR, color="black", lw=0.8, ls="--")
    axes.set_title(row, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(yscale="log", ylim=(0.5, 110.0), yticks=(1, 10, 100), yticklabels=(1, 10, 100))
    axes.set(xticks=range(0, LENGTH + 1, 5000))
    axes.set(xlabel="record of the stream" if axes in panels[1] else "")
  figure.supylabel("typical records flagged, %", fontsize=9)
  figure.legend(frameon=False, fontsize=9, ncols=5, loc="outside lower center")
  return figure
