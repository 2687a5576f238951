"""A service on a socket, until it is asked to stop."""

import asyncio
from collections.abc import Callable, Iterator
import contextlib
import socket

import uvicorn

from launch import stopping
from launch.serving.app import app_of
from launch.serving.service import Service

DRAIN_SECONDS, LOOK_SECONDS = 60, 0.05


class _Server(uvicorn.Server):
  """A server that leaves signals alone."""

  @contextlib.contextmanager
  def capture_signals(self) -> Iterator[None]:
    """Nothing is captured: ``stopping`` hears what there is."""
    yield


def listening(host: str, port: int) -> socket.socket:
  """A socket at an address; port 0 takes one that is free.

  Raises:
    OSError: the address cannot be had.
  """
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  # asyncio sends at once (TCP_NODELAY) where a socket says that it is TCP; else the second half of
  # an answer waits 40 ms for the client's delayed acknowledgement of the first.
  found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
  found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    found.bind((host, port))
  except (OSError, OverflowError) as error:
    found.close()
    reason = getattr(error, "strerror", None) or error
    raise OSError(
      f"{host}:{port} cannot be listened on: {reason}; give --host and --port another address."
    ) from error
  return found


def serve(make: Callable[[], Service], host: str, port: int, say: Callable[[str], None]) -> Service:
  """Answers requests until SIGTERM or Ctrl-C; then those that came are answered, and no others.

  Args:
    make: the service; requests are refused until it is made.
    host: name or number of the interface.
    port: see ``listening``.
    say: is given the address once requests are answered.

  Returns:
    The service, at rest.

  Raises:
    OSError: the address cannot be had, or the state of the monitor cannot be written.
    ValueError: as ``make``.
  """
  with listening(host, port) as found, stopping.deferred_signals() as stopped:
    service = make()
    asyncio.run(_serve(service, found, stopped, say))
  return service


async def _serve(
  service: Service,
  found: socket.socket,
  stopped: Callable[[], int | None],
  say: Callable[[str], None],
) -> None:
  config = uvicorn.Config(
    app_of(service),
    access_log=False,
    lifespan="off",
    log_config=None,
    server_header=False,
    timeout_graceful_shutdown=DRAIN_SECONDS,
  )
  server = _Server(config)
  host, port = found.getsockname()[:2]
  async with service.running():
    serving = asyncio.ensure_future(server.serve([found]))
    while not server.started and not serving.done():
      await asyncio.sleep(0.001)
    say(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    while stopped() is None and not serving.done():
      await asyncio.sleep(LOOK_SECONDS)
    service.stop()
    server.should_exit = True
    await serving
