"""One epoch of DROCC on a convolutional and a recurrent network: --case=cifar_lenet, --case=lstm.

Random standardised records of the size of CIFAR-10 images and of the epilepsy series; what they
hold changes no time. PyTorch eager does the same algorithm with the same network in the same run,
on the same device, with the number of threads and the layout of images that a trial found fastest.
On a CPU ours is timed twice: on one device, and spread over two emulated ones (--devices=2 of
``launch.train``), as XLA computes most convolutions in one thread.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import time
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from benchmarks import speed_timing, torch_drocc, torch_networks
from benchmarks.records import SpeedRecord
from detector_jax import training
from drocc_jax import drocc, fit, networks, recipe
from launch import devices


@dataclasses.dataclass(frozen=True)
class Case:
  """One network.

  Attributes:
    network: ours.
    peers: layout of records -> makes PyTorch's network.
    shape: of a record as we have it; images have their channels last.
    rows: number of records, a multiple of the batch size.
    batch_size: of a step.
    num_steps: ascent steps.
    radius: of the search.
  """

  network: nn.Module
  peers: dict[str, Callable[[], Any]]
  shape: tuple[int, ...]
  rows: int
  batch_size: int
  num_steps: int
  radius: float


def _lenet() -> Any:
  return torch_networks.lenet((3, 32, 32))


def _lenet_channels_last() -> Any:
  import torch

  return _lenet().to(memory_format=torch.channels_last)


CASES = {
  "cifar_lenet": Case(
    networks.cifar_lenet(),
    {"channels first": _lenet, "channels last": _lenet_channels_last},
    (32, 32, 3),
    rows=256,
    batch_size=128,
    num_steps=5,
    radius=27.7,
  ),
  "lstm": Case(
    networks.LSTM(128),
    {"batch first": lambda: torch_networks.lstm(1, 128)},
    (178, 1),
    rows=512,
    batch_size=256,
    num_steps=5,
    radius=10.0,
  ),
}
TRIAL_ROWS = 16
DEVICES = 2
SPREAD = f"--devices={DEVICES}"


def emulate() -> None:
  """Lets JAX make the emulated devices; call it before JAX has computed anything."""
  with contextlib.suppress(RuntimeError):  # it has started: one device, then
    jax.config.update("jax_num_cpu_devices", DEVICES)


def measure(name: str, runs: int, rate: float) -> tuple[list[SpeedRecord], dict[str, Any]]:
  """Times one epoch on both sides.

  Args:
    name: one of ``CASES``.
    runs: interleaved pairs after a first one that compiles.
    rate: operations per second of a large matrix product, for the floor.

  Returns:
    The records, one for each form of ours, and further facts.
  """
  case = CASES[name]
  x = np.random.default_rng(0).normal(size=(case.rows, *case.shape)).astype(np.float32)
  config = drocc.Config(
    radius=case.radius,
    gamma=2.0,
    step_size=case.radius / 10.0,
    num_steps=case.num_steps,
    average_decay=0.0,
  )
  rows = training.to_device(x)
  program = fit.compile_program(case.network, config.static(), case.batch_size)
  init_key, train_key = recipe.keys(0)
  images = x.transpose(0, 3, 1, 2) if len(case.shape) == 3 else x

  def train(train_epochs: training.TrainEpochs) -> None:
    state = program.init(config.hyper(), rows.inputs[:1], init_key)
    jax.block_until_ready(train_epochs(state, rows, train_key, 0, 1))

  forms = {"ours": program.train_epochs}
  if jax.default_backend() == "cpu" and jax.local_device_count() >= DEVICES:
    forms[SPREAD] = _spread(case, config)
  sides: dict[str, Callable[[], None]] = {
    name: functools.partial(train, form) for name, form in forms.items()
  }
  with torch_drocc.restored_threads():
    theirs, found = fastest_peer(case, images[:TRIAL_ROWS], config)

    def peer() -> None:
      torch_drocc.train_network(theirs, images, config, case.batch_size, 1)

    seconds, cpu = speed_timing.interleaved(name, {**sides, "PyTorch": peer}, runs)
  title = f"{name}, {case.rows // case.batch_size} steps"
  records = [
    speed_timing.record(
      title if side == "ours" else f"{title}, {side}",
      "PyTorch eager",
      seconds[side],
      seconds["PyTorch"],
      operations(case) / rate,
    )
    for side in sides
  ]
  return records, {
    "batch_size": case.batch_size,
    "ascent_steps": case.num_steps,
    **found,
    "operations": operations(case),
    "matrix_product_gflops": round(rate / 1e9, 1),
    "pairs_seconds": speed_timing.pairs(seconds),
    "pairs_processor_seconds": speed_timing.pairs(cpu),
  }


def _spread(case: Case, config: drocc.Config) -> training.TrainEpochs:
  """Our epochs on emulated devices."""
  with devices.session(devices.Request(devices=DEVICES)):
    return devices.spread_epochs(
      fit.make_train_epochs(case.network, config.static(), case.batch_size, axis_name=devices.AXIS)
    )


def fastest_peer(case: Case, x: np.ndarray, config: drocc.Config) -> tuple[Any, dict[str, Any]]:
  """PyTorch's network in the layout, and PyTorch set to the threads, that were fastest in a trial.

  Args:
    case: gives the layouts.
    x: ``[n, ...]`` records of the trial, in PyTorch's order of axes; one step of training.
    config: settings.

  Returns:
    The network, on its device, and what was found.
  """
  device, trials = torch_drocc.device(), {}
  for threads in sorted({1, torch_drocc.threads()}):
    torch_drocc.set_threads(threads)
    for layout, make in case.peers.items():
      network = make().to(device)
      seconds = []
      for _ in range(2):
        start = time.perf_counter()
        torch_drocc.train_network(network, x, config, len(x), 1)
        seconds.append(time.perf_counter() - start)
      trials[threads, layout] = min(seconds)
  threads, layout = min(trials, key=lambda trial: trials[trial])
  torch_drocc.set_threads(threads)
  return case.peers[layout]().to(device), {
    "peer_threads": threads,
    "peer_layout": layout,
    "peer_device": device,
    "peer_trials_seconds": {
      f"{layout}, threads: {threads}": speed_timing.rounded(seconds)
      for (threads, layout), seconds in trials.items()
    },
  }


def operations(case: Case) -> float:
  """Floating-point operations of the matrix products of one epoch.

  An ascent step needs the forward pass and the gradient of the input, an outer step the forward
  pass and both gradients of twice the batch, less the first layer's gradient of the input.
  """
  layers = products(case.network, case.shape)
  forward, first = sum(layers), layers[0]
  return case.rows * (case.num_steps * 2.0 * forward + 2.0 * (3.0 * forward - first))


def products(network: nn.Module, shape: tuple[int, ...]) -> list[float]:
  """Operations of each layer's matrix products for one record, the input's layer first.

  Args:
    network: a ``LeNet`` or an ``LSTM``.
    shape: of a record.
  """
  if isinstance(network, networks.LSTM):
    time, channels = shape
    gates = 2.0 * time * 4 * network.hidden
    return [gates * channels, gates * network.hidden, 2.0 * network.hidden]
  assert isinstance(network, networks.LeNet)
  height, width, before = shape
  layers = []
  for after in network.channels:
    layers.append(2.0 * height * width * 25 * before * after)
    height, width, before = height // 2, width // 2, after
  size = height * width * before
  for after in (*network.dense, 1):
    layers.append(2.0 * size * after)
    size = after
  return layers
