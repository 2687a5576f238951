"""The training loop: data, resume, checkpoints, scalars, the finished Detector.

A run's folder (workdir) holds

    config.json     the configuration, checked when the run is taken up again
    checkpoints/    Orbax, by epoch
    metrics.jsonl   scalars by epoch; tensorboard/ has the same
    detector/       the finished Detector, see detector_jax.artifact
"""

from collections.abc import Callable
import contextlib
import dataclasses
import json
import os
import pathlib
import typing
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import epoch_loop, health
from drocc_jax import drocc, networks, recipe, validation
from drocc_jax.drocc import Config as DroccConfig
from launch import checkpoints, data, flags
from launch.data import DataConfig
from launch.reporting import progress


@dataclasses.dataclass
class NetworkConfig:
  """The network to train.

  Attributes:
    name: "auto" (by the shape of a record), "mlp", "lstm", "mnist_lenet" or "cifar_lenet".
    hidden: widths of the MLP's hidden layers.
    input_gain: factor on the initial weights of the MLP's first layer.
    bias_range: its first biases start uniform in [-bias_range, bias_range].
  """

  name: str = "auto"
  hidden: tuple[int, ...] = (128,)
  input_gain: float = 1.0
  bias_range: float = 0.0

  def make(self) -> Any:
    """The Linen module, or None for "auto".

    Raises:
      ValueError: an unknown name.
    """
    if self.name == "auto":
      return None
    if self.name not in NETWORKS:
      names = ", ".join(("auto", *NETWORKS))
      raise ValueError(f"network.name must be one of {names}; got {self.name!r}.")
    return NETWORKS[self.name](self)


NETWORKS: dict[str, Callable[[NetworkConfig], nn.Module]] = {
  "mlp": lambda config: networks.MLP(tuple(config.hidden), config.input_gain, config.bias_range),
  "lstm": lambda config: networks.LSTM(),
  "mnist_lenet": lambda config: networks.mnist_lenet(),
  "cifar_lenet": lambda config: networks.cifar_lenet(),
}


@dataclasses.dataclass
class Config:
  """One experiment with DROCC.

  Attributes:
    data: what to train and test on.
    network: the network.
    drocc: the algorithm.
    epochs: None takes as many as make about 1,500 steps.
    warmup_epochs: first epochs without negatives; above 0 it sets ``drocc.warmup_steps``.
    batch_size: examples per step.
    seed: of weights, data order, noise and the held-out rows.
    scaling: "standard" or "none"; see ``Standardizer.fit``.
    constant: "drop" or "clip" features that are constant over the training rows.
    clip: of standardised features, in standard deviations.
    calibration_size: share of the training rows held out for the threshold, at most 1,000 rows.
    fpr: false-positive rate of the threshold; None takes 5 %, or what the held-out rows can defend.
    checkpoints: how many checkpoints a run writes, evenly spread over its epochs.
  """

  data: DataConfig = dataclasses.field(default_factory=DataConfig)
  network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
  drocc: DroccConfig = dataclasses.field(default_factory=DroccConfig)
  epochs: int | None = None
  warmup_epochs: int = 0
  batch_size: int = 64
  seed: int = 0
  scaling: str = "standard"
  constant: str = "drop"
  clip: float = 20.0
  calibration_size: float = 0.2
  fpr: float | None = None
  checkpoints: int = 10


def train(config: Config, workdir: pathlib.Path) -> pathlib.Path:
  """Trains, or goes on where an interrupted run stopped, and writes ``workdir/detector``.

  An interrupted run ends with the same bits as an uninterrupted one: everything random is a
  function of the seed, the epoch and the step.

  Returns:
    The detector's folder.

  Raises:
    ValueError: data or a setting that cannot be used, or a workdir of another configuration.
    HealthError: training diverged, or its scores are constant or upside down.
    OSError: the workdir cannot be written.
  """
  if config.checkpoints < 1:
    raise ValueError(f"checkpoints must be >= 1, got {config.checkpoints}.")
  check_workdir(workdir, config)
  splits = data.load(config.data)
  rows, held_out = recipe.calibration_rows(
    len(splits.x_train), config.calibration_size, config.seed
  )
  x, x_held_out = splits.x_train[rows], splits.x_train[held_out]
  prepared = prepare(config, x)
  claim(workdir, config)
  state = _train_epochs(config, prepared, x_held_out, workdir)
  metadata = {
    "method": "DROCC",
    "config": dataclasses.asdict(config),
    "data": splits.description,
    "radius": prepared.config.radius,
    "epochs": prepared.epochs,
    "training_records": len(x),
    "calibration_records": len(x_held_out),
    "feature_names": splits.feature_names,
  }
  detector = recipe.finish(
    prepared.network, state, prepared.preprocessing, x, x_held_out, config.fpr, metadata
  )
  detector.save(workdir / "detector")
  return workdir / "detector"


def prepare(config: Config, x: np.ndarray) -> recipe.Prepared:
  """Settles everything that follows from the settings and the training records ``[n, ...]``."""
  chosen = config.drocc
  if config.warmup_epochs:
    per_epoch = epoch_loop.steps_per_epoch(len(x), min(config.batch_size, len(x)))
    chosen = dataclasses.replace(chosen, warmup_steps=config.warmup_epochs * per_epoch)
  return recipe.prepare(
    x, chosen, network=config.network.make(), batch_size=config.batch_size,
    epochs=config.epochs, scaling=config.scaling, constant=config.constant, clip=config.clip,
  )  # fmt: skip


def _train_epochs(
  config: Config, prepared: recipe.Prepared, x_held_out: np.ndarray, workdir: pathlib.Path
) -> drocc.State:
  init_key, train_key = recipe.keys(config.seed)
  state = prepared.init(init_key)
  every = max(1, prepared.epochs // config.checkpoints)
  validate = validation_of(prepared, x_held_out, jax.random.fold_in(train_key, 1))
  with checkpoints.open_checkpoints(workdir / "checkpoints") as saved:
    epoch = saved.latest() or 0
    if epoch:
      state, _ = saved.restore(epoch, state)
    with (
      contextlib.closing(progress.Scalars(workdir, epoch)) as scalars,
      progress.bar("training", prepared.epochs, epoch) as advance,
    ):
      while epoch < prepared.epochs:
        last = min(epoch + every, prepared.epochs)
        state, info = prepared.program.train_epochs(state, prepared.data, train_key, epoch, last)
        values = drocc.means(info)
        health.check_loss(values, int(state.step))
        scalars.write(last, {**values, **validate(state)})
        saved.save(last, state, {"epoch": last})
        advance(last - epoch, f"loss {values['positive_loss'] + values['negative_loss']:.4f}")
        epoch = last
  return state


def validation_of(
  prepared: recipe.Prepared, x_held_out: np.ndarray, key: jax.Array
) -> Callable[[drocc.State], dict[str, float]]:
  """The objective on at most 256 held-out rows, which no label enters; see ``validation``.

  Returns:
    ``state -> {"validation_objective": value}``, or ``{}`` where no row is held out.
  """
  if not len(x_held_out):
    return lambda state: {}
  z = jnp.asarray(recipe.standardise(prepared.preprocessing, x_held_out[:256]))
  mask = jnp.ones(len(z))
  validate = jax.jit(validation.make_validate(prepared.network, prepared.config.static()))
  return lambda state: {"validation_objective": float(validate(state, z, mask, key).value)}


def check_workdir(workdir: pathlib.Path, config: Config) -> None:
  """Checks that the workdir is new or of this configuration.

  Raises:
    ValueError: it holds a run of another configuration; the message names the first differences.
  """
  if not (workdir / "config.json").exists():
    return
  before, now = (
    json.loads(json.dumps(dict(flags.leaves(each)))) for each in (read_config(workdir), config)
  )
  different = [name for name in now if now[name] != before[name]]
  if different:
    changes = "; ".join(f"{name} was {before[name]}, is {now[name]}" for name in different[:3])
    raise ValueError(
      f"{workdir} holds a run of another configuration ({changes}): choose another --workdir, or "
      "give the same settings to resume it."
    )


def claim(workdir: pathlib.Path, config: Config) -> None:
  """Makes the workdir and writes ``config.json``, once the settings are known to be good.

  Raises:
    OSError: it cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    temporary = workdir / "config.tmp"
    temporary.write_text(json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True) + "\n")
    os.replace(temporary, workdir / "config.json")
  except OSError as error:
    raise OSError(f"The workdir {workdir} cannot be written: {error.strerror}.") from error


def read_config(workdir: pathlib.Path) -> Config:
  """The configuration of a run.

  Raises:
    ValueError: there is none, or it cannot be read.
  """
  path = workdir / "config.json"
  if not path.is_file():
    raise ValueError(
      f"{workdir} holds no run: train first, python -m launch.train --workdir={workdir}."
    )
  try:
    return _from_dict(Config, json.loads(path.read_text()))
  except (ValueError, TypeError, KeyError) as error:
    raise ValueError(f"{path} is not the configuration of a run: {error}.") from error


def _from_dict(cls: Any, values: dict[str, Any]) -> Any:
  """A dataclass from what ``asdict`` and JSON made of it."""
  hints = typing.get_type_hints(cls)
  arguments = {}
  for name, value in values.items():
    kind = hints[name]
    if dataclasses.is_dataclass(kind):
      value = _from_dict(kind, value)
    elif typing.get_origin(kind) is tuple:
      value = tuple(value)
    arguments[name] = value
  return cls(**arguments)
