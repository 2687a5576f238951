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
from launch.reporting import figures, progress, report

PACKAGES = ("jax", "flax", "optax", "numpy", "scikit-learn")


def evaluate(workdir: pathlib.Path) -> dict[str, Any]:
  """Scores the test set of a run and writes ``metrics.json``, figures and ``report.html``.

  Args:
    workdir: folder of a finished run.

  Returns:
    What ``metrics.json`` holds: every metric, label counts, realised false-positive rate,
    configuration and versions.

  Raises:
    ValueError: the run is not finished, or its test set has no labels.
  """
  config = run.read_config(workdir)
  detector = load_detector(workdir)
  splits = data.load(config.data)
  x_test, labels = splits.labelled_test()
  scores = detector.score(x_test)
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
  temporary = workdir / "metrics.tmp"
  temporary.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
  os.replace(temporary, workdir / "metrics.json")
  _report(workdir, splits, scores, detector, result)
  return result


def load_detector(workdir: pathlib.Path) -> detector_jax.Detector:
  """The finished Detector of a run.

  Raises:
    ValueError: the run has not started or is not finished.
  """
  run.read_config(workdir)
  if not (workdir / "detector" / "detector.json").is_file():
    raise ValueError(
      f"The run in {workdir} is not finished: give its launch.train command again to resume it."
    )
  return detector_jax.load(workdir / "detector")


def _report(
  workdir: pathlib.Path,
  splits: data.Splits,
  scores: np.ndarray,
  detector: detector_jax.Detector,
  result: dict[str, Any],
) -> None:
  _, labels = splits.labelled_test()
  facts = detector.metadata
  page = report.Report(f"{facts['method']} on {splits.description}", workdir)
  page.text(
    f"{facts['method']} with radius {facts['radius']:.3g}, trained for {facts['epochs']} epochs on "
    f"{facts['training_records']} typical records; {facts['calibration_records']} more were held "
    f"out for the threshold. Test: {result['labels']['typical']} typical, "
    f"{result['labels']['anomalous']} anomalous. All numbers are of the last epoch; no test label "
    "chose anything."
  )
  page.heading("Metrics")
  page.table(("metric", "value"), [(k, f"{v:.4f}") for k, v in result["metrics"].items()])
  decision = result["decision"]
  stated = "none stated" if decision["stated_fpr"] is None else f"{decision['stated_fpr']:.3g}"
  page.text(
    f"At the threshold {decision['threshold']:.4g}: stated false-positive rate {stated}, realised "
    f"on the test set {decision['realised_fpr']:.4f}; share of anomalies found "
    f"{decision['recall']:.4f}."
  )
  histogram = figures.score_histogram(scores, labels, detector.threshold)
  page.figure("scores", histogram, "Scores of the test set; the dashed line is the threshold.")
  roc = figures.roc_curves({facts["method"]: [(labels, scores)]})
  page.figure("roc", roc, f"ROC curve, AUROC {result['metrics']['auroc']:.4f}.")
  _extremes(page, splits, scores, labels)
  _curves(page, workdir)
  page.write()


def _extremes(
  page: report.Report, splits: data.Splits, scores: np.ndarray, labels: np.ndarray
) -> None:
  """The most and least anomalous records, as images or as rows."""
  order = np.argsort(scores)
  x, _ = splits.labelled_test()
  if splits.image_shape is not None:
    names = np.where(labels == 1, "anomaly", "typical")
    shape = splits.image_shape
    rows = [
      (title, x[chosen].reshape(-1, *shape), list(names[chosen]))
      for title, chosen in (("most anomalous", order[::-1][:10]), ("least anomalous", order[:10]))
    ]
    page.heading("Most and least anomalous")
    page.figure("contact_sheet", figures.contact_sheet(rows), "Captions give the true label.")
    return
  if x.ndim != 2:
    return
  page.heading("Most anomalous records")
  center, scale = splits.x_train.mean(axis=0), splits.x_train.std(axis=0)
  deviation = np.abs(x - center) / np.where(scale > 0, scale, np.inf)
  columns = splits.feature_names or tuple(map(str, range(x.shape[1])))
  table = []
  for row in order[::-1][:10]:
    unusual = np.argsort(-deviation[row])[:3]
    why = ", ".join(f"{columns[j]} = {x[row, j]:.4g} ({deviation[row, j]:.1f} sd)" for j in unusual)
    table.append((int(row), f"{scores[row]:.4g}", int(labels[row]), why))
  page.table(("test row", "score", "label", "its most unusual columns"), table)


def _curves(page: report.Report, workdir: pathlib.Path) -> None:
  records = progress.read_scalars(workdir)
  if len(records) < 2:
    return
  page.heading("Training")
  epochs = [record["epoch"] for record in records]
  series = {
    name: (epochs, [record[name] for record in records], [0.0] * len(epochs))
    for name in ("positive_loss", "negative_loss", "validation_objective")
    if all(name in record for record in records)
  }
  figure = figures.lines_with_spread(series, "epoch", "loss")
  page.figure("training", figure, "Losses of the last epoch before each checkpoint.")
