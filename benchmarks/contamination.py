"""Training records that hold a few of the anomalies that are looked for: --table=contamination.

0, 2, 5 and 10 % of the training records are anomalies, drawn from one half of those of the set; the
other half tests, the same for all shares. The typical training records are the same, too: at most
1,000, at most half of those of the set, and no more than nine times the anomalies that may be among
them. Of each half of ``benchmarks.adbench_sets`` the five sets with most training records after
that rule, one of those cut from the same data: chosen by size, before anything was measured.

DROCC                           as it is
DROCC, contamination=the share  with the share stated that there is
DROCC, contamination=0.1        with that stated whatever there is, as an upper bound
DROCC, contamination=auto       with nothing stated

Every method holds out a fifth of its training records, anomalies among them in the same share, and
sets its threshold on these at a stated rate of 5 %. Beside AUROC there is what comes of that rate:
the share of the test anomalies above the threshold (recall), and of the typical test records (false
alarms). "warned" is in how many of the trainings the detector says itself that held-out records
have a detached tail.

A method that stops counts as one that guesses.
"""

from collections.abc import Callable, Sequence
import functools
import logging
from typing import Any, NamedTuple

from matplotlib.figure import Figure
import numpy as np

from benchmarks.adbench import MEAN, NEIGHBOURS, OURS
from benchmarks.adbench_sets import DEVELOPMENT, REPORT
from benchmarks.baselines import isolation_forest, nearest_neighbour, one_class_svm
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import HealthError, Standardizer, metrics
from detector_jax.calibration import conformal_threshold
from detector_jax.splits import calibration_rows
from drocc_jax import DROCC
from drocc_jax.contamination import DETACHED
from launch.data import real
from launch.reporting import figures

logger = logging.getLogger(__name__)

SETS = (
  "annthyroid",
  "cardio",
  "letter",
  "pendigits",
  "satellite",
  "fault",
  "mammography",
  "optdigits",
  "pima",
  "shuttle",
)
SHARES = (0.0, 0.02, 0.05, 0.10)
FPR, CLIP, MOST, MOST_TEST, HELD_OUT = 0.05, 20.0, 1000, 5000, 0.2
METRICS = ("auroc", "recall", "false alarms", "warned")
TITLE = "contamination"


class Parts(NamedTuple):
  """Records ``[n, d]`` to train on, and ``[m, d]`` to test with their labels ``[m]``."""

  x: np.ndarray
  x_test: np.ndarray
  labels: np.ndarray


class Fitted(NamedTuple):
  """A method after its training: score function, threshold, and whether it warned."""

  score: Callable[[np.ndarray], np.ndarray]
  threshold: float
  warned: bool = False


Fit = Callable[[np.ndarray, int], Fitted]


def parts_of(x: np.ndarray, y: np.ndarray, share: float, seed: int) -> Parts:
  """Divides labelled records so that a share of the training records is anomalous.

  Args:
    x: ``[n, d]``.
    y: ``[n]``, 1 = anomalous.
    share: of the training records, in [0, ``SHARES[-1]``].
    seed: of the draws.
  """
  rng = np.random.default_rng(seed)
  typical, anomalous = (rng.permutation(np.flatnonzero(y == label)) for label in (0, 1))
  spare, most = len(anomalous) // 2, SHARES[-1] / (1.0 - SHARES[-1])
  clean = min(len(typical) // 2, MOST, int(spare / most + 1e-9))
  mixed_in = anomalous[:spare][: round(clean * share / (1.0 - share))]
  train = rng.permutation(np.concatenate([typical[:clean], mixed_in]))
  test = np.concatenate([typical[len(typical) // 2 :][:MOST_TEST], anomalous[spare:][:MOST_TEST]])
  return Parts(x[train], x[test], y[test])


def drocc(x: np.ndarray, seed: int, contamination: Any = None) -> Fitted:
  """``DROCC()`` on records ``[n, d]``, of which ``contamination`` is stated."""
  model = DROCC(
    fpr=FPR, calibration_size=HELD_OUT, random_state=seed, contamination=contamination
  ).fit(x)
  detector = model.detector_
  warned = any(
    found["check"] == DETACHED and not found["passed"] for found in detector.metadata["health"]
  )
  return Fitted(functools.partial(detector.score, warn=False), detector.threshold, warned)


def baseline(make: Callable[..., Any], x: np.ndarray, seed: int, **settings: Any) -> Fitted:
  """A baseline behind our preprocessing, with a conformal threshold on held-out records."""
  rows, held_out = calibration_rows(x, HELD_OUT, seed, fpr=FPR)
  scale = Standardizer.fit(x[rows], clip=CLIP)
  model = make(seed, **settings).fit(scale.transform(x[rows]))

  def score(records: np.ndarray) -> np.ndarray:
    return model.score(scale.transform(records))

  return Fitted(score, conformal_threshold(score(x[held_out]), FPR))


# What is stated, given the share that there is.
STATED: dict[str, Callable[[float], Any]] = {
  OURS: lambda share: None,
  "DROCC, contamination=the share": lambda share: share or None,
  "DROCC, contamination=0.1": lambda share: 0.1,
  "DROCC, contamination=auto": lambda share: "auto",
}
BASELINES: dict[str, Fit] = {
  NEIGHBOURS: functools.partial(baseline, nearest_neighbour.make, neighbours=5),
  "isolation forest": functools.partial(baseline, isolation_forest.make),
  "OC-SVM": functools.partial(baseline, one_class_svm.make),
}
METHODS = (*STATED, *BASELINES)


def fit_of(method: str, share: float) -> tuple[str, Fit]:
  """How a method is fitted where the share is known, and what such a fit is called."""
  if method not in STATED:
    return method, BASELINES[method]
  stated = STATED[method](share)
  return f"{OURS} {stated}", functools.partial(drocc, contamination=stated)


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(SETS) * len(SHARES) * len(METHODS)


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """What every method makes of every share on every set, and the means over the sets."""
  found: dict[tuple[str, float, str, str], list[float]] = {}
  for name in SETS:
    x, y = real.load(f"adbench/{name}")
    for seed in range(seeds):
      for share in SHARES:
        for method in METHODS:
          key, fit = fit_of(method, share)
          measure = functools.partial(cell, key, fit, parts_of(x, y, share, seed), seed)
          measured = ledger.cell((name, seed, f"{share:.0%}", key), measure)[key]
          for metric, value in measured.items():
            found.setdefault((name, share, method, metric), []).append(value)
          advance(1, f"{name}, seed {seed}, {share:.0%}, {method}")
  records = [
    _record(f"{name}, {share:.0%}", method, metric, values)
    for (name, share, method, metric), values in found.items()
  ]
  means = _means(found)
  return [*records, *means], _figures(means)


def cell(method: str, fit: Fit, parts: Parts, seed: int) -> Cell:
  """The metrics of one method, trained on and tested with ``parts``."""
  try:
    fitted = fit(parts.x, seed)
    scores = fitted.score(parts.x_test)
  except HealthError as error:
    logger.warning("%s stopped: %s", method, error)
    return {method: dict(zip(METRICS, (0.5, FPR, FPR, 0.0), strict=True))}
  flagged, anomalous = scores > np.float32(fitted.threshold), parts.labels == 1
  return {
    method: {
      "auroc": metrics.auroc(parts.labels, scores),
      "recall": float(flagged[anomalous].mean()),
      "false alarms": float(flagged[~anomalous].mean()),
      "warned": float(fitted.warned),
    }
  }


def _means(found: dict[tuple[str, float, str, str], list[float]]) -> list[TableRecord]:
  """Means over all sets and over each half, under metrics of their own: "mean auroc", ..."""
  halves = {"": SETS, ", development": DEVELOPMENT, ", report": REPORT}
  return [
    _record(f"{MEAN}{half}, {share:.0%}", method, f"mean {metric}", values.tolist())
    for half, members in halves.items()
    for share in SHARES
    for method in METHODS
    for metric in METRICS
    for values in [
      np.mean([found[name, share, method, metric] for name in SETS if name in members], axis=0)
    ]
  ]


def _record(row: str, method: str, metric: str, values: Sequence[float]) -> TableRecord:
  return TableRecord.from_values(TITLE, row, method, metric, values, factor=100.0)


def _figures(means: Sequence[TableRecord]) -> dict[str, Figure]:
  """AUROC, recall and false alarms over the share, means of all sets."""
  drawn = {}
  for metric in METRICS[:3]:
    series: dict[str, tuple[list[float], list[float], list[float]]] = {}
    for record in means:
      half, _, share = record.row.rpartition(", ")
      if half == MEAN and record.metric == f"mean {metric}":
        x_axis, mean, std = series.setdefault(record.method, ([], [], []))
        x_axis.append(float(share.rstrip("%")))
        mean.append(record.mean)
        std.append(record.std)
    label = "AUROC" if metric == "auroc" else metric
    name = f"{TITLE}-{metric.replace(' ', '-')}"
    drawn[name] = figures.lines_with_spread(
      series, "anomalies in the training records, %", f"{label}, %"
    )
  return drawn
