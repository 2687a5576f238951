r"""DROCC on scikit-learn's bundled handwritten digits, one digit typical.

python -m launch.train --config=configs/drocc_digits.py --workdir=runs/digits
python -m launch.train --config=configs/drocc_digits.py --workdir=runs/three \
      --config.data.typical=3 --config.drocc.radius=4
"""

from launch.data import Digits
from launch.methods.drocc import Config


def get_config() -> Config:
  """Digit 0 typical, everything else as DROCC() does it."""
  return Config(data=Digits(typical=0))
