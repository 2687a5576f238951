"""Time series: Table 3 of the DROCC paper.

Epileptic seizures in pieces of EEG, on the released split and on one that has no recording on both
sides; and a wake word against all other words, from the clips that ``launch.data.speech`` finds.

DROCC, default            ``DROCC()`` as it is, on features, see ``benchmarks.series_classes``
DROCC                     an LSTM of 128; gamma 2, radius sqrt(d) / 2, mu 1, 10 ascent steps
DROCC, released settings  configs/drocc_epilepsy.py; for a wake word the paper's Table 13 (radius
                          16, mu 1, Adam at 1e-3)

The scale "full" trains 200 epochs in batches of 256, on all records. The scale "cpu" trains on at
most 1,000 records for 30 epochs in batches of 32, and tests on at most 2,000 drawn at random; there
both take 5 ascent steps, the released settings of 1.0 for 50 of 0.1, and the latter ten times their
learning rate, as the steps are fewer.
"""

from collections.abc import Callable, Sequence
import dataclasses

from absl import flags
from matplotlib.figure import Figure
import numpy as np

from benchmarks import images, series_classes
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from configs import drocc_epilepsy
from detector_jax import metrics
from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.registry import NetworkConfig
from launch import data
from launch.data import splits
from launch.methods.drocc import Config

# AUROC in percent, the paper's Table 3: seizures, the keyword "marvin".
PAPER = {
  "DROCC": (98.23, 70.21),
  "DROCC, released settings": (98.23, 70.21),
  "nearest neighbour": (91.75, 65.81),
  "autoencoder": (91.15, 51.49),
  "Deep SVDD": (94.84, 68.38),
  "REBM": (97.24, 63.73),
}
FULL = images.Scale(epochs=200, points=50)
CPU = images.Scale(1000, 2000, 30, 32, ascent=5, average_decay=0.99, points=10)

_SERIES = flags.DEFINE_list(
  "series",
  [*drocc_epilepsy.SPLITS, "marvin"],
  "What table 3 measures: released and recording (the splits of epilepsy), or wake words.",
)


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(_SERIES.value)


def table3(
  seeds: int,
  advance: Callable[..., None],
  ledger: Ledger,
  size: images.Scale | None = None,
  rows: Sequence[str] | None = None,
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC on every series that is asked for, in each column."""
  if size is None:
    size = CPU if images.chosen_scale() == "cpu" else FULL
  chosen, rows = size, _SERIES.value if rows is None else rows

  def cell(row: str, seed: int) -> Cell:
    found = loaded(row, seed)
    x_test, labels = found.labelled_test()
    x = found.x_train[splits.drawn(len(found.x_train), chosen.train, seed)]
    test = splits.drawn(len(x_test), chosen.test, seed)
    settings = _settings(row, x, seed, chosen)
    cells = images.measured(settings, x, x_test[test], labels[test], chosen, seed)
    task = series_classes.Task(x, x_test[test], labels[test])
    default = metrics.auroc(task.labels, series_classes.drocc_scores(task, seed))
    return {"DROCC, default": {"last": default}, **cells}

  def published(row: str, method: str) -> float | None:
    places = {"released": 0, "marvin": 1}
    return PAPER[method][places[row]] if method in PAPER and row in places else None

  records = images.classes("3", rows, seeds, cell, advance, ledger, published, mean=False)
  epilepsy = set(_SERIES.value) & set(drocc_epilepsy.SPLITS)
  return records, {"table3" if epilepsy else "table3-words": images.bars(records)}


def loaded(row: str, seed: int) -> data.Splits:
  """The records of a row: a split of epilepsy, or a wake word."""
  if row in drocc_epilepsy.SPLITS:
    return data.Epilepsy(split=row, seed=seed).load()
  return data.WakeWord(keyword=row, synthesised=False, seed=seed).load()


def _settings(row: str, x: np.ndarray, seed: int, size: images.Scale) -> dict[str, Config]:
  """Our settings and the released ones, at one scale."""
  ours = images.ours(x, seed, size, gamma=2.0)
  released = drocc_epilepsy.get_config()
  if row not in drocc_epilepsy.SPLITS:
    chosen = dataclasses.replace(released.drocc, radius=16.0, mu=1.0, learning_rate=1e-3)
    released = dataclasses.replace(released, drocc=chosen)
  if size.train:
    shorter = _shorter(released.drocc)
    released = dataclasses.replace(
      released, drocc=shorter, epochs=size.epochs, batch_size=size.batch_size
    )
  released = dataclasses.replace(released, seed=seed, network=NetworkConfig(name="lstm"))
  return {"DROCC": ours, "DROCC, released settings": released}


def _shorter(config: DroccConfig) -> DroccConfig:
  return dataclasses.replace(
    config,
    step_size=1.0,
    num_steps=5,
    project_every=1,
    learning_rate=10 * (config.learning_rate or 1e-3),
  )
