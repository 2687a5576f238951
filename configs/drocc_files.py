r"""DROCC on your own files: .csv, .npy, .npz, .parquet or .mat.

  python -m launch.train --config=configs/drocc_files.py --workdir=runs/mine \
      --config.data.train=a.csv --config.data.test=b.csv --config.data.label=target

The test file and the label (1 = anomalous) are needed for launch.evaluate only. Rows of the
training file that carry the label 1 are left out.
"""

from launch.data import Files
from launch.methods.drocc import Config


def get_config() -> Config:
  """Everything as DROCC() does it."""
  return Config(data=Files())
