"""NeuralFP: fingerprints of a trained network, in JAX."""

from fingerprint_jax.autoencoders import (
  ConvAutoencoder,
  DenseAutoencoder,
  VariationalAutoencoder,
)
from fingerprint_jax.estimator import Explanation, NeuralFP, explain

__all__ = (
  "ConvAutoencoder",
  "DenseAutoencoder",
  "Explanation",
  "NeuralFP",
  "VariationalAutoencoder",
  "explain",
)
