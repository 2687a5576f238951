"""Scores records: python -m launch.score --workdir=runs/digits --input=new.csv --output=scores.csv

The output has a row for every input row: score (higher = more anomalous), p_value where the
detector is calibrated, and decision (1 = anomalous). A detector that looks at the layers of a
network adds the layer that is farthest out, and on which side: high or low.
"""

import pathlib

from absl import flags

import detector_jax
from launch import evaluation
from launch import flags as common
from launch.data import files

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run that launch.train finished.")
_DETECTOR = flags.DEFINE_string("detector", "", "Or the folder of a saved detector.")
_INPUT = flags.DEFINE_string("input", "", "Records: .csv, .npy, .npz, .parquet or .mat.")
_OUTPUT = flags.DEFINE_string("output", "", "Where the scores go: .csv or .parquet.")
_LABEL = flags.DEFINE_string("label", None, "A column of the input to leave out.")


def main() -> None:
  """Writes the scores, whole or not at all."""
  common.require(input=_INPUT.value, output=_OUTPUT.value)
  if bool(_WORKDIR.value) == bool(_DETECTOR.value):
    raise ValueError("Give either --workdir or --detector.")
  if _WORKDIR.value:
    detector = evaluation.load_detector(pathlib.Path(_WORKDIR.value))
  else:
    detector = detector_jax.load(_DETECTOR.value)
  output = pathlib.Path(_OUTPUT.value)
  files.check_writable(output)
  table = files.read_table(pathlib.Path(_INPUT.value), _LABEL.value)
  names = detector.metadata.get("feature_names")
  columns = evaluation.columns_of(detector, files.trained_columns(_INPUT.value, table, names))
  files.write_scores(output, columns)
  found = columns["decision"]
  print(f"{int(found.sum())} of {len(found)} records are anomalous: {output}")


if __name__ == "__main__":
  common.run(main)
