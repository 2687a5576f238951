r"""A service under load: latency and rate, and what becomes of records where connections break.

  python -m benchmarks.serving --records=100000 --output=serving.json
  python -m benchmarks.serving --records=1000000 --per_request=250 --resets=0.1 \
      --output=serving_resets.json

``launch.serve`` is started on this machine with ``DROCC()`` on records of 20 columns (those of
``benchmarks.small_devices``), and asked over loopback by clients that send a request once they have
the answer to the one before. ``--resets`` breaks that share of the connections, at random while the
request is sent, while it is answered or while the answer is read; the client then sends the request
again under the same Idempotency-Key. As many requests are sent again although they were answered.
Every answer is held against the others for its records, by id, and against a Scorer; what the
service says that it scored, against the records that there are; where they differ, the exit code is
not 0. Clients and service share the cores of this process, and the processor seconds of each are
told apart, since a client in Python may be what is slow.
"""

import asyncio
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import importlib.metadata
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags
import numpy as np

from benchmarks import engines, records, small_devices
from benchmarks.records import SpeedRecord
from benchmarks.serving_load import MEDIA, Load, ask_all, body_of
from detector_jax import Scorer
from detector_jax.scorer import verdicts
from drocc_jax import DROCC
from launch import flags as common
from launch import watching
from launch.reporting import progress

FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).resolve().parents[1]
STARTED = re.compile(r"Serving on http://(.*):(\d+)\n")
COUNTED = re.compile(r'^detector_records_total\{decision="(?:typical|anomalous)"\} (.*)$', re.M)
CALLS = re.compile(r"^detector_call_records_(count|sum) (.*)$", re.M)


@contextlib.contextmanager
def service(folder: pathlib.Path, *arguments: str) -> Iterator[tuple[str, int]]:
  """Starts ``launch.serve``; its address. It is stopped at the end.

  Raises:
    RuntimeError: it does not start, or does not end well.
  """
  command = [sys.executable, "-m", "launch.serve", f"--detector={folder}", "--port=0", *arguments]
  process = subprocess.Popen(
    command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  assert process.stdout is not None
  try:
    started = STARTED.fullmatch(process.stdout.readline())
    if started:
      yield started[1], int(started[2])
  finally:
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=90)
  if not started or process.returncode:
    raise RuntimeError(f"launch.serve ended with {process.returncode}: {errors.strip()[-500:]}")


def alone(folder: pathlib.Path, load: Load, x: np.ndarray) -> tuple[np.ndarray, float]:
  """Scores ``[n]`` of a Scorer in this process, request by request, and the seconds it took."""
  scorer, scores = Scorer(folder), []
  scorer(x[: load.per_request])
  began = time.perf_counter()
  for start in range(0, len(x), load.per_request):
    scores.append(scorer(x[start : start + load.per_request])["score"])
  return np.concatenate(scores), time.perf_counter() - began


def parts(folder: pathlib.Path, load: Load, x: np.ndarray, times: int = 200) -> dict[str, float]:
  """What a request of records ``[n, columns]`` costs in the service beside HTTP, in this process.

  Returns:
    Milliseconds that it takes to read the body, to score its records in a call of their own, to let
    drift alarm and measures see them, and to write the answer.
  """
  from launch.serving import bodies, measures

  scorer = Scorer(folder, ["id"])
  form = bodies.Form.of(MEDIA[load.form], load.per_request)
  body = body_of(load.form, np.arange(len(x)), x)
  watcher, counters = watching.Watcher(scorer.detector), measures.Measures(lambda: 0.0)
  prepared = form.prepare(body, scorer)
  detector, told = scorer.detector.with_batch_size(len(x)), scorer.verdicts(prepared.x)

  def watch() -> None:
    watcher.see(told["score"])
    counters.see(told["decision"], told["p_value"])

  work: dict[str, Callable[[], object]] = {
    "read": lambda: form.prepare(body, scorer),
    "score": lambda: verdicts(detector, prepared.x),
    "watch": watch,
    "write": lambda: form.written(scorer.answer(prepared, told)),
  }
  found = {}
  for name, part in work.items():
    part()
    began = time.process_time()
    for _ in range(times):
      part()
    found[name] = round(1e3 * (time.process_time() - began) / times, 3)
  return found


def measure(
  load: Load, count: int, *arguments: str, folder: pathlib.Path | None = None
) -> tuple[SpeedRecord, dict[str, Any]]:
  """Asks a service for the scores of ``count`` records.

  Args:
    load: how.
    count: records.
    *arguments: of ``launch.serve``.
    folder: of a detector of records of 20 columns; None trains one.

  Raises:
    RuntimeError: the service does not start, answer or end as it should.
  """
  x = small_devices.drawn(count, 1)
  with tempfile.TemporaryDirectory() as name, progress.bar("serving", 100) as advance:
    if folder is None:
      folder = pathlib.Path(name) / "detector"
      model = DROCC(random_state=0).fit(small_devices.drawn(small_devices.TRAINED, 0))
      model.detector_.with_metadata(feature_names=engines.NAMES).save(folder)
    scores, peer = alone(folder, load, x)
    apart = parts(folder, load, x[: load.per_request])
    with service(folder, "--keep=id", *arguments) as address:
      tally, text = asyncio.run(ask_all(address, load, x, advance))
  seconds = tally.wall_seconds
  calls = {name: float(value) for name, value in CALLS.findall(text)}
  percentiles = np.percentile(1e3 * np.array(tally.seconds), (50, 95, 99, 100)).round(2)
  record = SpeedRecord(
    case=f"{count:,} records of {x.shape[1]} columns by {load.form}, {load.per_request} a request, "
    f"{load.clients} clients, {load.resets:g} of the connections reset",
    ours_seconds=round(seconds, 2),
    peer="Scorer in one process, request by request",
    peer_seconds=round(peer, 2),
    ratio=round(peer / seconds, 3),
    floor_seconds=0.0,
  )
  return record, {
    **dataclasses.asdict(load),
    "records_sent": count,
    "records_per_second": round(count / seconds),
    "requests_per_second": round(len(tally.seconds) / seconds),
    "latency_ms": dict(zip(("p50", "p95", "p99", "most"), percentiles.tolist(), strict=True)),
    "cpu_ms_of_a_request": {
      side: round(1e3 * taken / len(tally.seconds), 3) for side, taken in tally.cpu_seconds.items()
    },
    "service_ms_beside_http": apart,
    "records_in_a_call": round(calls["sum"] / calls["count"], 1),
    "broken_connections": tally.broken,
    "sent_again": tally.again,
    "busy": tally.busy,
    "lost": int(np.isnan(tally.told[:, 0]).sum()),
    "different": tally.different,
    "scored_by_service": int(sum(map(float, COUNTED.findall(text)))),
    "score_difference": float(np.abs(tally.told[:, 0] - scores).max()),
    "service_versions": {
      name: importlib.metadata.version(name) for name in ("starlette", "uvicorn")
    },
  }


def main() -> None:
  """Measures one load."""
  output = pathlib.Path(FLAGS.output) if FLAGS.output else None
  if output is not None:
    records.check_writable(output)
  load = Load(FLAGS.form, FLAGS.per_request, FLAGS.clients, FLAGS.resets, FLAGS.seed)
  record, facts = measure(load, FLAGS.records, f"--max_wait_ms={FLAGS.max_wait_ms:g}")
  if output is None:
    records.show([record])
    print(json.dumps(facts, indent=1))
  else:
    records.write(output, [record], max_wait_ms=FLAGS.max_wait_ms, **facts)
    print(f"records: {output}")
  check(facts)


def check(facts: dict[str, Any]) -> None:
  """Raises a RuntimeError where a record has no answer, or two, or was scored other than once."""
  sent, scored = facts["records_sent"], facts["scored_by_service"]
  if facts["lost"] or facts["different"] or scored != sent:
    raise RuntimeError(
      f"Of {sent:,} records {facts['lost']:,} have no answer and {facts['different']:,} have two; "
      f"the service scored {scored:,}. Each must be scored and answered once."
    )


if __name__ == "__main__":
  flags.DEFINE_enum("form", "json", list(MEDIA), "How records travel.")
  flags.DEFINE_integer("records", 100_000, "Records.", lower_bound=1)
  flags.DEFINE_integer("per_request", 16, "Records in a request.", lower_bound=1)
  flags.DEFINE_integer("clients", 8, "Clients that ask at a time.", lower_bound=1)
  flags.DEFINE_float("resets", 0.0, "Share of the connections that are reset.", 0.0, 0.9)
  flags.DEFINE_float("max_wait_ms", 2.0, "Of launch.serve.", lower_bound=0.0)
  flags.DEFINE_integer("seed", 0, "Of what breaks.", lower_bound=0)
  flags.DEFINE_string("output", "", "JSON file.")
  common.run(main)
