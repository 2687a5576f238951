"""The processes of one job: they begin together, end together and fail together."""

import atexit
from collections.abc import Iterator
import contextlib
import json
import os
import sys
import threading
import time
from typing import Any

import jax

# The one private module of JAX here, for there is no public way to its coordination service (0.10).
# ``jax.distributed`` has initialize, is_initialized and shutdown. What ``multihost_utils`` has, and
# Orbax on top of it, are operations that every process must call alike (``live_devices`` too), and
# the one that has failed cannot know which of them the others wait in. Files would need a folder
# that all hosts see, and sockets of our own a second open port, at an address of process 0 that
# JAX alone has found out where the cluster tells it.
from jax._src import distributed

from detector_jax.table import reason_of
from launch import stopping

FAILED = "launch/failed"
LEFT = "launch/left"
POLL = 0.5  # seconds between two looks at whether another process has failed
MEETING = 300.0  # seconds for the processes to find each other
GRACE = 10.0  # seconds for a process to end by itself after another one has failed
A_WEEK = 7 * 24 * 3600 * 1000  # milliseconds


@contextlib.contextmanager
def joined(address: str | None, count: int | None, number: int | None) -> Iterator[None]:
  """Starts ``jax.distributed``; within it this process is one of several.

  At the end it waits for the others. Where one process fails, every other one ends with the same
  exit code and an error that names it: one that waits for the failed one in a collective operation
  could not know otherwise. A process that is killed is missed by JAX itself, which ends the others.

  Args:
    address: HOST:PORT of process 0; None asks the cluster, for the other arguments too.
    count: number of processes.
    number: of this process.

  Raises:
    RuntimeError: the processes do not find each other.
  """
  _initialize(address, count, number)
  if jax.process_count() == 1:
    yield
    return
  watch = _Watch(distributed.global_state.client)
  try:
    yield
    watch.meet()
  except stopping.Stopped:
    watch.meet()
    raise
  except BaseException as error:
    watch.fail(error)
    raise
  finally:
    watch.close()
  jax.distributed.shutdown()


def _initialize(address: str | None, count: int | None, number: int | None) -> None:
  """``jax.distributed.initialize``, whose own timeout would abort the process."""
  where = "in the environment" if address is None else f"at {address}"
  failed = f"The processes of the job have not found each other {where}"

  def give_up() -> None:
    print(
      f"error: {failed} within {MEETING:g} seconds: start all of them with the same "
      "--coordinator_address and --num_processes, and see that process 0 can be reached there.",
      file=sys.stderr,
      flush=True,
    )
    os._exit(1)

  timer = threading.Timer(MEETING, give_up)
  timer.daemon = True
  timer.start()
  try:
    jax.distributed.initialize(
      address, count, number, initialization_timeout=int(MEETING + 2 * GRACE)
    )
  except (RuntimeError, ValueError) as error:
    reason = reason_of(error)
    raise RuntimeError(f"{failed}: {reason}.") from error
  finally:
    timer.cancel()


class _Watch:
  """Tells the other processes that this one has failed, and ends this one when another has.

  Args:
    client: of the coordination service, which has keys and values that all processes see.
  """

  def __init__(self, client: Any):
    self._client = client
    self._done = threading.Event()
    self._code = 0
    self._thread = threading.Thread(target=self._look, daemon=True)
    self._thread.start()
    atexit.register(self._leave)

  def meet(self) -> None:
    """Waits until every process is here."""
    self._client.wait_at_barrier("launch/end", A_WEEK)

  def close(self) -> None:
    """Ends the watch."""
    self._done.set()
    self._thread.join()

  def fail(self, error: BaseException) -> None:
    """Tells the others, or, where another one failed first, raises its error instead.

    Raises:
      RuntimeError: of the process that failed first.
    """
    told = self._told()
    if told is None and isinstance(error, jax.errors.JaxRuntimeError):
      # Perhaps the connection to a process that failed was cut, and its word comes later.
      time.sleep(2 * POLL)
      told = self._told()
    if told is None:
      self._code = _code_of(error)
      lost = isinstance(error, jax.errors.JaxRuntimeError) and "Connection" in str(error)
      message = " ".join(str(error).split()) or type(error).__name__
      values = {"process": jax.process_index(), "message": message, "code": self._code}
      with contextlib.suppress(RuntimeError):  # another one was quicker
        self._client.key_value_set(FAILED, json.dumps(values))
      if lost:
        raise RuntimeError(
          "The connection to another process of the job was lost; it may have been killed "
          f"({message}). Give all processes the same command again to go on from the last "
          "checkpoint."
        ) from error
      return
    self._code = told["code"]
    raise RuntimeError(f"process {told['process']}: {told['message']}") from error

  def _told(self) -> dict[str, Any] | None:
    """What the process that failed first had to say, or None."""
    try:
      return json.loads(self._client.key_value_try_get(FAILED))
    except RuntimeError:  # no such key, or nobody to ask
      return None

  def _look(self) -> None:
    """Ends this process when another one has failed and this one waits for it."""
    while not self._done.wait(POLL):
      told = self._told()
      if told is None:
        continue
      if not self._done.wait(GRACE):
        print(f"error: process {told['process']}: {told['message']}", file=sys.stderr)
        self._code = told["code"]
        self._leave()
      return

  def _leave(self) -> None:
    """Ends a failed process at once: JAX would wait for the others to end well."""
    if not self._code:
      return
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(RuntimeError):
      self._client.key_value_set(f"{LEFT}/{jax.process_index()}", "")
      # Process 0 is where the others hear of it.
      deadline = time.monotonic() + GRACE + 2 * POLL
      while jax.process_index() == 0 and time.monotonic() < deadline:
        if len(self._client.key_value_dir_get(LEFT)) == jax.process_count():
          break
        time.sleep(POLL / 5)
    os._exit(self._code)


def _code_of(error: BaseException) -> int:
  """Exit code that an error ends a command with, see ``launch.flags``."""
  if isinstance(error, KeyboardInterrupt):
    return 130
  if isinstance(error, SystemExit):
    return error.code if isinstance(error.code, int) and error.code else 1
  return 1
