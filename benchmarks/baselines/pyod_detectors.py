"""Detectors of PyOD with their own defaults; needs the extra ``pyod``, and LUNAR torch beside it.

KDE    density by Gaussian kernels of width 1 (Latecki et al., 2007)
GMM    one Gaussian with a full covariance (scikit-learn's mixture of 1)
CBLOF  distance from the centre of a large k-means cluster (He et al., 2003)
INNE   isolation by balls that reach to the nearest neighbour (Bandaragoda et al., 2018)
LUNAR  a network on the distances to neighbours (Goodge et al., 2022)
"""

import importlib
import importlib.util
import logging
from typing import Any, Self

import numpy as np

from detector_jax import HealthError

logger = logging.getLogger(__name__)

NAMES = ("KDE", "GMM", "CBLOF", "INNE", "LUNAR")
SEEDED = ("GMM", "CBLOF", "INNE")


class Pyod:
  """A PyOD detector as a baseline.

  Args:
    detector: has ``fit`` and ``decision_function``, higher = more anomalous.
  """

  def __init__(self, detector: Any):
    self._detector = detector

  def fit(self, x: np.ndarray) -> Self:
    """Learns from standardised typical records ``[n, d]``.

    Raises:
      HealthError: it cannot, such as CBLOF where no cluster is large.
    """
    try:
      self._detector.fit(x)
    except ValueError as error:
      raise HealthError(str(error)) from error
    return self

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[m, d]`` to ``[m]``; higher = more anomalous."""
    return self._detector.decision_function(x)


def make(seed: int, name: str) -> Pyod:
  """One of ``NAMES``; KDE is deterministic, LUNAR takes torch's seed.

  Raises:
    ImportError: PyOD, or torch for LUNAR, is not installed.
  """
  module = importlib.import_module(f"pyod.models.{name.lower()}")
  if name == "LUNAR":
    importlib.import_module("torch").manual_seed(seed)
  settings = {"random_state": seed} if name in SEEDED else {}
  return Pyod(getattr(module, name)(**settings))


def installed() -> tuple[str, ...]:
  """Those of ``NAMES`` that can be made here; a warning says which cannot."""
  has = {name: importlib.util.find_spec(name) is not None for name in ("pyod", "torch")}
  found = tuple(name for name in NAMES if has["pyod"] and (name != "LUNAR" or has["torch"]))
  missing = [name for name in NAMES if name not in found]
  if missing:
    logger.warning(
      "Left out %s: pip install 'drocc-jax[pyod]', and torch for LUNAR.", ", ".join(missing)
    )
  return found
