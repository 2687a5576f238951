r"""Trains every combination of some settings and keeps the best.

  python -m launch.sweep --config=configs/drocc_digits.py --workdir=runs/sweep \
      --sweep.radius=1,2,4 --sweep.seed=0:5

Values are lists (1,2,4), ranges of integers (0:5 is 0, 1, 2, 3, 4) or log(0.5,8,5), evenly spaced
factors. All models go through one compiled program. The same command again trains what is missing.
"""

import pathlib
import sys

from absl import flags
from rich.console import Console

from launch import flags as common
from launch import sweep_flags, sweeping
from launch.reporting import sweeps

_CONFIG = common.config_flag()
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the sweep; made where it is missing.")
_GROUP_SIZE = flags.DEFINE_integer(
  "group_size",
  0,
  "Models trained at a time; 0: one on a CPU, up to 32 elsewhere. A group that "
  "does not fit into memory is halved.",
  lower_bound=0,
)


def main() -> None:
  """Prints the ranking and says where the results are, and what can be done with them."""
  common.require(config=_CONFIG.value, workdir=_WORKDIR.value)
  config, workdir = _CONFIG.value, pathlib.Path(_WORKDIR.value)
  result = sweeping.sweep(config, sweep_flags.given(), workdir, _GROUP_SIZE.value)
  Console().print(sweeps.table(result))
  print(f"ranked by: {result['ranked_by']}")
  print(f"results:   {workdir / 'sweep.json'}, {workdir / 'sweep.csv'}, {workdir / 'sweep.png'}")
  print(f"detector:  {workdir / 'detector'}")
  if config.data.is_tested:
    print(f"next:      python -m launch.evaluate --workdir={workdir}")


if __name__ == "__main__":
  sweep_flags.define(sys.argv)
  common.run(main)
