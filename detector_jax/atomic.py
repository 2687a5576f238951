"""Writes beside the place and moves there: a reader sees the old thing or the new one, whole."""

from collections.abc import Iterator
import contextlib
import ctypes
import errno
import os
import pathlib
import secrets
import shutil
import socket

_AT_FDCWD, _EXCHANGE = -100, 2


def beside(place: pathlib.Path) -> pathlib.Path:
  """A free name next to ``place`` that says which process writes there."""
  return place.with_name(f".{place.name}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}")


@contextlib.contextmanager
def written_beside(place: pathlib.Path, *, folder: bool = False) -> Iterator[pathlib.Path]:
  """Gives a path next to ``place`` to write to, and moves it there where the ``with`` ends well.

  What dead processes left beside ``place`` is removed first, and what was written is removed where
  the ``with`` ends with an exception.

  Args:
    place: what is written or replaced; missing folders above it are made.
    folder: whether it is a folder, which is made.

  Raises:
    OSError: it cannot be written; what was there is as it was.
  """
  place.parent.mkdir(parents=True, exist_ok=True)
  remove_leftovers(place)
  temporary = beside(place)
  try:
    if folder:
      temporary.mkdir(mode=0o755)
    yield temporary
    replace(temporary, place)
  finally:
    _remove(temporary)


def write_text(place: pathlib.Path, text: str) -> None:
  """Writes a text in UTF-8, whole or not at all; see ``written_beside``."""
  with written_beside(place) as temporary:
    temporary.write_text(text, encoding="utf-8")


def replace(source: pathlib.Path, place: pathlib.Path) -> None:
  """Moves ``source`` to ``place``; at every moment the old or the new thing is there.

  A folder that holds something is exchanged with the new one in one call of the system. Where the
  system or the file system has no such call, two renames do it, between which the old folder lies
  beside its place.

  Raises:
    OSError: it cannot be moved; what was there is as it was.
  """
  if not (place.is_dir() and source.is_dir()):
    os.replace(source, place)
    return
  if not _exchanged(source, place):
    old = beside(place)
    os.replace(place, old)
    try:
      os.replace(source, place)
    except OSError:
      os.replace(old, place)
      raise
    source = old
  _remove(source)


def remove_leftovers(place: pathlib.Path) -> None:
  """Removes what processes of this machine that have died left beside ``place``."""
  prefix = f".{place.name}-{_host()}-"
  with contextlib.suppress(OSError):
    for path in place.parent.iterdir():
      owner, dash, rest = path.name.removeprefix(prefix).partition("-")
      ours = path.name.startswith(prefix) and dash and len(rest) == 8 and owner.isdecimal()
      if ours and not _lives(int(owner)):
        _remove(path)


def _exchanged(one: pathlib.Path, other: pathlib.Path) -> bool:
  """Exchanges two names in one call; False where there is no such call."""
  try:
    rename = ctypes.CDLL(None, use_errno=True).renameat2
  except (OSError, AttributeError):
    return False
  if not rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE):
    return True
  number = ctypes.get_errno()
  if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
    return False
  raise OSError(number, os.strerror(number), str(other))


def _remove(path: pathlib.Path) -> None:
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    with contextlib.suppress(OSError):
      path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except OSError:
    return True
  return True


def _host() -> str:
  """The machine's name, so that a folder that several share keeps what others are writing."""
  return "".join(letter if letter.isalnum() else "_" for letter in socket.gethostname())[:32]
