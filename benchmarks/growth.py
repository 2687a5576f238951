"""How the cost of training grows.

  python -m benchmarks.growth --output=growth.json

One size is varied at a time, the others stay as in ``Sizes``; the time is that of a few steps of
DROCC on an MLP, compilation left out, or for the taps of a few steps of fitting fingerprints. Lines
through the points of a log-log plot give the exponents: over all points, and over the larger half,
where fixed costs weigh less.
"""

from collections.abc import Callable, Sequence
import dataclasses
import pathlib
import time
from typing import Any

from absl import flags
from flax import linen as nn
import jax
from matplotlib.figure import Figure
import numpy as np
import numpy.typing as npt

from benchmarks import records, speed_timing
from detector_jax import training
from drocc_jax import drocc, fit, networks, recipe
from fingerprint_jax import recipe as fingerprint_recipe
from fingerprint_jax import train as fingerprint_train
from launch import flags as common
from launch.reporting import progress
from launch.reporting.figures import COLOURS

FLAGS = flags.FLAGS
HIDDEN, STEPS, TAP_WIDTH, TAP_ROWS = 128, 10, 64, 512


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Of a training.

  Attributes:
    batch: examples per step.
    features: of a record.
    ascent: ascent steps of the search.
    models: trained one after the other.
    taps: fingerprinted layers.
  """

  batch: int = 256
  features: int = 64
  ascent: int = 10
  models: int = 1
  taps: int = 1


VARIED = {
  "batch": (32, 64, 128, 256, 512, 1024, 2048),
  "features": (8, 16, 32, 64, 128, 256, 512),
  "ascent": (1, 2, 4, 8, 16, 32, 64),
  "models": (1, 2, 4, 8),
  "taps": (1, 2, 4, 8),
}


class Tower(nn.Module):
  """``layers`` dense layers of one width, each of which can be tapped."""

  layers: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[batch, features]`` to ``[batch, width]``."""
    for _ in range(self.layers):
      x = nn.relu(nn.Dense(TAP_WIDTH)(x))
    return x


def measured_training(sizes: Sizes) -> Callable[[], None]:
  """Compiled steps of DROCC for each model; returns when they are done."""
  x = np.random.default_rng(0).normal(size=(STEPS * sizes.batch, sizes.features))
  config = drocc.Config(radius=2.0, step_size=0.2, num_steps=sizes.ascent, average_decay=0.0)
  program = fit.compile_program(networks.MLP((HIDDEN,)), config.static(), sizes.batch)
  rows = training.to_device(x.astype(np.float32))

  def work() -> None:
    for seed in range(sizes.models):
      init_key, train_key = recipe.keys(seed)
      state = program.init(config.hyper(), rows.inputs[:1], init_key)
      jax.block_until_ready(program.train_epochs(state, rows, train_key, 0, 1))

  return work


def fingerprinting(sizes: Sizes) -> Callable[[], None]:
  """An epoch of fitting the fingerprints of the first ``taps`` layers of one network."""
  x = np.random.default_rng(0).normal(size=(TAP_ROWS, TAP_WIDTH)).astype(np.float32)
  network = Tower(max(VARIED["taps"]))
  variables = network.init(jax.random.key(0), x[:1])
  config = fingerprint_train.Config(epochs=1, batch_size=64)
  prepared = fingerprint_recipe.build_training(
    network,
    variables,
    x,
    config,
    jax.random.key(0),
    layers=[f"Dense_{place}" for place in range(sizes.taps)],
  )

  def work() -> None:
    state = jax.tree.map(lambda leaf: leaf.copy(), prepared.state)  # it is donated
    jax.block_until_ready(prepared.train_epochs(state, prepared.data, jax.random.key(1), 0, 1))

  return work


def exponent(values: npt.ArrayLike, seconds: npt.ArrayLike) -> float:
  """Slope of the least-squares line through ``(log value, log second)``."""
  return float(np.polyfit(np.log(values), np.log(seconds), 1)[0])


def measure(name: str, values: Sequence[int], runs: int) -> dict[str, Any]:
  """Times one row of sizes.

  Args:
    name: field of ``Sizes`` that is varied.
    values: that it takes, rising.
    runs: of each; the fastest counts.

  Returns:
    ``values``, ``seconds``, and ``exponent`` and ``exponent_of_larger_half``.
  """
  make = fingerprinting if name == "taps" else measured_training
  works = [make(dataclasses.replace(Sizes(), **{name: value})) for value in values]
  seconds = np.full(len(values), np.inf)
  for work in works:
    work()  # compiles
  for _ in range(runs):
    for place, work in enumerate(works):
      start = time.perf_counter()
      work()
      seconds[place] = min(seconds[place], time.perf_counter() - start)
  half = len(values) // 2
  return {
    "values": list(values),
    "seconds": [speed_timing.rounded(float(each)) for each in seconds],
    "exponent": round(exponent(values, seconds), 2),
    "exponent_of_larger_half": round(exponent(values[half:], seconds[half:]), 2),
  }


def figure_of(rows: dict[str, dict[str, Any]]) -> Figure:
  """Every row relative to its first point, on logarithmic axes; the dashed line is proportional."""
  figure = Figure(figsize=(6.4, 4.4), layout="constrained")
  axes = figure.subplots()
  axes.spines[["top", "right"]].set_visible(False)
  for (name, row), colour in zip(rows.items(), COLOURS, strict=False):
    x, y = np.array(row["values"]), np.array(row["seconds"])
    label = f"{name} {x[0]} to {x[-1]}: {row['exponent']:.2f}, larger half "
    label += f"{row['exponent_of_larger_half']:.2f}"
    axes.plot(x / x[0], y / y[0], "o-", ms=4, lw=1.4, color=colour, label=label)
  far = max(row["values"][-1] / row["values"][0] for row in rows.values())
  axes.plot([1, far], [1, far], "--", color="#bbbbbb", lw=0.8)
  axes.set(
    xscale="log",
    yscale="log",
    xlabel="size, relative to the smallest",
    ylabel="time, relative to that of the smallest",
  )
  axes.legend(frameon=False, fontsize=8, title="exponent", title_fontsize=8)
  return figure


def main() -> None:
  """Measures every row, and draws them."""
  output = pathlib.Path(FLAGS.output) if FLAGS.output else None
  if output is not None:
    records.check_writable(output)
  rows = {}
  with progress.bar("growth", len(VARIED)) as advance:
    for name, values in VARIED.items():
      rows[name] = measure(name, values, FLAGS.runs)
      advance(1, f"{name}: exponent {rows[name]['exponent']}")
  if output is None:
    for name, row in rows.items():
      print(f"{name}: {row}")
    return
  fixed = {"hidden": HIDDEN, "steps": STEPS, **dataclasses.asdict(Sizes())}
  records.write(output, [], fixed=fixed, rows=rows)
  figure_of(rows).savefig(output.with_suffix(".png"), dpi=144)
  print(f"records: {output}\nfigure: {output.with_suffix('.png')}")


if __name__ == "__main__":
  flags.DEFINE_integer("runs", 3, "Of each size; the fastest counts.", lower_bound=1)
  flags.DEFINE_string("output", "", "JSON file; the figure goes beside it.")
  common.run(main)
