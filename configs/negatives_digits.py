"""Digit 0 against given ones, on scikit-learn's digits, with masked zeros as close negatives.

  python -m launch.train --config=configs/negatives_digits.py:lf --workdir=runs/digits_lf
  python -m launch.evaluate --workdir=runs/digits_lf

After the colon: drocc, oe or lf. A small copy of configs/negatives_mnist.py; nothing is downloaded.
"""

from drocc_jax.registry import NetworkConfig
from launch.data import Digits
from launch.methods.drocc import Config, usual


def get_config(name: str = "lf") -> Config:
  """Everything as DROCCLF() and its siblings do it, with an MLP on the pixels.

  Raises:
    ValueError: another name.
  """
  return Config(
    data=Digits(typical=0, negatives=(1,)),
    network=NetworkConfig(name="mlp", hidden=(256, 256), input_gain=2.0, bias_range=2.0),
    drocc=usual(name),
  )
