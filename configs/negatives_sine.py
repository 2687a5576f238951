"""Figures 1c and 1d of the DROCC paper: a sine in two coordinates, and eight of noise.

  python -m launch.train --config=configs/negatives_sine.py:lf --workdir=runs/sine_lf
  python -m benchmarks.tables --table=figure1

After the colon: drocc, oe or lf. DROCC takes a radius of about sqrt(10), which the paper says the
noise forces on it. DROCC-OE and DROCC-LF also see the sine shifted by 2, and are tested on nearer
shifts. The settings were chosen on seeds from 100 on, which the table does not use.
"""

from drocc_jax.registry import NetworkConfig
from launch.data import NoisySine
from launch.methods.drocc import Config, settings_of

SETTINGS: dict[str, dict[str, float | None]] = {
  "drocc": {"radius": 3.0},
  "oe": {"radius": 1.0, "noise_scale": None},
  "lf": {"radius": 1.0, "noise_scale": None},
}


def get_config(name: str = "lf") -> Config:
  """Raw coordinates, two hidden layers of 256, as for the sine without noise.

  Raises:
    ValueError: another name.
  """
  algorithm = settings_of(name)
  data = NoisySine(displacement=0.4)
  network = NetworkConfig(name="mlp", hidden=(256, 256), input_gain=2.0, bias_range=8.0)
  return Config(
    data,
    network,
    algorithm(**SETTINGS[name], weight_decay=1e-4),
    epochs=400,
    scaling="none",
    calibration_size=0.1,
  )
