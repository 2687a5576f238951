"""One class of images against the others, with feature maps in front.

patches, 2 neighbours   mean distance to the two nearest training images, on ``features.Patches``
DROCC                   ``DROCC()`` as it is: on the same ``Patches``
DROCC, untrained        its network as it begins: soft distance to the centroids of k-means
rotations               ``features.Rotations``, scored by the turns alone; knows that images have an
                        upright, which is side information
DROCC + rotations       ``combine`` of these two

With --feature_images=20,50 so many training images of the class, drawn by the seed, none of them
held out, and ``FEW_TESTED`` test images:

patches                 ``DROCC(features=Patches())``
pixels                  ``DROCC(features=None)``
pixels, 5 neighbours    mean distance to the five nearest training images, pixel by pixel

CIFAR-10, MNIST and Fashion-MNIST, all training images of the class and all test images, at every
scale. Every tenth training image is held out from all of them, to put the two scores of a
combination into units. Settings were chosen on Fashion-MNIST and on groups of classes of the
CIFAR-100 sample; CIFAR-10 and MNIST were not looked at.

"cpu_seconds" are of the process, over all its threads: fitting, and scoring all test images.
"patches" alone are the features of both sets; they come on top of what stands behind them.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import time

from absl import flags
import jax
from matplotlib.figure import Figure
import numpy as np
from sklearn.neighbors import NearestNeighbors

from benchmarks import images, protocol
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import Detector, features, metrics
from detector_jax.combination import combine
from detector_jax.splits import calibration_rows
from drocc_jax import DROCC, networks
from drocc_jax import on_features as settings
from drocc_jax.drocc import Config

SETS = ("cifar10", "fashion_mnist", "mnist")
HELD_OUT = 0.1
NEIGHBOURS = 2
FEW_TESTED, FEW_NEIGHBOURS = 2000, 5
PATCHES, NEAREST, UNTRAINED = "patches", "patches, 2 neighbours", "DROCC, untrained"
PIXELS, FEW_NEAREST = "pixels", "pixels, 5 neighbours"
SECONDS = "cpu_seconds"

_SETS = flags.DEFINE_list("feature_sets", ["cifar10"], "Image sets of the table features.")
_ROTATIONS = flags.DEFINE_bool(
  "rotations", True, "Whether the table features measures rotations, two thirds of its time."
)


_IMAGES = flags.DEFINE_list(
  "feature_images", [], "How many training images the table features has; empty: all."
)
_DIGITS = flags.DEFINE_list(
  "feature_classes", list("0123456789"), "Classes of MNIST and Fashion-MNIST to measure."
)


def rows(
  sets: list[str],
  classes: tuple[str, ...],
  digits: Sequence[str] = tuple("0123456789"),
  numbers: Sequence[str] = (),
) -> list[str]:
  """The rows of the table, "set, class", or "20 of set, class".

  Raises:
    ValueError: an unknown set.
  """
  for name in sets:
    if name not in SETS:
      raise ValueError(f"--feature_sets: {name!r} is none of {', '.join(SETS)}.")
  for number in numbers:
    if not number.isdecimal() or int(number) < 2:
      raise ValueError(f"--feature_images: {number!r} is no number of images from 2 on.")
  found = [f"{name}, {c}" for name in sets for c in (classes if name == "cifar10" else digits)]
  return [f"{number} of {row}" for number in numbers for row in found] if numbers else found


def chosen_rows() -> list[str]:
  """The rows that the flags ask for."""
  return rows(_SETS.value, images.chosen_classes(), tuple(_DIGITS.value), tuple(_IMAGES.value))


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(chosen_rows())


def table(
  seeds: int,
  advance: Callable[..., None],
  ledger: Ledger,
  size: images.Scale = images.FULL,
  names: list[str] | None = None,
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC and CPU seconds of every method on every class, and the means over the ten."""
  names = chosen_rows() if names is None else names
  values = ledger.gather(names, seeds, functools.partial(measured, size=size), advance)
  records = []
  for (row, method, metric), found in (
    values | protocol.means_over_classes(values, images.MEAN)
  ).items():
    scale = 0.01 if metric == SECONDS else 1.0
    by_column = {"last": [scale * value for value in found]}
    records += protocol.summarise(
      "features", row, method, metric, by_column, published(row, method, metric)
    )
  drawn = [record for record in records if record.metric == "auroc"]
  shown = {record.row for record in drawn}
  whole = {
    method
    for method in {record.method for record in drawn}
    if {record.row for record in drawn if record.method == method} == shown
  }
  return records, {"features": images.bars([r for r in drawn if r.method in whole])}


def published(row: str, method: str, metric: str) -> float | None:
  """The figure in percent that a row's method is held against, or None."""
  name, typical = row.split(", ")
  if (name, method, metric) != ("cifar10", "DROCC", "auroc"):
    return None
  if typical == images.MEAN:
    return round(float(np.mean(images.PAPER["DROCC"])), 2)
  return images.PAPER["DROCC"][images.CLASSES.index(typical)]


def measured(row: str, seed: int, size: images.Scale) -> Cell:
  """AUROC and CPU seconds of every method on one class."""
  name, typical = row.split(", ")
  few, _, name = name.rpartition(" of ")
  number = images.CLASSES.index(typical) if name == "cifar10" else int(typical)
  if few:
    size = dataclasses.replace(size, train=int(few), test=FEW_TESTED)
    return measured_few(*images.one_class(name, number, seed, size), seed)
  x, x_test, labels = images.one_class(name, number, seed, size)
  train, held_out = calibration_rows(x, HELD_OUT, seed)
  watch, scores = Stopwatch(), {}
  fitted = features.Patches().fit(x[train], seed)
  z, z_test = features.apply(fitted, x[train]), features.apply(fitted, x_test)
  watch.stop(PATCHES)
  scores[NEAREST] = distances(z, z_test)
  watch.stop(NEAREST)
  patches = on_features(z, seed)
  scores["DROCC"] = patches.score(z_test)
  watch.stop("DROCC")
  scores[UNTRAINED] = untrained(z, z_test, seed)
  watch.stop(UNTRAINED)
  if _ROTATIONS.value:
    turns = features.Rotations().fit(x[train], seed).detector(x.shape[1:])
    scores["rotations"] = turns.score(x_test)
    watch.stop("rotations")
    parts = patches.behind(fitted, x.shape[1:]), turns
    both = jax.device_get(combine(parts, x[held_out]).arrays["variables"])
    each = np.stack([scores["DROCC"], scores["rotations"]], axis=1)
    scores["DROCC + rotations"] = np.sum((each - both["center"]) / both["scale"], axis=1)
    watch.stop("DROCC + rotations")
  cell = {method: {"auroc": metrics.auroc(labels, each)} for method, each in scores.items()}
  for method, spent in watch.seconds.items():
    cell.setdefault(method, {})[SECONDS] = spent
  return cell


def measured_few(x: np.ndarray, x_test: np.ndarray, labels: np.ndarray, seed: int) -> Cell:
  """AUROC and CPU seconds of features against pixels, trained on images ``[n, h, w, c]``."""
  watch, cell = Stopwatch(), {}
  for method, before in ((PATCHES, features.Patches()), (PIXELS, None)):
    model = DROCC(features=before, calibration_size=0.0, random_state=seed).fit(x)
    cell[method] = {"auroc": metrics.auroc(labels, model.detector_.score(x_test))}
    watch.stop(method)
  flat, flat_test = (part.reshape(len(part), -1) for part in (x, x_test))
  nearest = distances(flat, flat_test, min(FEW_NEIGHBOURS, len(x)))
  cell[FEW_NEAREST] = {"auroc": metrics.auroc(labels, nearest)}
  watch.stop(FEW_NEAREST)
  return {method: each | {SECONDS: watch.seconds[method]} for method, each in cell.items()}


def on_features(z: np.ndarray, seed: int) -> Detector:
  """What ``DROCC()`` trains behind its feature map, from features ``[n, features]``."""
  config, network = settings.settled(Config.automatic(), None, z.shape[1])
  model = DROCC(
    radius=config.radius,
    mu=config.mu,
    num_steps=config.num_steps,
    learning_rate=config.learning_rate,
    schedule=config.schedule,
    trim=0.0,
    scaling="none",
    network=network,
    features=None,
    calibration_size=0.0,
    random_state=seed,
  )
  return model.fit(z).detector_


def untrained(z: np.ndarray, z_test: np.ndarray, seed: int) -> np.ndarray:
  """Scores ``[m]`` of rows ``[m, features]`` by the network that DROCC starts from."""
  _, network = settings.settled(Config.automatic(), None, z.shape[1])
  network = networks.for_records(network, len(z))
  forward, sample = networks.as_forward(network), networks.sample_for(network, z)
  logits = jax.jit(forward.evaluate)(*jax.jit(forward.init)(jax.random.key(seed), sample), z_test)
  return -np.asarray(logits)


def distances(z: np.ndarray, z_test: np.ndarray, number: int = NEIGHBOURS) -> np.ndarray:
  """Mean distances ``[m]`` of rows ``[m, features]`` to so many nearest of ``z``."""
  neighbours = NearestNeighbors(n_neighbors=number).fit(z)
  return neighbours.kneighbors(z_test)[0].mean(axis=1)


class Stopwatch:
  """CPU seconds of the process since the last ``stop``, added up by name."""

  def __init__(self) -> None:
    self.seconds: dict[str, float] = {}
    self._last = time.process_time()

  def stop(self, name: str) -> None:
    """Adds what was spent since the last call to ``name``."""
    now = time.process_time()
    self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
    self._last = now
