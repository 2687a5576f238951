"""Table 4 of the DROCC paper: GEOM, which knows how typical images look turned, against DROCC.

CIFAR-10 as it is, and with both parts flipped at random and turned by up to 30 degrees.

DROCC  as in ``benchmarks.images``
GEOM   ``benchmarks.baselines.geom``

At the scale "full" GEOM is the reference's: WRN-10-4, 216 visits to each image (three epochs of 72
transformations), batches of 128. At the scale "cpu" it has the body of the CIFAR LeNet and 36
visits, and 1,000 test images are drawn at random.
"""

from collections.abc import Callable
import dataclasses

from matplotlib.figure import Figure
import numpy as np

from benchmarks import images, protocol
from benchmarks.baselines import geom
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import Standardizer, metrics
from drocc_jax import networks

DEGREES = 30.0
PLAIN, TURNED = "as they are", "flipped and turned"
# AUROC in percent, the paper's Table 4, in the order of the classes.
PAPER = {
  ("GEOM", PLAIN): (74.7, 95.7, 78.1, 72.4, 87.8, 87.8, 83.4, 95.5, 93.3, 91.3),
  ("DROCC", PLAIN): (81.6, 76.7, 66.7, 67.1, 73.6, 74.4, 74.4, 71.4, 80.0, 76.2),
  ("GEOM", TURNED): (62.4, 71.8, 50.6, 52.5, 65.7, 69.6, 68.3, 84.8, 79.6, 85.7),
  ("DROCC", TURNED): (77.2, 74.5, 67.5, 68.8, 71.1, 71.3, 71.2, 63.5, 76.4, 74.0),
}
VISITS, SHORT_VISITS = 216, 36
CPU = dataclasses.replace(images.CPU, test=1000)


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return 2 * images.count1(seeds)


def table4(
  seeds: int,
  advance: Callable[..., None],
  ledger: Ledger,
  size: images.Scale | None = None,
  names: tuple[str, ...] | None = None,
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC of every class, as it is and turned."""
  if size is None:
    size = CPU if images.chosen_scale() == "cpu" else images.FULL
  chosen, classes = size, images.chosen_classes() if names is None else names

  def cell(row: str, seed: int) -> Cell:
    name, how = row.split(", ")
    rotation = DEGREES if how == TURNED else 0.0
    typical = images.CLASSES.index(name)
    x, x_test, labels = images.one_class("cifar10", typical, seed, chosen, rotation)
    config = images.ours(x, seed, chosen)
    found = images.measured({"DROCC": config}, x, x_test, labels, chosen, seed, baselines=False)
    scores = geom_scores(x, x_test, seed, chosen)
    return {**found, "GEOM": {"last": metrics.auroc(labels, scores)}}

  def published(row: str, method: str) -> float | None:
    name, how = row.split(", ")
    return PAPER[method, how][images.CLASSES.index(name)]

  rows = [f"{name}, {how}" for how in (PLAIN, TURNED) for name in classes]
  records = images.classes("4", rows, seeds, cell, advance, ledger, published, mean=False)
  records += _means(records, len(classes) == len(images.CLASSES))
  return records, {"table4": images.bars([r for r in records if r.row.startswith(images.MEAN)])}


def geom_scores(x: np.ndarray, x_test: np.ndarray, seed: int, size: images.Scale) -> np.ndarray:
  """Scores of GEOM, trained on all of ``x`` ``[n, side, side, c]``."""
  preprocessing = Standardizer.fit(x)
  z, z_test = (preprocessing.transform(part) for part in (x, x_test))
  short = bool(size.train)
  model = geom.make(
    seed,
    z.shape[1:],
    network=networks.cifar_lenet() if short else None,
    epochs=SHORT_VISITS if short else VISITS,
    batch_size=128,
  )
  return model.fit(z).score(z_test)


def _means(records: list[TableRecord], whole: bool) -> list[TableRecord]:
  """Mean over the classes; the spread is that of the classes, not of seeds."""
  means = []
  for how in (PLAIN, TURNED):
    chosen = [r for r in records if r.row.endswith(how)]
    for method, column in dict.fromkeys((r.method, r.column) for r in chosen):
      values = [r.mean / 100 for r in chosen if (r.method, r.column) == (method, column)]
      paper = round(float(np.mean(PAPER[method, how])), 2) if whole else None
      means += protocol.summarise(
        "4", f"{images.MEAN}, {how}", method, "auroc", {column: values}, paper
      )
  return means
