"""Evaluates a finished run.

python -m launch.evaluate --workdir=runs/digits
"""

import pathlib

from absl import flags

from launch import evaluation
from launch import flags as common

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run that launch.train finished.")


def main() -> None:
  """Prints the metrics and where they, the figures and the report are."""
  common.require(workdir=_WORKDIR.value)
  workdir = pathlib.Path(_WORKDIR.value)
  evaluation.print_summary(workdir, evaluation.evaluate(workdir))


if __name__ == "__main__":
  common.run(main)
