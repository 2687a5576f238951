"""One class of CIFAR-10 against the others, on activations of a network trained on ImageNet.

2 neighbours      mean distance to the two nearest training images, on ``features.Activations`` of
                  EfficientNet-Lite0's last convolution, or of --pretrained_layers
DROCC             ``DROCC()`` as it is behind a feature map, on the same
DROCC, untrained  its network as it begins

All 5,000 training images of the class but a tenth, which the table features holds out, too, and all
test images, enlarged to 128 x 128 pixels; the activations of all images are computed once for all
classes. Unit length, whitening and residual were chosen on five groups of the CIFAR-100 sample.
ImageNet is side information: it has airplanes, cars and dogs. Needs the extra pretrained.

"cpu_seconds" are of the process: fitting, and scoring all test images; of "activations" those of a
thousand images.
"""

from collections.abc import Callable
import dataclasses
import functools
import time

from absl import flags
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np

from benchmarks import efficientnet, features, images, protocol
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import metrics
from detector_jax.features import Activations, apply
from detector_jax.splits import calibration_rows

SIDE = 128
NEAREST, OURS, ACTIVATIONS = "2 neighbours", "DROCC", "activations"

_LAYERS = flags.DEFINE_list(
  "pretrained_layers", ["head"], "Layers of the table pretrained, e.g. head,block15_project."
)


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(images.chosen_classes())


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger, size: images.Scale = images.FULL
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC and CPU seconds of every method on every class, and the means over the ten."""
  values: dict[tuple[str, str, str], list[float]] = {}
  for seed in range(seeds):
    for name in images.chosen_classes():
      cell = ledger.cell((name, seed), functools.partial(measured, name, seed, size))
      for method, by_metric in cell.items():
        for metric, value in by_metric.items():
          values.setdefault((f"cifar10, {name}", method, metric), []).append(value)
      advance(1, f"{name}, seed {seed}")
  records = []
  for (row, method, metric), found in (
    values | protocol.means_over_classes(values, images.MEAN)
  ).items():
    scale = 0.01 if metric == features.SECONDS else 1.0
    by_column = {"last": [scale * value for value in found]}
    records += protocol.summarise("pretrained", row, method, metric, by_column)
  drawn = [record for record in records if record.metric == "auroc"]
  return records, {"pretrained": images.bars(drawn)}


def measured(name: str, seed: int, size: images.Scale) -> Cell:
  """AUROC and CPU seconds of every method on one class."""
  number = images.CLASSES.index(name)
  x, x_test, labels = images.one_class("cifar10", number, seed, size)
  train, _ = calibration_rows(x, features.HELD_OUT, seed)
  known, seconds = codes(size.train, size.test)
  code, code_test = (np.stack([known[each.tobytes()] for each in part]) for part in (x, x_test))
  watch, scores = features.Stopwatch(), {}
  whitening = backbone().whitened([code[train]])
  z, z_test = (np.asarray(whitening(jnp.asarray(part))) for part in (code[train], code_test))
  watch.stop("whitening")
  scores[NEAREST] = features.distances(z, z_test)
  watch.stop(NEAREST)
  scores[OURS] = features.on_features(z, seed).score(z_test)
  watch.stop(OURS)
  scores[features.UNTRAINED] = features.untrained(z, z_test, seed)
  watch.stop(features.UNTRAINED)
  cell = {method: {"auroc": metrics.auroc(labels, each)} for method, each in scores.items()}
  for method, spent in {**watch.seconds, ACTIVATIONS: seconds}.items():
    cell.setdefault(method, {})[features.SECONDS] = spent
  return cell


@functools.cache
def backbone() -> Activations:
  """EfficientNet-Lite0 as a feature map, not fitted."""
  return Activations(
    efficientnet.EfficientNetLite0(SIDE), efficientnet.weights(), tuple(_LAYERS.value)
  )


@functools.cache
def codes(train: int, test: int) -> tuple[dict[bytes, np.ndarray], float]:
  """Activations of all images of the scale by their bytes, and CPU seconds of a thousand."""
  size = dataclasses.replace(images.FULL, train=train, test=test)
  parts = [
    images.one_class("cifar10", number, 0, size)[:2] for number in range(len(images.CLASSES))
  ]
  x = np.concatenate(
    [part[0] for part in parts] + [part[1] for part in parts[: 1 if not test else None]]
  )
  fitted = dataclasses.replace(backbone().fit(x[:64]), whitening=None)
  begun = time.process_time()
  found = apply(fitted, x)
  spent = 1000 * (time.process_time() - begun) / len(x)
  return dict(zip((each.tobytes() for each in x), found, strict=True)), spent
