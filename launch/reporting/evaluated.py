"""The report of an evaluation: what was trained on what, how well it does, and on which records."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

import detector_jax
from detector_jax import card
from launch.data.splits import Splits
from launch.reporting import extremes, figures, layers, progress, report, timeline

METRICS = {
  "auroc": "AUROC",
  "ap_anomaly": "average precision, anomalies positive",
  "ap_normal": "average precision, typical records positive",
  "fpr_at_95tpr_anomaly_positive": "typical records flagged where 95 % of anomalies are found",
  "fpr_at_95tpr_normal_positive": "anomalies passed where 95 % of typical records pass",
  "f1_at_true_ratio": "F1 at the true share of anomalies",
  "f1_drocc_released": "F1 as DROCC's released code has it",
  "recall_at_3fpr": "typical records kept where 3 % of anomalies pass",
  "recall_at_5fpr": "typical records kept where 5 % of anomalies pass",
}
DECISION = {
  "threshold": "threshold",
  "stated_fpr": "false alarms stated",
  "realised_fpr": "false alarms at the threshold",
  "recall": "anomalies found there",
  "typical": "typical test records",
  "anomalous": "anomalous test records",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
  """An evaluation to report.

  Attributes:
    splits: whose test records ``[n, ...]`` have labels.
    scores: ``[n]`` of these.
    detector: that gave them.
    result: what ``metrics.json`` holds.
  """

  splits: Splits
  scores: np.ndarray
  detector: detector_jax.Detector
  result: Mapping[str, Any]


def write(workdir: pathlib.Path, evaluated: Evaluated) -> pathlib.Path:
  """Writes ``report.html`` and its figures into the workdir; returns the page's path."""
  splits, scores, detector = evaluated.splits, evaluated.scores, evaluated.detector
  _, labels = splits.labelled_test()
  page = report.Report(f"{detector.metadata['method']} on {splits.description}", workdir)
  page.conclusion(conclusion(evaluated.result))
  _facts(page, evaluated)
  _metrics(page, evaluated.result)
  _sources(page, evaluated.result)
  _health(page, evaluated.result["health"])
  _columns(page, detector)
  page.heading("Scores")
  histogram = figures.score_histogram(scores, labels, detector.threshold, splits.sources)
  page.figure("scores", histogram, "Scores of the test set; the dashed line is the threshold.")
  if evaluated.result["metrics"]:
    _ranking(page, evaluated, labels)
  if "series" in evaluated.result:
    _series(page, evaluated, labels)
  if layers.names_of(detector):
    layers.add(page, splits, scores, detector)
  extremes.add(page, splits, scores, detector)
  _curves(page, workdir)
  _configuration(page, evaluated.result)
  return page.write()


def _series(page: report.Report, evaluated: Evaluated, labels: np.ndarray) -> None:
  """What was flagged when."""
  facts = evaluated.result["series"]
  page.heading("Along the series")
  page.text(
    f"{facts['events_found']} of {facts['events']} anomalous stretches have a flagged window; "
    f"{facts['false_alarms']} stretches of flagged windows hold no anomalous step."
  )
  drawn = timeline.figure(
    evaluated.scores, labels, evaluated.detector.threshold, int(facts["step"])
  )
  page.figure(
    "series", drawn, "Scores of windows; dots are flagged, anomalous stretches are shaded."
  )


def _ranking(page: report.Report, evaluated: Evaluated, labels: np.ndarray) -> None:
  """Curves that need typical and anomalous records."""
  scores, detector = evaluated.scores, evaluated.detector
  auroc, precision = (evaluated.result["metrics"][name] for name in ("auroc", "ap_anomaly"))
  roc = figures.roc_curves({detector.metadata["method"]: [(labels, scores)]})
  page.figure("roc", roc, f"ROC curve, AUROC {auroc:.4f}.")
  curve = figures.precision_recall_curve(labels, scores, detector.threshold)
  page.figure(
    "precision_recall",
    curve,
    f"Precision-recall curve of the anomalies, average precision {precision:.4f}; the dashed line "
    "is their share of the test set.",
  )


def _facts(page: report.Report, evaluated: Evaluated) -> None:
  facts, labels = evaluated.detector.metadata, evaluated.result["labels"]
  page.text(
    f"{facts.get('summary', '')} Test: {labels['typical']:,} typical, {labels['anomalous']:,} "
    "anomalous. All numbers are of the last epoch; no test label chose anything."
  )
  page.heading("What was trained on what")
  rows = [
    (
      name.replace("_", " "),
      f"{value:,}"
      if isinstance(value, int)
      else f"{value:.4g}"
      if isinstance(value, float)
      else value,
    )
    for name, value in facts.items()
    if isinstance(value, int | float | str) and name not in ("summary", "method", "data")
  ]
  shape = " x ".join(map(str, evaluated.detector.input_shape))
  versions = evaluated.result["versions"]
  page.table(
    ("what", "value"),
    [
      ("method", facts["method"]),
      ("data", evaluated.splits.description),
      ("shape of a record", shape),
      *rows,
      ("tested on", _tested(evaluated)),
      ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ],
    prose=True,
  )


def _tested(evaluated: Evaluated) -> str:
  labels = evaluated.result["labels"]
  sources = evaluated.result.get("sources", {})
  parts = [f"{values['records']:,} {source}" for source, values in sources.items()]
  anomalous = f" ({', '.join(parts)})" if parts else ""
  return f"{labels['typical']:,} typical and {labels['anomalous']:,} anomalous records{anomalous}"


def _metrics(page: report.Report, result: Mapping[str, Any]) -> None:
  intervals, decision = result["intervals"], result["decision"]
  level = f"{100 * intervals['level']:.3g} %"
  page.heading("Metrics")
  if result["metrics"]:
    rows = [
      (METRICS.get(name, name), f"{value:.4f}", _interval(intervals["metrics"][name]))
      for name, value in result["metrics"].items()
    ]
    page.table(("metric", "value", f"{level} interval"), rows)
  else:
    page.text(note(result))
  told = [
    f"{DECISION[name]} {decision[name]:.4f} ({level} interval "
    f"{_interval(intervals['decision'][name])})"
    for name in ("realised_fpr", "recall")
    if name in decision
  ]
  page.text(
    f"At the threshold {decision['threshold']:.4g}: {decision['stated']}; on the test set "
    f"{'; '.join(told)}."
  )
  page.text(
    "Intervals of these shares are exact (Clopper and Pearson). Those of the metrics are of "
    f"{intervals['draws']:,} bootstrap draws of the test set, typical and anomalous records apart, "
    f"seed {intervals['seed']}. Training and threshold stay as they are, so another seed of "
    "training may lie outside; an interval without width says that no draw differed, not that the "
    "number is certain."
  )


def note(result: Mapping[str, Any]) -> str:
  """What a test set of one kind of records cannot tell; empty where it has both."""
  if result["metrics"]:
    return ""
  kind, other = (
    ("typical", "anomalous") if result["labels"]["typical"] else ("anomalous", "typical")
  )
  return f"All test records are {kind}: AUROC and the other ranking metrics need {other} ones, too."


def conclusion(result: Mapping[str, Any]) -> str:
  """One sentence of what the detector is worth on the test set.

  A rate of false alarms is compared with the stated one where its interval excludes that.

  Args:
    result: what ``metrics.json`` holds.
  """
  decision, stated = result["decision"], result["decision"]["stated_fpr"]
  if "realised_fpr" not in decision:
    return (
      f"Finds {_share(decision['recall'])} of the anomalies; at how many false alarms is unknown, "
      "because the test set has no typical records."
    )
  alarms = _share(decision["realised_fpr"])
  low, high = result["intervals"]["decision"]["realised_fpr"]
  against = ""
  if stated is not None and not low <= stated <= high:
    against = f", {'more' if stated < low else 'fewer'} than the {_share(stated)} stated"
  if "recall" not in decision:
    return (
      f"Flags {alarms} of the typical records{against}; how many anomalies it finds is unknown, "
      "because the test set has none."
    )
  return f"Finds {_share(decision['recall'])} of the anomalies at {alarms} false alarms{against}."


def _share(value: float) -> str:
  """In per cent: whole numbers between 10 and 90, tenths outside, ends only where they are met."""
  percent = 100.0 * value
  if 10.0 <= percent <= 90.0:
    return f"{percent:.0f} %"
  if 0.0 < percent < 0.05:
    return "under 0.1 %"
  if 99.95 <= percent < 100.0:
    return "over 99.9 %"
  return f"{round(percent, 1):g} %"


def _interval(ends: list[float]) -> str:
  return f"{ends[0]:.4f} to {ends[1]:.4f}"


def _health(page: report.Report, findings: Sequence[Mapping[str, Any]]) -> None:
  if not findings:
    return
  page.heading("Health of the training")
  rows = [
    (each["check"], f"{each['value']:.4g}", "passed" if each["passed"] else each["message"])
    for each in findings
  ]
  page.table(("check", "value", "verdict"), rows, prose=True)


def _columns(page: report.Report, detector: detector_jax.Detector) -> None:
  """What single columns can do, of a detector that keeps typical values."""
  if "typical" not in detector.arrays and "typical/values" not in detector.arrays:
    return
  try:
    found = card.reach(detector)
  except ValueError:
    return
  page.heading("What one column can do")
  page.text(card.SAID)
  page.table(("column", "an alarm"), card.told(found), prose=True)


def _sources(page: report.Report, result: Mapping[str, Any]) -> None:
  sources = result.get("sources", {})
  if not sources:
    return
  intervals = result["intervals"]["sources"]
  level = f"{100 * result['intervals']['level']:.3g} % interval"
  rows = [
    (
      source,
      f"{values['records']:,}",
      *(
        cell
        for name in ("auroc", "fpr_at_95tpr_anomaly_positive", "flagged")
        for cell in (f"{values[name]:.4f}", _interval(intervals[source][name]))
      ),
    )
    for source, values in sources.items()
  ]
  names = ("AUROC", "FPR at 95 % found", "flagged")
  page.table(
    ("anomalies from", "records", *(cell for name in names for cell in (name, level))), rows
  )
  page.text(
    "Each source's anomalies against all typical test records. FPR at 95 % found is the share of "
    "typical records flagged where 95 % of these anomalies are; flagged is the share found at the "
    "threshold."
  )


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


def _configuration(page: report.Report, result: Mapping[str, Any]) -> None:
  if config := result["detector"].get("config"):
    page.heading("Configuration")
    page.details("Every setting of the run", json.dumps(config, indent=2, sort_keys=True))
