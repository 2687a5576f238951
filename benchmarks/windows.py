"""A long series with one odd stretch: --table=windows.

InternalBleeding16 of the UCR archive of anomalies: 1,200 clean steps of a heart signal train, and
of 7,501 others 12 are anomalous, in one beat. Rows are settings of ``configs/drocc_windows.py``:

defaults   windows of 64 steps, every 16, at a rate of 5 %
low rate   windows of 128 steps, every 4, at a rate of 1 %

and the columns of metrics

false alarms   stretches of flagged windows of which none holds an anomalous step
found          share of the windows with an anomalous step that are flagged
delay          steps from the first anomalous one to the end of the first of those that are flagged

The set is ``series/InternalBleeding16.npz`` in ``OOD_DATA_DIR``, with ``train`` and ``test``
``[steps, 3]``: time, value, label.
"""

from collections.abc import Callable
import dataclasses
import pathlib
import tempfile

from matplotlib.figure import Figure
import numpy as np

from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from benchmarks.series_classes import read
from configs import drocc_windows
import detector_jax
from launch import run
from launch.data import Windows
from launch.reporting import timeline

NAME, METHOD = "InternalBleeding16", "DROCC"
SETTINGS = {"defaults": (64, 16, 0.05), "low rate": (128, 4, 0.01)}


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(SETTINGS)


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """What is found, when, and how often an alarm is false."""
  values = ledger.gather(SETTINGS, seeds, measured, advance)
  records = []
  for (row, method, metric), found in values.items():
    factor = 100.0 if metric == "found" else 1.0
    records.append(TableRecord.from_values("windows", row, method, metric, found, factor=factor))
  return records, {}


def measured(row: str, seed: int) -> Cell:
  """One training with the settings of a row, and what it flags."""
  window, stride, fpr = SETTINGS[row]
  arrays, form = read(NAME), {"delimiter": ",", "header": "time,value,odd", "comments": ""}
  with tempfile.TemporaryDirectory() as folder:
    for part in ("train", "test"):
      np.savetxt(pathlib.Path(folder, f"{part}.csv"), arrays[part], **form)
    source = Windows(
      train=f"{folder}/train.csv",
      test=f"{folder}/test.csv",
      label="odd",
      time="time",
      window=window,
      stride=stride,
    )
    config = dataclasses.replace(drocc_windows.get_config(), data=source, fpr=fpr, seed=seed)
    workdir = pathlib.Path(folder, "run")
    run.train(config, workdir)
    detector = detector_jax.load(workdir / "detector")
    x, labels = source.load().labelled_test()
  flagged = detector.score(x, warn=False) > np.float32(detector.threshold)
  first = int(np.argmax(arrays["test"][:, 2]))
  return {METHOD: told(labels == 1, flagged, first, window, stride)}


def told(
  odd: np.ndarray, flagged: np.ndarray, first: int, window: int, stride: int
) -> dict[str, float]:
  """The metrics of one series, without a delay where nothing is found.

  Args:
    odd: bool ``[n]``, windows with an anomalous step.
    flagged: bool ``[n]``.
    first: the first anomalous step.
    window: steps of a window.
    stride: steps from one to the next.
  """
  false_alarms = timeline.events(odd.astype(np.int64), flagged)["false_alarms"]
  found = {"false alarms": float(false_alarms), "found": float(flagged[odd].mean())}
  hits = np.flatnonzero(odd & flagged)
  return found | ({"delay": float(hits[0] * stride + window - 1 - first)} if len(hits) else {})
