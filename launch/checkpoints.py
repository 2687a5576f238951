"""Checkpoints: the only file that knows Orbax."""

from collections.abc import Iterator
import contextlib
import logging
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
  """The checkpoints of one stage of a run, by epoch; the newest two are kept.

  A checkpoint becomes visible when it is whole, so a run killed while it writes one resumes from
  the one before.

  Args:
    folder: where they live.
  """

  def __init__(self, folder: pathlib.Path):
    logging.getLogger("absl").setLevel(logging.ERROR)
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=True)
    self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

  def latest(self) -> int | None:
    """Epoch of the newest whole checkpoint, or None."""
    return self._manager.latest_step()

  def save(self, epoch: int, state: Any, facts: dict[str, Any]) -> None:
    """Saves the training state and JSON facts after ``epoch`` epochs; returns before it is done."""
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(facts))
    self._manager.save(epoch, args=items)

  def restore(self, epoch: int, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads state and facts of ``epoch``.

    Args:
      epoch: one that was saved.
      like: a state of the same structure, shapes and types.

    Raises:
      ValueError: the checkpoint does not fit ``like`` or cannot be read.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    items = ocp.args.Composite(
      state=ocp.args.StandardRestore(abstract), facts=ocp.args.JsonRestore()
    )
    try:
      restored = self._manager.restore(epoch, args=items)
    except Exception as error:
      raise ValueError(
        f"The checkpoint of epoch {epoch} cannot be read ({type(error).__name__}); move its folder "
        "away to resume from the one before."
      ) from error
    return restored["state"], restored["facts"]

  def close(self) -> None:
    """Waits for what is being written."""
    self._manager.wait_until_finished()
    self._manager.close()


@contextlib.contextmanager
def open_checkpoints(folder: pathlib.Path) -> Iterator[Checkpoints]:
  """Opens the checkpoints of a stage, and waits for the last one on the way out."""
  checkpoints = Checkpoints(folder)
  try:
    yield checkpoints
  finally:
    checkpoints.close()
