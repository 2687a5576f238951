"""Intervals of the metrics and rates of a labelled test set."""

import numpy as np
from scipy import stats

from detector_jax import metrics

LEVEL, DRAWS, SEED = 0.95, 1000, 0
CELLS = 2**20


def bootstrap(
  labels: np.ndarray,
  scores: np.ndarray,
  threshold: float,
  *,
  level: float = LEVEL,
  draws: int = DRAWS,
  seed: int = SEED,
) -> dict[str, list[float]]:
  """Percentile intervals over draws of the test set, with replacement.

  Typical and anomalous records are drawn apart, so that every draw has as many of each as the test
  set. The detector and its threshold stay as they are: how much another training or another
  calibration would change is not in here. Where a metric is at the end of its range in every draw,
  the interval has no width.

  Args:
    labels: ``[n]``, 1 = anomalous.
    scores: ``[n]``.
    threshold: a record is flagged when its score is strictly above.
    level: share of the draws that lie in an interval, in (0, 1).
    draws: >= 1.
    seed: of the draws, >= 0.

  Returns:
    ``[low, high]`` of each metric of ``evaluation.summary``, and of "realised_fpr" and "recall",
    the shares of typical and of anomalous records that are flagged.

  Raises:
    ValueError: as ``metrics.checked``; or ``level`` or ``draws`` is out of its range.

  References:
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
  """
  if not (0.0 < level < 1.0 and draws >= 1):
    raise ValueError(f"level must be in (0, 1) and draws >= 1, got {level!r} and {draws!r}.")
  labels, scores = metrics.checked(labels, scores)
  values, places = np.unique(scores, return_inverse=True)
  flagged = values > np.float32(threshold)
  streams = np.random.default_rng(seed).spawn(2)
  size = max(1, CELLS // len(scores))
  parts = []
  for first in range(0, draws, size):
    number = min(size, draws - first)
    typical, anomalous = (
      _drawn(places[labels == label], len(values), number, streams[label]) for label in (0, 1)
    )
    parts.append(of_counts(values, typical, anomalous, flagged))
  ends = 50.0 * (1.0 - level)
  return {
    name: np.percentile(np.concatenate([p[name] for p in parts]), [ends, 100.0 - ends]).tolist()
    for name in parts[0]
  }


def exact(count: int, total: int, level: float = LEVEL) -> list[float]:
  """``[low, high]`` of a share of which ``count`` of ``total`` records were seen.

  Covers the true share with a probability of at least ``level``, whatever it is: 0 of 50 is 0 to
  7.1 %, where bootstrap draws would not differ.

  References:
    Clopper and Pearson, The use of confidence or fiducial limits (1934).
  """
  interval = stats.binomtest(count, total).proportion_ci(level, method="exact")
  return [float(interval.low), float(interval.high)]


def of_counts(
  values: np.ndarray, typical: np.ndarray, anomalous: np.ndarray, flagged: np.ndarray
) -> dict[str, np.ndarray]:
  """The metrics of many test sets that differ only in how often they hold each score.

  Args:
    values: ``[u]`` the different scores, ascending.
    typical: integers ``[sets, u]``, how many typical records have each score; the same sum >= 1 in
      every set.
    anomalous: the same for anomalous records.
    flagged: bool ``[u]``, whether records of that score are flagged.

  Returns:
    ``[sets]`` values by the names of ``bootstrap``, equal to what ``evaluation.summary`` gives for
    each set by itself.
  """
  n0, n1 = int(typical[0].sum()), int(anomalous[0].sum())
  below0, below1 = np.cumsum(typical, axis=1), np.cumsum(anomalous, axis=1)  # at or below
  above0, above1 = n0 - below0 + typical, n1 - below1 + anomalous  # at or above
  sums = below0 + below1
  at_ratio = values >= _percentile(values, sums, 100.0 * (1.0 - n1 / (n0 + n1)))[:, None]
  mirrored = np.cumsum((typical + anomalous)[:, ::-1], axis=1)
  released = -values >= _percentile(-values[::-1], mirrored, 20.0)[:, None]
  return {
    "auroc": np.sum(anomalous * (below0 - 0.5 * typical), axis=1) / (n0 * n1),
    "ap_anomaly": np.sum(anomalous * above1 / np.maximum(above0 + above1, 1), axis=1) / n1,
    "ap_normal": np.sum(typical * below0 / np.maximum(sums, 1), axis=1) / n0,
    "fpr_at_95tpr_anomaly_positive": _fpr_at_95tpr(above1 / n1, above0 / n0),
    "fpr_at_95tpr_normal_positive": _fpr_at_95tpr(below0 / n0, below1 / n1),
    "f1_at_true_ratio": _f1(anomalous, typical, at_ratio),
    "f1_drocc_released": _f1(typical, anomalous, released),
    "recall_at_3fpr": _recall_at_fpr(typical, below0, below1, 0.03),
    "recall_at_5fpr": _recall_at_fpr(typical, below0, below1, 0.05),
    "realised_fpr": typical[:, flagged].sum(axis=1) / n0,
    "recall": anomalous[:, flagged].sum(axis=1) / n1,
  }


def _drawn(
  places: np.ndarray, different: int, number: int, stream: np.random.Generator
) -> np.ndarray:
  """How often each of the different scores comes in draws of as many records, ``[number, u]``."""
  rows = stream.integers(len(places), size=(number, len(places)))
  cells = places[rows] + different * np.arange(number)[:, None]
  return np.bincount(cells.ravel(), minlength=number * different).reshape(number, different)


def _order_statistic(sums: np.ndarray, rank: int) -> np.ndarray:
  """Place of the score of that rank, from 0, given counts at or below ``[sets, u]``; ``[sets]``."""
  return np.sum(sums <= rank, axis=1)


def _percentile(values: np.ndarray, sums: np.ndarray, q: float) -> np.ndarray:
  """``np.percentile`` of each set, ``[sets]``, given its counts at or below ``[sets, u]``."""
  last = int(sums[0, -1]) - 1
  index = last * (q / 100.0)
  low = int(np.floor(index))
  lower = values[_order_statistic(sums, low)]
  upper = values[_order_statistic(sums, min(low + 1, last))]
  return lower + (index - low) * (upper - lower)


def _fpr_at_95tpr(true: np.ndarray, false: np.ndarray) -> np.ndarray:
  return np.min(np.where(true >= 0.95 - 1e-12, false, 1.0), axis=1)


def _f1(positive: np.ndarray, negative: np.ndarray, flagged: np.ndarray) -> np.ndarray:
  found = np.sum(positive * flagged, axis=1)
  wrong = np.sum(negative * flagged, axis=1)
  return 2.0 * found / (found + wrong + positive.sum(axis=1))


def _recall_at_fpr(
  typical: np.ndarray, below0: np.ndarray, below1: np.ndarray, fpr: float
) -> np.ndarray:
  allowed = int(np.floor(fpr * below1[0, -1] + 1e-9))
  place = _order_statistic(below1, allowed)[:, None]
  strictly = np.take_along_axis(below0 - typical, place, axis=1)[:, 0]
  return strictly / below0[0, -1]
