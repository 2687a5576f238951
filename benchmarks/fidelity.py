"""The released recipe for images, in JAX and in plain PyTorch, on the same images.

JAX                   ``configs/drocc_cifar10.py`` without its ascent: data and negatives pass the
                      network one after the other, and negatives feed the running statistics 51
                      times a step
JAX, Flax's weights   the same from weights as Flax draws them by default; with --methods=all
PyTorch               the same recipe by ``benchmarks.torch_drocc``, with weights as PyTorch draws
                      them
PyTorch, our weights  the same from the weights that JAX starts from; with --fidelity_paired, which
                      measures it and JAX alone, and their difference seed by seed
PyTorch, with ascent  the same with 50 ascent steps of 0.001 in training mode, as the released
                      trainer has them; with --methods=all

The two sides share nothing but images, standardisation and settings. AUROC on the test images after
every tenth of the epochs, which are the columns. The scale "full" is the released one: all 5,000
images of the class, 100 epochs in batches of 256, all 10,000 test images. The scale "cpu" is 1,000
images, 30 epochs in batches of 128 and 4,000 test images. Needs PyTorch, the extra torch.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

from absl import flags
from flax import linen as nn
from matplotlib.figure import Figure
import numpy as np

from benchmarks import images, protocol, torch_drocc, torch_networks
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import metrics
from detector_jax.preprocessing import Standardizer
from drocc_jax import networks, recipe
from drocc_jax.registry import NetworkConfig
from launch.methods.drocc import Config, prepare
from launch.reporting import figures

TENTHS = 10
JAX, FLAX, TORCH, ASCENT = "JAX", "JAX, Flax's weights", "PyTorch", "PyTorch, with ascent"
OURS, DIFFERENCE = "PyTorch, our weights", "PyTorch, our weights, less JAX"
SHORT = dataclasses.replace(images.CPU, epochs=30)
DEFAULT = ("airplane", "automobile", "deer")
METHODS = (JAX, TORCH, FLAX, ASCENT)

_CLASSES = flags.DEFINE_list("fidelity_classes", list(DEFAULT), "Classes of the table fidelity.")
_EPOCHS = flags.DEFINE_integer(
  "fidelity_epochs", 0, "Epochs of the table fidelity; 0: those of the scale.", lower_bound=0
)
_PAIRED = flags.DEFINE_bool(
  "fidelity_paired", False, "Whether the table fidelity compares seed by seed from equal weights."
)


class FlaxWeights(NetworkConfig):
  """The LeNet for CIFAR-10 with Flax's default initial weights."""

  def make(self) -> nn.Module:
    """The Linen module."""
    return networks.cifar_lenet().clone(kernel_init=nn.initializers.lecun_normal())


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * len(_CLASSES.value)


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger, size: images.Scale | None = None
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC along the training of both, a column for each tenth of the epochs."""
  full = images.chosen_scale() == "full"
  size = (images.FULL if full else SHORT) if size is None else size

  def cell(name: str, seed: int) -> Cell:
    x, x_test, labels = images.one_class("cifar10", images.CLASSES.index(name), seed, size)
    config = dataclasses.replace(images.released(name, seed, size), calibration_size=0.0)
    if _EPOCHS.value:
      config = dataclasses.replace(config, epochs=_EPOCHS.value)
    methods = METHODS if protocol.all_methods() else (JAX, TORCH)
    if _PAIRED.value:
      return paired(config, x, x_test, labels)
    return {method: _measured(method, config, x, x_test, labels) for method in methods}

  records = images.classes("fidelity", _CLASSES.value, seeds, cell, advance, ledger)
  return records, {"fidelity": _figure(records)}


def paired(config: Config, x: np.ndarray, x_test: np.ndarray, labels: np.ndarray) -> Cell:
  """AUROC of both sides from the same weights, and PyTorch's less ours, by column."""
  found = {method: _measured(method, config, x, x_test, labels) for method in (JAX, OURS)}
  less = {column: value - found[JAX][column] for column, value in found[OURS].items()}
  return {**found, DIFFERENCE: less}


def _measured(
  method: str, config: Config, x: np.ndarray, x_test: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
  """AUROC after every tenth of the epochs, by the name of its column."""
  if method in (JAX, FLAX):
    if method == FLAX:
      config = dataclasses.replace(config, network=FlaxWeights())
    found = protocol.train(config, x, x_test, tenths(config))
    scores = dict(zip(found.epochs.tolist(), found.scores, strict=True))
  else:
    weights = initial_weights(config, x) if method == OURS else None
    scores = in_torch(config, x, x_test, ascent=method == ASCENT, weights=weights)
  return {f"epoch {epoch}": metrics.auroc(labels, each) for epoch, each in scores.items()}


def tenths(config: Config) -> list[int]:
  """Every tenth of the epochs."""
  assert config.epochs is not None
  found = {-(-config.epochs * tenth // TENTHS) for tenth in range(1, TENTHS + 1)}
  return sorted(found)


def initial_weights(config: Config, x: np.ndarray) -> Any:
  """Parameters that the training in JAX starts from on raw training images ``[n, h, w, c]``."""
  return prepare(config, x, None).init(recipe.keys(config.seed)[0]).params


def in_torch(
  config: Config, x: np.ndarray, x_test: np.ndarray, ascent: bool, weights: Any = None
) -> dict[int, np.ndarray]:
  """Scores ``[m]`` of test images ``[m, h, w, c]`` after every tenth of the epochs.

  Args:
    config: released settings of a class.
    x: ``[n, h, w, c]`` raw training images.
    x_test: raw test images.
    ascent: whether the 50 ascent steps are taken.
    weights: parameters of our network to start from; None draws PyTorch's own.
  """
  import torch

  scale = Standardizer.fit(x, scaling=config.scaling, constant=config.constant, clip=config.clip)
  z, z_test = (scale.transform(part).transpose(0, 3, 1, 2) for part in (x, x_test))
  settings = dataclasses.replace(config.drocc, num_steps=50 if ascent else 0)
  torch.manual_seed(config.seed)
  network = torch_networks.lenet(z.shape[1:])
  if weights is not None:
    torch_networks.load_lenet(network, weights)
  reached, scores = tenths(config), dict[int, np.ndarray]()

  def score(epoch: int) -> None:
    if epoch not in reached:
      return
    network.eval()
    with torch.no_grad():
      parts = [network(torch.tensor(part)) for part in np.array_split(z_test, 20)]
    scores[epoch] = -torch.cat(parts)[:, 0].numpy()
    network.train()

  torch_drocc.train_network(network, z, settings, config.batch_size, reached[-1], score)
  return scores


def _figure(records: list[TableRecord]) -> Figure:
  series: dict[str, tuple[list[float], list[float], list[float]]] = {}
  for record in records:
    if record.row != images.MEAN and record.method != DIFFERENCE:
      epochs, mean, std = series.setdefault(f"{record.row}, {record.method}", ([], [], []))
      epochs.append(float(record.column.removeprefix("epoch ")))
      mean.append(record.mean)
      std.append(record.std)
  return figures.lines_with_spread(series, "epochs", "AUROC, %")
