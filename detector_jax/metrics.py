"""Metrics of anomaly detection, in float64 NumPy, with ties handled.

Convention: scores are higher for more anomalous records; label 1 is anomalous, 0 typical. Ranking
metrics must see raw scores, never a sigmoid of them: in float32 it saturates, and ties flatten
the ranking. scikit-learn does the work where it has the metric.
"""

import numpy as np
from sklearn import metrics as sk


def checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Checks and converts ``labels`` and ``scores``, both ``[n]``.

  Raises:
    ValueError: lengths differ, labels are not all 0 or 1, only one class, or a NaN score.
  """
  labels, scores = np.asarray(labels).ravel(), np.asarray(scores, np.float64).ravel()
  if labels.shape != scores.shape:
    raise ValueError(f"{labels.size} labels do not match {scores.size} scores.")
  if np.isnan(scores).any():
    raise ValueError(f"{int(np.isnan(scores).sum())} of {scores.size} scores are NaN.")
  if not np.isin(labels, (0, 1)).all():
    raise ValueError("Labels must be 0 (typical) or 1 (anomalous).")
  labels = labels.astype(np.int64)
  if np.unique(labels).size < 2:
    raise ValueError(
      f"All {labels.size} labels are {labels[0] if labels.size else 'missing'}; ranking metrics "
      "need typical and anomalous records."
    )
  return labels, scores


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
  """P(anomaly scores above a typical record) + P(tie) / 2, in [0, 1].

  Examples:
    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.9])  # three pairs in order, one tied
    0.875
  """
  return float(sk.roc_auc_score(*checked(labels, scores)))


def average_precision(labels: np.ndarray, scores: np.ndarray, positive: str = "anomaly") -> float:
  """Average precision (step-wise, not the trapezoid) with the named class as the positive one.

  Args:
    labels: ``[n]``.
    scores: ``[n]``.
    positive: "anomaly" or "normal".
  """
  labels, scores = checked(labels, scores)
  if positive == "normal":
    labels, scores = 1 - labels, -scores
  return float(sk.average_precision_score(labels, scores))


def fpr_at_tpr(
  labels: np.ndarray, scores: np.ndarray, tpr: float = 0.95, positive: str = "anomaly"
) -> float:
  """Smallest false-positive rate at which at least ``tpr`` of the positives are found.

  The two choices of ``positive`` are different numbers which the field mixes up: with "anomaly"
  the share of typical records flagged when 95 % of anomalies are; with "normal" the share of
  anomalies passed when 95 % of typical records are.

  Args:
    labels: ``[n]``.
    scores: ``[n]``.
    tpr: in (0, 1].
    positive: "anomaly" or "normal".

  Examples:
    >>> labels, scores = [0, 0, 0, 0, 1, 1], [1.0, 2.0, 3.0, 5.0, 4.0, 6.0]
    >>> fpr_at_tpr(labels, scores, tpr=1.0)  # the typical record that scores 5 is flagged, too
    0.25
    >>> fpr_at_tpr(labels, scores, tpr=1.0, positive="normal")
    0.5
  """
  labels, scores = checked(labels, scores)
  if positive == "normal":
    labels, scores = 1 - labels, -scores
  false, true, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
  return float(false[true >= tpr - 1e-12].min())


def f1_at_true_ratio(labels: np.ndarray, scores: np.ndarray) -> float:
  """F1 of the anomalies when as many records are flagged as there are anomalies.

  The protocol of DAGMM and GOAD: threshold at the true share of anomalies in the test set, which
  a user would not know. Flags ``score >= `` that percentile, ties included.
  """
  labels, scores = checked(labels, scores)
  threshold = np.percentile(scores, 100.0 * (1.0 - labels.mean()))
  return float(sk.f1_score(labels, scores >= threshold))


def recall_at_fpr(positive: np.ndarray, negative: np.ndarray, fpr: float) -> float:
  """Share of positives kept while at most a share ``fpr`` of all negatives passes.

  Args:
    positive: ``[p]`` anomaly scores of the class to keep (typical: low).
    negative: ``[q]`` anomaly scores of all negatives, far and close together.
    fpr: in [0, 1].

  Returns:
    Recall in [0, 1], at the largest threshold that lets at most ``floor(fpr q)`` negatives score
    below it; a positive tied with the first negative that must not pass does not count.

  Examples:
    >>> recall_at_fpr([1.0, 2.0, 5.0], negative=[3.0, 4.0, 6.0, 7.0], fpr=0.25)  # 3 passes
    0.6666666666666666
  """
  positive, negative = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
  if np.isnan(positive).any() or np.isnan(negative).any():
    raise ValueError("Scores hold NaN.")
  if not positive.size or not negative.size:
    raise ValueError("recall_at_fpr needs positives and negatives.")
  allowed = int(np.floor(fpr * negative.size + 1e-9))
  if allowed >= negative.size:
    return 1.0
  return float(np.mean(positive < np.sort(negative)[allowed]))


def summary(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
  """Every metric of a labelled test set, by the keys that reports and tables use."""
  typical, anomalous = scores[np.asarray(labels) == 0], scores[np.asarray(labels) == 1]
  return {
    "auroc": auroc(labels, scores),
    "ap_anomaly": average_precision(labels, scores, "anomaly"),
    "ap_normal": average_precision(labels, scores, "normal"),
    "fpr_at_95tpr_anomaly_positive": fpr_at_tpr(labels, scores, 0.95, "anomaly"),
    "fpr_at_95tpr_normal_positive": fpr_at_tpr(labels, scores, 0.95, "normal"),
    "f1_at_true_ratio": f1_at_true_ratio(labels, scores),
    "recall_at_3fpr": recall_at_fpr(typical, anomalous, 0.03),
    "recall_at_5fpr": recall_at_fpr(typical, anomalous, 0.05),
  }
