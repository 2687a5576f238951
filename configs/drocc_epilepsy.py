"""Table 3 of the DROCC paper: epileptic seizures in pieces of EEG.

  export OOD_DATA_DIR=...
  python -m launch.train --config=configs/drocc_epilepsy.py --workdir=runs/epilepsy
  python -m benchmarks.tables --table=3

The settings of the released command (the paper's Table 13): an LSTM of 128, radius 10, mu 0.5,
gamma 2, 200 epochs in batches of 256, 50 ascent steps of 0.1, a projection every 10, Adam at 1e-5
and a tenth of it in the second half. The released code standardises each moment of the piece on its
own; here all moments share mean and deviation, as a piece may start anywhere.

After the colon: released (the released split) or recording (no recording on both sides).
"""

from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.registry import NetworkConfig
from launch.data import Epilepsy
from launch.data.series import SPLITS
from launch.methods.drocc import Config


def get_config(split: str = "released") -> Config:
  """The released settings on one of the two splits.

  Raises:
    ValueError: another split.
  """
  if split not in SPLITS:
    raise ValueError(f"After the colon goes one of {', '.join(SPLITS)}; got {split!r}.")
  return Config(
    data=Epilepsy(split=split),
    network=NetworkConfig(name="lstm"),
    drocc=DroccConfig(
      radius=10.0,
      gamma=2.0,
      mu=0.5,
      step_size=0.1,
      num_steps=50,
      project_every=10,
      learning_rate=1e-5,
      schedule="released_series",
      average_decay=0.0,
    ),
    epochs=200,
    batch_size=256,
    scaling="moments",
    calibration_size=0.1,
  )
