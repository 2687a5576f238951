"""Table 6 of the DROCC paper: the unit ball is typical, spheres round it are not.

  python -m launch.train --config=configs/drocc_sphere.py --workdir=runs/sphere
  python -m benchmarks.tables --table=6

The paper gives no settings for this table. Radius 1 puts every negative of a record in the middle
of the ball on its surface.
"""

from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.registry import NetworkConfig
from launch.data import Sphere
from launch.methods.drocc import Config


def get_config() -> Config:
  """Raw coordinates, one hidden layer of 128."""
  return Config(
    data=Sphere(radius=1.2),
    network=NetworkConfig(name="mlp"),
    drocc=DroccConfig(radius=1.0, gamma=1.0),
    scaling="none",
    calibration_size=0.1,
  )
