"""DROCC with its own defaults on any data that the launcher knows by name.

  python -m launch.train --config=configs/drocc.py:breast_cancer --workdir=runs/cancer

After the colon: digits, breast_cancer, sine, sphere, mnist, fashion_mnist, cifar10, epilepsy,
thyroid, arrhythmia, abalone, adbench/NAME, speech or files. ``--config.data.FIELD=VALUE`` sets what
the source has; ``--help`` lists it.
"""

from launch import data
from launch.methods.drocc import Config


def get_config(name: str = "digits") -> Config:
  """Everything as DROCC() does it.

  Raises:
    ValueError: no data of that name.
  """
  return Config(data=data.named(name))
