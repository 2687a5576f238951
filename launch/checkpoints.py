"""Checkpoints: the only file that knows Orbax; its v1 API, which 0.12 keeps under experimental."""

from collections.abc import Callable, Iterator
import contextlib
import errno
import gc
import hashlib
import logging
import os
import pathlib
import shutil
import sys
from typing import Any
import warnings

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp

logger = logging.getLogger(__name__)

SHA256 = "sha256"
NEVER = 10**9


class Checkpoints:
  """The checkpoints of one stage of a run, by epoch; the newest two are kept.

  A checkpoint becomes visible when it is whole, so a run killed while it writes one resumes from
  the one before. Its facts hold a checksum of its arrays, since Orbax gives back some flipped bits
  without a word; checkpoints of earlier releases have none and are read without that check.

  Args:
    folder: where they live.
  """

  def __init__(self, folder: pathlib.Path):
    _Hook.install()
    for name in ("absl", "asyncio"):  # what fails is raised too
      logging.getLogger(name).setLevel(logging.CRITICAL)
    self._folder = folder.absolute()
    self._folder.mkdir(parents=True, exist_ok=True)
    self._context = _context()
    self._writing: ocp.AsyncResponse[None] | None = None

  def _epochs(self) -> list[int]:
    names = (path.name for path in self._folder.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))

  def latest(self) -> int | None:
    """Epoch of the newest whole checkpoint, or None."""
    return max(self._epochs(), default=None)

  def save(self, epoch: int, state: Any, facts: dict[str, Any]) -> None:
    """Saves the training state and JSON facts after ``epoch`` epochs; returns before it is done.

    Raises:
      OSError: it, or the one before, cannot be written; what was saved earlier is as it was.
    """
    self.close()
    state = _on_host_of_several(state)
    items = {"state": state, "facts": {**facts, SHA256: checksum(state, facts)}}
    with self._failure_named(), self._context:
      self._writing = ocp.save_checkpointables_async(self._folder / str(epoch), items)
    self._writing.on_complete(self._tidy)

  def _tidy(self, _: None) -> None:
    """Keeps the newest two, and nothing that a killed process left unfinished."""
    paths = (self._folder / str(epoch) for epoch in self._epochs())
    whole = [path for path in paths if any(path.iterdir())]
    for path in [*whole[:-2], *self._folder.glob("*.orbax-checkpoint-tmp*")]:
      shutil.rmtree(path, ignore_errors=True)

  def restore(self, epoch: int, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads state and facts of ``epoch``.

    Args:
      epoch: one that was saved.
      like: a state of the same structure, shapes and types.

    Raises:
      ValueError: the checkpoint does not fit ``like``, cannot be read, or is not what was saved.
    """
    with _quiet():
      try:
        return self._read(epoch, like)
      except Exception as error:  # a damaged file makes Orbax raise anything
        reason = str(error) if len(str(error)) < 80 else type(error).__name__
      gc.collect()
    raise ValueError(
      f"The checkpoint {self._folder / str(epoch)} is damaged or of another training ({reason})."
    )

  def _read(self, epoch: int, like: Any) -> tuple[Any, dict[str, Any]]:
    items = {"state": _on_host_of_several(like), "facts": None}
    with self._context:
      loaded = ocp.load_checkpointables(self._folder / str(epoch), items)
    state, facts = loaded["state"], dict(loaded["facts"])
    saved = facts.pop(SHA256, None)
    if (saved is not None or set(facts) != {"epoch"}) and saved != checksum(state, facts):
      raise ValueError("its checksum is not the one that was saved")
    return state, facts

  def newest(self, like: Any) -> tuple[int, Any] | None:
    """Epoch and state of the newest checkpoint that can be read, None where there is none at all.

    Newer ones that are damaged are named in a warning and put aside, into ``NAME.damaged`` beside
    the folder.

    Args:
      like: as ``restore``.

    Raises:
      ValueError: there are checkpoints, and none can be read.
    """
    damaged: dict[int, str] = {}
    for epoch in reversed(self._epochs()):
      try:
        state, _ = self.restore(epoch, like)
      except ValueError as error:
        damaged[epoch] = str(error)
        continue
      for other, message in damaged.items():
        logger.warning("%s The run goes on from the one before, of epoch %d.", message, epoch)
        self._put_aside(other)
      return epoch, state
    if damaged:
      raise ValueError(
        f"{damaged[max(damaged)].rstrip('.')}, and no checkpoint before it can be read: move "
        f"{self._folder} away to train this stage anew."
      )
    return None

  def _put_aside(self, epoch: int) -> None:
    place = self._folder.with_name(self._folder.name + ".damaged") / str(epoch)
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    os.replace(self._folder / str(epoch), place)

  @contextlib.contextmanager
  def _failure_named(self) -> Iterator[None]:
    """Makes whatever Orbax raises when it cannot write an OSError of one sentence."""
    try:
      yield
    except Exception as error:
      kept = self.latest()
      left = "no earlier one is there" if kept is None else f"the one of epoch {kept} is kept"
      raise OSError(
        f"A checkpoint cannot be written to {self._folder}: {reason_of(error)}; {left}. Rerun the "
        "same command when it can."
      ) from error

  def close(self) -> None:
    """Waits for what is being written.

    Raises:
      OSError: as ``save``.
    """
    writing, self._writing = self._writing, None
    if writing is not None:
      with self._failure_named():
        writing.result()


def _context() -> ocp.Context:
  """How Orbax saves and loads."""
  context = ocp.Context()
  # Orbax measures timeouts by the wall clock, which may jump: 20 minutes for a checkpoint, 5 for
  # its folder where another thread makes that.
  context.asynchronous.timeout_secs = NEVER
  context.asynchronous.create_directories_asynchronously = False
  context.checkpointables.registry = ocp.handlers.local_registry().add(
    ocp.handlers.JsonHandler, checkpointable_name="facts"
  )
  if jax.process_count() > 1:  # process 0 alone opens any
    from orbax.checkpoint.experimental.v1._src.saving import execution

    context.multiprocessing.active_processes = {0}
    # Even so 0.12.8 compares the folders of all processes, and there is no public way round that.
    assert execution._check_directory_consistency
    execution._check_directory_consistency = lambda directory: None
  return context


def _on_host_of_several(state: Any) -> Any:
  """NumPy arrays where there are several processes: Orbax takes no array of one process there."""
  return state if jax.process_count() == 1 else jax.device_get(state)


class _Hook:
  """Keeps from standard error what threads under Orbax say once a write has failed.

  Orbax then closes its event loop, and TensorStore's threads cannot tell it of what they end
  later. The failure itself is raised where it is waited for.

  Args:
    before: ``sys.excepthook`` or ``sys.unraisablehook``, which has all other errors.
  """

  def __init__(self, before: Callable[..., Any]):
    self._before = before

  def __call__(self, *args: Any) -> None:
    error = args[0].exc_value if len(args) == 1 else args[1]
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
      self._before(*args)

  @classmethod
  def install(cls) -> None:
    """Puts itself before both hooks of the process, once."""
    for name in ("excepthook", "unraisablehook"):
      if not isinstance(getattr(sys, name), cls):
        setattr(sys, name, cls(getattr(sys, name)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Within it, the coroutines that Orbax drops when it fails say nothing on standard error."""
  before = sys.unraisablehook
  sys.unraisablehook = lambda _: None
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", RuntimeWarning)
      yield
  finally:
    sys.unraisablehook = before


def checksum(state: Any, facts: dict[str, Any]) -> str:
  """SHA-256 of the types, shapes and bytes of a state's leaves, and of facts."""
  digest = hashlib.sha256(repr(sorted(facts.items())).encode())
  for leaf in jax.tree.leaves(state):
    typed = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    array = np.asarray(jax.random.key_data(leaf) if typed else leaf)
    digest.update(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def reason_of(error: BaseException) -> str:
  """Why something could not be written: the system's word where it can be found, e.g. in C++."""
  link: BaseException | None = error
  while link is not None:
    if isinstance(link, OSError) and link.errno is not None:
      return os.strerror(link.errno)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO):
      if os.strerror(number) in str(link):
        return os.strerror(number)
    link = link.__cause__ or link.__context__
  return (str(error).splitlines() or [""])[0][:200].rstrip(".") or type(error).__name__


def open_checkpoints(folder: pathlib.Path) -> contextlib.closing[Checkpoints]:
  """Opens the checkpoints of a stage, and waits for the last one on the way out."""
  return contextlib.closing(Checkpoints(folder))
