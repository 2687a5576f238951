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
    configuration and versions; where the test set has sources, ``sources``, see ``by_source``.

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
  if splits.sources is not None:
    result["sources"] = by_source(labels, scores, flagged, splits.sources)
  temporary = workdir / "metrics.tmp"
  temporary.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
  os.replace(temporary, workdir / "metrics.json")
  _report(workdir, splits, scores, detector, result)
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
      f"The run in {workdir} is not finished: give its launch.train command again to resume it."
    )
  return detector_jax.load(workdir / "detector")


def columns_of(detector: detector_jax.Detector, x: np.ndarray) -> dict[str, np.ndarray]:
  """What is said of records ``[n, ...]``: name -> ``[n]``."""
  scores = detector.score(x)
  columns = {"score": scores.astype(np.float64)}
  if detector.calibration.scores.size:
    columns["p_value"] = detector.calibration.p_value(scores)
  columns["decision"] = (scores > np.float32(detector.threshold)).astype(np.int64)
  if layers := detector.metadata.get("layers"):
    told = reported(detector, x, "layer", "side")
    columns["layer"] = np.array(layers)[told["layer"].astype(np.int64)]
    columns["side"] = np.where(told["side"] > 0, "high", "low")
  return columns


def reported(detector: detector_jax.Detector, x: np.ndarray, *names: str) -> dict[str, np.ndarray]:
  """The named parts of ``Detector.report`` on records ``[n, ...]``, each ``[n, ...]``.

  Taken a few batches at a time: a whole report may hold a map of every layer for every record.
  """
  size = 4 * detector.batch_size
  parts = []
  for start in range(0, len(x), size):
    told = detector.report(x[start : start + size])
    parts.append([np.asarray(told[name]) for name in names])
  return dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))


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
    f"{facts.get('summary', '')} Test: {result['labels']['typical']:,} typical, "
    f"{result['labels']['anomalous']:,} anomalous. All numbers are of the last epoch; no test "
    "label chose anything."
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
  _sources(page, result.get("sources", {}))
  histogram = figures.score_histogram(scores, labels, detector.threshold)
  page.figure("scores", histogram, "Scores of the test set; the dashed line is the threshold.")
  if facts.get("layers"):
    _layers(page, splits, detector)
  roc = figures.roc_curves({facts["method"]: [(labels, scores)]})
  page.figure("roc", roc, f"ROC curve, AUROC {result['metrics']['auroc']:.4f}.")
  _extremes(page, splits, scores, labels)
  _curves(page, workdir)
  page.write()


def _sources(page: report.Report, sources: dict[str, dict[str, float]]) -> None:
  if not sources:
    return
  names = tuple(next(iter(sources.values())))
  rows = [
    (source, *(f"{v:,}" if isinstance(v, int) else f"{v:.4f}" for v in values.values()))
    for source, values in sources.items()
  ]
  page.table(("anomalies from", *names), rows)
  page.text("Each source's anomalies against all typical test records; flagged is the share found.")


def _layers(page: report.Report, splits: data.Splits, detector: detector_jax.Detector) -> None:
  """Errors of every layer, for a detector that tells layers apart."""
  x, labels = splits.labelled_test()
  sources = np.full(len(x), "anomalous") if splits.sources is None else splits.sources
  errors = reported(detector, x, "layer_error")["layer_error"]
  limits = reported(detector, x[:1], "layer_low", "layer_high")
  figure = figures.layer_histograms(
    detector.metadata["layers"],
    errors[labels == 0],
    {
      source: errors[(labels == 1) & (sources == source)]
      for source in dict.fromkeys(sources[labels == 1].tolist())
    },
    list(zip(limits["layer_low"][0].tolist(), limits["layer_high"][0].tolist(), strict=True)),
  )
  caption = "Errors of the test set by layer; the dashed lines are the layer's two thresholds."
  page.figure("layers", figure, caption)
  _maps(page, splits, sources, detector)


def _maps(
  page: report.Report, splits: data.Splits, sources: np.ndarray, detector: detector_jax.Detector
) -> None:
  """Where layers object, for the middle record of each source."""
  x, labels = splits.labelled_test()
  if splits.image_shape is None:
    return
  scores = detector.score(x)
  chosen = {}
  for source in dict.fromkeys(sources.tolist()):
    for label, name in ((0, "typical"), (1, source)):
      rows = np.flatnonzero((sources == source) & (labels == label))
      if len(rows):
        chosen[name] = int(rows[np.argsort(scores[rows])[len(rows) // 2]])
  told = detector.report(x[list(chosen.values())])
  layers = detector.metadata["layers"]
  found = {name: told[f"map/{name}"] for name in layers if f"map/{name}" in told}
  maps = {name: values for name, values in found.items() if values.ndim == 3}
  if not maps:
    return
  captions = {
    name: [f"error {e:.2g}, p {p:.1g}" for e, p in zip(errors, values, strict=True)]
    for name, errors, values in zip(
      layers, told["layer_error"].T, told["layer_p_value"].T, strict=True
    )
  }
  figure = figures.error_maps(
    list(chosen),
    x[list(chosen.values())].reshape(-1, *splits.image_shape),
    maps,
    {n: 3.0 * float(told["layer_high"][0, layers.index(n)]) for n in maps},
    captions,
  )
  caption = (
    "The record of middle score from each source, and where each layer objects; full red is three "
    "times the layer's upper threshold."
  )
  page.figure("error_maps", figure, caption)


def _extremes(
  page: report.Report, splits: data.Splits, scores: np.ndarray, labels: np.ndarray
) -> None:
  """The most and least anomalous records, as images or as rows."""
  order = np.argsort(scores)
  x, _ = splits.labelled_test()
  if splits.image_shape is not None:
    truth = np.where(labels == 1, "anomaly", "typical")
    names = truth if splits.sources is None else splits.sources
    shape = splits.image_shape
    rows = [
      (title, x[chosen].reshape(-1, *shape), list(names[chosen]))
      for title, chosen in (("most anomalous", order[::-1][:10]), ("least anomalous", order[:10]))
    ]
    page.heading("Most and least anomalous")
    caption = f"Captions give the {'true label' if splits.sources is None else 'source'}."
    page.figure("contact_sheet", figures.contact_sheet(rows), caption)
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
  """Losses and objectives of every stage that logged more than one checkpoint."""
  stages: dict[str, list[dict[str, Any]]] = {}
  for record in progress.read_scalars(workdir):
    stages.setdefault(record.get("stage", "training"), []).append(record)
  stages = {name: records for name, records in stages.items() if len(records) > 1}
  if stages:
    page.heading("Training")
  for stage, records in stages.items():
    epochs = [record["epoch"] for record in records]
    series = {
      name: (epochs, [record[name] for record in records], [0.0] * len(epochs))
      for name in records[0]
      if name.endswith(("loss", "objective")) and all(name in record for record in records)
    }
    if series:
      figure = figures.lines_with_spread(series, "epoch", "loss")
      name, of = ("training", "") if len(stages) == 1 else (f"training_{stage}", f"{stage}: l")
      caption = f"{of or 'L'}osses of the last epoch before each checkpoint."
      page.figure(name, figure, caption)
