"""NeuralFP: fingerprints of a trained network, in JAX."""

from detector_jax.joined import joined
from detector_jax.version import __version__
from fingerprint_jax.autoencoders import (
  ConvAutoencoder,
  DenseAutoencoder,
  VariationalAutoencoder,
)
from fingerprint_jax.estimator import NeuralFP
from fingerprint_jax.explanation import Explanation, explain

__all__ = (
  "ConvAutoencoder",
  "DenseAutoencoder",
  "Explanation",
  "NeuralFP",
  "VariationalAutoencoder",
  "__version__",
  "explain",
  "joined",
)
