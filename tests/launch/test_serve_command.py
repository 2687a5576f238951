"""The command: what came before SIGTERM is answered, and addresses that cannot be had."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys

import pytest

from launch import serve as command
from tests.helpers import ROOT
from tests.launch.served import made

REASON = "the extra serve is not installed"
server = pytest.importorskip("launch.serving.server", reason=REASON)


@pytest.mark.slow
def test_what_came_before_sigterm_is_answered_and_the_exit_code_is_0(tmp_path):
  made().save(tmp_path / "detector")
  state = tmp_path / "state.json"
  process = subprocess.Popen(
    [
      *(sys.executable, "-m", "launch.serve", f"--detector={tmp_path / 'detector'}", "--port=0"),
      *("--max_wait_ms=60000", f"--state={state}"),
    ],
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )
  address = re.fullmatch(r"Serving on http://(.*):(\d+)\n", process.stdout.readline())
  body = b'{"records": [[0, 0], [9, 9]]}'
  head = "POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
  head += f"Content-Length: {len(body)}\r\n\r\n"

  async def ask():
    reader, writer = await asyncio.open_connection(address[1], int(address[2]))
    late, half = await asyncio.open_connection(address[1], int(address[2]))
    writer.write(head.encode() + body)
    half.write(head.encode() + body[:9])  # of a request that has begun to come
    while b'"waiting":2' not in await health():
      await asyncio.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    first = await reader.read()
    await asyncio.sleep(0.5)  # a server that does not wait for it has ended by now
    half.write(body[9:])
    second = await late.read()
    for each in (writer, half):
      each.close()
      await each.wait_closed()
    return first, second

  async def health():
    reader, writer = await asyncio.open_connection(address[1], int(address[2]))
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    said = await reader.read()
    writer.close()
    await writer.wait_closed()
    return said

  answers = asyncio.run(asyncio.wait_for(ask(), 60))
  _, errors = process.communicate(timeout=60)
  for answer in answers:
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["records"][1]["decision"] == 1
  assert (process.returncode, errors) == (0, "4 records, 2 anomalous, 0 bad; no alarm.\n")
  assert json.loads(state.read_text())["monitor"]["state"]["seen"] == 4


def test_an_address_that_cannot_be_had_is_told_before_anything_is_loaded():
  with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(OSError, match=f"^127.0.0.1:{port} cannot be listened on: Address already"):
      server.serve(lambda: pytest.fail("it was loaded"), "127.0.0.1", port, print)
  with pytest.raises(OSError, match=r"cannot be listened on: .*; give --host and --port another"):
    server.listening("no.such.host.invalid", 0)


def test_a_connection_sends_what_it_has_at_once():
  async def delays():
    done = asyncio.get_running_loop().create_future()

    def connected(_, writer):
      found = writer.get_extra_info("socket")
      done.set_result(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
      writer.close()

    with server.listening("127.0.0.1", 0) as found:
      async with await asyncio.start_server(connected, sock=found):
        _, writer = await asyncio.open_connection(*found.getsockname())
        nodelay = await done
        writer.close()
        await writer.wait_closed()
    return nodelay

  assert asyncio.run(asyncio.wait_for(delays(), 10)) != 0


def test_the_container_and_the_page_name_flags_that_there_are():
  source = (ROOT / "launch" / "serve.py").read_text()
  there = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
  assert command.__doc__
  container = (ROOT / "Dockerfile").read_text().partition("ENTRYPOINT")[2]
  page = (ROOT / "docs" / "serve.md").read_text()
  named = set(re.findall(r"--(\w+)", container)) | set(re.findall(r"`--(\w+)", page))
  assert {"detector", "host", "port", "max_wait_ms", "state"} <= named
  assert named <= there
