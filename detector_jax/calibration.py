"""Conformal thresholds and p-values: a false-alarm rate that held-out typical data can defend.

Scores are higher for more anomalous records. All that is assumed of calibration and fresh typical
records is that they are exchangeable.
"""

import dataclasses
import functools
import logging
import math
import numbers

import jax
import numpy as np
from scipy import special

logger = logging.getLogger(__name__)

SMALLEST_FPR = 1e-9


def check_rate(fpr: float, confidence: float | None = None) -> None:
  """Raises a ValueError where a rate or a confidence is out of its range."""
  if not isinstance(fpr, numbers.Real) or not 0.0 < fpr < 1.0:
    raise ValueError(f"fpr, the false-positive rate, must be in (0, 1), got {fpr!r}.")
  if fpr < SMALLEST_FPR:
    raise ValueError(f"fpr must be at least {SMALLEST_FPR:g}, got {fpr!r}.")
  if confidence is None:
    return
  if not isinstance(confidence, numbers.Real) or not 0.0 < confidence < 1.0:
    raise ValueError(f"confidence must be in (0, 1), or None, got {confidence!r}.")


def records_needed(fpr: float, confidence: float | None = None) -> int:
  """Smallest number of calibration records for which a threshold at ``fpr`` exists.

  In expectation ``1 / fpr - 1`` (99 at 1 %); with a confidence ``log(1 - confidence) /
  log(1 - fpr)`` (299 at 1 % and 95 %), each rounded up.

  Examples:
    >>> records_needed(0.01), records_needed(0.01, confidence=0.95)
    (99, 299)
  """
  if confidence is None:
    return math.ceil(1.0 / fpr - 1e-9) - 1
  return math.ceil(math.log1p(-confidence) / math.log1p(-fpr) - 1e-9)


def check_records(n: int, fpr: float, confidence: float | None = None) -> None:
  """Raises a ValueError where ``n`` calibration records cannot defend a rate; says how many can."""
  check_rate(fpr, confidence)
  needed = records_needed(fpr, confidence)
  if n >= needed:
    return
  sure, best = "", f"1/{n + 1}"
  if confidence is not None:
    sure, best = (
      f" with {100 * confidence:.10g} % confidence",
      f"{attainable_fpr(n, confidence):.3g}",
    )
  raise ValueError(
    f"A false-positive rate of {fpr:g}{sure} needs at least {needed} different calibration "
    f"records, got {n}; give more held-out typical records or ask for {best}."
  )


def attainable_fpr(n: int, confidence: float | None = None) -> float:
  """Smallest false-positive rate that ``n`` calibration records can defend."""
  if confidence is None:
    return 1.0 / (n + 1)
  return -math.expm1(math.log1p(-confidence) / n) * (1.0 + 1e-9) if n else 1.0


def conformal_threshold(scores: np.ndarray, fpr: float, confidence: float | None = None) -> float:
  r"""Threshold whose false-positive rate is at most ``fpr``, in expectation or with confidence.

  The ``k``-th smallest of ``n`` calibration scores; the decision is ``score > threshold``, strict.
  The rate on fresh typical records, given the calibration records, is a draw from
  :math:`\mathrm{Beta}(n + 1 - k, k)` when scores have no ties, and less with ties. Without a
  confidence :math:`k = \lceil (n + 1)(1 - a) \rceil`, so that its *mean* over calibration draws,
  :math:`(n + 1 - k) / (n + 1)`, is at most ``a``: 4.95 % for n = 100 and a = 0.05, where the plain
  95 % quantile gives 5.88 %. One draw may realise more. With a confidence ``k`` is the smallest for
  which the rate is at most ``a`` in that share of calibration draws.

  Args:
    scores: ``[n]`` scores of held-out typical records.
    fpr: ``a`` in (0, 1).
    confidence: in (0, 1), or None for the rate in expectation.

  Raises:
    ValueError: a setting out of its range, a score is NaN, or too few records to defend that rate
      (see ``records_needed``).

  Examples:
    >>> conformal_threshold(np.arange(1.0, 100.0), fpr=0.05)  # of 99 scores the 95th
    95.0
    >>> conformal_threshold(np.arange(1.0, 100.0), fpr=0.05, confidence=0.9)
    98.0

  References:
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005), inductive
    conformal prediction; Vovk, Conditional validity of inductive conformal predictors (2012),
    Proposition 2a.
  """
  check_rate(fpr, confidence)
  scores = np.asarray(scores, np.float64)
  if np.isnan(scores).any():
    raise ValueError("Calibration scores hold NaN.")
  n = scores.size
  check_records(n, fpr, confidence)
  if confidence is None:
    k = math.ceil((n + 1) * (1.0 - fpr) - 1e-9)
  else:
    ranks = np.arange(1, n + 1)
    held = special.betainc(n + 1 - ranks, ranks, fpr) >= confidence * (1.0 - 1e-12)
    k = int(ranks[held][0]) if held.any() else n
  return float(np.sort(scores)[k - 1])


def stated(fpr: float | None, confidence: float | None) -> str:
  """A detector's rate in words: what holds, and over what."""
  if fpr is None:
    return "no stated rate"
  rate = f"at most {100 * fpr:.4g} % false alarms"
  if confidence is None:
    return f"{rate} in expectation over calibration draws"
  return f"{rate} with {100 * confidence:.10g} % confidence"


def p_values(calibration_scores: np.ndarray, scores: np.ndarray) -> np.ndarray:
  r"""Conformal p-values :math:`(1 + \#\{i : c_i \ge s\}) / (n + 1)`.

  For a fresh typical record P(p <= a) <= a for every a. ``score > conformal_threshold`` implies
  ``p <= fpr``.

  Args:
    calibration_scores: ``[n]`` scores of held-out typical records, in any order.
    scores: ``[m]``.

  Returns:
    float64 ``[m]`` in [1 / (n + 1), 1]; small means anomalous.

  Examples:
    >>> p_values([1.0, 2.0, 3.0, 4.0], scores=[0.0, 3.0, 9.0]).tolist()
    [1.0, 0.6, 0.2]
  """
  ordered = np.sort(np.asarray(calibration_scores, np.float64))
  below = np.searchsorted(ordered, np.asarray(scores, np.float64), side="left")
  return (1.0 + ordered.size - below) / (ordered.size + 1.0)


def alarm_rate(alarms: float, records: float) -> float:
  """False-positive rate at which so many of so many typical records are flagged, e.g. in a day.

  Raises:
    ValueError: not 0 < alarms < records.

  Examples:
    >>> alarm_rate(5, records=20_000)
    0.00025
  """
  if not 0 < alarms < records:
    raise ValueError(
      f"The alarms must be above 0 and fewer than the records, got {alarms:g} of {records:g}."
    )
  return alarms / records


def fdr_rank(counts: np.ndarray, fdr: float) -> int:
  r"""How far down the p-values of a batch may be flagged at a false discovery rate.

  Benjamini and Hochberg's rule on conformal p-values :math:`k / (n + 1)`: the largest ``k`` with
  :math:`m k / (n + 1) \le \mathrm{fdr} \cdot \#\{p_i \le k / (n + 1)\}` of ``m`` records. Of the
  records with a p-value of at most that, ``fdr`` are typical in expectation over draws of batch and
  calibration records, or fewer; conformal p-values depend on one another in the way that allows it.

  Args:
    counts: ``[n + 1]``, how many records of the batch have the p-value ``1 / (n + 1)``, ``2 / (n +
      1)``, ...
    fdr: in (0, 1).

  Returns:
    ``k``, 0 where no record may be flagged: with ``n`` calibration records that takes a share of
    ``1 / (fdr (n + 1))`` of the batch at the least.

  Raises:
    ValueError: ``fdr`` is out of its range.

  References:
    Benjamini and Hochberg (1995); Bates et al., Testing for outliers with conformal p-values
    (2023), Theorem 2.
  """
  if not isinstance(fdr, numbers.Real) or not 0.0 < fdr < 1.0:
    raise ValueError(f"fdr, the false discovery rate, must be in (0, 1), got {fdr!r}.")
  ranks = np.arange(1, len(counts) + 1)
  held = np.sum(counts) * ranks <= fdr * len(counts) * np.cumsum(counts) * (1.0 + 1e-12)
  held &= np.cumsum(counts) > 0
  return int(ranks[held].max(initial=0))


def fdr_shortage(counts: np.ndarray, fdr: float) -> str:
  """Why no record of a batch can be flagged, in a sentence: for where ``fdr_rank`` is 0.

  Args:
    counts: as for ``fdr_rank``, at least one record in all.
    fdr: in (0, 1).

  Examples:
    >>> fdr_shortage(np.array([2, 0, 0, 98]), fdr=0.1)[59:]
    'since 2 of 100 records score above all 3 calibration records: it takes at least 499 of these.'
  """
  records, above, held = int(np.sum(counts)), int(counts[0]), len(counts) - 1
  needed = math.ceil(records / (fdr * max(above, 1)) - 1e-9) - 1
  some = (
    f"{above:,} of {records:,} records score" if above else f"none of {records:,} records scores"
  )
  takes = "it takes" if above else "for a single one it takes"
  return (
    f"No record can be flagged at a false discovery rate of {fdr:g}, since {some} above all "
    f"{held:,} calibration records: {takes} at least {needed:,} of these."
  )


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["scores"],
  meta_fields=["fpr", "threshold", "confidence"],
)
@dataclasses.dataclass(frozen=True)
class Calibration:
  """What held-out typical records say of the scores.

  Attributes:
    scores: float32 ``[n]`` ascending scores of the held-out records; ``n = 0`` when there were
      none.
    fpr: stated false-positive rate, or None where the threshold has none to state.
    threshold: records with a score strictly above are anomalous.
    confidence: share of calibration draws in which the rate holds, or None where it holds in
      expectation over them.
  """

  scores: np.ndarray
  fpr: float | None
  threshold: float
  confidence: float | None = None

  @classmethod
  def from_scores(
    cls, scores: np.ndarray, fpr: float, confidence: float | None = None
  ) -> "Calibration":
    """Calibrates at ``fpr``; see ``conformal_threshold`` for what it raises."""
    scores = np.sort(np.asarray(scores, np.float32))
    threshold = conformal_threshold(scores, fpr, confidence)
    return cls(scores, float(fpr), threshold, None if confidence is None else float(confidence))

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

  def ranks(self, scores: np.ndarray) -> np.ndarray:
    """int64 ``[m]``, p-values times ``n + 1``: 1 for a score above all calibration scores."""
    return np.rint(self.p_value(scores) * (self.scores.size + 1)).astype(np.int64)

  def discoveries(self, scores: np.ndarray, fdr: float) -> np.ndarray:
    """Which records of a batch to flag at a false discovery rate, see ``fdr_rank``.

    Args:
      scores: ``[m]``, of the whole batch.
      fdr: in (0, 1), share of typical records among the flagged ones, in expectation.

    Returns:
      bool ``[m]``. Where no record can be flagged, a warning says why.
    """
    ranks = self.ranks(scores)
    counts = np.bincount(ranks - 1, minlength=self.scores.size + 1)
    rank = fdr_rank(counts, fdr)
    if not rank and ranks.size:
      logger.warning("%s", fdr_shortage(counts, fdr))
    return ranks <= rank
