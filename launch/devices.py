"""Several devices and several hosts: one spreading round the pure epochs; processes that agree.

What goes on in the processes of one job is the same in all of them; the first one (process 0) alone
reads and writes the run's folder, see ``primary`` and ``shared``. See docs/devices.md.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import functools
import hashlib
import json
from typing import Any

from absl import flags
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np

from detector_jax import training
from launch import processes

AXIS = "devices"
AUTO = "auto"
SPREADINGS = ("shard_map", "pmap")

_asked: int | None = None
_chosen: tuple[jax.Device, ...] = ()
_spreading = SPREADINGS[0]


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked for on the command line.

  Attributes:
    devices: of each process; None takes all of them where they are accelerators, and one CPU.
    coordinator_address: HOST:PORT of process 0, "auto" where the cluster tells (Cloud TPU, SLURM,
      Open MPI), None for a single process.
    num_processes: of the job.
    process_id: of this one, from 0.
    spreading: the transformation that spreads the epochs, "shard_map" or "pmap"; the same bits.
  """

  devices: int | None = None
  coordinator_address: str | None = None
  num_processes: int | None = None
  process_id: int | None = None
  spreading: str = SPREADINGS[0]

  def validate(self) -> None:
    """Raises a ValueError that names the first flag that is out of its range or missing."""
    if self.devices is not None and self.devices < 1:
      raise ValueError(f"--devices must be >= 1, got {self.devices}.")
    if self.spreading not in SPREADINGS:
      raise ValueError(
        f"--spreading must be one of {', '.join(SPREADINGS)}; got {self.spreading!r}."
      )
    address, count, number = self.coordinator_address, self.num_processes, self.process_id
    given = (address is not None, count is not None, number is not None)
    if address == AUTO and given == (True, False, False):
      return
    if (any(given) and not all(given)) or address == AUTO:
      raise ValueError(
        "--coordinator_address=HOST:PORT, --num_processes and --process_id go together; or give "
        "--coordinator_address=auto alone, where the cluster tells the rest."
      )
    if address is None or count is None or number is None:
      return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
      raise ValueError(f"--coordinator_address must be HOST:PORT, got {address!r}.")
    if count < 1:
      raise ValueError(f"--num_processes must be >= 1, got {count}.")
    if not 0 <= number < count:
      raise ValueError(f"--process_id must be from 0 to {count - 1}, got {number}.")


def define_flags() -> Callable[[], Request]:
  """Defines the flags of a command that trains; returns what reads them."""
  count = flags.DEFINE_integer(
    "devices", None, "Devices of each process; default: all accelerators, or one CPU."
  )
  address = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0 of several, or auto."
  )
  of_job = flags.DEFINE_integer("num_processes", None, "Processes of the job.")
  number = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
  how = flags.DEFINE_enum(
    "spreading", SPREADINGS[0], SPREADINGS, "How epochs are spread over devices; the same bits."
  )
  return lambda: Request(count.value, address.value, of_job.value, number.value, how.value)


@contextlib.contextmanager
def session(request: Request = Request()) -> Iterator[None]:
  """Within it, training is spread over the devices of the request.

  Of several processes each must enter it, before JAX has been used. All of them leave it together;
  where one fails, the others end with the same exit code and name its error.

  Raises:
    ValueError: a bad request, or more devices than there are.
    RuntimeError: the processes do not find each other.
  """
  global _asked, _chosen, _spreading
  request.validate()
  _emulate(request.devices)
  with contextlib.ExitStack() as stack:
    if request.coordinator_address is not None:
      address = None if request.coordinator_address == AUTO else request.coordinator_address
      stack.enter_context(processes.joined(address, request.num_processes, request.process_id))
    _asked, _chosen = request.devices, _choose(request.devices)
    _spreading = request.spreading
    try:
      yield
    finally:
      _asked, _chosen, _spreading = None, (), SPREADINGS[0]


def _emulate(count: int | None) -> None:
  """Lets JAX make so many CPU devices where it has not started yet; accelerators are left alone."""
  config: Any = jax.config
  if count is not None and count > 1 and config.jax_num_cpu_devices < count:
    with contextlib.suppress(RuntimeError):  # it has started: what there is must do
      config.update("jax_num_cpu_devices", count)


def _choose(count: int | None) -> tuple[jax.Device, ...]:
  """The first ``count`` devices of each process.

  Raises:
    ValueError: this process has fewer.
  """
  here = jax.local_devices()
  if count is None:
    count = 1 if here[0].platform == "cpu" else len(here)
  if count > len(here):
    raise ValueError(
      f"--devices={count}, but the number of {here[0].platform} devices here is {len(here)}: ask "
      "for at most so many."
    )
  each = (jax.local_devices(process_index=number) for number in range(jax.process_count()))
  return tuple(device for devices in each for device in devices[:count])


def selected() -> tuple[jax.Device, ...]:
  """The devices that training is spread over, of all processes; () is the default device."""
  return _chosen if len(_chosen) > 1 else ()


def spreading() -> str:
  """The transformation that spreads the epochs over them; see ``Request``."""
  return _spreading


def require_one(what: str) -> None:
  """Raises a ValueError where several devices or processes are asked for."""
  if jax.process_count() > 1:
    raise ValueError(f"{what} is trained by one process: leave out --coordinator_address.")
  if _asked is not None and _asked > 1:
    raise ValueError(f"{what} is trained on one device: leave out --devices={_asked}.")


def spread_epochs(train_epochs: training.TrainEpochs) -> training.TrainEpochs:
  """Compiles ``train_epochs`` for the chosen devices: the one place where work is spread.

  Every device holds the state and the data; ``Request.spreading`` says by which transformation.

  Args:
    train_epochs: of ``training.make_train_epochs`` with the axis ``AXIS``.

  Returns:
    The same function of one state on one device, which may be donated, whatever their number.
  """
  on_each = (_with_pmap if _spreading == "pmap" else _with_shard_map)(train_epochs, _chosen)

  def on_all(*arguments: Any) -> tuple[Any, Any]:
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), on_each(*arguments))

  return on_all


def _with_shard_map(
  train_epochs: training.TrainEpochs, chosen: tuple[jax.Device, ...]
) -> Callable[..., tuple[Any, Any]]:
  mesh, on_every = jax.sharding.Mesh(np.array(chosen), (AXIS,)), jax.sharding.PartitionSpec()
  mapped = compile_sharded(train_epochs, mesh)

  def on_each(*arguments: Any) -> tuple[Any, Any]:
    arrays = jax.tree.map(jnp.asarray, arguments)
    return mapped(*multihost_utils.host_local_array_to_global_array(arrays, mesh, on_every))

  return on_each


def compile_sharded(
  train_epochs: training.TrainEpochs, mesh: jax.sharding.Mesh
) -> Callable[..., tuple[Any, Any]]:
  """``train_epochs`` of global arrays, which every device of the mesh holds; donates the state."""
  whole = jax.sharding.PartitionSpec()
  mapped = jax.shard_map(train_epochs, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
  return jax.jit(mapped, donate_argnums=0)


def _with_pmap(
  train_epochs: training.TrainEpochs, chosen: tuple[jax.Device, ...]
) -> Callable[..., tuple[Any, Any]]:
  places = np.zeros(sum(device.process_index == jax.process_index() for device in chosen))
  mapped = jax.pmap(
    lambda place, *arguments: train_epochs(*arguments),
    axis_name=AXIS,
    in_axes=(0, None, None, None, None, None),
    out_axes=None,
    devices=chosen,
  )
  return functools.partial(mapped, places)


def make_train_epochs(make_train_step: Callable[..., Any], batch_size: int) -> training.TrainEpochs:
  """Epochs of a train step on the chosen devices.

  Args:
    make_train_step: ``axis_name -> step``, a keyword.
    batch_size: examples per step, of all devices together.
  """
  if not selected():
    return training.on_one_device(make_train_step, batch_size)
  step = make_train_step(axis_name=AXIS)
  return spread_epochs(training.make_train_epochs(step, batch_size, AXIS))


def primary() -> bool:
  """Whether this process is the one that writes, process 0."""
  return jax.process_index() == 0


def shared(tree: Any) -> Any:
  """What process 0 has, in every process; all must call it, with arrays of the same shapes.

  Args:
    tree: pytree of arrays and ints below 2^31.

  Returns:
    NumPy arrays, and ints, where there are several processes.
  """
  if jax.process_count() == 1:
    return tree
  arrays = jax.tree.map(lambda leaf: np.int32(leaf) if isinstance(leaf, int) else leaf, tree)
  arrays = multihost_utils.broadcast_one_to_all(jax.device_get(arrays))
  return jax.tree.map(lambda old, new: int(new) if isinstance(old, int) else new, tree, arrays)


def check_alike(what: str, values: Any) -> None:
  """Compares what the processes of a job have loaded; all must call it.

  Args:
    what: named in the error.
    values: JSON; equal in all processes where all is well.

  Raises:
    ValueError: those of process 0 are others.
  """
  if jax.process_count() == 1:
    return
  digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).digest()
  mine = np.frombuffer(digest, np.uint8).astype(np.int32)
  if not np.array_equal(shared(mine), mine):
    raise ValueError(
      f"{what} of process {jax.process_index()} are not those of process 0: give all processes the "
      "same command and the same files."
    )
