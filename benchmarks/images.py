"""One class of images against the others: Tables 1 and 8, Figures 7 and 8 of the paper, and MNIST.

DROCC                     gamma 1, radius sqrt(d) / 2 (the paper's advice), mu 1, 10 ascent steps
DROCC-Rand                the same without ascent
DROCC, contrast           as DROCC, each image by its own mean and contrast first
DROCC, MLP                on the pixels of MNIST, with the network and mu that DROCC() has on tables
DROCC, released settings  configs/drocc_cifar10.py: radius, mu and optimiser of each class, without
                          ascent, which moves a negative by 0.05 at most (``benchmarks.fidelity``)

The scale "full" is the paper's: all 5,000 images of the class, 40 epochs in batches of 256 (100
with the released settings), all 10,000 test images. The scale "cpu" trains on 1,000 images of the
class for 10 epochs in batches of 128 with 5 ascent steps, and tests on 4,000 drawn at random.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

from absl import flags
import jax
from matplotlib.figure import Figure
import numpy as np

from benchmarks import protocol
from benchmarks.baselines import generative
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord, by_method
from configs import drocc_cifar10
from detector_jax import metrics
from drocc_jax import recipe
from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.registry import NetworkConfig
from launch import data
from launch.data import splits
from launch.methods.drocc import Config
from launch.reporting import figures

CLASSES = drocc_cifar10.CLASSES
# AUROC in percent, the paper's Tables 1 and 8, in the order of the classes.
PAPER = {
  "DROCC": (81.66, 76.74, 66.66, 67.13, 73.62, 74.43, 74.43, 71.39, 80.02, 76.21),
  "DROCC-Rand": (79.67, 73.48, 62.76, 67.33, 56.09, 65.88, 74.82, 62.08, 80.04, 70.80),
  "nearest neighbour": (69.02, 44.2, 68.27, 51.32, 76.71, 49.97, 72.44, 51.13, 69.09, 43.33),
  "OC-SVM": (61.6, 63.8, 50.0, 55.9, 66.0, 62.4, 74.7, 62.6, 74.9, 75.9),
  "isolation forest": (60.1, 50.8, 49.2, 55.1, 49.8, 58.5, 42.9, 55.1, 74.2, 58.9),
  "autoencoder": (59.1, 57.4, 48.9, 58.4, 54.0, 62.2, 51.2, 58.6, 76.8, 67.3),
  "Deep SVDD": (61.7, 65.9, 50.8, 59.1, 60.9, 65.7, 67.7, 67.3, 75.9, 73.1),
  "Deep SVDD, soft boundary": (61.7, 64.8, 49.5, 56.0, 59.1, 62.1, 67.8, 65.2, 75.6, 71.0),
}
PAPER["AnoGAN"] = (67.1, 54.7, 52.9, 54.5, 65.1, 60.3, 58.5, 62.5, 75.8, 66.5)
PAPER["ConAD"] = (77.2, 63.1, 63.1, 61.5, 63.3, 58.8, 69.1, 64.0, 75.5, 63.7)
PAPER["DROCC, released settings"] = PAPER["DROCC"]
OURS = ("DROCC", "DROCC-Rand", "DROCC, released settings", "DROCC, contrast")
RADII = (0.25, 0.5, 1.0, 1.5)  # times sqrt(d) / 2
WEIGHTS = (0.25, 0.5, 1.0, 2.0)
SWEPT = ("airplane", "deer", "truck")

SCALES = ("auto", "full", "cpu")
_SCALE = flags.DEFINE_enum(
  "scale", "auto", SCALES, "Protocol of long tables; auto takes cpu where JAX computes on one."
)
_CLASSES = flags.DEFINE_list("classes", list(CLASSES), "Classes of tables 1 and 8 to measure.")

Advance = Callable[..., None]


@dataclasses.dataclass(frozen=True)
class Scale:
  """How much of a protocol is run; 0 records are all.

  Attributes:
    train: typical images to train on.
    test: test images.
    epochs: of training.
    batch_size: images per step.
    ascent: steps of our search.
    average_decay: of the network that scores.
    points: epochs at which the test images are scored.
  """

  train: int = 0
  test: int = 0
  epochs: int = 40
  batch_size: int = 256
  ascent: int = 10
  average_decay: float = 0.998
  points: int = 40


FULL = Scale()
CPU = Scale(1000, 4000, 10, 128, ascent=5, average_decay=0.97, points=4)


def chosen_scale() -> str:
  """The scale, "full" or "cpu", as the flag and the device have it."""
  if _SCALE.value != "auto":
    return _SCALE.value
  return "cpu" if jax.default_backend() == "cpu" else "full"


def scale() -> Scale:
  """The scale of image tables that the flag asks for."""
  return CPU if chosen_scale() == "cpu" else FULL


def chosen_classes() -> tuple[str, ...]:
  """The classes of CIFAR-10 that the flag asks for.

  Raises:
    ValueError: one that is none.
  """
  for name in _CLASSES.value:
    if name not in CLASSES:
      raise ValueError(f"--classes: {name!r} is none of {', '.join(CLASSES)}.")
  return tuple(_CLASSES.value)


def count1(seeds: int) -> int:
  """Number of cells of table 1, and of table 8."""
  return seeds * len(_CLASSES.value)


def count_mnist(seeds: int) -> int:
  """Number of cells of the table mnist."""
  return seeds * 10


def count_sweep(seeds: int) -> int:
  """Number of cells of figure7, and of figure8."""
  return seeds * len(SWEPT) * len(RADII)


def ours(x: np.ndarray, seed: int, size: Scale, **change: Any) -> Config:
  """Our settings for images ``[n, h, w, c]``; ``change`` are fields of ``drocc.Config``."""
  settings: dict[str, Any] = {
    "radius": float(np.sqrt(np.prod(x.shape[1:]))) / 2.0,
    "gamma": 1.0,
    "noise_scale": None,
    "num_steps": size.ascent,
    "average_decay": size.average_decay,
  }
  return Config(
    network=NetworkConfig("mnist_lenet" if x.ndim == 4 and x.shape[-1] == 1 else "auto"),
    drocc=DroccConfig(**{**settings, **change}),
    epochs=size.epochs,
    batch_size=size.batch_size,
    seed=seed,
    calibration_size=0.1,
  )


def on_pixels(x: np.ndarray, seed: int) -> Config:
  """MLP, mu 10, 1,500 steps, as DROCC() on small grey images, on pixels of ``[n, h, w, c]``.

  The radius is the paper's advice, sqrt(d) / 2, and gamma 1, as in the other rows.
  """
  return Config(
    network=NetworkConfig("mlp", (256, 256), 2.0, 2.0, True),
    drocc=DroccConfig(
      radius=float(np.sqrt(np.prod(x.shape[1:]))) / 2.0,
      gamma=1.0,
      noise_scale=None,
      mu=recipe.DENSE_MU,
    ),
    seed=seed,
    calibration_size=0.1,
  )


def released(name: str, seed: int, size: Scale) -> Config:
  """The released settings for a class of CIFAR-10, at one scale."""
  config = drocc_cifar10.get_config(name)
  if size.train:
    config = dataclasses.replace(config, epochs=size.epochs, batch_size=size.batch_size)
  return dataclasses.replace(
    config, seed=seed, drocc=dataclasses.replace(config.drocc, num_steps=0)
  )


def one_class(
  name: str, typical: int, seed: int, size: Scale, rotation: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Training images, test images and their labels, at one scale."""
  found = data.OneClassImages(name=name, typical=typical, rotation=rotation, seed=seed).load()
  x_test, labels = found.labelled_test()
  train = splits.drawn(len(found.x_train), size.train, seed)
  test = splits.drawn(len(x_test), size.test, seed)
  return found.x_train[train], x_test[test], labels[test]


def measured(
  configs: dict[str, Config],
  x: np.ndarray,
  x_test: np.ndarray,
  labels: np.ndarray,
  size: Scale,
  seed: int,
  baselines: bool = True,
) -> Cell:
  """AUROC of every method on one class, in each column."""
  auroc = functools.partial(metrics.auroc, labels)
  cell = {
    method: protocol.train(config, x, x_test, size.points).columns(auroc)
    for method, config in configs.items()
  }
  if baselines:
    flat = [part.reshape(len(part), -1) for part in (x, x_test)]
    scores = protocol.baseline_scores(flat[0], [flat[1]], seed)
    if protocol.all_methods():
      config = next(iter(configs.values()))
      scores |= protocol.deep_baseline_scores(config, x, [x_test])
      scores |= generative.scores(config, x, [x_test], cheap=bool(size.train))
    cell |= {method: {"last": auroc(part)} for method, (part,) in scores.items()}
  return cell


def table1(
  seeds: int,
  advance: Advance,
  ledger: Ledger,
  methods: Sequence[str] = OURS,
  baselines: bool = True,
  size: Scale | None = None,
  table: str = "1",
  names: Sequence[str] | None = None,
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """CIFAR-10: AUROC of every class and their mean, in each column."""
  size = scale() if size is None else size
  names = chosen_classes() if names is None else names

  def cell(name: str, seed: int) -> Cell:
    x, x_test, labels = one_class("cifar10", CLASSES.index(name), seed, size)
    configs = {
      "DROCC": ours(x, seed, size),
      "DROCC-Rand": ours(x, seed, size, num_steps=0),
      "DROCC, released settings": released(name, seed, size),
      "DROCC, contrast": dataclasses.replace(ours(x, seed, size), scaling="contrast"),
    }
    chosen = {method: configs[method] for method in methods}
    return measured(chosen, x, x_test, labels, size, seed, baselines)

  records = classes(table, names, seeds, cell, advance, ledger, _published)
  if baselines and protocol.all_methods():
    records += not_run(table, list(dict.fromkeys(record.row for record in records)))
  return records, {f"table{table}": bars(records)}


def not_run(table: str, rows: Sequence[str]) -> list[TableRecord]:
  """The published numbers of methods that are not run; the name says so, the column too."""
  found = []
  for method, why in generative.NOT_RUN.items():
    for row in rows:
      paper = None if row == MEAN and len(rows) <= len(CLASSES) else _published(row, method)
      if paper is not None:
        name = f"{method} ({why})"
        found.append(TableRecord(table, row, name, "published", "auroc", paper, 0.0, 0, paper))
  return found


def table8(
  seeds: int, advance: Advance, ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """DROCC against DROCC-Rand on CIFAR-10; Table 1 has these columns too."""
  return table1(seeds, advance, ledger, OURS[:2], baselines=False, table="8")


def table_contrast(
  seeds: int, advance: Advance, ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """DROCC on CIFAR-10, each image by its own mean and contrast; Table 1 has this column too."""
  return table1(seeds, advance, ledger, OURS[3:], baselines=False, table="contrast")


def table_mnist(
  seeds: int, advance: Advance, ledger: Ledger, size: Scale | None = None
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """MNIST, every digit against the others; the paper states 97 for the digits 3 and 8."""
  size = scale() if size is None else size

  def cell(name: str, seed: int) -> Cell:
    x, x_test, labels = one_class("mnist", int(name), seed, size)
    configs = {"DROCC": ours(x, seed, size), "DROCC, MLP": on_pixels(x, seed)}
    return measured(configs, x, x_test, labels, size, seed)

  def published(name: str, method: str) -> float | None:
    return 97.0 if method == "DROCC" and name in ("3", "8") else None

  digits = [str(digit) for digit in range(10)]
  records = classes("mnist", digits, seeds, cell, advance, ledger, published)
  return records, {"mnist": bars(records)}


def figure7(
  seeds: int, advance: Advance, ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC over the radius, in units of sqrt(d) / 2."""
  return _sweep("figure7", "radius", RADII, seeds, advance, ledger)


def figure8(
  seeds: int, advance: Advance, ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC over mu, the weight of the negatives."""
  return _sweep("figure8", "mu", WEIGHTS, seeds, advance, ledger)


def _sweep(
  table: str, field: str, values: Sequence[float], seeds: int, advance: Advance, ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  size = scale()

  def cell(name: str, seed: int) -> Cell:
    typical, value = name.split(f", {field} ")
    x, x_test, labels = one_class("cifar10", CLASSES.index(typical), seed, size)
    unit = float(np.sqrt(np.prod(x.shape[1:]))) / 2.0 if field == "radius" else 1.0
    config = ours(x, seed, size, **{field: float(value) * unit})
    return measured({"DROCC": config}, x, x_test, labels, size, seed, baselines=False)

  rows = [f"{name}, {field} {value:g}" for name in SWEPT for value in values]
  records = classes(table, rows, seeds, cell, advance, ledger, mean=False)
  series: dict[str, Any] = {}
  for record in records:
    if record.column == "last":
      _, mean, std = series.setdefault(record.row.split(",")[0], (values, [], []))
      mean.append(record.mean)
      std.append(record.std)
  label = "radius, in units of sqrt(d) / 2" if field == "radius" else "weight mu of the negatives"
  return records, {table: figures.lines_with_spread(series, label, "AUROC, %, last epoch")}


def _published(name: str, method: str) -> float | None:
  if method not in PAPER:
    return None
  if name == MEAN:
    return round(float(np.mean(PAPER[method])), 2)
  return PAPER[method][CLASSES.index(name)]


MEAN = "mean"


def classes(
  table: str,
  rows: Sequence[str],
  seeds: int,
  cell: Callable[[str, int], Cell],
  advance: Advance,
  ledger: Ledger,
  published: Callable[[str, str], float | None] = lambda row, method: None,
  mean: bool = True,
) -> list[TableRecord]:
  """Measures every row with every seed; the last row is their mean, over rows, for each seed."""
  found: dict[tuple[str, str], dict[str, list[float]]] = {}
  for row in rows:
    for seed in range(seeds):
      for method, by_column in ledger.cell((row, seed), functools.partial(cell, row, seed)).items():
        columns = found.setdefault((row, method), {})
        for column, value in by_column.items():
          columns.setdefault(column, []).append(value)
      advance(1, f"{row}, seed {seed}")
  if mean and len(rows) > 1:
    for _, method in list(found)[: len({method for _, method in found})]:
      found[MEAN, method] = {
        column: np.mean([found[row, method][column] for row in rows], axis=0).tolist()
        for column in found[rows[0], method]
      }
  return [
    record
    for (row, method), by_column in found.items()
    for record in protocol.summarise(
      table,
      row,
      method,
      "auroc",
      by_column,
      None if row == MEAN and len(rows) < 10 else published(row, method),
    )
  ]


def bars(records: Sequence[TableRecord]) -> Figure:
  """AUROC of the last epoch of every method, grouped by row."""
  chosen = [record for record in records if record.column == "last"]
  rows = list(dict.fromkeys(record.row for record in chosen))
  lowest = min(record.mean for record in chosen)
  return figures.grouped_bars(
    rows, by_method(chosen), "AUROC, %, last epoch", 10.0 * (lowest // 10.0)
  )
