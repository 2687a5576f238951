"""Evaluates the Detector of a run on its test set, knowing nothing of the method."""

from collections.abc import Mapping
import dataclasses
import importlib.metadata
import json
import pathlib
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import detector_jax
from detector_jax import atomic, metrics
from drocc_jax.metrics import f1_released
from launch import data, run
from launch.data import streaming
from launch.reporting import evaluated, intervals, timeline

RATES = {"realised_fpr": 0, "recall": 1}  # shares of typical and of anomalous records flagged
PACKAGES = ("jax", "flax", "optax", "numpy", "scikit-learn")


def summary(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
  """Every metric of a labelled test set, by the keys that reports and tables use."""
  released = {"f1_drocc_released": f1_released(labels, scores)}
  return metrics.summary(labels, scores) | released


def evaluate(workdir: pathlib.Path) -> dict[str, Any]:
  """Scores the test set of a run and writes ``metrics.json``, figures and ``report.html``.

  Args:
    workdir: folder of a finished run.

  Returns:
    What ``metrics.json`` holds: every metric, label counts, realised false-positive rate,
    intervals, health, configuration and versions; where the test set has sources, ``sources``, see
    ``by_source``. Ranking metrics need typical and anomalous records: of a test set of one kind
    ``metrics`` is empty, and ``decision`` has the share of that kind that is flagged.

  Raises:
    ValueError: the run is not finished, or its test set has no labels.
  """
  config = run.read_config(workdir)
  detector = load_detector(workdir)
  splits: data.Splits = config.data.load()
  x_test, labels = splits.labelled_test()
  scores = streaming.score(detector, x_test)
  flagged = scores > np.float32(detector.threshold)
  both = np.unique(labels).size == 2
  rates = {
    name: float(flagged[labels == label].mean())
    for name, label in RATES.items()
    if (labels == label).any()
  }
  result = {
    "metrics": summary(labels, scores) if both else {},
    "decision": {
      "threshold": detector.threshold,
      "stated_fpr": detector.fpr,
      "confidence": detector.confidence,
      "stated": detector.rate,
      **rates,
    },
    "labels": {"typical": int((labels == 0).sum()), "anomalous": int((labels == 1).sum())},
    "epoch": "last",
    "detector": detector.metadata,
    "health": [*detector.metadata.get("health", []), *_unseen(detector, x_test)],
    "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
  }
  if splits.sources is not None and both:
    result["sources"] = by_source(labels, scores, flagged, splits.sources)
  if isinstance(config.data, data.Windows):
    result["series"] = timeline.events(labels, flagged) | {"step": config.data.step}
  result["intervals"] = intervals_of(labels, scores, detector.threshold, splits.sources)
  text = json.dumps(result, indent=2, sort_keys=True) + "\n"
  atomic.write_text(workdir / "metrics.json", text)
  evaluated.write(workdir, evaluated.Evaluated(splits, scores, detector, result))
  return result


def _unseen(detector: detector_jax.Detector, x: Any) -> list[dict[str, Any]]:
  """What the records hold that training never had."""
  found = detector.unseen(x).findings() if isinstance(x, np.ndarray) else []
  return [dataclasses.asdict(finding) for finding in found if not finding.passed]


def intervals_of(
  labels: np.ndarray, scores: np.ndarray, threshold: float, sources: np.ndarray | None
) -> dict[str, Any]:
  """Intervals of everything measured.

  Those of the rates at the threshold are exact, see ``intervals.exact``; the others of bootstrap
  draws, see ``intervals.bootstrap``.

  Args:
    labels: ``[n]``, 1 = anomalous.
    scores: ``[n]``.
    threshold: of the decisions.
    sources: str ``[n]``, or None.

  Returns:
    ``level``, ``draws`` and ``seed``; ``metrics`` and ``decision``, name -> ``[low, high]``; with
    sources, ``sources``, source -> name -> ``[low, high]``, by the names of ``by_source``.
  """
  flagged = scores > np.float32(threshold)
  decision = {
    name: intervals.exact(int(flagged[labels == label].sum()), int((labels == label).sum()))
    for name, label in RATES.items()
    if (labels == label).any()
  }
  ends: dict[str, list[float]] = {}
  if len(decision) == len(RATES):
    ends = intervals.bootstrap(labels, scores, threshold)
    ends = {name: values for name, values in ends.items() if name not in RATES}
  result: dict[str, Any] = {
    "level": intervals.LEVEL,
    "draws": intervals.DRAWS,
    "seed": intervals.SEED,
    "metrics": ends,
    "decision": decision,
  }
  if sources is not None and ends:
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


def print_summary(workdir: pathlib.Path, result: Mapping[str, Any]) -> None:
  """Prints what ``evaluate`` found, and where it is written."""
  table = Table("metric", "value", "95 % interval", title=f"{workdir}, last epoch")
  ends = {**result["intervals"]["metrics"], **result["intervals"]["decision"]}
  for name, value in {**result["metrics"], **result["decision"], **result["labels"]}.items():
    if value is not None and name not in ("stated", "confidence"):
      title = (evaluated.METRICS | evaluated.DECISION).get(name, name)
      table.add_row(title, _cell(value), " to ".join(map(_cell, ends.get(name, []))))
  console = Console()
  console.print(table)
  print(evaluated.conclusion(result))
  print(f"stated:  {result['decision']['stated']}")
  if note := evaluated.note(result):
    print(f"note:    {note}")
  for finding in result["health"]:
    verdict = "passed" if finding["passed"] else f"WARNING: {finding['message']}"
    print(f"health:  {finding['check']} {finding['value']:.4g}, {verdict}")
  if sources := result.get("sources"):
    table = Table("anomalies from", *next(iter(sources.values())))
    for source, values in sources.items():
      table.add_row(source, *map(_cell, values.values()))
    console.print(table)
  print(f"metrics: {workdir / 'metrics.json'}")
  print(f"report:  {workdir / 'report.html'}")


def _cell(value: Any) -> str:
  return f"{value:.4f}" if isinstance(value, float) else str(value)
