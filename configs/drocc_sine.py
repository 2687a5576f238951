"""Table 7, Figures 1b and 5 of the DROCC paper: a sine curve is typical, displaced copies are not.

  python -m launch.train --config=configs/drocc_sine.py --workdir=runs/sine
  python -m benchmarks.tables --table=7

The paper gives no settings for this table. The curve is 12.6 wide, so the kinks of the first layer
are spread over [-8, 8] divided by its weights: with the usual zero biases they all lie near the
origin and the network cannot follow the curve's ends.
"""

from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.registry import NetworkConfig
from launch.data import Sine
from launch.methods.drocc import Config


def get_config() -> Config:
  """Raw coordinates, two hidden layers of 256."""
  return Config(
    data=Sine(displacement=0.2),
    network=NetworkConfig(name="mlp", hidden=(256, 256), input_gain=2.0, bias_range=8.0),
    drocc=DroccConfig(radius=0.2, gamma=2.0),
    epochs=400,
    scaling="none",
    calibration_size=0.1,
  )
