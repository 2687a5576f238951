"""Runs that are asked to stop: SIGTERM and Ctrl-C are heard where nothing is lost by it."""

from collections.abc import Callable, Iterator
import contextlib
import itertools
import signal
import threading

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
  """A run has stopped because it was asked to, and the same command goes on.

  Not an Exception, so that nothing which recovers from errors goes on in its place.

  Args:
    message: one sentence.
    number: of the signal.
  """

  def __init__(self, message: str, number: int):
    super().__init__(message)
    self.code = 128 + number


_LOOKS = itertools.count(1)  # the processes of a job look equally often


def _heard_by_all() -> int | None:
  from jax.experimental import multihost_utils

  stop = multihost_utils.reached_preemption_sync_point(next(_LOOKS))
  return signal.SIGTERM if stop else None


@contextlib.contextmanager
def deferred_signals() -> Iterator[Callable[[], int | None]]:
  """Within it, the first SIGTERM or Ctrl-C is noted and no more; a second one acts at once.

  Yields a function that gives the number of the signal, or None. Handlers are put back at the end.
  Outside the main thread no signal can be heard. Of several processes each would stop at another
  place; there JAX hears SIGTERM, and the function gives it in all of them at the same call, the
  first or second after one of them got it.
  """
  import jax  # launch.flags does without

  noted: list[int] = []
  if jax.process_count() > 1:
    yield _heard_by_all
    return
  if threading.current_thread() is not threading.main_thread():
    yield lambda: None
    return
  before = {number: signal.getsignal(number) for number in SIGNALS}

  def put_back() -> None:
    for number, handler in before.items():
      signal.signal(number, signal.SIG_DFL if handler is None else handler)

  def note(number: int, frame: object) -> None:
    del frame
    noted.append(number)
    put_back()

  try:
    for number in SIGNALS:
      if before[number] is not signal.SIG_IGN:
        signal.signal(number, note)
    yield lambda: noted[0] if noted else None
  finally:
    put_back()
