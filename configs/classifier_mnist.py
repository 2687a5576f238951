"""The 7-layer MNIST classifier, on the records that its fingerprints do not need for calibration.

    python -m launch.train --config=configs/classifier_mnist.py --workdir=runs/classifier_mnist

Reads MNIST through tfds where it has it, else from the folder that OOD_DATA_DIR names.
"""

from fingerprint_jax.classifiers import Config as TrainingConfig
from launch.data import OpenSetImages
from launch.methods.classifier import Config


def get_config() -> Config:
  """The classifier of the tables neuralfp*, MNIST model."""
  return Config(
    data=OpenSetImages(name="mnist", ood=("fashion_mnist",)),
    training=TrainingConfig(epochs=5, learning_rate=1e-3, shift=2),
  )
