"""Drift found in a stream.

  python -m benchmarks.drift --output=drift.json

scikit-learn's digits, all ten typical and each turned by a random angle of at most 5 degrees, so
that all are interpolated alike. DROCC trains on 900 of them and is calibrated on 300; the other 597
are a stream, which is watched at a false-alarm rate of 1 %. From its 251st record on every digit is
turned by 0.25 degrees more than the one before. How long the alarm takes, in records and degrees,
and how often it is raised although nothing changes: in streams of the same calibration and stream
records, unturned, in 50 random orders of each run, which are exchangeable by construction.
"""

import dataclasses
import pathlib
import statistics
from typing import Any

from absl import flags
from matplotlib.figure import Figure
import numpy as np
from scipy import ndimage
from sklearn import datasets

from benchmarks import records
from detector_jax.monitor import Monitor
from drocc_jax import DROCC
from launch import flags as common
from launch.reporting import drift, progress

TRAINING, CALIBRATION, QUIET = 900, 300, 250
JITTER, DEGREES_PER_RECORD = 5.0, 0.25
RATE, FPR, ORDERS = 0.01, 0.05, 50

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Run:
  """One detector and its stream.

  Attributes:
    scores: ``[n]`` of the stream that starts to turn.
    log10_martingale: ``[n]``.
    threshold: of the decisions.
    alarm: place in the stream at which the alarm was raised, from 0, or None.
    false_alarms: orders of unturned records, of ``ORDERS``, that raised an alarm.
  """

  scores: np.ndarray
  log10_martingale: np.ndarray
  threshold: float
  alarm: int | None
  false_alarms: int

  @property
  def delay(self) -> int | None:
    """Turned records up to the alarm; None where there was none, or one before the first."""
    if self.alarm is None or self.alarm < QUIET:
      return None
    return self.alarm - QUIET + 1


def turned(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
  """Images ``[n, h, w]``, each by its own angle ``[n]``, bilinearly, flattened to ``[n, h w]``."""
  pairs = zip(images, degrees.tolist(), strict=True)
  return np.array([ndimage.rotate(x, angle, reshape=False, order=1).ravel() for x, angle in pairs])


def run(seed: int) -> Run:
  """Trains a detector and watches its streams."""
  images = datasets.load_digits().images / 16.0
  rng = np.random.default_rng(seed)
  images = images[rng.permutation(len(images))]
  angles = rng.uniform(-JITTER, JITTER, len(images))
  x = turned(images, angles)
  calibration, stream = slice(TRAINING, TRAINING + CALIBRATION), slice(TRAINING + CALIBRATION, None)
  model = DROCC(calibration_size=0.0, random_state=seed).fit(x[:TRAINING])
  detector = model.detector_.calibrate(x[calibration], FPR)
  quiet = detector.score(x[stream])
  more = DEGREES_PER_RECORD * np.arange(1, len(quiet) - QUIET + 1)
  turning = turned(images[stream][QUIET:], angles[stream][QUIET:] + more)
  scores = np.concatenate([quiet[:QUIET], detector.score(turning)])
  typical = detector.calibration.scores
  monitor = Monitor(RATE, seed=seed)
  _, reading = monitor.update(monitor.init(typical), scores)
  raised = np.flatnonzero(reading.alarm)
  false_alarms = 0
  for order in range(ORDERS):
    shuffled = rng.permutation(np.concatenate([typical, quiet]))
    monitor = Monitor(RATE, seed=order)
    _, unturned = monitor.update(monitor.init(shuffled[:CALIBRATION]), shuffled[CALIBRATION:])
    false_alarms += bool(unturned.alarm[-1])
  return Run(
    scores,
    reading.log10_martingale,
    detector.threshold,
    int(raised[0]) if len(raised) else None,
    false_alarms,
  )


def summary(runs: list[Run]) -> tuple[list[records.TableRecord], dict[str, Any]]:
  """Shares in percent as records, delays and counts as facts."""
  delays = [each.delay for each in runs if each.delay is not None]
  rows: dict[tuple[str, str], list[float]] = {
    ("nothing changes", "false alarms"): [100.0 * each.false_alarms / ORDERS for each in runs],
    ("digits start to turn", "alarms before"): [
      100.0 * (each.alarm is not None and each.alarm < QUIET) for each in runs
    ],
    ("digits start to turn", "alarms after"): [100.0 * (each.delay is not None) for each in runs],
  }
  table = [
    records.TableRecord.from_values(
      "drift", row, f"DROCC, monitor at {100 * RATE:g} %", metric, values
    )
    for (row, metric), values in rows.items()
  ]
  facts: dict[str, Any] = {
    "false_alarm_rate": RATE,
    "unchanged_streams": {
      "streams": ORDERS * len(runs),
      "with_alarm": sum(each.false_alarms for each in runs),
    },
    "delay_in_records": delays,
  }
  if delays:
    ends = {"median": statistics.median(delays), "lowest": min(delays), "highest": max(delays)}
    facts["delay"] = {
      name: {"records": value, "degrees": DEGREES_PER_RECORD * value}
      for name, value in ends.items()
    }
  return table, facts


def figure_of(one: Run) -> Figure:
  """The stream of one run."""
  note = f"digits start to turn,\n{DEGREES_PER_RECORD:g}° more every record"
  return drift.drift(
    one.scores,
    one.log10_martingale,
    threshold=one.threshold,
    false_alarm_rate=RATE,
    change=QUIET,
    alarm=one.alarm,
    note=note,
  )


def main() -> None:
  """Measures, and draws the first run."""
  output = pathlib.Path(FLAGS.output) if FLAGS.output else None
  if output is not None:
    records.check_writable(output)
  runs = []
  with progress.bar("drift", FLAGS.runs) as advance:
    for seed in range(FLAGS.runs):
      runs.append(run(seed))
      advance(1, f"delay {runs[-1].delay}")
  table, facts = summary(runs)
  if output is None:
    records.show(table)
    for name, value in facts.items():
      print(f"{name}: {value}")
    return
  records.write(output, table, **facts)
  figure_of(runs[0]).savefig(output.with_suffix(".png"), dpi=144)
  print(f"records: {output}\nfigure: {output.with_suffix('.png')}")


if __name__ == "__main__":
  flags.DEFINE_integer("runs", 20, "Seeds.", lower_bound=1)
  flags.DEFINE_string("output", "", "JSON file; the figure goes beside it.")
  common.run(main)
