"""Why records are flagged, in words, whichever method the detector is of."""

import numpy as np

import detector_jax
from detector_jax.typical import Typical


def check(detector: detector_jax.Detector) -> None:
  """Raises a ValueError where a detector cannot say why it flags a record."""
  if not detector.metadata.get("layers"):
    Typical.from_detector(detector)


def texts(detector: detector_jax.Detector, x: np.ndarray) -> list[str]:
  """One text for each of the records ``[n, ...]``: columns, or of NeuralFP the layer.

  Raises:
    ValueError: as ``check``.
  """
  told: list[str] = []
  for start in range(0, len(x), detector.batch_size):  # maps of layers are large
    rows = x[start : start + detector.batch_size]
    if detector.metadata.get("layers"):
      import fingerprint_jax  # and Flax

      told += fingerprint_jax.explain(detector, rows).describe()
    else:
      told += detector.explain(rows).describe()
  return told
