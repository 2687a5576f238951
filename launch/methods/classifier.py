"""A classifier to fingerprint: one stage, from classified records to trained parameters."""

import dataclasses
import functools
import json
import pathlib
from typing import Any, ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import atomic, batching, training
from fingerprint_jax import classifiers, roles
from fingerprint_jax.classifiers import Config as TrainingConfig
from launch import costs, data, devices, failures, stages, workdirs
from launch.data import OpenSetImages, Source

STAGE = "classifier"
NETWORKS = {
  "mnist": classifiers.mnist_classifier,
  "fashion_mnist": classifiers.fashion_mnist_classifier,
  "digits_shifted": classifiers.digits_classifier,
}
SHAPES = {
  "mnist": (28, 28, 1),
  "fashion_mnist": (28, 28, 1),
  "cifar10": (32, 32, 3),
  "digits_shifted": (8, 8, 1),
}


@dataclasses.dataclass
class Config:
  """Training of one classifier.

  Attributes:
    data: records with classes.
    network: "mnist" (7 layers), "fashion_mnist" (11), "digits_shifted" (5), or "auto": the one
      named like the data.
    training: its settings.
    held_out: share of the training records that the classifier must not see, so that they can
      calibrate its fingerprints; in [0, 1), at most 6,000 records.
    seed: of weights, data order and the held-out records.
    checkpoints: how many checkpoints a run writes, evenly spread over its epochs.
  """

  method: ClassVar[str] = "classifier"

  data: Source = dataclasses.field(
    default_factory=lambda: OpenSetImages(name="mnist", ood=("fashion_mnist",))
  )
  network: str = "auto"
  training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
  held_out: float = 0.1
  seed: int = 0
  checkpoints: int = 5


def train(config: Config, workdir: pathlib.Path) -> pathlib.Path:
  """Trains, or resumes; writes the accuracy on the test records into ``metrics.json``."""
  stages.check_checkpoints(config.checkpoints)
  splits = config.data.load()
  rows = np.arange(len(splits.x_train))
  if config.held_out:
    rows = roles.split_rows(
      splits.x_train, config.held_out, 0.5, config.seed, groups=splits.groups
    ).train
  network = make(config.network, config.data.name)
  x, classes = classified(splits, rows)
  config.training.validate()
  workdirs.claim(workdir, config, splits)
  params = fit(network, config.training, x, classes, config.seed, workdir, config.checkpoints, rows)
  result = {"test_accuracy": accuracy(network, params, splits), "training_records": len(x)}
  if devices.primary():
    atomic.write_text(workdir / "metrics.json", json.dumps(result, indent=2) + "\n")
    print(f"test accuracy: {result['test_accuracy']}")
  return workdir / "checkpoints" / STAGE


def make(name: str, data_name: str) -> classifiers.Classifier:
  """The network of a name.

  Raises:
    ValueError: an unknown name, or "auto" with data that has no classifier of its own.
  """
  chosen = data_name if name == "auto" else name
  if chosen not in NETWORKS:
    raise ValueError(
      f"There is no classifier {chosen!r}; set the network to one of {', '.join(NETWORKS)}."
    )
  return NETWORKS[chosen]()


def classified(splits: data.Splits, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Training records ``[n, ...]`` of these rows, and their classes ``[n]``.

  Raises:
    ValueError: records without classes.
  """
  if splits.y_train is None:
    raise ValueError(
      "A classifier needs records with classes: take mnist or fashion_mnist with data.ood set, or "
      "digits_shifted."
    )
  return splits.x_train[rows], splits.y_train[rows]


def fit(
  network: nn.Module,
  config: TrainingConfig,
  x: np.ndarray,
  classes: np.ndarray,
  seed: int,
  workdir: pathlib.Path,
  checkpoints: int,
  numbers: np.ndarray | None = None,
) -> Any:
  """Runs the stage "classifier" on records of these numbers; returns the trained parameters."""
  init_key, train_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0))
  batch_size = min(config.batch_size, len(x))
  total = config.epochs * training.steps_per_epoch(len(x), batch_size)
  optimizer = classifiers.make_optimizer(config, total)
  make_step = functools.partial(classifiers.make_train_step, network, optimizer, config)
  train_epochs = devices.make_train_epochs(make_step, batch_size)
  rows = training.to_device(x, classes)

  def advance(state: Any, first: int, last: int) -> tuple[Any, dict[str, float]]:
    state, info = train_epochs(state, rows, train_key, first, last)
    return state, {"loss": float(info.loss.value), "accuracy": float(info.accuracy.value)}

  state = classifiers.init(network, optimizer, x.shape[1:], init_key)
  steps = failures.steps_of(make_step(), rows, train_key, batch_size, numbers)
  task = costs.of_data(type(network).__name__, train_epochs, rows, train_key, batch_size)
  stage = stages.Stage(STAGE, config.epochs, advance, steps, task)
  return stages.run(stage, state, workdir, checkpoints).params


def accuracy(network: nn.Module, params: Any, splits: data.Splits) -> float | None:
  """Share of the typical test records classified rightly, None where none has a class."""
  if splits.x_test is None or splits.class_test is None:
    return None
  typical = splits.class_test >= 0

  @jax.jit
  def compute(params: Any, x: jax.Array) -> jax.Array:
    logits: Any = network.apply({"params": params}, x)
    return jnp.argmax(logits, axis=-1)

  found = batching.in_batches(
    lambda rows: compute(params, rows), np.asarray(splits.x_test[typical], np.float32), 256
  )
  return float(np.mean(found == splits.class_test[typical]))


def load(workdir: pathlib.Path) -> tuple[Config, classifiers.Classifier, Any]:
  """Configuration, network and parameters of a finished classifier run.

  Raises:
    ValueError: no such run, or one that is not finished.
  """
  name, values = workdirs.read(workdir)
  if name != Config.method:
    raise ValueError(f"{workdir} holds a run of {name!r}, not of a classifier.")
  config = workdirs.from_dict(workdir, Config, values)
  network = make(config.network, config.data.name)
  return config, network, restore(network, config.training, config.data.name, workdir)


def restore(
  network: classifiers.Classifier, config: TrainingConfig, data_name: str, workdir: pathlib.Path
) -> Any:
  """The parameters that the finished stage "classifier" of a run left.

  Raises:
    ValueError: it is not finished.
  """
  optimizer = classifiers.make_optimizer(config, 1)
  state = classifiers.init(network, optimizer, SHAPES[data_name], jax.random.key(0))
  return stages.restore(STAGE, config.epochs, state, workdir).params
