"""The 11-layer Fashion-MNIST classifier, on the records not needed for calibration.

    python -m launch.train --config=configs/classifier_fashion_mnist.py --workdir=runs/fashion

Reads Fashion-MNIST through tfds where it has it, else from the folder that OOD_DATA_DIR names.
"""

from fingerprint_jax.classifiers import Config as TrainingConfig
from launch.data import OpenSetImages
from launch.methods.classifier import Config


def get_config() -> Config:
  """The classifier of the tables neuralfp*, Fashion-MNIST model."""
  return Config(
    data=OpenSetImages(name="fashion_mnist", ood=("mnist",)),
    training=TrainingConfig(epochs=8, learning_rate=1.5e-3, flip=True),
  )
