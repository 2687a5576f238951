"""The Detector: preprocess -> score -> p-value -> decision, whatever method trained it."""

from detector_jax.artifact import ArtifactError
from detector_jax.calibration import Calibration, conformal_threshold, p_values
from detector_jax.detector import Detector, load
from detector_jax.health import HealthError
from detector_jax.monitor import Monitor
from detector_jax.preprocessing import Standardizer
from detector_jax.scorer import Scorer
from detector_jax.version import __version__

__all__ = (
  "ArtifactError",
  "Calibration",
  "Detector",
  "HealthError",
  "Monitor",
  "Scorer",
  "Standardizer",
  "__version__",
  "conformal_threshold",
  "load",
  "p_values",
)
