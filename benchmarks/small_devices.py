"""DROCC() as a C header: what rounding its weights costs, bytes and microseconds.

``launch.c_model`` writes ``DROCC()`` with weights of each precision, ``cc -std=c99 -O2`` compiles
it for this machine, and it scores record by record. One row is 20 columns of a mixture that is
drawn, 5,000 records of it to train on, and 100,000 others; the other rows are sets of ADBench as in
``benchmarks.adbench`` (their test records, at most 10,000).

auroc           percent; "detector" is what Python says
differ          decisions other than the detector's, of 100,000: of typical records where drawn
bytes           of code and constants, as ``size`` counts them
header_bytes    of the header's text
microseconds    a record
"""

from collections.abc import Callable, Sequence
import dataclasses
import pathlib
import shutil
import subprocess
import tempfile

from matplotlib.figure import Figure
import numpy as np

from benchmarks import adbench
from benchmarks.ledger import Cell, Ledger
from benchmarks.records import TableRecord
from detector_jax import Detector, metrics
from drocc_jax import DROCC
from launch import c_model, c_source
from launch.data import real

TITLE, DRAWN, PYTHON, MEAN = "small-devices", "20 columns, drawn", "detector", "mean of the sets"
FEATURES, TRAINED, FRESH, SHUFFLED = 20, 5_000, 100_000, 20_000
FLAGS = ("-std=c99", "-O2")
MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#define {P}_IMPLEMENTATION
#include "{name}"

int main(int count, char **arguments) {{
  const long n = count > 1 ? atol(arguments[1]) : 0;
  {value} *x = malloc(sizeof(*x) * {P}_COLUMNS * (size_t)n);
  float *told = calloc((size_t)n, 3 * sizeof(*told));
  clock_t began;
  long i;
  if (!x || !told || fread(x, sizeof(*x) * {P}_COLUMNS, (size_t)n, stdin) != (size_t)n) return 1;
  began = clock();
  for (i = 0; i < n; ++i) told[3 * i] = {p}_score(x + {P}_COLUMNS * i);
  fprintf(stderr, "%.9f", (double)(clock() - began) / CLOCKS_PER_SEC);
  for (i = 0; i < n; ++i) {{
#ifdef {P}_CALIBRATION
    told[3 * i + 1] = {p}_p_value(told[3 * i]);
#endif
    told[3 * i + 2] = (float){p}_decision(told[3 * i]);
  }}
  fwrite(told, 3 * sizeof(*told), (size_t)n, stdout);
  free(x);
  free(told);
  return 0;
}}
"""


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A header in a program that scores what stands on its standard input.

  Attributes:
    command: that runs it.
    object_bytes: of code and constants, without the standard library's.
    header_bytes: of the header.
    double: whether values are double.
  """

  command: tuple[str, ...]
  object_bytes: int
  header_bytes: int
  double: bool

  def score(self, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Scores raw records ``[n, ...]``.

    Returns:
      ``[n, 3]``: score, p-value (0 where there are none) and decision; and the seconds of scoring.
    """
    raw = np.ascontiguousarray(x, np.float64 if self.double else np.float32)
    done = subprocess.run(
      [*self.command, str(len(x))], input=raw.tobytes(), capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, np.float32).reshape(-1, 3), float(done.stderr)


def compiler() -> str | None:
  """The C compiler of this machine, None where there is none."""
  return shutil.which("gcc") or shutil.which("cc")


def call(arguments: Sequence[str], folder: pathlib.Path, cc: str | None = None) -> None:
  """Runs a compiler, this machine's own unless named, in a folder.

  Raises:
    ValueError: there is none.
    CalledProcessError: it refuses what it is given.
  """
  cc = cc or compiler()
  if cc is None:
    raise ValueError("There is no C compiler: install gcc.")
  subprocess.run([cc, *arguments], check=True, capture_output=True, cwd=folder)


def compiled(
  header: pathlib.Path,
  flags: Sequence[str] = FLAGS,
  cc: str | None = None,
  runner: Sequence[str] = (),
) -> Compiled:
  """Compiles a header, and a program around it, in the header's folder.

  Args:
    header: what ``c_model.write`` wrote.
    flags: of the compiler.
    cc: the compiler; None: this machine's own.
    runner: what runs its programs, such as an emulator.

  Raises:
    ValueError: there is no compiler.
    CalledProcessError: it refuses the header.
  """
  prefix, text, folder = c_source.prefix_of(header.stem), header.read_text(), header.parent
  double = f"{prefix}_score(const double" in text
  names = {"p": prefix, "P": prefix.upper(), "name": header.name}
  alone = f'#define {prefix.upper()}_IMPLEMENTATION\n#include "{header.name}"\n'
  (folder / "alone.c").write_text(alone)
  (folder / "main.c").write_text(MAIN.format(value="double" if double else "float", **names))
  call([*flags, "-c", "alone.c", "-o", "alone.o"], folder, cc)
  call([*flags, "main.c", "-lm", "-o", "main"], folder, cc)
  counted = subprocess.run(
    ["size", "alone.o"], check=True, capture_output=True, text=True, cwd=folder
  )
  sizes = counted.stdout.splitlines()[1].split()[:2]
  command = (*runner, str(folder.resolve() / "main"))
  return Compiled(command, sum(map(int, sizes)), len(text), double)


def drawn(n: int, seed: int) -> np.ndarray:
  """``[n, 20]`` records of a mixture of three groups, each of six factors and some noise."""
  shape, rng = np.random.default_rng(7), np.random.default_rng(seed)
  loadings, centers = shape.normal(size=(3, 6, FEATURES)), shape.normal(0, 1.5, size=(3, FEATURES))
  group, factors = rng.integers(3, size=n), rng.normal(size=(n, 6))
  x = centers[group] + 0.5 * np.einsum("nk,nkd->nd", factors, loadings[group])
  return (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32)


def count(seeds: int) -> int:
  """Number of cells of the table."""
  return seeds * (1 + len(adbench.names()))


def table(
  seeds: int, advance: Callable[..., None], ledger: Ledger
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """Every metric on every row, and the mean over the sets of ADBench; no figure."""
  sets = adbench.names()
  found = ledger.gather((DRAWN, *sets), seeds, cell, advance)
  for method, metric in dict.fromkeys(key[1:] for key in found):
    values = [found[row, method, metric] for row in sets]
    if values and metric in ("auroc", "differ"):
      found[MEAN, method, metric] = np.mean(values, axis=0).tolist()
  return [
    TableRecord.from_values(TITLE, row, method, metric, values, digits=3)
    for (row, method, metric), values in found.items()
  ], {}


def cell(row: str, seed: int) -> Cell:
  """Every precision on one row's records."""
  if row == DRAWN:
    train, typical = drawn(TRAINED, seed), drawn(FRESH, seed + 10_000)
    rng = np.random.default_rng(seed)
    apart = np.stack([rng.permutation(column) for column in typical[:SHUFFLED].T], axis=1)
    x, labels = np.concatenate([typical, apart]), np.repeat([0, 1], [FRESH, SHUFFLED])
  else:
    train, x, labels = adbench.parts_of(*real.load(f"adbench/{row}"), seed)
  detector = DROCC(random_state=seed).fit(train).detector_
  return measured(detector, x, labels, labels == 0 if row == DRAWN else np.ones(len(x), bool))


def measured(detector: Detector, x: np.ndarray, labels: np.ndarray, told: np.ndarray) -> Cell:
  """What each precision of a detector's header costs.

  Args:
    detector: a live one.
    x: ``[n, d]`` raw records.
    labels: ``[n]``, 1 = anomalous.
    told: bool ``[n]``, whose decisions are compared.
  """
  want, decided = detector.score(x, warn=False), detector.predict(x)
  found: Cell = {PYTHON: {"auroc": 100.0 * metrics.auroc(labels, want)}}
  with tempfile.TemporaryDirectory() as folder:
    for precision in c_model.PRECISIONS:
      path = pathlib.Path(folder) / f"{precision}.h"
      c_model.write(detector, path, precision)
      made = compiled(path)
      got, seconds = made.score(x)
      found[precision] = {
        "auroc": 100.0 * metrics.auroc(labels, got[:, 0]),
        "differ": 1e5 * float(np.mean((got[:, 2] != decided)[told])),
        "bytes": float(made.object_bytes),
        "header_bytes": float(made.header_bytes),
        "microseconds": 1e6 * seconds / len(x),
      }
  return found
