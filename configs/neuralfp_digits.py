"""NeuralFP of a small classifier of scikit-learn's digits; nothing is downloaded.

python -m launch.train --config=configs/neuralfp_digits.py --workdir=runs/fp_digits
python -m launch.evaluate --workdir=runs/fp_digits
"""

from fingerprint_jax.classifiers import Config as TrainingConfig
from fingerprint_jax.train import Config as FingerprintConfig
from launch.data import ShiftedDigits
from launch.methods.neuralfp import ClassifierConfig, Config


def get_config() -> Config:
  """Ten digits typical; rotated, inverted, noisy and blank images out-of-distribution."""
  return Config(
    data=ShiftedDigits(),
    classifier=ClassifierConfig(training=TrainingConfig(epochs=40, batch_size=64)),
    fingerprint=FingerprintConfig(epochs=60, batch_size=64),
    held_out=0.3,
    fpr=0.05,
  )
