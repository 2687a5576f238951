"""All that needs a GPU, in one command: tests, train steps, speed, memory, Table 1 in full.

  make gpu-check
  python -m benchmarks.gpu_check --output=gpu_check.json

tests   those marked ``gpu``, in a process of their own
steps   every train step of ``benchmarks.accelerators``: milliseconds, what is predicted from its
        compiled program, and the megabytes that it takes
speed   ``benchmarks.speed`` --case=search, in float32 and bf16, and --case=mobilenet
table1  ``benchmarks.tables`` --table=1 --scale=full, one seed, last of all and in a file of its own
        (gpu_check_table1.json): it takes hours, wants CIFAR-10, and goes on where it was cut;
        --notable1 leaves it out

Where there is no GPU it says so, and the exit code is not 0.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

from absl import flags
import jax
import numpy as np

from benchmarks import accelerators, hlo, records, speed_search, speed_timing
from benchmarks.accelerators import Step
from launch import flags as common
from launch.reporting import progress

FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).resolve().parents[1]


def check_gpu() -> None:
  """Raises a RuntimeError where JAX computes on something else."""
  if (found := jax.default_backend()) != "gpu":
    raise RuntimeError(
      f"There is no GPU that JAX can use: it computes on {found}. On a machine that has one, "
      "install the extra: pip install -e '.[gpu]'."
    )


def tested(*arguments: str) -> int:
  """Runs the tests that need a GPU; the exit code of pytest."""
  command = [sys.executable, "-m", "pytest", "-m", "gpu", *arguments]
  return subprocess.run(
    command, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cuda,cpu"}
  ).returncode


def table1(output: pathlib.Path) -> int:
  """Measures Table 1 in full into a file; the exit code of ``benchmarks.tables``."""
  command = [sys.executable, "-m", "benchmarks.tables", "--table=1", "--scale=full", "--seeds=1"]
  return subprocess.run([*command, f"--output={output}"], cwd=ROOT).returncode


def timed(case: str, step: Step, runs: int) -> dict[str, Any]:
  """Runs a step on the default device.

  Args:
    case: its name.
    step: which.
    runs: timed after one more.
  """
  key = jax.random.key(0)
  state, batch = jax.jit(step.start)(key), accelerators.example(step.batch, key)
  program = jax.jit(step.step, donate_argnums=0).lower(state, batch, key).compile()
  state, _ = program(state, batch, key)
  seconds = []
  for _ in range(runs):
    jax.block_until_ready(state)
    began = time.perf_counter()
    state, info = program(state, batch, key)
    jax.block_until_ready((state, info))
    seconds.append(time.perf_counter() - began)
  read = hlo.Program(program.as_text() or "", step.ascent)
  sizes = program.memory_analysis()
  names = ("argument", "output", "temp", "alias")
  parts = {name: getattr(sizes, f"{name}_size_in_bytes") for name in names}
  taken = parts["argument"] + parts["output"] + parts["temp"] - parts["alias"]
  return {
    "case": case,
    "milliseconds": speed_timing.rounded(1e3 * float(np.median(seconds))),
    "predicted": dataclasses.asdict(accelerators.predicted(case, read, accelerators.DEVICES[0])),
    "megabytes": round(taken / 1e6, 1),
  }


def main() -> None:
  """Runs everything and writes what came out."""
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the tests want some, too
  check_gpu()
  output = pathlib.Path(FLAGS.output)
  records.check_writable(output)
  code, steps = tested(), []
  with progress.bar("steps", len(accelerators.STEPS)) as advance:
    for case, make in accelerators.STEPS.items():
      steps.append(timed(case, make(), FLAGS.runs))
      advance(1, case)
  rate, found, facts = speed_timing.matrix_product_rate(), [], {}
  for case in speed_search.CASES:
    own, facts[case] = speed_search.measure(case, FLAGS.runs, rate)
    found += own
  records.write(output, found, tests_exit_code=code, steps=steps, facts=facts)
  print(f"records: {output}")
  if code:
    raise RuntimeError(f"The tests that need a GPU ended with {code}; see above.")
  if FLAGS.table1 and table1(output.with_name(f"{output.stem}_table1.json").absolute()):
    raise RuntimeError("Table 1 was not measured; see above.")


if __name__ == "__main__":
  flags.DEFINE_integer("runs", 10, "Timed runs of each step.", lower_bound=1)
  flags.DEFINE_bool("table1", True, "Whether Table 1 is measured in full.")
  flags.DEFINE_string("output", "gpu_check.json", "JSON file.")
  common.run(main)
