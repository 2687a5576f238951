"""Watches a stream.

  python -m launch.watch --detector=detector/ < records.ndjson

Each input line is JSON: a list of numbers, or an object with the names of the columns, its cells as
the training table had them. Each output line is JSON, too: score (higher = more anomalous),
p_value, decision (1 = anomalous), log10_martingale, and alarm: whether the stream has drifted from
the calibration records, see detector_jax.monitor.

With --adapt the threshold follows the stream, see detector_jax.adaptation, and is written, too.
--adapt=judged takes back a line that was flagged and is typical, as {"typical": record}.

With --window each line is a time step of a series, and the last steps are the window that a
detector of windows scores, every --stride lines once there are enough of them.
"""

import pathlib
import signal
import sys

from absl import flags

import detector_jax
from detector_jax import adaptation
from launch import evaluation, watching, watching_steps
from launch import flags as common

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run that launch.train finished.")
_DETECTOR = flags.DEFINE_string("detector", "", "Or the folder of a saved detector.")
_FPR = flags.DEFINE_float("fpr", None, "False-positive rate of the decisions; default: its own.")
_FALSE_ALARM_RATE = flags.DEFINE_float(
  "false_alarm_rate", None, "Probability of ever raising a false alarm; default 0.01."
)
_ADAPT = flags.DEFINE_enum(
  "adapt",
  None,
  adaptation.LEARN_FROM,
  "The threshold follows the stream, by the records that are not flagged, by these and the alarms "
  "that are given back as typical, or by all.",
)
_STATE = flags.DEFINE_string("state", "", "JSON file: a stream goes on where it was left.")
_ON_BAD_ROW = flags.DEFINE_enum(
  "on_bad_row",
  "fail",
  watching.ON_BAD_ROW,
  "A line that cannot be scored: stop, leave it out, or write null.",
)

_WINDOW = flags.DEFINE_bool("window", False, "Lines are time steps, for a detector of windows.")
_STRIDE = flags.DEFINE_integer("stride", 1, "With --window: lines between windows.", lower_bound=1)
_TIME = flags.DEFINE_string("time", "", "With --window: what lines call their time; a gap is seen.")


def main() -> None:
  """Writes a line for every line of standard input that is, or ends, a record."""
  if bool(_WORKDIR.value) == bool(_DETECTOR.value):
    raise ValueError("Give either --workdir or --detector.")
  common.require_open("standard input")
  common.require_open("standard output")
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  if _WORKDIR.value:
    detector = evaluation.load_detector(pathlib.Path(_WORKDIR.value))
  else:
    detector = detector_jax.load(_DETECTOR.value)
  if (_STRIDE.value != 1 or _TIME.value) and not _WINDOW.value:
    raise ValueError("--stride and --time are for windows of a series: give --window, too.")
  if _WINDOW.value and _ADAPT.value == "judged":
    raise ValueError("Windows cannot be given back: --window has no --adapt=judged.")
  kind, more = watching.Watcher, {}
  if _WINDOW.value:
    kind, more = watching_steps.StepWatcher, {"stride": _STRIDE.value, "time": _TIME.value}
  watcher = kind(
    detector,
    fpr=_FPR.value,
    false_alarm_rate=_FALSE_ALARM_RATE.value,
    adapt=_ADAPT.value,
    state=pathlib.Path(_STATE.value).expanduser() if _STATE.value else None,
    **more,
  )
  lines = sys.stdin.buffer
  tally = watching.watch(watcher, lines, watching.write_line, _ON_BAD_ROW.value)
  watching.print_summary(watcher, tally)


if __name__ == "__main__":
  common.run(main)
