"""Table 2 of the DROCC paper, Thyroid, with the settings of the released code.

  export OOD_DATA_DIR=...
  python -m launch.train --config=configs/drocc_thyroid.py --workdir=runs/thyroid
  python -m benchmarks.tables --table=2

Radius, learning rate and step size from the paper's Table 10; 50 ascent steps, a projection every
10, batches of 256, 50 epochs of positives only and a learning rate that drops tenfold at 30, 60 and
90 % of the rest, as the released trainer has them. DROCC() with its own defaults does better.
"""

from drocc_jax.drocc import Config as DroccConfig
from launch.data import DataConfig
from launch.run import Config, NetworkConfig


def get_config() -> Config:
  """The released settings."""
  return Config(
    data=DataConfig(name="thyroid", split="released"),
    network=NetworkConfig(name="mlp", hidden=(128,)),
    drocc=DroccConfig(
      radius=2.5,
      gamma=2.0,
      mu=1.0,
      step_size=0.01,
      num_steps=50,
      project_every=10,
      learning_rate=1e-3,
      schedule="released",
      average_decay=0.0,
    ),
    epochs=100,
    warmup_epochs=50,
    batch_size=256,
    calibration_size=0.1,
  )
