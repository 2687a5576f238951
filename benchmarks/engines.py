"""A table in parts, scored on an engine by one worker and by two.

  python -m benchmarks.engines --engine=dask --output=engines_dask.json

Records of 20 columns (those of ``benchmarks.small_devices``) in 16 .parquet files are read, scored
by ``DROCC()`` through ``detector_jax.Scorer`` and written again, as docs/engines.md has it. A
worker is a core: with one worker all processes of the engine share one core, with two they have two
and each worker keeps to its own. An engine is started and has scored all records once before the
clock runs, so that Spark's JVM has compiled what it runs often; each run has an engine of its own,
begun on the cores that it may use; what a few records take then, in
which Ray starts its actors anew, is taken from the seconds of all. Every score, p-value and
decision is held against what ``launch.score`` writes for one file of the same records. The record's
ratio is how many times as fast two workers are. Runs of one and of two alternate, and the median
over the pairs counts; beside it stands the same ratio of processes that score records in memory,
without files or an engine, in the same minutes: what two cores of the machine are worth.
"""

from collections.abc import Callable, Iterator
import concurrent.futures
import contextlib
import multiprocessing
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from absl import flags
import numpy as np
import pyarrow as pa
from pyarrow import dataset, parquet

from benchmarks import records, small_devices
from benchmarks.records import SpeedRecord
from detector_jax import Scorer
from drocc_jax import DROCC
from launch import flags as common
from launch.reporting import progress

PARTS, WARM_PARTS, WARM_ROWS = 16, 4, 1000
BATCH, IN_MEMORY = 50_000, 48  # records of a batch, batches that are scored in memory
PINNED: list[pathlib.Path] = []
NAMES = [f"c{i}" for i in range(small_devices.FEATURES)]
ROOT = pathlib.Path(__file__).resolve().parents[1]
FLAGS = flags.FLAGS
Run = Callable[[pathlib.Path, pathlib.Path], None]
Engine = Callable[[pathlib.Path, int], contextlib.AbstractContextManager[Run]]


class OneCore(Scorer):
  """A Scorer that keeps its process on one core.

  Args:
    folder: of the detector, and of files that say which core is taken.
    cores: to choose from.
    claim: what those files are called, the same for all workers of a run.
  """

  def __init__(self, folder: pathlib.Path, cores: set[int], claim: str):
    super().__init__(folder / "detector", keep=["id"])
    self._cores, self._claim = cores, folder / claim

  def __call__(self, batch: Any) -> Any:
    """Takes a core before anything is computed."""
    take_a_core(self._claim, tuple(sorted(self._cores)))
    return super().__call__(batch)


def take_a_core(claim: pathlib.Path, cores: tuple[int, ...]) -> None:
  """Moves all threads of a process that has none yet to a core that no other has taken."""
  if PINNED:
    return
  PINNED.append(claim)
  for core in cores:
    try:
      claim.with_name(f"{claim.name}-{core}").touch(exist_ok=False)
    except FileExistsError:
      continue
    keep_to({core})
    return


def keep_to(cores: set[int]) -> None:
  """Moves all threads of this process, and what it starts from now on, to these cores."""
  for thread in os.listdir("/proc/self/task"):
    with contextlib.suppress(ProcessLookupError):  # one that has ended since
      os.sched_setaffinity(int(thread), cores)


@contextlib.contextmanager
def dask(folder: pathlib.Path, workers: int) -> Iterator[Run]:
  """Processes that Dask hands its partitions to."""
  import dask.dataframe as dd

  scorer = OneCore(folder, os.sched_getaffinity(0), f"dask-{time.monotonic_ns()}")
  kinds = {"id": "int64", "score": "float64", "p_value": "float64", "decision": "int64"}

  def run(source: pathlib.Path, output: pathlib.Path) -> None:
    records = dd.read_parquet(source, split_row_groups=False)
    scores = records.map_partitions(scorer, meta=kinds).optimize()
    how = {"scheduler": "processes", "pool": pool, "chunksize": 1}
    scores.to_parquet(output, write_index=False, compute_kwargs=how)

  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
    yield run


@contextlib.contextmanager
def ray(folder: pathlib.Path, workers: int) -> Iterator[Run]:
  """Actors of Ray Data; reading and writing has cores of its own to wait for, not to use."""
  import ray.data

  def run(source: pathlib.Path, output: pathlib.Path) -> None:
    scores = ray.data.read_parquet(str(source)).map_batches(
      OneCore,
      fn_constructor_args=[folder, os.sched_getaffinity(0), f"ray-{time.monotonic_ns()}"],
      batch_format="pyarrow",
      concurrency=workers,
    )
    scores.write_parquet(str(output))

  ray.init(num_cpus=2 + workers, include_dashboard=False, log_to_driver=False)
  try:
    yield run
  finally:
    ray.shutdown()


@contextlib.contextmanager
def spark(folder: pathlib.Path, workers: int) -> Iterator[Run]:
  """Tasks of Spark in local mode, each with a Python worker."""
  from pyspark.sql import SparkSession

  os.environ["PYSPARK_PYTHON"] = sys.executable
  builder = SparkSession.builder.master(f"local[{workers}]").config("spark.ui.enabled", "false")
  # a task for each file: three of them at once would leave one worker idle at the end
  session = builder.config("spark.sql.files.maxPartitionBytes", "32m").getOrCreate()
  scorer = OneCore(folder, os.sched_getaffinity(0), f"spark-{time.monotonic_ns()}")

  def run(source: pathlib.Path, output: pathlib.Path) -> None:
    table = session.read.parquet(str(source))
    scores = table.mapInArrow(
      lambda batches: map(scorer, batches),
      "id long, score double, p_value double, decision long",
    )
    scores.write.parquet(str(output))

  try:
    yield run
  finally:
    session.stop()


@contextlib.contextmanager
def memory(folder: pathlib.Path, workers: int) -> Iterator[Run]:
  """Processes that score one record batch again and again, and read and write nothing."""
  scorer = OneCore(folder, os.sched_getaffinity(0), f"memory-{time.monotonic_ns()}")

  def run(source: pathlib.Path, output: pathlib.Path) -> None:
    output.mkdir()
    times = [IN_MEMORY // workers if source.name == "parts" else 1] * workers
    list(pool.map(_again, [scorer] * workers, [folder / "few" / "0.parquet"] * workers, times))

  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
    yield run


def _again(scorer: OneCore, source: pathlib.Path, times: int) -> None:
  batch = pa.concat_tables([parquet.read_table(source)] * (BATCH // WARM_ROWS)).combine_chunks()
  for _ in range(times):
    scorer(batch)


ENGINES = {"dask": dask, "ray": ray, "spark": spark}


def prepare(folder: pathlib.Path, rows: int) -> None:
  """A detector, the records in parts and in one file, and a few of them."""
  x = small_devices.drawn(small_devices.TRAINED, 0)
  model = DROCC(random_state=0).fit(x)
  model.detector_.with_metadata(feature_names=NAMES).save(folder / "detector")
  (folder / "parts").mkdir()
  (folder / "few").mkdir()
  ends = np.linspace(0, rows, PARTS + 1).astype(np.int64)
  first = None
  with contextlib.ExitStack() as stack:
    for part in range(PARTS):
      ids = np.arange(ends[part], ends[part + 1])
      block = small_devices.drawn(len(ids), 1 + part)
      table = pa.table({"id": ids, **dict(zip(NAMES, block.T.copy(), strict=True))})
      first = first or stack.enter_context(
        parquet.ParquetWriter(folder / "x.parquet", table.schema)
      )
      first.write_table(table)
      parquet.write_table(table, folder / f"parts/{part:02d}.parquet")
  for part in range(WARM_PARTS):
    parquet.write_table(table.slice(0, WARM_ROWS), folder / f"few/{part}.parquet")


def launcher(folder: pathlib.Path) -> float:
  """Scores the one file by ``launch.score``; seconds with the start of its process."""
  began = time.perf_counter()
  subprocess.run(
    [
      *(sys.executable, "-m", "launch.score", f"--detector={folder / 'detector'}", "--keep=id"),
      *(f"--input={folder / 'x.parquet'}", f"--output={folder / 'wanted.parquet'}"),
    ],
    cwd=ROOT,
    check=True,
    capture_output=True,
  )
  return time.perf_counter() - began


def difference(got: pathlib.Path, wanted: pathlib.Path) -> dict[str, float]:
  """The largest difference of scores and p-values, and how many decisions are others.

  Raises:
    ValueError: records are missing, or there twice.
  """
  one = dataset.dataset(got, format="parquet").to_table().sort_by("id")
  two = parquet.read_table(wanted).sort_by("id")
  if not one["id"].equals(two["id"]):
    raise ValueError(f"{len(one):,} records came back, and {len(two):,} went in.")
  found = {}
  for name in ("score", "p_value", "decision"):
    apart = np.abs(one[name].to_numpy().astype(np.float64) - two[name].to_numpy())
    found[name] = float(apart.sum() if name == "decision" else apart.max())
  return found


class Timed(NamedTuple):
  """A table on an engine.

  Attributes:
    seconds: for all parts, less ``start``.
    start: seconds for a few records, once the engine stands.
    output: where the scores are.
  """

  seconds: float
  start: float
  output: pathlib.Path


def timed(engine: Engine, folder: pathlib.Path, workers: int) -> Timed:
  """What so many workers take, on as many cores."""
  output = folder / f"scores{workers}"
  start = 0.0
  with on_cores(workers), engine(folder, workers) as run:
    for source in ("few", "parts", "few"):  # what starts the workers, warms them, and tells a start
      began = time.perf_counter()
      run(folder / source, folder / "warm")
      start = time.perf_counter() - began
      shutil.rmtree(folder / "warm")
    shutil.rmtree(output, ignore_errors=True)
    began = time.perf_counter()
    run(folder / "parts", output)
    return Timed(time.perf_counter() - began - start, start, output)


def in_its_own_process(engine: Engine, folder: pathlib.Path, workers: int) -> Timed:
  """``timed``, where no engine has run before: Spark's JVM outlives its session, on its cores."""
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
    return pool.submit(timed, engine, folder, workers).result()


@contextlib.contextmanager
def on_cores(count: int) -> Iterator[None]:
  """Keeps this process, and all that it starts, to the first of its cores.

  Raises:
    ValueError: it has fewer.
  """
  cores = os.sched_getaffinity(0)
  if len(cores) < count:
    raise ValueError(f"{count} workers need {count} cores, and this process has {len(cores)}.")
  keep_to(set(sorted(cores)[:count]))
  try:
    yield
  finally:
    keep_to(cores)


def measure(engine: str, rows: int, runs: int) -> tuple[SpeedRecord, dict[str, Any]]:
  """Scores ``rows`` records with one worker and with two, ``runs`` times, in turn."""
  taken: dict[int, list[float]] = {1: [], 2: []}
  starts: dict[int, list[float]] = {1: [], 2: []}
  in_memory: dict[int, list[float]] = {1: [], 2: []}
  apart: dict[int, dict[str, float]] = {}
  with tempfile.TemporaryDirectory() as name, progress.bar(engine, 2 + 2 * runs) as advance:
    folder = pathlib.Path(name)
    prepare(folder, rows)
    advance(1, "records")
    alone = launcher(folder)
    advance(1, f"launch.score, {alone:.1f} s")
    for _ in range(runs):
      for workers in (1, 2):
        in_memory[workers].append(in_its_own_process(memory, folder, workers).seconds)
        found = in_its_own_process(ENGINES[engine], folder, workers)
        taken[workers].append(found.seconds)
        starts[workers].append(found.start)
        if workers not in apart:
          apart[workers] = difference(found.output, folder / "wanted.parquet")
        advance(1, f"{workers} workers, {found.seconds:.1f} s + {found.start:.1f} s")
  middle = {workers: statistics.median(each) for workers, each in taken.items()}
  record = SpeedRecord(
    case=f"{engine}, {rows:,} records of {len(NAMES)} columns, two workers",
    ours_seconds=round(middle[2], 2),
    peer="one worker",
    peer_seconds=round(middle[1], 2),
    ratio=round(_speedup(taken), 2),
    floor_seconds=0.0,
  )
  return record, {
    "rows": rows,
    "seconds": {str(workers): [round(one, 2) for one in each] for workers, each in taken.items()},
    "start_seconds": {str(w): round(statistics.median(each), 2) for w, each in starts.items()},
    "ratio_in_memory": round(_speedup(in_memory), 2),
    "rows_per_second": {str(workers): round(rows / each) for workers, each in middle.items()},
    "core_hours_of_a_billion": {
      str(workers): round(workers * each / rows * 1e9 / 3600, 2) for workers, each in middle.items()
    },
    "launch_score_seconds": round(alone, 2),
    "difference": {str(workers): each for workers, each in apart.items()},
  }


def _speedup(seconds: dict[int, list[float]]) -> float:
  """Median over the pairs."""
  pairs = zip(seconds[1], seconds[2], strict=True)
  return statistics.median(one / two for one, two in pairs)


def main() -> None:
  """Measures one engine."""
  output = pathlib.Path(FLAGS.output) if FLAGS.output else None
  if output is not None:
    records.check_writable(output)
  record, facts = measure(FLAGS.engine, FLAGS.rows, FLAGS.runs)
  if output is None:
    records.show([record])
    print(facts)
    return
  records.write(output, [record], **facts)
  print(f"records: {output}")


if __name__ == "__main__":
  from benchmarks import engines  # whose classes workers find by name

  flags.DEFINE_enum("engine", "dask", list(ENGINES), "What hands out the parts.")
  flags.DEFINE_integer("rows", 500_000, "Records.", lower_bound=WARM_ROWS)
  flags.DEFINE_integer("runs", 3, "With either number of workers.", lower_bound=1)
  flags.DEFINE_string("output", "", "JSON file.")
  common.run(engines.main)
