"""A guard against a silent hang: JAX in a process that was forked from one that used it."""

import os
from typing import Any

import jax

_owner: int | None = None


def claim() -> None:
  """Notes that this process uses JAX; called before anything of ours does.

  Raises:
    RuntimeError: it was forked from a process that had used JAX already. JAX's threads do not
      survive a fork, and the first computation would wait for them forever.
  """
  global _owner
  process = os.getpid()
  if _owner is None:
    _owner = process
  elif _owner != process:
    raise RuntimeError(
      "This process was forked from one that had used JAX, where a detector would wait forever: "
      "start workers with multiprocessing.get_context('spawn') or 'forkserver', and load the "
      "detector there."
    )


def note() -> None:
  """As ``claim``, and raises nothing: what is computed later will."""
  global _owner
  if _owner is None:
    _owner = os.getpid()


def _listen(event: str, *_: Any, **__: Any) -> None:
  """Notes what compiles in this process, whether or not it is ours."""
  if event.startswith("/jax/core/compile"):
    note()


jax.monitoring.register_event_duration_secs_listener(_listen)
