"""Scores records.

  python -m launch.score --workdir=runs/digits --input=new.csv --output=scores.csv

The output has a row for every input row: score (higher = more anomalous), p_value where the
detector is calibrated, and decision (1 = anomalous). A detector that joins several kinds of
evidence adds the group that speaks loudest, one that looks at the layers of a network the layer
that is farthest out, and on which side: high or low. --explain adds why a record is flagged: its
unusual columns, and with which values it would pass; of a picture or a series, where it is unusual,
which OUTPUT_reasons.png draws for the most anomalous ones.
The input is read in chunks, and memory does not grow with it; an interrupted command writes
nothing.
"""

import pathlib
import signal
import sys

from absl import flags

import detector_jax
from detector_jax.calibration import alarm_rate
from detector_jax.table import HEADERS
from launch import flags as common
from launch import scoring
from launch.data.formats import STANDARD_INPUT
from launch.data.scoring import check_writable

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run that launch.train finished.")
_DETECTOR = flags.DEFINE_string("detector", "", "Or the folder of a saved detector.")
_INPUT = flags.DEFINE_string(
  "input",
  "",
  "Records: .csv, .npy, .npz, .parquet, .feather, .mat, a query in an .sql file, or a folder of "
  ".parquet files or of pictures; - is CSV on standard input.",
)
_OUTPUT = flags.DEFINE_string("output", "", "Where the scores go: .csv or .parquet.")
_LABEL = flags.DEFINE_string("label", None, "A column of the input to leave out.")
_ON_BAD_ROW = flags.DEFINE_enum(
  "on_bad_row",
  "fail",
  scoring.ON_BAD_ROW,
  "A row that cannot be scored: stop, leave it out "
  "(the output then numbers its rows), or leave its scores empty.",
)
_CHUNK_SIZE = flags.DEFINE_integer(
  "chunk_size", 0, "Rows scored at a time; 0: by their size. Changes no score.", lower_bound=0
)
_HEADER = flags.DEFINE_enum(
  "header", "auto", HEADERS, "Whether a CSV input has one; auto: unless its first line is numbers."
)
_ENCODING = flags.DEFINE_string("encoding", "utf-8", "Of a CSV input, such as cp1252 or utf-16.")
_DIALECT = flags.DEFINE_string(
  "dialect", "auto", "Of a CSV input: delimiter and decimal mark, such as ';,' or 'tab.'."
)
_STRIDE = flags.DEFINE_integer(
  "stride",
  0,
  "Of a detector of windows: the input is a series, windows so many steps apart are "
  "scored, and the output begins with the first and last step of each.",
  lower_bound=0,
)
_STEPS = flags.DEFINE_bool(
  "steps",
  False,
  "With --stride: a row for each time step, with the mean score of the windows that hold it.",
)
_EXPLAIN = flags.DEFINE_bool(
  "explain", False, "Add the column reason: why a record is flagged, with what it would pass."
)
_FDR = flags.DEFINE_float(
  "fdr", None, "Decide on the whole file: at most this share of the flagged rows is typical."
)
_ALARMS = flags.DEFINE_float(
  "alarms_per_day", None, "Decide at so many false alarms of --records_per_day typical records."
)
_RECORDS = flags.DEFINE_float("records_per_day", None, "See --alarms_per_day.")
_KEEP = flags.DEFINE_list(
  "keep", [], "Columns of a CSV or .parquet input to write beside the scores."
)


def main() -> None:
  """Writes the scores, whole or not at all."""
  common.require(input=_INPUT.value, output=_OUTPUT.value)
  if bool(_WORKDIR.value) == bool(_DETECTOR.value):
    raise ValueError("Give either --workdir or --detector.")
  if (_ALARMS.value is None) != (_RECORDS.value is None) or None not in (_ALARMS.value, _FDR.value):
    raise ValueError("Give --alarms_per_day with --records_per_day, or --fdr, or neither.")
  if _INPUT.value == STANDARD_INPUT:
    common.require_open("standard input")
  check_writable(_OUTPUT.value)
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  if _WORKDIR.value:
    detector = _finished(pathlib.Path(_WORKDIR.value))
  else:
    detector = detector_jax.load(_DETECTOR.value)
  if _ALARMS.value is not None and _RECORDS.value is not None:
    rate = alarm_rate(_ALARMS.value, _RECORDS.value)
    detector = detector.calibrate_scores(detector.calibration.scores, rate)
  tally = scoring.score_input(
    detector,
    _INPUT.value,
    _OUTPUT.value,
    label=_LABEL.value,
    on_bad_row=_ON_BAD_ROW.value,
    chunk_size=_CHUNK_SIZE.value,
    header=_HEADER.value,
    stride=_STRIDE.value,
    explain=_EXPLAIN.value,
    keep=_KEEP.value,
    fdr=_FDR.value,
    encoding=_ENCODING.value,
    dialect=_DIALECT.value,
    steps=_STEPS.value,
  )
  scoring.print_summary(detector, tally, _OUTPUT.value, _ON_BAD_ROW.value)


def _finished(workdir: pathlib.Path) -> detector_jax.Detector:
  """The detector of a run; methods and reports, slow to import, only where there is none."""
  if (workdir / "detector" / "detector.json").is_file():
    return detector_jax.load(workdir / "detector")
  from launch import evaluation

  return evaluation.load_detector(workdir)


if __name__ == "__main__":
  common.run(main)
