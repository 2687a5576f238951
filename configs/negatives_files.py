r"""Your own files where some anomalies are known, but not all: DROCC-LF, DROCC-OE or DROCC.

  python -m launch.train --config=configs/negatives_files.py:lf --workdir=runs/mine \
      --config.data.train=a.csv --config.data.test=b.csv --config.data.label=target

After the colon: lf, oe or drocc. Rows of the training file that carry the label 1 are the given
negatives; rows with 0 are typical. The test file is needed for launch.evaluate only.
"""

from launch.data import Files
from launch.methods.drocc import Config, usual


def get_config(name: str = "lf") -> Config:
  """Everything as DROCCLF() and its siblings do it.

  Raises:
    ValueError: another name.
  """
  return Config(data=Files(), drocc=usual(name))
