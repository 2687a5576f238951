"""DROCC: one-class classification against adversarially generated negatives, in JAX."""

from drocc_jax.estimator import DROCC

__all__ = ("DROCC",)
