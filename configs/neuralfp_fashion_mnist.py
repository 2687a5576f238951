"""NeuralFP of the 11-layer Fashion-MNIST classifier against MNIST, CIFAR-10 and SVHN.

python -m launch.train --config=configs/neuralfp_fashion_mnist.py --workdir=runs/fp_fashion
python -m launch.evaluate --workdir=runs/fp_fashion

About 7 minutes on 2 CPU cores. AUROC of the paper's rule in percent over 3 seeds, by
``python -m benchmarks.tables --table=neuralfp``:
MNIST 98.70 +- 0.40, CIFAR-10 98.36 +- 0.83, SVHN 97.76 +- 1.10.
"""

from fingerprint_jax.classifiers import Config as TrainingConfig
from fingerprint_jax.train import Config as FingerprintConfig
from launch.data import OpenSetImages
from launch.methods.neuralfp import ClassifierConfig, Config


def get_config() -> Config:
  """The Fashion-MNIST row of the paper's table."""
  return Config(
    data=OpenSetImages(name="fashion_mnist", ood=("mnist", "cifar10", "svhn_cropped")),
    classifier=ClassifierConfig(training=TrainingConfig(epochs=8, learning_rate=1.5e-3, flip=True)),
    fingerprint=FingerprintConfig(epochs=8),
    combine="one_out",
  )
