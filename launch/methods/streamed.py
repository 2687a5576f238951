"""DROCC on images that are decoded as they are needed: memory does not grow with their number."""

import collections
from collections.abc import Callable, Iterable, Iterator
import contextlib
import dataclasses
import functools
import pathlib
from typing import Any, ClassVar, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from detector_jax.batching import Batch
from detector_jax.detector import Detector
from detector_jax.preprocessing import Standardizer
from detector_jax.program import Program as Detects
from detector_jax.program import nested
from detector_jax.splits import calibration_rows
from drocc_jax import contamination, drocc, health, networks, recipe
from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.registry import NetworkConfig
from drocc_jax.settings import Calibration
from launch import costs, devices, failures, stages, workdirs
from launch.data import streaming
from launch.data.streaming import Crops, StreamConfig

HEALTH_SAMPLE = 32  # images round which far points are drawn


@dataclasses.dataclass
class Config(Calibration):
  """One experiment with DROCC on a stream of images.

  Attributes:
    data: the images.
    network: the network.
    drocc: the algorithm; distances are in standard deviations of the channels.
    epochs: >= 1.
    batch_size: images per step.
    precision: of the search; "bf16" and "float32" set ``drocc.precision``, None leaves it.
    seed: of weights, orders, crops, noise and the held-out images.
    calibration_size: as in ``Calibration``; equal images are not looked for.
    checkpoints: how many checkpoints a run writes, evenly spread over its epochs.
  """

  method: ClassVar[str] = "drocc_streamed"
  title: ClassVar[str] = "DROCC"

  data: StreamConfig = dataclasses.field(default_factory=StreamConfig)
  network: NetworkConfig = dataclasses.field(default_factory=lambda: NetworkConfig("mobilenet_v2"))
  drocc: DroccConfig = dataclasses.field(default_factory=DroccConfig)
  epochs: int = 40
  batch_size: int = 64
  precision: str | None = None
  seed: int = 0
  calibration_size: float = 0.1
  checkpoints: int = 40


def train(config: Config, workdir: pathlib.Path) -> pathlib.Path:
  """Trains, or resumes, and writes ``workdir/detector``; see ``launch.run.train``."""
  stages.check_checkpoints(config.checkpoints)
  devices.require_one("DROCC on a stream of images")
  prepared = prepare(config)
  workdirs.claim(workdir, config)
  init_key, train_key = recipe.keys(config.seed)
  state = prepared.program.init(prepared.config.hyper(), prepared.sample, init_key)
  advance = functools.partial(train_epochs, prepared, train_key)
  steps = failures.streamed_steps(prepared, train_key)
  stage = stages.Stage("training", config.epochs, advance, steps, _task(prepared, train_key))
  state = stages.run(stage, state, workdir, config.checkpoints)
  detector = finish(config, prepared, state)
  detector.save(workdir / "detector")
  return workdir / "detector"


class Program(NamedTuple):
  """Compiled functions of one network.

  Attributes:
    init: ``(hyper, sample, key) -> state``.
    step: ``(state, preprocessing, batch, key) -> (state, info)`` for a ``streaming.Batch`` and the
      key of the run; the state passed in is donated.
  """

  init: Callable[..., drocc.State]
  step: Callable[..., tuple[drocc.State, drocc.Info]]


@functools.lru_cache(maxsize=8)
def compile_program(network: nn.Module, static: drocc.Static) -> Program:
  """The jitted functions that train a network; cached."""
  one_step = networks.in_training_form(drocc.make_train_step(network, static))

  def step(
    state: drocc.State, preprocessing: Standardizer, images: streaming.Batch, key: jax.Array
  ) -> tuple[drocc.State, drocc.Info]:
    inputs = preprocessing(jnp.asarray(images.pixels, jnp.float32) / 255.0)
    mask, rows = jnp.asarray(images.mask), jnp.asarray(images.rows)
    batch = Batch(inputs, jnp.ones_like(mask), mask, rows)
    return one_step(state, batch, jax.random.fold_in(key, state.step))

  return Program(jax.jit(drocc.make_init(network, static)), jax.jit(step, donate_argnums=0))


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A training about to start.

  Attributes:
    network: the network to train.
    config: settings of the algorithm, all of them numbers.
    preprocessing: statistics of the training images.
    stream: of the training images.
    training: the same images, cropped at the centre.
    held_out: typical images that training does not see.
    description: of the data.
    program: compiled functions.
  """

  network: nn.Module
  config: DroccConfig
  preprocessing: Standardizer
  stream: streaming.Stream
  training: Crops
  held_out: Crops
  description: str
  program: Program

  @property
  def sample(self) -> jax.Array:
    """An input of the right shape, ``[1, crop, crop, 3]``."""
    return jnp.zeros((1, *self.training.shape[1:]), jnp.float32)


def prepare(config: Config) -> Prepared:
  """Settles everything that follows from settings and images.

  Raises:
    ValueError: a setting out of its range, or images that cannot be used.
  """
  chosen = config.drocc
  if config.precision is not None:
    chosen = dataclasses.replace(chosen, precision=config.precision)
  chosen.validate()
  network = _network(config)
  for name in ("epochs", "batch_size"):
    if getattr(config, name) < 1:
      raise ValueError(f"{name} must be >= 1, got {getattr(config, name)!r}.")
  splits = config.data.load()
  images: Any = splits.x_train
  rows, held_out = calibration_rows(
    np.arange(len(images)),
    config.calibration_size,
    config.seed,
    fpr=config.fpr,
    confidence=config.confidence,
    discounted=contamination.COUNTED * (contamination.share_of(config.contamination) or 0.0),
  )
  training = images.subset(rows)
  batch_size = min(config.batch_size, len(rows))
  stream = streaming.Stream(images.source, training.rows, batch_size, config.seed, config.data)
  mean, deviation = streaming.channel_statistics(training, config.seed)
  preprocessing = Standardizer(
    jnp.asarray(mean, jnp.float32), jnp.asarray(deviation, jnp.float32), None
  )
  per_epoch = stream.steps_per_epoch
  settled = recipe.resolve(
    chosen, np.zeros((1, *training.shape[1:])), config.epochs * per_epoch, per_epoch
  )
  return Prepared(
    network,
    settled,
    preprocessing,
    stream,
    training,
    images.subset(held_out),
    splits.description,
    compile_program(network, settled.static()),
  )


def train_epochs(
  prepared: Prepared, key: jax.Array, state: drocc.State, first: int, last: int
) -> tuple[drocc.State, dict[str, float]]:
  """Runs the epochs ``first, ..., last - 1``; the same bits however they are divided into calls.

  Images of the next steps are decoded and put on the device while a step runs; at most two steps
  are under way, so that no more images than these wait there.

  Args:
    prepared: the training.
    key: of the run.
    state: after ``first`` epochs; donated.
    first: number of the first epoch.
    last: number of the last epoch, plus 1; above ``first``.

  Returns:
    The state, and the means of the last epoch by name.
  """
  per_epoch = prepared.stream.steps_per_epoch
  info: Any = None
  with contextlib.closing(prepared.stream.batches(first * per_epoch, last * per_epoch)) as batches:
    for number, batch in enumerate(on_device(batches)):
      state, new = prepared.program.step(state, prepared.preprocessing, batch, key)
      jax.block_until_ready(info)
      info = new if number % per_epoch == 0 else jax.tree.map(jnp.add, info, new)
  return state, drocc.means(info)


def _task(prepared: Prepared, key: jax.Array) -> costs.Task:
  """What is trained; see ``costs``."""
  stream = prepared.stream

  def attempt(state: drocc.State, steps: int) -> drocc.State:
    with contextlib.closing(stream.batches(0, steps)) as batches:
      for batch in map(jax.device_put, batches):
        state, _ = prepared.program.step(state, prepared.preprocessing, batch, key)
    return state

  named = type(prepared.network).__name__
  return costs.Task(named, len(stream.rows), stream.batch_size, prepared.preprocessing, attempt)


def on_device(batches: Iterable[Any], ahead: int = 2) -> Iterator[Any]:
  """The same batches on the default device, ``ahead`` of them put there before they are wanted."""
  waiting: collections.deque[Any] = collections.deque()
  for batch in batches:
    waiting.append(jax.device_put(batch))
    if len(waiting) > ahead:
      yield waiting.popleft()
  yield from waiting


def finish(config: Config, prepared: Prepared, state: drocc.State) -> Detector:
  """Makes the Detector of a trained state, checks its health and calibrates it.

  As ``recipe.build_detector``, with images read in batches. A record of the Detector is an image of
  the size of a crop, float32 in [0, 1].

  Raises:
    HealthError: scores are not finite, all the same, or upside down.
    ValueError: too few held-out images for ``config.fpr``.
  """
  training, held_out = prepared.training, prepared.held_out
  detector = Detector.create(
    recipe.NegativeLogit(prepared.network),
    state.average,
    prepared.preprocessing,
    training.shape[1:],
    metadata=_metadata(config, prepared),
    input_range=(0.0, 1.0),
  )
  typical = held_out if len(held_out) >= 20 else training.subset(slice(0, 1000))
  scores = streaming.score(detector, typical)
  findings = health.check_health(detector, scores, typical[:HEALTH_SAMPLE])
  detector = detector.with_health(findings)
  if not len(held_out):
    return detector
  scores = scores if typical is held_out else streaming.score(detector, held_out)
  scores = contamination.clean_scores(scores, contamination.share_of(config.contamination))
  return detector.calibrate_scores(scores, config.fpr, config.confidence)


def rebuild(
  config: Config, workdir: pathlib.Path, loaded: Detector
) -> tuple[Detects, dict[str, Any]]:
  """Program and arrays of a finished run; see ``launch.methods.Method``."""
  del workdir
  center, scale = (loaded.arrays[f"preprocessing/{name}"] for name in ("center", "scale"))
  variables = {"stats": {}, **nested(loaded.arrays, "variables")}
  score = recipe.NegativeLogit(_network(config))
  preprocessing = Standardizer(center, scale, None)
  return Detects(score), {"variables": variables, "preprocessing": preprocessing}


def _network(config: Config) -> nn.Module:
  """The network that is asked for, or the one for such images."""
  shape = (config.data.crop, config.data.crop, 3)
  return config.network.make() or recipe.network_of(config.drocc, shape)


def _metadata(config: Config, prepared: Prepared) -> dict[str, Any]:
  trained, held_out = len(prepared.training), len(prepared.held_out)
  threshold = (
    f"{held_out:,} more were held out for the threshold"
    if held_out
    else "none was held out, so the threshold is the network's own boundary"
  )
  return {
    "method": config.title,
    "summary": (
      f"{config.title} with radius {prepared.config.radius:.3g}, trained for {config.epochs} "
      f"epochs on {trained:,} typical images, cropped at random; {threshold}."
    ),
    "config": dataclasses.asdict(config),
    "data": prepared.description,
    "radius": prepared.config.radius,
    "epochs": config.epochs,
    "training_records": trained,
    "calibration_records": held_out,
  }
