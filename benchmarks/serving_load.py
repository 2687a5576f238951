"""Clients of a service: what they ask, connections that break on purpose, and what came back."""

import asyncio
from collections.abc import AsyncIterator, Callable
import contextlib
import dataclasses
import json
import re
import socket
import struct
import time
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import engines

MEDIA = {"json": "application/json", "arrow": "application/vnd.apache.arrow.stream"}
PLACES = ("request", "wait", "answer")
CPU = re.compile(r"^process_cpu_seconds_total (.*)$", re.M)


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
