"""Train steps lowered for accelerators from the CPU, and what is read from a compiled program."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import accelerators, hlo
from drocc_jax import drocc_lf, drocc_oe, mobilenet, networks, prototypes
from fingerprint_jax.classifiers import Classifier

MLP = networks.MLP((8,), squares=True, activation="silu")
MAKE = {
  "DROCC, MLP": lambda: accelerators.drocc_step(MLP, (5,), 4, 2),
  "DROCC, wide": lambda: accelerators.drocc_step(networks.MLP((4,)), (9,), 4, 2),
  "DROCC-OE": lambda: accelerators.drocc_step(MLP, (5,), 4, 2, drocc_oe.ALGORITHM),
  "DROCC-LF": lambda: accelerators.drocc_step(MLP, (5,), 4, 2, drocc_lf.ALGORITHM),
  "prototypes": lambda: accelerators.drocc_step(prototypes.Prototypes(8), (6, 1), 4, 2),
  "LSTM": lambda: accelerators.drocc_step(networks.LSTM(4), (6, 1), 4, 2),
  "LeNet": lambda: accelerators.drocc_step(networks.cifar_lenet(), (8, 8, 3), 4, 2),
  "MobileNetV2": lambda: accelerators.drocc_step(
    mobilenet.MobileNetV2(width=0.1), (32, 32, 3), 2, 2
  ),
  "NeuralFP": lambda: accelerators.fingerprint_step(Classifier(((4, 2),), (3,)), (8, 8, 1), 4),
}


LONG = {"MobileNetV2"}  # 10 s of tracing


@pytest.mark.parametrize(
  "case", [pytest.param(case, marks=[pytest.mark.long] * (case in LONG)) for case in MAKE]
)
def test_epochs_of_every_step_lower_for_cuda_and_tpu_and_donate_their_state(case):
  with accelerators.traced_for("gpu"):
    step = MAKE[case]()
    whole = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = (step.state, step.data, jax.eval_shape(jax.random.key, 0), whole, whole)
    program = jax.jit(step.epochs, donate_argnums=0)
    exported = jax.export.export(program, platforms=["cuda", "tpu"])(*arguments)
  assert exported.platforms == ("cuda", "tpu")
  text = exported.mlir_module()
  donated = text.count("tf.aliasing_output") + text.count("jax.buffer_donor")
  assert donated == len(jax.tree.leaves(step.state))


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
