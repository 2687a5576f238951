"""Table 1 of the DROCC paper: one class of CIFAR-10 against the others.

  export OOD_DATA_DIR=...
  python -m launch.train --config=configs/drocc_cifar10.py:airplane --workdir=runs/airplane
  python -m benchmarks.tables --table=1

After the colon: the typical class, airplane ... truck. Radius, mu and optimiser of the class from
the paper's Table 11, whose last column (0.001 or 0.01) is read as the learning rate. The other
settings are those of the released command for CIFAR-10: 100 epochs in batches of 256, SGD without
momentum (its default, where the table has "SGD (M)"), gamma 1, 50 ascent steps of 0.001, a
projection every 10, a learning rate that drops tenfold at 40 and 80 % of the epochs, and batch
statistics as its passes make them. 50 steps of 0.001 move a negative by 0.05 at most, on a sphere
of radius 8 or more: it is a random point of that sphere, as in DROCC-Rand.
"""

from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.registry import NetworkConfig
from launch.data import OneClassImages
from launch.methods.drocc import Config

# class -> radius, mu, optimizer, learning rate
SETTINGS = {
  "airplane": (8.0, 1.0, "adam", 1e-3),
  "automobile": (8.0, 0.5, "sgd", 1e-3),
  "bird": (40.0, 0.5, "adam", 1e-3),
  "cat": (16.0, 0.5, "sgd", 1e-3),
  "deer": (16.0, 1.0, "sgd", 1e-3),
  "dog": (24.0, 0.5, "sgd", 1e-2),
  "frog": (20.0, 0.5, "adam", 1e-2),
  "horse": (24.0, 0.5, "sgd", 1e-2),
  "ship": (44.0, 1.0, "adam", 1e-3),
  "truck": (16.0, 0.5, "sgd", 1e-3),
}
CLASSES = tuple(SETTINGS)


def get_config(name: str = "airplane") -> Config:
  """The released settings for one typical class.

  Raises:
    ValueError: another name.
  """
  if name not in SETTINGS:
    raise ValueError(f"After the colon goes one of {', '.join(SETTINGS)}; got {name!r}.")
  radius, mu, optimizer, learning_rate = SETTINGS[name]
  return Config(
    data=OneClassImages(name="cifar10", typical=CLASSES.index(name)),
    network=NetworkConfig(name="cifar_lenet"),
    drocc=DroccConfig(
      radius=radius,
      gamma=1.0,
      mu=mu,
      step_size=0.001,
      num_steps=50,
      project_every=10,
      optimizer=optimizer,
      momentum=0.0,
      learning_rate=learning_rate,
      schedule="released_images",
      average_decay=0.0,
      batch_statistics="released",
    ),
    epochs=100,
    batch_size=256,
    scaling="moments",
    calibration_size=0.1,
  )
