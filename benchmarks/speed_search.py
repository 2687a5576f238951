"""How close image networks come to the matrix-product rate: --case=search, --case=mobilenet.

``search`` is the adversarial search alone on the CIFAR LeNet, in both precisions of
``drocc.Config``;
``mobilenet`` is scoring and training with MobileNetV2. Sizes are small on a CPU and those of the
papers on an accelerator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import speed_networks, speed_timing
from benchmarks.records import SpeedRecord
from detector_jax import training
from drocc_jax import drocc, fit, networks, recipe
from drocc_jax.mobilenet import MobileNetV2

CASES = ("search", "mobilenet")
SHAPE = (32, 32, 3)
TYPES = {"float32": jnp.float32, "bf16": jnp.bfloat16}


class Size(NamedTuple):
  """How much is timed.

  Attributes:
    batch_size: images of a search.
    num_steps: its ascent steps.
    images: of a batch of MobileNetV2.
    pixels: along an edge of these.
  """

  batch_size: int
  num_steps: int
  images: int
  pixels: int


CPU, ACCELERATOR = Size(32, 5, 4, 32), Size(256, 50, 64, 224)


def size() -> Size:
  """The size for the default device."""
  return CPU if jax.default_backend() == "cpu" else ACCELERATOR


def measure(case: str, runs: int, rate: float) -> tuple[list[SpeedRecord], dict[str, Any]]:
  """Times one of the cases.

  Args:
    case: one of ``CASES``.
    runs: in turn, after a first one that compiles.
    rate: operations per second of a large float32 matrix product.

  Returns:
    Records, whose peer is the same number of operations at the measured rate, so that the ratio
    is the share of that rate that is reached; and further facts.
  """
  return _searches(size(), runs, rate) if case == "search" else _mobilenet(size(), runs, rate)


def _searches(size: Size, runs: int, rate: float) -> tuple[list[SpeedRecord], dict[str, Any]]:
  shape = (size.batch_size, *SHAPE)
  x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
  sides = {name: search_in(name, x, size.num_steps) for name in TYPES}
  blocked = {name: _blocking(search) for name, search in sides.items()}
  seconds, _ = speed_timing.interleaved("search", blocked, runs)
  rates = {"float32": rate, "bf16": speed_timing.matrix_product_rate(dtype=TYPES["bf16"])}
  operations = search_operations(size)
  records = []
  for name, taken in seconds.items():
    floor = operations / rates[name]
    floors = [floor] * len(taken)
    case = f"search, LeNet, {name}"
    records.append(speed_timing.record(case, speed_timing.RATE_PEER, taken, floors, floor))
  return records, {
    "batch_size": size.batch_size,
    "ascent_steps": size.num_steps,
    "operations": operations,
    "gflops": {
      name: speed_timing.rounded(operations / float(np.median(taken)) / 1e9)
      for name, taken in seconds.items()
    },
    "matrix_product_gflops": {name: round(each / 1e9, 1) for name, each in rates.items()},
    "negatives_apart": _apart(sides),
  }


def search_in(precision: str, x: jax.Array, num_steps: int) -> Callable[[], jax.Array]:
  """A compiled search round ``x`` ``[batch, ...]`` in a precision; it returns ``h``."""
  network = networks.cifar_lenet()
  radius = float(np.sqrt(np.prod(x.shape[1:]))) / 2.0
  config = drocc.Config(
    radius=radius, step_size=radius / 10.0, num_steps=num_steps, precision=precision
  )
  state = drocc.make_init(network, config.static())(config.hyper(), x[:1], jax.random.key(0))
  forward = networks.as_forward(network)

  @jax.jit
  @networks.in_training_form
  def search(state: drocc.State, x: jax.Array) -> jax.Array:
    index = jnp.arange(len(x))
    found, _ = drocc.find_negatives(forward, state, x, index, jax.random.key(1), config.static())
    return found - x

  return lambda: search(state, x)


def search_operations(size: Size) -> float:
  """Operations of the matrix products of one search of a batch.

  An ascent step needs the forward pass and the gradient of the input; the loss at both ends is
  two forward passes more.
  """
  forward = sum(speed_networks.products(networks.cifar_lenet(), SHAPE))
  return size.batch_size * forward * (2.0 * size.num_steps + 2.0)


def _apart(sides: dict[str, Callable[[], jax.Array]]) -> float:
  """Mean over the batch of |difference of the two displacements| / |the float32 one|."""
  full, half = (np.asarray(sides[name]()).reshape(-1, np.prod(SHAPE)) for name in TYPES)
  lengths = np.linalg.norm(full - half, axis=1) / np.linalg.norm(full, axis=1)
  return speed_timing.rounded(float(lengths.mean()), 3)


def _mobilenet(size: Size, runs: int, rate: float) -> tuple[list[SpeedRecord], dict[str, Any]]:
  network = MobileNetV2()
  shape = (size.images, size.pixels, size.pixels, 3)
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  radius = float(np.sqrt(np.prod(shape[1:]))) / 2.0
  config = drocc.Config(radius=radius, step_size=radius / 10.0, num_steps=1)
  program = fit.compile_program(network, config.static(), size.images)
  rows, (init_key, train_key) = training.to_device(x), recipe.keys(0)
  state = program.init(config.hyper(), rows.inputs[:1], init_key)
  params, stats = state.params, state.stats
  evaluate = jax.jit(networks.as_forward(network).evaluate)
  batch = jnp.asarray(x)

  def train() -> jax.Array:
    state = program.init(config.hyper(), rows.inputs[:1], init_key)
    return program.train_epochs(state, rows, train_key, 0, 1)[0].step

  cost: Any = evaluate.lower(params, stats, batch).compile().cost_analysis()
  forward = float(cost["flops"])
  # One ascent step, the loss at both ends, and the outer step on twice the batch.
  operations = {"score": forward, "train": forward * (2.0 + 2.0 + 2.0 * 3.0)}
  sides = {"score": lambda: evaluate(params, stats, batch), "train": train}
  blocked = {name: _blocking(side) for name, side in sides.items()}
  seconds, _ = speed_timing.interleaved("mobilenet", blocked, runs)
  records = []
  for name, taken in seconds.items():
    floor = operations[name] / rate
    case = f"MobileNetV2, {name}, {size.images} images of {size.pixels} x {size.pixels}"
    records.append(
      speed_timing.record(case, speed_timing.RATE_PEER, taken, [floor] * len(taken), floor)
    )
  return records, {
    "images_per_second": {
      name: speed_timing.rounded(size.images / float(np.median(taken)))
      for name, taken in seconds.items()
    },
    "ascent_steps": 1,
    "operations": operations,
    "matrix_product_gflops": round(rate / 1e9, 1),
  }


def _blocking(function: Callable[[], Any]) -> Callable[[], None]:
  """``function``, which returns when its result is there."""

  def work() -> None:
    jax.block_until_ready(function())

  return work
