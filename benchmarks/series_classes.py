"""Series by default: one class against the others, and seizures: --table=series.

``DROCC()`` as it is; the five nearest neighbours on the values, each by its own mean and deviation
over the training series; and the five nearest neighbours on MiniRocket's 9,996 features, as
``features.RandomKernels`` draws them, likewise, and as aeon does where the extra ``aeon`` is
installed. Epilepsy on two splits: "released" shares
recordings between training and test, "recording" does not. JapaneseVowels, ItalyPowerDemand and
OSULeaf: each class in turn is typical, trained on the archive's training part and tested on all of
its test part; the mean over the classes is shown.

The sets are read from ``OOD_DATA_DIR``: ``series/NAME.npz`` with ``x`` ``[n, time, channels]``,
``y`` and ``test``.
"""

from collections.abc import Callable, Iterator
import functools
import os
import pathlib
import time
from typing import NamedTuple

from absl import flags
from matplotlib.figure import Figure
import numpy as np

from benchmarks import images, protocol
from benchmarks.baselines import aeon_kernels, nearest_neighbour
from benchmarks.ledger import Ledger
from benchmarks.records import TableRecord
from detector_jax import metrics
from detector_jax.features import RandomKernels, apply
from drocc_jax import DROCC
from launch import data

SPLITS = ("released", "recording")
SETS = ("JapaneseVowels", "ItalyPowerDemand", "OSULeaf")
ROCKET_FEATURES = 9996
_SETS = flags.DEFINE_list(
  "series_sets",
  ["epilepsy", *SETS],
  f"What the table series measures: epilepsy (both splits), {', '.join(SETS)}.",
)
OURS, PEER, ROCKET = "DROCC", "5 neighbours", "5 neighbours, MiniRocket"
AEON = "5 neighbours, aeon's MiniRocket"


class Task(NamedTuple):
  """Typical series ``[n, time, channels]``, series to test, and their labels ``[m]``."""

  x: np.ndarray
  x_test: np.ndarray
  labels: np.ndarray


def rows(sets: list[str]) -> list[str]:
  """The rows of the table: both splits of epilepsy, and each other set.

  Raises:
    ValueError: a set that is unknown.
  """
  for name in sets:
    if name not in ("epilepsy", *SETS):
      raise ValueError(f"--series_sets: {name!r} is none of epilepsy, {', '.join(SETS)}.")
  splits = [f"epilepsy, {split}" for split in SPLITS]
  return [row for name in sets for row in (splits if name == "epilepsy" else [name])]


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(rows(_SETS.value))


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC and CPU seconds of all on every set."""
  values = ledger.gather(rows(_SETS.value), seeds, measured, advance)
  records = []
  for (row, method, metric), found in values.items():
    scale = 1.0 if metric == "auroc" else 0.01
    by_column = {"last": [scale * value for value in found]}
    records += protocol.summarise("series", row, method, metric, by_column)
  drawn = [record for record in records if record.metric == "auroc"]
  name = "series-epilepsy" if _SETS.value == ["epilepsy"] else "series"
  return records, {name: images.bars(drawn)}


def measured(row: str, seed: int) -> dict[str, dict[str, float]]:
  """Means over the tasks of a row: method -> metric -> value."""
  found: dict[str, dict[str, list[float]]] = {}
  for task in tasks(row, seed):
    for method, score in methods().items():
      start = time.process_time()
      scores = score(task, seed)
      spent = time.process_time() - start
      by_metric = found.setdefault(method, {"auroc": [], "cpu_seconds": []})
      by_metric["auroc"].append(metrics.auroc(task.labels, scores))
      by_metric["cpu_seconds"].append(spent)
  return {
    method: {metric: float(np.mean(values)) for metric, values in by_metric.items()}
    for method, by_metric in found.items()
  }


@functools.cache
def methods() -> dict[str, Callable[[Task, int], np.ndarray]]:
  """What is measured here, by name."""
  own = {OURS: drocc_scores, PEER: neighbour_scores, ROCKET: rocket_scores}
  return own | ({AEON: aeon_scores} if aeon_kernels.installed() else {})


def tasks(row: str, seed: int) -> Iterator[Task]:
  """What is to be told apart in a row of the table."""
  if row.startswith("epilepsy"):
    found = data.Epilepsy(split=row.split(", ")[1], seed=seed).load()
    yield Task(found.x_train, *found.labelled_test())
    return
  arrays = read(row)
  x, y, test = np.asarray(arrays["x"], np.float32), arrays["y"], arrays["test"]
  for typical in np.unique(y):
    yield Task(x[~test & (y == typical)], x[test], (y[test] != typical).astype(np.int32))


def read(name: str) -> dict[str, np.ndarray]:
  """The arrays of a set.

  Raises:
    ValueError: ``OOD_DATA_DIR`` is not set, or has no such file.
  """
  path = pathlib.Path(os.environ.get("OOD_DATA_DIR", ""), "series", f"{name}.npz")
  if "OOD_DATA_DIR" not in os.environ or not path.is_file():
    raise ValueError(f"There is no series/{name}.npz; set OOD_DATA_DIR to the folder that has it.")
  with np.load(path) as arrays:
    return dict(arrays)


def drocc_scores(task: Task, seed: int) -> np.ndarray:
  """Scores ``[m]`` of ``DROCC()``, which holds nothing out here."""
  return DROCC(calibration_size=0.0, random_state=seed).fit(task.x).detector_.score(task.x_test)


def neighbour_scores(task: Task, seed: int) -> np.ndarray:
  """Mean distance ``[m]`` to the five nearest."""
  x, x_test = (each.reshape(len(each), -1) for each in (task.x, task.x_test))
  return _nearest(x, x_test, seed)


def rocket_scores(task: Task, seed: int) -> np.ndarray:
  """Mean distance ``[m]`` to the five nearest, of MiniRocket's features."""
  drawn = RandomKernels(ROCKET_FEATURES).drawn(task.x, seed)
  return _nearest(apply(drawn, task.x), apply(drawn, task.x_test), seed)


def aeon_scores(task: Task, seed: int) -> np.ndarray:
  """The same of the features that aeon computes."""
  return _nearest(*aeon_kernels.features(task.x, task.x_test, seed), seed)


def _nearest(x: np.ndarray, x_test: np.ndarray, seed: int) -> np.ndarray:
  """The same of rows, each column less its mean and by its deviation over those of training."""
  mean, deviation = x.mean(axis=0), x.std(axis=0)
  scale = np.where(deviation > 0, deviation, 1.0)
  model = nearest_neighbour.make(seed, 5).fit((x - mean) / scale)
  return model.score((x_test - mean) / scale)
