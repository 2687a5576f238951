"""What a train step will take on an accelerator, predicted from its compiled program.

  python -m benchmarks.accelerators --output=accelerators.json
  python -m benchmarks.accelerators --compiler=tpu    # needs pip install libtpu, and no TPU

Every step is traced as for a GPU, from shapes alone, and compiled: for a CPU, whose fusions stand
in for an accelerator's, or by TPU's own compiler for one chip of v5e, which runs on any machine.
Of each kernel ``hlo.Program`` tells the operations and bytes, and it is predicted to take the
longest of its launch, its bytes at the memory's rate and its operations at the rate of matrix
products; kernels run one after the other. So what is bound by memory or compute has a floor here:
nothing overlaps, caches are empty, but every kernel reaches the published rates. Launches are
assumed, not published: 3 microseconds on a GPU, 0.5 on a TPU, and 10 for each turn of a loop whose
number of turns is traced, as the ascent's is, since a GPU then asks the host.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple
from unittest import mock

from absl import flags
import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from benchmarks import hlo, records
from detector_jax import batching, taps, training
from drocc_jax import drocc, drocc_lf, drocc_oe, fit, mobilenet, networks, prototypes
from drocc_jax.algorithm import Algorithm
from fingerprint_jax import autoencoders, classifiers, fingerprint, train, views
from launch import flags as common
from launch.reporting import progress

FLAGS = flags.FLAGS
COMPILERS = ("cpu", "tpu")
TOPOLOGY = "v5e:1x1"
BOUNDS = ("launch", "memory", "compute")


class Device(NamedTuple):
  """An accelerator.

  Attributes:
    name: of it.
    operations: of dense matrix products a second, float32 at JAX's default precision.
    bytes: of memory a second.
    launch: seconds that a kernel takes at least; assumed.
    turn: seconds that a turn of a loop of traced length adds; assumed.
  """

  name: str
  operations: float
  bytes: float
  launch: float
  turn: float


DEVICES = (  # data sheets: H100 SXM, TF32 without sparsity and HBM3; Cloud TPU v5e, bf16 and HBM2
  Device("H100", 494.7e12, 3.35e12, 3e-6, 10e-6),
  Device("v5e", 197e12, 819e9, 0.5e-6, 0.0),
)


class Step(NamedTuple):
  """A train step and the epochs of it, with what they take as shapes.

  Attributes:
    step: ``(state, batch, key) -> (state, info)``.
    start: ``key -> state``, the first one.
    batch: shapes of what it takes.
    epochs: ``(state, data, key, first, last) -> (state, info)``, compiled as a training has them on
      the backend that ``jax.default_backend`` tells; see ``traced_for``.
    data: shapes of what these take.
    ascent: steps of the search, 0 where there is none.
  """

  step: Callable[..., Any]
  start: Callable[[jax.Array], Any]
  batch: batching.Batch
  epochs: training.TrainEpochs
  data: training.Data
  ascent: int

  @property
  def state(self) -> Any:
    """Shapes of the state."""
    return jax.eval_shape(self.start, _key())


def drocc_step(
  network: Any,
  shape: tuple[int, ...],
  batch_size: int,
  ascent: int,
  algorithm: Algorithm = drocc.ALGORITHM,
  **settings: Any,
) -> Step:
  """A step of DROCC or a relative.

  Args:
    network: that is trained.
    shape: of a record.
    batch_size: records of a step.
    ascent: steps of the search.
    algorithm: which.
    **settings: others of it.
  """
  config = algorithm.config(
    radius=1.0, step_size=0.1, noise_scale=0.1, num_steps=ascent, project_every=10, **settings
  )
  static, rows = config.static(), max(getattr(network, "init_rows", 0), batch_size)
  init = algorithm.make_init(network, static)

  def start(key: jax.Array) -> Any:
    return init(config.hyper(), jax.random.normal(key, (rows, *shape)), key)

  return Step(
    networks.in_training_form(algorithm.make_train_step(network, static)),
    start,
    _batch(shape, batch_size, algorithm.needs_negatives),
    # Of its own: what it traces for another backend must not be what a training finds in the cache.
    fit.compile_program.__wrapped__(network, static, batch_size, algorithm).train_epochs,
    _data(shape, rows, algorithm.needs_negatives),
    ascent,
  )


def fingerprint_step(
  network: classifiers.Classifier, shape: tuple[int, ...], batch_size: int
) -> Step:
  """A step of the autoencoders of all layers of a classifier."""
  variables = jax.eval_shape(network.init, _key(), _zeros(1, *shape))
  found = taps.find(network, variables, shape)
  shapes = fingerprint.shapes_of_targets(found)
  modules = tuple(autoencoders.default_autoencoder(shapes[name]) for name in found.layers)
  prints = fingerprint.Fingerprint(found, modules)
  optimizer = train.make_optimizer(train.Config(), 1000)

  def start(key: jax.Array) -> train.State:
    channels = {name: s[-1] for name, s in zip(found.layers, found.shapes, strict=True)}
    plain = {name: views.View(jnp.zeros(n), jnp.ones(n)) for name, n in channels.items()}
    frozen = {"network": network.init(key, jnp.zeros((1, *shape))), "views": plain}
    return train.init(prints, frozen, optimizer, key)

  step = train.make_train_step(prints, optimizer)
  epochs = training.compile_train_epochs(step, batch_size)
  rows = batching.padded_length(batch_size)
  return Step(step, start, _batch(shape, batch_size), epochs, _data(shape, rows), 0)


# As the configurations and estimators train them; MobileNetV2 as benchmarks.speed_search times it.
STEPS: dict[str, Callable[[], Step]] = {
  "DROCC, MLP of DROCC() on 20 columns": lambda: drocc_step(
    networks.MLP((128, 128), 2.0, 2.0, squares=True, activation="silu"), (20,), 64, 5
  ),
  "DROCC-OE, MLP on 20 columns": lambda: drocc_step(
    networks.MLP((256, 256)), (20,), 64, 10, drocc_oe.ALGORITHM
  ),
  "DROCC-LF, MLP on 20 columns": lambda: drocc_step(
    networks.MLP((256, 256)), (20,), 64, 10, drocc_lf.ALGORITHM
  ),
  "DROCC, prototypes, series of 178": lambda: drocc_step(prototypes.Prototypes(), (178, 1), 64, 10),
  "DROCC, LSTM, series of 178": lambda: drocc_step(networks.LSTM(), (178, 1), 256, 50),
  "DROCC, LeNet, 32 x 32 x 3": lambda: drocc_step(networks.cifar_lenet(), (32, 32, 3), 256, 50),
  "DROCC, MobileNetV2, 224 x 224 x 3": lambda: drocc_step(
    mobilenet.MobileNetV2(), (224, 224, 3), 64, 50
  ),
  "NeuralFP, autoencoders of the MNIST classifier": lambda: fingerprint_step(
    classifiers.mnist_classifier(), (28, 28, 1), 256
  ),
}


@dataclasses.dataclass(frozen=True)
class Prediction:
  """A step on a device.

  Attributes:
    case: a key of ``STEPS``.
    device: name.
    kernels: that are launched.
    turns: of loops whose number of turns is traced.
    gflop: 1e9 operations.
    megabytes: 1e6 bytes read and written.
    milliseconds: predicted.
    launch: share of these in kernels that are bound by their launch, and in turns of loops.
    memory: share of these in kernels that are bound by memory.
    compute: share of these in kernels that are bound by operations.
    bound: the largest of the three.
  """

  case: str
  device: str
  kernels: int
  turns: int
  gflop: float
  megabytes: float
  milliseconds: float
  launch: float
  memory: float
  compute: float
  bound: str


def predicted(case: str, program: hlo.Program, device: Device) -> Prediction:
  """What a program takes on a device; see the top of this file."""
  seconds = dict.fromkeys(BOUNDS, 0.0)
  for kernel in program.kernels:
    times = (device.launch, kernel.bytes / device.bytes, kernel.operations / device.operations)
    seconds[BOUNDS[times.index(max(times))]] += kernel.times * max(times)
  seconds["launch"] += program.traced_loops * device.turn
  total = sum(seconds.values())
  shares = {bound: round(taken / total, 2) for bound, taken in seconds.items()}
  return Prediction(
    case,
    device.name,
    program.launches,
    program.traced_loops,
    float(f"{program.operations / 1e9:.3g}"),
    float(f"{program.bytes / 1e6:.3g}"),
    float(f"{1e3 * total:.3g}"),
    **shares,
    bound=max(seconds, key=lambda bound: seconds[bound]),
  )


def example(batch: batching.Batch, key: jax.Array) -> batching.Batch:
  """A batch of such shapes, drawn from a normal distribution."""
  rows, given = len(batch.mask), batch.negatives
  return batching.Batch(
    jax.random.normal(key, batch.inputs.shape),
    jnp.ones(rows),
    jnp.ones(rows),
    jnp.arange(rows, dtype=jnp.int32),
    given
    and dataclasses.replace(example(given, jax.random.fold_in(key, 1)), labels=-jnp.ones(rows)),
  )


def compiled(step: Step, compiler: str) -> hlo.Program:
  """The program of a step.

  Args:
    step: which.
    compiler: one of ``COMPILERS``.

  Raises:
    ValueError: there is no TPU compiler.
  """
  place = None if compiler == "cpu" else _tpu()
  arguments = (step.state, step.batch, jax.eval_shape(jax.random.key_data, _key()))
  arguments = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), arguments
  )

  def run(state: Any, batch: batching.Batch, key_data: jax.Array) -> Any:
    return step.step(state, batch, jax.random.wrap_key_data(key_data))

  with traced_for("gpu" if compiler == "cpu" else "tpu"):
    lowered = jax.jit(run, donate_argnums=0).lower(*arguments)
  return hlo.Program(lowered.compile().as_text() or "", step.ascent)


@contextlib.contextmanager
def traced_for(backend: str) -> Iterator[None]:
  """Within it the libraries trace what they would where ``backend`` is the default device."""
  with mock.patch.object(jax, "default_backend", return_value=backend):
    yield


@functools.cache
def _tpu() -> jax.sharding.Sharding:
  """One chip that is described and not there.

  Raises:
    ValueError: libtpu is missing.
  """
  from jax.experimental import topologies

  try:
    found = topologies.get_topology_desc(TOPOLOGY, "tpu", chips_per_host_bounds=(1, 1, 1))
  except Exception as error:  # whatever is missing, libtpu says it in its own way
    raise ValueError("--compiler=tpu needs TPU's compiler: pip install libtpu.") from error
  return jax.sharding.SingleDeviceSharding(found.devices[0])


def _key() -> Any:
  return jax.eval_shape(jax.random.key, 0)


def _zeros(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, dtype)


def _batch(shape: tuple[int, ...], size: int, negatives: bool = False) -> batching.Batch:
  given: Any = _batch(shape, size) if negatives else None
  row: Any = _zeros(size)
  inputs: Any = _zeros(size, *shape)
  index: Any = _zeros(size, dtype=jnp.int32)
  return batching.Batch(inputs, row, row, index, given)


def _data(shape: tuple[int, ...], rows: int, negatives: bool = False) -> training.Data:
  given = _data(shape, rows) if negatives else None
  found: Any = (_zeros(rows, *shape), _zeros(rows), _zeros(dtype=jnp.int32), given)
  return training.Data(*found)


def assumptions(device: Device) -> str:
  """What predictions for a device start from, in one sentence."""
  return (
    f"{device.name}: a kernel takes the longest of {1e6 * device.launch:g} microseconds, its bytes "
    f"at {device.bytes / 1e12:g} TB/s and its operations at {device.operations / 1e12:g} TFLOP/s; "
    f"a turn of a loop of traced length {1e6 * device.turn:g} microseconds more; one after the "
    "other."
  )


def show(found: list[Prediction]) -> None:
  """Prints predictions as a table, and what they assume."""
  names = [field.name for field in dataclasses.fields(Prediction)]
  table = Table(*names)
  for each in found:
    table.add_row(*(str(value) for value in vars(each).values()))
  Console().print(table)
  told = {each.device for each in found}
  for device in DEVICES:
    if device.name in told:
      print(assumptions(device))


def main() -> None:
  """Predicts every step on every device that its compiler stands for."""
  output = pathlib.Path(FLAGS.output) if FLAGS.output else None
  if output is not None:
    records.check_writable(output)
  devices = DEVICES if FLAGS.compiler == "cpu" else DEVICES[1:]
  steps = {case: make for case, make in STEPS.items() if any(part in case for part in FLAGS.steps)}
  if not steps:
    raise ValueError(f"No step has one of --steps={','.join(FLAGS.steps)} in its name.")
  found = []
  with progress.bar("steps", len(steps)) as advance:
    for case, make in steps.items():
      program = compiled(make(), FLAGS.compiler)
      found += [predicted(case, program, device) for device in devices]
      advance(1, case)
  if output is None:
    show(found)
    return
  assumed = {device.name: device._asdict() for device in devices}
  told = [dataclasses.asdict(each) for each in found]
  records.write(output, [], compiler=FLAGS.compiler, devices=assumed, steps=told)
  print(f"records: {output}")


if __name__ == "__main__":
  flags.DEFINE_enum("compiler", COMPILERS[0], COMPILERS, "Whose program is read.")
  flags.DEFINE_list("steps", [""], "Parts of the names of the steps; the others are left out.")
  flags.DEFINE_string("output", "", "JSON file.")
  common.run(main)
