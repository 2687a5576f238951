"""DROCC: one-class classification against adversarially generated negatives, in JAX."""

from detector_jax.version import __version__
from drocc_jax.estimator import DROCC
from drocc_jax.limited_negatives import DROCCLF, DROCCOE

__all__ = ("DROCC", "DROCCLF", "DROCCOE", "__version__")
