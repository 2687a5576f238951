"""Trains a detector: python -m launch.train --config=configs/drocc_digits.py --workdir=runs/digits

The same command again goes on where an interrupted run stopped.
"""

import pathlib

from absl import flags

from launch import flags as common
from launch import run

_CONFIG = common.config_flag()
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run; made where it is missing.")


def main() -> None:
  """Trains and says where the result is, and what can be done with it."""
  common.require(config=_CONFIG.value, workdir=_WORKDIR.value)
  config, workdir = _CONFIG.value, pathlib.Path(_WORKDIR.value)
  folder = run.train(config, workdir)
  print(f"{folder.name + ':':<9} {folder}")
  tested = config.data.name != "files" or config.data.test
  if run.method_of(config).detects and tested:
    print(f"next:     python -m launch.evaluate --workdir={workdir}")


if __name__ == "__main__":
  common.run(main)
