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
from collections.abc import AsyncIterator, Callable, Iterator
import contextlib
import dataclasses
import importlib.metadata
import json
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags
import numpy as np
import pyarrow as pa

from benchmarks import engines, records, small_devices
from benchmarks.records import SpeedRecord
from detector_jax import Scorer
from drocc_jax import DROCC
from launch import flags as common
from launch.reporting import progress

FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).resolve().parents[1]
MEDIA = {"json": "application/json", "arrow": "application/vnd.apache.arrow.stream"}
PLACES = ("request", "wait", "answer")
STARTED = re.compile(r"Serving on http://(.*):(\d+)\n")
COUNTED = re.compile(r'^detector_records_total\{decision="(?:typical|anomalous)"\} (.*)$', re.M)
CPU = re.compile(r"^process_cpu_seconds_total (.*)$", re.M)
CALLS = re.compile(r"^detector_call_records_(count|sum) (.*)$", re.M)


class BrokenError(Exception):
  """The connection was reset, by ``Connection`` itself."""


@dataclasses.dataclass
class Load:
  """What is asked.

  Attributes:
    form: a key of ``MEDIA``.
    per_request: records.
    clients: that ask at a time.
    resets: share of the requests whose connection is reset, and of those that are sent again.
    seed: of what breaks.
  """

  form: str = "json"
  per_request: int = 16
  clients: int = 8
  resets: float = 0.0
  seed: int = 0


class Tally:
  """What came back.

  Args:
    count: records that are sent, with the ids 0, 1, ...

  Attributes:
    told: ``[count, 3]`` score, p-value and decision of each record, NaN where none has come.
    different: records that had another answer before.
    seconds: from request to answer, of requests whose connection held.
    broken: connections that were reset, by where.
    again: requests that were sent again although they had been answered.
    busy: requests that the service refused with 503, and got later.
    wall_seconds: from the first request to the last answer.
    cpu_seconds: processor time of the clients and of the service within them.
  """

  def __init__(self, count: int):
    self.told = np.full((count, 3), np.nan)
    self.seconds: list[float] = []
    self.broken = dict.fromkeys(PLACES, 0)
    self.different = self.again = self.busy = 0
    self.wall_seconds, self.cpu_seconds = 0.0, {"clients": 0.0, "service": 0.0}

  def take(self, ids: np.ndarray, told: np.ndarray) -> None:
    """Holds an answer against those before it."""
    known = ~np.isnan(self.told[ids, 0])
    self.different += int((self.told[ids] != told)[known].any(axis=1).sum())
    self.told[ids] = told


class Connection:
  """A connection of HTTP/1.1 that can be broken on purpose."""

  def __init__(self, host: str, port: int):
    self._address = host, port
    self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

  async def ask(
    self, method: str, path: str, headers: dict[str, str], body: bytes = b"", broken: str = ""
  ) -> tuple[int, bytes]:
    """Status and body of the answer.

    Args:
      method: of the request.
      path: of the request.
      headers: of the request, its length left out.
      body: of the request.
      broken: where the connection is reset, one of ``PLACES``, or "".

    Raises:
      BrokenError: it was.
    """
    if self._streams is None:
      self._streams = await asyncio.open_connection(*self._address)
    reader, writer = self._streams
    lines = [f"{method} {path} HTTP/1.1", "Host: service", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    sent = "\r\n".join([*lines, "", ""]).encode() + body
    writer.write(sent[: len(sent) // 2] if broken == "request" else sent)
    await writer.drain()
    if broken in ("request", "wait"):
      await asyncio.sleep(0.001)  # until it is there
      self._reset()
    head = await reader.readuntil(b"\r\n\r\n")
    if broken:
      self._reset()
    length = re.search(rb"content-length: (\d+)", head, re.I)
    assert length is not None
    return int(head.split(b" ", 2)[1]), await reader.readexactly(int(length[1]))

  def _reset(self) -> None:
    """Breaks the connection so that the other side gets a reset instead of an end."""
    assert self._streams is not None
    _, writer = self._streams
    found = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    self._streams = None
    raise BrokenError

  async def close(self) -> None:
    """Ends the connection as usual."""
    if self._streams is not None:
      self._streams[1].close()
      with contextlib.suppress(OSError):
        await self._streams[1].wait_closed()


def body_of(form: str, ids: np.ndarray, x: np.ndarray) -> bytes:
  """A request for records ``[k, columns]``."""
  if form == "json":
    rows = zip(ids.tolist(), x.tolist(), strict=True)
    names = engines.NAMES
    return json.dumps(
      {"records": [{"id": id_, **dict(zip(names, row, strict=True))} for id_, row in rows]}
    ).encode()
  table = pa.table({"id": ids, **dict(zip(engines.NAMES, x.T.copy(), strict=True))})
  sink = pa.BufferOutputStream()
  with pa.ipc.new_stream(sink, table.schema) as writer:
    writer.write_table(table)
  return sink.getvalue().to_pybytes()


def told_in(form: str, body: bytes) -> tuple[np.ndarray, np.ndarray]:
  """Ids ``[k]`` and ``[k, 3]`` score, p-value and decision that an answer holds."""
  if form == "json":
    rows = json.loads(body)["records"]
    columns = [np.array([row[name] for row in rows]) for name in rows[0]]
  else:
    with pa.ipc.open_stream(body) as reader:
      columns = [column.to_numpy() for column in reader.read_all().columns]
  return columns[0], np.stack(columns[1:], axis=1).astype(np.float64)


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


async def client(
  connection: Connection, load: Load, x: np.ndarray, starts: AsyncIterator[int], tally: Tally
) -> None:
  """Asks for the records from each start on, until every one of them is told."""
  async for start in starts:
    rng = np.random.default_rng([load.seed, start])
    ids = np.arange(start, min(start + load.per_request, len(x)))
    body = body_of(load.form, ids, x[ids])
    headers = {"Content-Type": MEDIA[load.form], "Idempotency-Key": f"{load.seed}-{start}"}
    again = rng.random() < load.resets
    while True:
      broken = str(rng.choice(PLACES)) if rng.random() < load.resets else ""
      began = time.perf_counter()
      try:
        status, answer = await connection.ask("POST", "/score", headers, body, broken)
      except BrokenError:
        tally.broken[broken] += 1
        continue
      if status == 503:
        tally.busy += 1
        await asyncio.sleep(0.05)
        continue
      if status != 200:
        raise RuntimeError(f"The service answered {status}: {answer[:300]!r}")
      tally.seconds.append(time.perf_counter() - began)
      tally.take(*told_in(load.form, answer))
      if not again:
        break
      again, tally.again = False, tally.again + 1
  await connection.close()


async def ask_all(
  address: tuple[str, int], load: Load, x: np.ndarray, advance: Callable[..., Any]
) -> tuple[Tally, str]:
  """Sends records ``[n, columns]``; what came, and the measures of the service after it."""
  tally, shown = Tally(len(x)), 0

  async def starts() -> AsyncIterator[int]:
    nonlocal shown
    while places:
      yield places.pop()
      done = 100 * (total - len(places)) // total
      advance(done - shown, f"{sum(tally.broken.values()):,} broken connections")
      shown = done

  places = list(range(0, len(x), load.per_request))[::-1]
  total = len(places)
  before, cpu, began = await measures_of(address), time.process_time(), time.perf_counter()
  async with asyncio.TaskGroup() as group:
    for _ in range(load.clients):
      group.create_task(client(Connection(*address), load, x, starts(), tally))
  tally.wall_seconds = time.perf_counter() - began
  tally.cpu_seconds["clients"] = time.process_time() - cpu
  after = await measures_of(address)
  service_cpu = [float(CPU.findall(text)[0]) for text in (before, after)]
  tally.cpu_seconds["service"] = service_cpu[1] - service_cpu[0]
  return tally, after


async def measures_of(address: tuple[str, int]) -> str:
  """What the service says to Prometheus."""
  connection = Connection(*address)
  _, text = await connection.ask("GET", "/metrics", {})
  await connection.close()
  return text.decode()


def alone(folder: pathlib.Path, load: Load, x: np.ndarray) -> tuple[np.ndarray, float]:
  """Scores ``[n]`` of a Scorer in this process, request by request, and the seconds it took."""
  scorer, scores = Scorer(folder), []
  scorer(x[: load.per_request])
  began = time.perf_counter()
  for start in range(0, len(x), load.per_request):
    scores.append(scorer(x[start : start + load.per_request])["score"])
  return np.concatenate(scores), time.perf_counter() - began


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
