"""Evaluates the Detector of a run on its test set, knowing nothing of the method."""

import importlib.metadata
import json
import os
import pathlib
from typing import Any

import numpy as np

import detector_jax
from detector_jax import metrics
from launch import data, run
from launch.data import streaming
from launch.reporting import evaluated, intervals

PACKAGES = ("jax", "flax", "optax", "numpy", "scikit-learn")


def evaluate(workdir: pathlib.Path) -> dict[str, Any]:
  """Scores the test set of a run and writes ``metrics.json``, figures and ``report.html``.

  Args:
    workdir: folder of a finished run.

  Returns:
    What ``metrics.json`` holds: every metric, label counts, realised false-positive rate,
    bootstrap intervals, configuration and versions; where the test set has sources, ``sources``,
    see ``by_source``.

  Raises:
    ValueError: the run is not finished, or its test set has no labels.
  """
  config = run.read_config(workdir)
  detector = load_detector(workdir)
  splits: data.Splits = run.method_of(config).load(config)
  x_test, labels = splits.labelled_test()
  scores = streaming.score(detector, x_test)
  flagged = scores > np.float32(detector.threshold)
  result = {
    "metrics": metrics.summary(labels, scores),
    "decision": {
      "threshold": detector.threshold,
      "stated_fpr": detector.fpr,
      "realised_fpr": float(flagged[labels == 0].mean()),
      "recall": float(flagged[labels == 1].mean()),
    },
    "labels": {"typical": int((labels == 0).sum()), "anomalous": int((labels == 1).sum())},
    "epoch": "last",
    "detector": detector.metadata,
    "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
  }
  if splits.sources is not None:
    result["sources"] = by_source(labels, scores, flagged, splits.sources)
  result["intervals"] = intervals_of(labels, scores, detector.threshold, splits.sources)
  temporary = workdir / "metrics.tmp"
  temporary.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
  os.replace(temporary, workdir / "metrics.json")
  evaluated.write(workdir, evaluated.Evaluated(splits, scores, detector, result))
  return result


def intervals_of(
  labels: np.ndarray, scores: np.ndarray, threshold: float, sources: np.ndarray | None
) -> dict[str, Any]:
  """Bootstrap intervals of everything measured; see ``intervals.bootstrap``.

  Args:
    labels: ``[n]``, 1 = anomalous.
    scores: ``[n]``.
    threshold: of the decisions.
    sources: str ``[n]``, or None.

  Returns:
    ``level``, ``draws`` and ``seed``; ``metrics`` and ``decision``, name -> ``[low, high]``; with
    sources, ``sources``, source -> name -> ``[low, high]``, by the names of ``by_source``.
  """
  ends = intervals.bootstrap(labels, scores, threshold)
  decision = {name: ends.pop(name) for name in ("realised_fpr", "recall")}
  result: dict[str, Any] = {
    "level": intervals.LEVEL,
    "draws": intervals.DRAWS,
    "seed": intervals.SEED,
    "metrics": ends,
    "decision": decision,
  }
  if sources is not None:
    result["sources"] = {}
    for source in dict.fromkeys(sources[labels == 1].tolist()):
      rows = (labels == 0) | (sources == source)
      ends = intervals.bootstrap(labels[rows], scores[rows], threshold)
      result["sources"][source] = {
        "auroc": ends["auroc"],
        "fpr_at_95tpr_anomaly_positive": ends["fpr_at_95tpr_anomaly_positive"],
        "flagged": ends["recall"],
      }
  return result


def by_source(
  labels: np.ndarray, scores: np.ndarray, flagged: np.ndarray, sources: np.ndarray
) -> dict[str, dict[str, float]]:
  """Metrics of each source's anomalies against all typical records.

  Args:
    labels: ``[n]``, 1 = anomalous.
    scores: ``[n]``.
    flagged: bool ``[n]``, the decisions.
    sources: str ``[n]``.

  Returns:
    Source -> number of records, AUROC, false-positive rate where 95 % of them are found, and the
    share flagged; in the order in which they first come.
  """
  result = {}
  for source in dict.fromkeys(sources[labels == 1].tolist()):
    own = (labels == 1) & (sources == source)
    rows = own | (labels == 0)
    result[source] = {
      "records": int(own.sum()),
      "auroc": metrics.auroc(labels[rows], scores[rows]),
      "fpr_at_95tpr_anomaly_positive": metrics.fpr_at_tpr(labels[rows], scores[rows]),
      "flagged": float(flagged[own].mean()),
    }
  return result


def load_detector(workdir: pathlib.Path) -> detector_jax.Detector:
  """The finished Detector of a run.

  Raises:
    ValueError: the run has not started, is not finished, or makes no detector.
  """
  config = run.read_config(workdir)
  if not run.method_of(config).detects:
    raise ValueError(
      f"The run in {workdir} has no detector, its method {config.method!r} makes none: give the "
      "workdir of a run that trains one."
    )
  if not (workdir / "detector" / "detector.json").is_file():
    raise ValueError(
      f"The run in {workdir} is not finished: give its launch.train or launch.sweep command again "
      "to resume it."
    )
  return detector_jax.load(workdir / "detector")
