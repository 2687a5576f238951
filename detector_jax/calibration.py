"""Conformal thresholds and p-values: a false-alarm rate that held-out typical data can defend.

Scores are higher for more anomalous records. All that is assumed of calibration and fresh typical
records is that they are exchangeable.
"""

import dataclasses
import functools
import math

import jax
import numpy as np


def records_needed(fpr: float) -> int:
  """Smallest number of calibration records for which a threshold at ``fpr`` exists."""
  return math.ceil(1.0 / fpr - 1e-9) - 1


def conformal_threshold(scores: np.ndarray, fpr: float) -> float:
  r"""Threshold whose expected false-positive rate is at most ``fpr``.

  The ``k``-th smallest of ``n`` calibration scores with :math:`k = \lceil (n + 1)(1 - a) \rceil`;
  the decision is ``score > threshold``, strict. The expected rate on fresh typical records, over
  draws of both, is :math:`(n + 1 - k) / (n + 1) \le a` when scores have no ties, and less with
  ties: 4.95 % for n = 100 and a = 0.05, where the plain 95 % quantile gives 5.88 %.

  Args:
    scores: ``[n]`` scores of held-out typical records.
    fpr: ``a`` in (0, 1).

  Raises:
    ValueError: ``fpr`` is out of its range, a score is NaN, or ``n < 1 / fpr - 1``, too few
      records to defend that rate.

  References:
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005), inductive
    conformal prediction.
  """
  if not 0.0 < fpr < 1.0:
    raise ValueError(f"fpr, the false-positive rate, must be in (0, 1), got {fpr!r}.")
  scores = np.asarray(scores, np.float64)
  if np.isnan(scores).any():
    raise ValueError("Calibration scores hold NaN.")
  n = scores.size
  if n < records_needed(fpr):
    raise ValueError(
      f"A false-positive rate of {fpr:g} needs at least {records_needed(fpr)} calibration "
      f"records, got {n}; give more held-out typical records or ask for 1/{n + 1}."
    )
  k = math.ceil((n + 1) * (1.0 - fpr) - 1e-9)
  return float(np.sort(scores)[k - 1])


def p_values(calibration_scores: np.ndarray, scores: np.ndarray) -> np.ndarray:
  r"""Conformal p-values :math:`(1 + \#\{i : c_i \ge s\}) / (n + 1)`.

  For a fresh typical record P(p <= a) <= a for every a. ``score > conformal_threshold`` implies
  ``p <= fpr``.

  Args:
    calibration_scores: ``[n]`` scores of held-out typical records, in any order.
    scores: ``[m]``.

  Returns:
    float64 ``[m]`` in [1 / (n + 1), 1]; small means anomalous.
  """
  ordered = np.sort(np.asarray(calibration_scores, np.float64))
  below = np.searchsorted(ordered, np.asarray(scores, np.float64), side="left")
  return (1.0 + ordered.size - below) / (ordered.size + 1.0)


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["scores"], meta_fields=["fpr", "threshold"]
)
@dataclasses.dataclass(frozen=True)
class Calibration:
  """What held-out typical records say of the scores.

  Attributes:
    scores: float32 ``[n]`` ascending scores of the held-out records; ``n = 0`` when there were
      none.
    fpr: stated false-positive rate, or None where the threshold has none to state.
    threshold: records with a score strictly above are anomalous.
  """

  scores: np.ndarray
  fpr: float | None
  threshold: float

  @classmethod
  def of(cls, scores: np.ndarray, fpr: float) -> "Calibration":
    """Calibrates at ``fpr``; see ``conformal_threshold`` for what it raises."""
    scores = np.sort(np.asarray(scores, np.float32))
    return cls(scores, float(fpr), conformal_threshold(scores, fpr))

  @classmethod
  def none(cls, threshold: float) -> "Calibration":
    """No held-out records: a threshold whose false-positive rate nobody can state."""
    return cls(np.zeros((0,), np.float32), None, float(threshold))

  def p_value(self, scores: np.ndarray) -> np.ndarray:
    """p-values of ``scores`` ``[m]``.

    Raises:
      ValueError: there are no calibration records.
    """
    if not self.scores.size:
      raise ValueError(
        "This detector is not calibrated, so it has no p-values: call calibrate(X_typical, fpr) "
        "with held-out typical records."
      )
    return p_values(self.scores, scores)
