"""Locks of the system on open files: however a process ends, what it held is free."""

import contextlib
import errno
import fcntl
import logging
import os
import pathlib

logger = logging.getLogger(__name__)

UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class HeldError(ValueError):
  """Another process holds the lock; ``holder`` is its number as text, or "unknown"."""

  def __init__(self, holder: str):
    super().__init__(f"held by process {holder}")
    self.holder = holder


def take(path: pathlib.Path, guarded: pathlib.Path) -> int | None:
  """Locks ``path``, which is made where it is missing, and writes this process's number there.

  Args:
    path: the lock file.
    guarded: what it keeps others from, for messages.

  Returns:
    The open file, to be closed where the lock is let go; None, with a warning, where the file
    system has no locks.

  Raises:
    HeldError: another process, or another open file of this one, has it.
    OSError: it cannot be opened or locked.
  """
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    holder = os.read(descriptor, 20).decode(errors="replace").strip()
    os.close(descriptor)
    raise HeldError(holder or "unknown") from None
  except OSError as error:
    os.close(descriptor)
    if error.errno not in UNSUPPORTED:
      raise
    logger.warning(
      "%s cannot be locked (%s): see to it that no other process uses it.", guarded, error.strerror
    )
    return None
  with contextlib.suppress(OSError):  # a full disk; the lock holds without its name
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
  return descriptor
