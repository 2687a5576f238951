"""The threshold of a watched stream, where it follows the stream."""

import logging
import math
from typing import Any

import numpy as np

import detector_jax
from detector_jax.adaptation import Adaptation

logger = logging.getLogger(__name__)


class Follower:
  """An adaptation and its state.

  Args:
    detector: calibrated.
    learn_from: see ``Adaptation``.
    fpr: rate of false alarms, or None for that of the detector.

  Raises:
    ValueError: a rate with a confidence or none at all, or one that the calibration records cannot
      defend.
  """

  def __init__(self, detector: detector_jax.Detector, learn_from: str, fpr: float | None = None):
    if fpr is None:
      fpr = detector.fpr
      if fpr is None or detector.confidence is not None:
        raise ValueError(
          f"A threshold that follows a stream cannot state {detector.rate}: give --fpr, a rate in "
          "the long run."
        )
    self.rules = Adaptation(detector.calibration.scores, fpr, learn_from)
    self.state = self.rules.init()
    if not self.rules.follows_spread:
      logger.warning(
        "Unflagged scores of this detector do not tell by how much their spread changes: the "
        "threshold follows their median alone."
      )

  def verdict(self, score: np.ndarray) -> dict[str, Any]:
    """What is said of the score ``[1]`` of a record, from which it learns."""
    self.state, reading = self.rules.update(self.state, score)
    threshold = float(reading.threshold[0])
    return {
      "p_value": float(reading.p_value[0]),
      "decision": int(reading.flagged[0]),
      "threshold": threshold if math.isfinite(threshold) else None,
    }

  def given_back(self, values: Any) -> Any | None:
    """The record in ``{"typical": record}`` where alarms are judged, else None."""
    if self.rules.learn_from != "judged" or not isinstance(values, dict) or len(values) != 1:
      return None
    record = values.get("typical")
    return record if isinstance(record, dict | list) else None

  def told(self, score: np.ndarray) -> None:
    """Learns from the score ``[1]`` of a record that was flagged and is typical."""
    self.state = self.rules.told(self.state, score)

  def dumps(self) -> dict[str, Any]:
    """See ``Adaptation.dumps``."""
    return self.rules.dumps(self.state)

  def loads(self, content: dict[str, Any]) -> None:
    """See ``Adaptation.loads``."""
    self.state = self.rules.loads(content)
