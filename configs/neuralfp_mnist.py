"""NeuralFP of the 7-layer MNIST classifier against Fashion-MNIST, CIFAR-10 and SVHN.

    python -m launch.train --config=configs/neuralfp_mnist.py --workdir=runs/fp
    python -m launch.evaluate --workdir=runs/fp

A classifier that is trained already: --config.classifier.workdir=runs/classifier_mnist

About 3 minutes on 2 CPU cores. AUROC of the paper's rule in percent over 3 seeds, by
``python -m benchmarks.tables --table=neuralfp``:
Fashion-MNIST 99.91 +- 0.02, CIFAR-10 100.00 +- 0.00, SVHN 100.00 +- 0.00.
"""

from fingerprint_jax.classifiers import Config as TrainingConfig
from fingerprint_jax.train import Config as FingerprintConfig
from launch.data import OpenSetImages
from launch.methods.neuralfp import ClassifierConfig, Config


def get_config() -> Config:
  """The MNIST row of the paper's table."""
  return Config(
    data=OpenSetImages(name="mnist", ood=("fashion_mnist", "cifar10", "svhn_cropped")),
    classifier=ClassifierConfig(training=TrainingConfig(epochs=5, learning_rate=1e-3, shift=2)),
    fingerprint=FingerprintConfig(epochs=8),
    combine="one_out",
  )
