"""Train steps lowered for accelerators from the CPU, and what is read from a compiled program."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import accelerators, hlo
from detector_jax import training
from detector_jax.features import rotations
from detector_jax.preprocessing import Standardizer
from drocc_jax import drocc, drocc_lf, drocc_oe, ensemble, fit, mobilenet, networks, prototypes
from fingerprint_jax import classifiers
from fingerprint_jax.classifiers import Classifier
from launch import devices, sweep_training
from launch.data import streaming
from launch.methods import streamed

MLP = networks.MLP((8,), squares=True, activation="silu")
MAKE = {
  "DROCC, MLP": lambda: accelerators.drocc_step(MLP, (5,), 4, 2),
  "DROCC, wide": lambda: accelerators.drocc_step(networks.MLP((4,)), (9,), 4, 2),
  "DROCC-OE": lambda: accelerators.drocc_step(MLP, (5,), 4, 2, drocc_oe.ALGORITHM),
  "DROCC-LF": lambda: accelerators.drocc_step(MLP, (5,), 4, 2, drocc_lf.ALGORITHM),
  "prototypes": lambda: accelerators.drocc_step(prototypes.Prototypes(8), (6, 1), 4, 2),
  "DROCC, bf16": lambda: accelerators.drocc_step(MLP, (5,), 4, 2, precision="bf16"),
  "LSTM": lambda: accelerators.drocc_step(networks.LSTM(4), (6, 1), 4, 2),
  "LeNet": lambda: accelerators.drocc_step(networks.cifar_lenet(), (8, 8, 3), 4, 2),
  "MobileNetV2": lambda: accelerators.drocc_step(
    mobilenet.MobileNetV2(width=0.1), (32, 32, 3), 2, 2
  ),
  "NeuralFP": lambda: accelerators.fingerprint_step(Classifier(((4, 2),), (3,)), (8, 8, 1), 4),
}


LONG = {"MobileNetV2"}  # 10 s of tracing
WHOLE = jax.ShapeDtypeStruct((), jnp.int32)
KEY = jax.eval_shape(jax.random.key, 0)


def drocc_program(network, precision="float32"):
  """Compiled functions of a training of records of 5 columns, and the shape of its first state."""
  config = drocc.Config(radius=1.0, step_size=0.1, noise_scale=0.1, precision=precision)
  program = fit.compile_program.__wrapped__(network, config.static(), 4)
  sample = jax.ShapeDtypeStruct((4, 5), jnp.float32)
  return program, jax.eval_shape(program.init, config.hyper(), sample, KEY)


def of_steps(step):
  return step.epochs, (step.state, step.data, KEY, WHOLE, WHOLE)


def of_members(rows_of_each=False):
  data = training.to_device(np.zeros((8, 5)))
  if rows_of_each:
    data = ensemble.divided([data] * 3)
  program, state = drocc_program(ensemble.Ensemble(MLP, 3))
  return program.train_epochs, (state, data, KEY, WHOLE, WHOLE)


def of_four_devices():
  _, state = drocc_program(MLP)
  static = drocc.Config(radius=1.0, step_size=0.1, noise_scale=0.1).static()
  epochs = fit.make_train_epochs(MLP, static, 4, axis_name=devices.AXIS)
  mesh = jax.sharding.Mesh(np.array(jax.devices()), (devices.AXIS,))
  rows = training.to_device(np.zeros((8, 5)))
  return devices.compile_sharded(epochs, mesh), (state, rows, KEY, WHOLE, WHOLE)


def of_a_sweep():
  program, state = drocc_program(MLP)
  states = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((3, *leaf.shape), leaf.dtype), state)
  epochs = sweep_training._vmapped.__wrapped__(program.train_epochs)
  keys = jax.eval_shape(lambda key: jax.random.split(key, 3), KEY)
  return epochs, (states, training.to_device(np.zeros((8, 5))), keys, WHOLE, WHOLE)


def of_a_stream():
  config = drocc.Config(radius=1.0, step_size=0.1, noise_scale=0.1)
  program = streamed.compile_program.__wrapped__(networks.cifar_lenet(), config.static())
  sample = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
  state = jax.eval_shape(program.init, config.hyper(), sample, KEY)
  standard = Standardizer.fit(np.random.default_rng(0).normal(size=(8, 8, 8, 3)))
  images = streaming.Batch(np.zeros((4, 8, 8, 3), np.uint8), np.ones(4, np.float32), np.arange(4))
  return program.step, (state, standard, images._replace(rows=np.arange(4, dtype=np.int32)), KEY)


def of_a_classifier():
  network, config = Classifier(((4, 2),), (3,)), classifiers.Config(shift=1, flip=True)
  optimizer = classifiers.make_optimizer(config, 10)
  make_step = functools.partial(classifiers.make_train_step, network, optimizer, config)
  state = jax.eval_shape(lambda key: classifiers.init(network, optimizer, (8, 8, 1), key), KEY)
  rows = training.to_device(np.zeros((8, 8, 8, 1)), np.arange(8) % 3)
  return training.on_one_device(make_step, 4), (state, rows, KEY, WHOLE, WHOLE)


def of_turns():
  layers, optimizer = ((3, 2),), optax.adamw(1e-3)

  def start(key):
    params = rotations.initial(key, layers, (4,), 5, (8, 8, 1))
    return rotations._State(params, optimizer.init(params), jnp.zeros((), jnp.int32))

  epochs = rotations.compile_epochs(optimizer, layers, 1, 4)
  rows = training.to_device(np.zeros((8, 8, 8, 1)))
  return epochs, (jax.eval_shape(start, KEY), rows, KEY, WHOLE, WHOLE)


PROGRAMS = {
  **{case: lambda make=make: of_steps(make()) for case, make in MAKE.items()},
  "members": of_members,
  "members with rows of their own": lambda: of_members(True),
  "four devices": of_four_devices,
  "sweep": of_a_sweep,
  "stream of images": of_a_stream,
  "classifier": of_a_classifier,
  "rotations": of_turns,
}


def exported(case):
  """The training of a case as it is on an accelerator, lowered, and how many arrays it carries."""
  with accelerators.traced_for("gpu"):
    program, arguments = PROGRAMS[case]()
    lowered = jax.export.export(program, platforms=["cuda", "tpu"])(*arguments)
  return lowered, len(jax.tree.leaves(arguments[0]))


@pytest.mark.parametrize(
  "case", [pytest.param(case, marks=[pytest.mark.long] * (case in LONG)) for case in PROGRAMS]
)
def test_every_training_lowers_for_cuda_and_tpu_and_donates_its_state(case):
  lowered, carried = exported(case)
  assert lowered.platforms == ("cuda", "tpu")
  text = lowered.mlir_module()
  assert text.count("tf.aliasing_output") + text.count("jax.buffer_donor") == carried


def test_the_form_that_is_fast_on_a_cpu_is_not_lowered_for_an_accelerator():
  def lowered(backend):
    with accelerators.traced_for(backend):
      step = MAKE["LeNet"]()
      arguments = (step.state, step.batch, jax.eval_shape(jax.random.key, 0))
      return jax.jit(step.step).lower(*arguments).as_text()

  assert lowered("gpu") != lowered("cpu")
  assert "reduce_window" in lowered("gpu")


def program_of(function, *arguments, trips=1):
  compiled = jax.jit(function).lower(*arguments).compile()
  return hlo.Program(compiled.as_text(), trips), compiled.cost_analysis()


def test_operations_and_bytes_are_those_of_xla_where_there_is_no_loop(rng):
  x, w = (rng.normal(size=size).astype(np.float32) for size in ((64, 32), (32, 32)))
  image = rng.normal(size=(2, 8, 8, 4)).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 4, 6)).astype(np.float32)

  def loss(w, kernel):
    order = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(image, kernel, (1, 1), "VALID", dimension_numbers=order)
    return jnp.sum((x @ w) ** 2) + jnp.sum(y**2)

  program, known = program_of(jax.grad(loss, (0, 1)), w, kernel)
  assert program.operations == pytest.approx(known["flops"], rel=0.05)
  assert program.bytes == pytest.approx(known["bytes accessed"], rel=0.1)
  assert program.traced_loops == 0


def test_a_loop_counts_as_often_as_it_runs():
  w = jnp.ones((32, 32))

  def turned(y, w, n):
    return jax.lax.fori_loop(0, n, lambda _, y: jnp.tanh(y @ w), y)

  once, _ = program_of(lambda y, w: jnp.tanh(y @ w), w, w)
  static, _ = program_of(lambda y, w: turned(y, w, 7), w, w)
  traced, _ = program_of(turned, w, w, 3, trips=7)
  assert static.operations == pytest.approx(7 * once.operations, rel=0.01)
  assert traced.operations == pytest.approx(static.operations, rel=0.01)
  assert (static.traced_loops, traced.traced_loops) == (0, 7)


def test_of_an_array_that_a_loop_slices_the_slices_are_read():
  x = jnp.ones((50, 8, 16))

  def total(x):
    return jax.lax.scan(lambda c, row: (jnp.tanh(c + row), c), jnp.zeros((8, 16)), x)

  program, _ = program_of(total, x)
  assert x.nbytes < program.bytes < 12 * x.nbytes  # 50 times, were all of it read in every turn


def test_a_kernel_takes_the_longest_of_launch_memory_and_compute():
  device = accelerators.Device("one", operations=100.0, bytes=10.0, launch=1.0, turn=4.0)
  program, _ = program_of(lambda x: x + 1.0, jnp.ones(4))
  program.kernels = [hlo.Kernel(2, 50.0, 1.0), hlo.Kernel(1, 1.0, 30.0), hlo.Kernel(1, 500.0, 1.0)]
  program.traced_loops = 2
  found = accelerators.predicted("step", program, device)
  assert found.milliseconds == 1e3 * (2 * 1.0 + 3.0 + 5.0 + 2 * 4.0)
  assert (found.launch, found.memory, found.compute) == (0.56, 0.17, 0.28)
  assert (found.bound, found.kernels, found.turns) == ("launch", 4, 2)


def test_the_table_states_what_it_assumes(capsys):
  program, _ = program_of(lambda x: x + 1.0, jnp.ones(4))
  accelerators.show([accelerators.predicted("step", program, accelerators.DEVICES[0])])
  told = capsys.readouterr().out
  assert "longest of 3 microseconds, its bytes at 3.35 TB/s and its" in told
  assert "operations at 494.7 TFLOP/s" in told
  assert "a turn of a loop of traced length 10 microseconds more" in told
  assert "v5e" not in told
