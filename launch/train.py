"""Trains a detector.

  python -m launch.train --config=configs/drocc_digits.py --workdir=runs/digits

The same command again goes on where an interrupted run stopped. ``--devices`` spreads it over the
devices of this machine, ``--coordinator_address --num_processes --process_id`` over machines.
``--dry_run`` reads the data, tries some steps and says what a training costs; it leaves nothing.
"""

import pathlib

from absl import flags

from launch import devices, run
from launch import flags as common

_CONFIG = common.config_flag()
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run; made where it is missing.")
_EVALUATE = flags.DEFINE_bool(
  "evaluate", False, "Go on with what launch.evaluate does, where there are test records."
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Say what would be trained, and how long it takes; needs no --workdir."
)
_DEVICES = devices.define_flags()


def main() -> None:
  """Trains and says where the result is, and what can be done with it."""
  if _DRY_RUN.value:
    common.require(config=_CONFIG.value)
    with devices.session(_DEVICES()):
      for estimate in run.dry_run(_CONFIG.value):
        print("\n".join(estimate.lines))
    return
  common.require(config=_CONFIG.value, workdir=_WORKDIR.value)
  config, workdir = _CONFIG.value, pathlib.Path(_WORKDIR.value)
  with devices.session(_DEVICES()):
    folder, primary = run.train(config, workdir), devices.primary()
  if not primary:
    return
  print(f"{folder.name + ':':<9} {folder}")
  if not (run.method_of(config).detects and config.data.is_tested):
    return
  if _EVALUATE.value:
    from launch import evaluation  # figures and the report, slow to import

    evaluation.print_summary(workdir, evaluation.evaluate(workdir))
  else:
    print(f"next:     python -m launch.evaluate --workdir={workdir}")


if __name__ == "__main__":
  common.run(main)
