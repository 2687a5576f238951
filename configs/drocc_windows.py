r"""DROCC on windows of a long series: .csv, .parquet or .npy of [time, channels].

  python -m launch.train --config=configs/drocc_windows.py --workdir=runs/sensor \
      --config.data.train=clean.csv --config.data.test=new.csv --config.data.label=is_anomaly \
      --config.data.time=timestamp --config.data.window=128
  python -m launch.score --workdir=runs/sensor --input=more.csv --output=scores.csv --stride=32

Patches of 16 steps that k-means finds stand in front of the network: an LSTM takes many times as
long. Their number and size were not tuned.
"""

from launch.data import Windows
from launch.methods.drocc import Config, FeaturesConfig


def get_config() -> Config:
  """Windows of 64 steps, every 16."""
  return Config(
    data=Windows(),
    features=FeaturesConfig("patches", centroids=64, window=16, pool=4, components=64),
  )
