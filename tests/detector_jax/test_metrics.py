"""Metrics against hand-computed values, the golden cases of the project and their failure modes."""

import numpy as np
import pytest

from detector_jax import metrics

LABELS, SCORES = np.array([0, 0, 1, 1]), np.array([0.2, 0.4, 0.35, 0.1])


def test_perfect_separation():
  labels, scores = np.array([0, 0, 0, 1, 1]), np.array([-3.0, 1.0, 2.0, 2.5, 9.0])
  summary = metrics.summary(labels, scores)
  assert summary["auroc"] == 1.0
  assert summary["ap_anomaly"] == 1.0
  assert summary["ap_normal"] == pytest.approx(1.0)
  assert summary["fpr_at_95tpr_anomaly_positive"] == 0.0
  assert summary["fpr_at_95tpr_normal_positive"] == 0.0
  assert summary["f1_at_true_ratio"] == 1.0
  assert summary["recall_at_3fpr"] == 1.0


def test_golden_case_of_four_records():
  assert metrics.auroc(LABELS, SCORES) == 0.25
  assert metrics.average_precision(LABELS, SCORES) == 0.5
  assert metrics.fpr_at_tpr(LABELS, SCORES) == 1.0


def test_equal_scores_give_auroc_one_half():
  assert metrics.auroc(np.array([0, 1, 1, 0, 1]), np.zeros(5)) == 0.5


def test_a_tie_counts_half_in_auroc():
  # Pairs (anomaly, typical): (2, 1) right, (2, 2) tied -> (1 + 0.5) / 2.
  assert metrics.auroc(np.array([0, 0, 1]), np.array([1.0, 2.0, 2.0])) == 0.75


def test_average_precision_of_either_class_by_hand():
  labels, scores = np.array([0, 0, 1]), np.array([1.0, 3.0, 2.0])
  assert metrics.average_precision(labels, scores, "anomaly") == pytest.approx(1 / 2)
  assert metrics.average_precision(labels, scores, "normal") == pytest.approx((1 + 2 / 3) / 2)


def test_the_two_fpr_at_tpr_differ():
  labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
  scores = np.array([1.0, 2.0, 3.0, 10.0, 4.0, 5.0, 6.0, 7.0])
  # All anomalies are flagged from 4 on: one typical record (10) of four goes with them.
  assert metrics.fpr_at_tpr(labels, scores, 0.95, "anomaly") == 0.25
  # All typical records pass up to 10: all anomalies pass with them.
  assert metrics.fpr_at_tpr(labels, scores, 0.95, "normal") == 1.0


def test_fpr_at_a_lower_tpr():
  labels = np.array([0, 0, 1, 1])
  assert metrics.fpr_at_tpr(labels, np.array([1.0, 3.0, 2.0, 4.0]), 0.5) == 0.0
  assert metrics.fpr_at_tpr(labels, np.array([1.0, 3.0, 2.0, 4.0]), 0.51) == 0.5


def test_f1_at_true_ratio_flags_as_many_as_there_are_anomalies():
  # Two anomalies, so the two highest scores, 5 and 6, are flagged; one of them is an anomaly.
  labels, scores = np.array([0, 0, 0, 1, 1]), np.array([1.0, 2.0, 5.0, 4.0, 6.0])
  assert metrics.f1_at_true_ratio(labels, scores) == 0.5


@pytest.mark.parametrize(
  ("fpr", "recall"), [(0.0, 0.5), (0.03, 0.5), (0.05, 0.75), (0.1, 1.0), (1.0, 1.0)]
)
def test_recall_at_fpr_by_hand(fpr, recall):
  positive = np.array([1.0, 2.0, 3.0, 4.0])
  negative = np.concatenate([[2.5, 3.5], np.full(18, 100.0)])
  # 20 negatives: 3 % allow none to pass (below 2.5: two positives), 5 % allow one (below 3.5).
  assert metrics.recall_at_fpr(positive, negative, fpr) == recall


def test_recall_at_fpr_does_not_count_ties_with_a_negative_that_must_not_pass():
  assert metrics.recall_at_fpr(np.array([1.0, 2.0]), np.array([2.0, 3.0]), 0.0) == 0.5
  assert metrics.recall_at_fpr(np.array([2.0]), np.array([2.0, 2.0, 2.0]), 0.5) == 0.0


def test_ranking_metrics_do_not_change_under_a_monotone_map(rng):
  labels, scores = np.repeat([0, 1], 20), np.round(rng.normal(size=40), 1)
  before, after = metrics.summary(labels, scores), metrics.summary(labels, np.exp(scores))
  for name in set(before) - {"f1_at_true_ratio"}:
    assert before[name] == pytest.approx(after[name]), name


@pytest.mark.parametrize(
  "metric",
  [
    metrics.auroc,
    metrics.average_precision,
    metrics.fpr_at_tpr,
    metrics.f1_at_true_ratio,
  ],
)
@pytest.mark.parametrize(
  ("labels", "scores", "message"),
  [
    ([0, 1], [np.nan, 1.0], "1 of 2 scores are NaN"),
    ([1, 1], [0.0, 1.0], "All 2 labels are 1"),
    ([0, 0], [0.0, 1.0], "All 2 labels are 0"),
    ([], [], "All 0 labels are missing"),
    ([1, -1], [0.0, 1.0], "Labels must be 0"),
    ([0, 1, 1], [0.0, 1.0], "3 labels do not match 2 scores"),
  ],
)
def test_unusable_input_is_refused(metric, labels, scores, message):
  with pytest.raises(ValueError, match=message):
    metric(np.array(labels), np.array(scores))


def test_recall_at_fpr_refuses_nan_and_empty():
  with pytest.raises(ValueError, match="NaN"):
    metrics.recall_at_fpr(np.array([1.0]), np.array([np.nan]), 0.03)
  with pytest.raises(ValueError, match="needs positives and negatives"):
    metrics.recall_at_fpr(np.array([]), np.array([1.0]), 0.03)
