"""A piece of the records of an input: rows that can be scored, and what is wrong with the others.

A row that cannot be scored stays in its piece as values that are not finite, and the piece tells
what is wrong with it and where: the line of a CSV input (from 1), the row of others (from 0).
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np

from launch.data import columns
from launch.data.columns import DataError


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
  """Some rows of an input.

  Attributes:
    x: ``[n, ...]`` real numbers; not finite in a row that cannot be scored.
    start: number of the first row in the input, from 0.
    done: share of the input that is read with this piece, in [0, 1], or None where nobody knows.
    explain: what is wrong with row ``i`` of ``x``, and where: "line 3 of x.csv has 2 fields ...".
  """

  x: np.ndarray
  start: int
  done: float | None
  explain: Callable[[int], str]


def selected(
  name: object,
  names: Sequence[str],
  named: bool,
  label: str | None,
  trained: Sequence[str] | None,
) -> list[int]:
  """Numbers of the columns that a detector was trained on, in its order.

  Args:
    name: of the input, for messages.
    names: of its columns.
    named: whether these are names, and not numbers.
    label: a column to leave out, by name or number, or None.
    trained: names of the training columns, or None; see ``detector_jax.table.match``.
  """
  left_out = columns.find_column(name, names, label, "label")
  places = [i for i in range(len(names)) if i != left_out]
  if not places:
    raise DataError(f"{name} holds no columns beside the label.")
  if not named:
    return places
  return [places[i] for i in columns.matched([names[i] for i in places], trained, name)]


def problem(value: float) -> str:
  """What is wrong with a number that float32 cannot hold."""
  if np.isnan(value):
    return "NaN or nothing"
  return "infinity" if np.isinf(value) else f"{value:g}, too large a number,"


def unfit(x: Any) -> np.ndarray:
  """bool, the shape of ``x``: values that are missing, infinite, or too large for float32."""
  with np.errstate(over="ignore"):
    return np.logical_not(np.isfinite(np.asarray(x, np.float32)))
