r"""DROCC on a folder of pictures, with what is typical in train/good and others in test/NAME.

  python -m launch.train --config=configs/drocc_pictures.py --workdir=runs/parts --evaluate \
      --config.data.folder=parts
  python -m launch.score --workdir=runs/parts --input=new_pictures/ --output=scores.csv

This is the layout of MVTec AD: test/good is typical, too, and any other folder of test/ a kind of
anomaly. Other folders by patterns: --config.data.train='*.png' --config.data.test=''. Patches that
k-means finds stand in front of the network. They are averaged over two by two parts of the picture,
where a scratch of a few pixels is lost: so the patch that is least like those of training speaks
too (--config.features.defects=False leaves it out), and the louder of the two is the score. Half
of the pictures that are held out give their units, half the threshold; launch.score says in the
column group which one spoke. How scratches are found: python -m benchmarks.tables --table=defects
"""

from launch.data import Pictures
from launch.methods.drocc import Config, FeaturesConfig


def get_config() -> Config:
  """Pictures of 64 x 64."""
  return Config(data=Pictures(), features=FeaturesConfig("patches", defects=True))
