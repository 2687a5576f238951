"""Activations that another framework computed, as records: one row of all layers' numbers."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Function = Callable[[Any], Mapping[str, Any]]
Shapes = dict[str, tuple[int, ...]]


def joined(activations: Mapping[str, Any], shapes: Shapes) -> np.ndarray:
  """Activations ``{layer: [n, ...]}`` as one row a record, float32 ``[n, all their numbers]``.

  Args:
    activations: of the layers of ``shapes`` at least.
    shapes: of one record's activation by layer, in the order in which they are joined.

  Raises:
    ValueError: a layer that is missing, or of another shape.
  """
  rows = []
  for name, shape in shapes.items():
    if name not in activations:
      raise ValueError(
        f"There are no activations of layer {name!r}, only: {', '.join(activations)}."
      )
    value = np.asarray(activations[name], np.float32)
    if tuple(value.shape[1:]) != tuple(shape) and (value.ndim, *shape) != (1, 1):
      raise ValueError(
        f"The activations of layer {name!r} have shape {list(value.shape)}, not {['n', *shape]}."
      )
    rows.append(value.reshape(len(value), -1))
  if len({len(each) for each in rows}) > 1:
    raise ValueError(f"Layers have activations of {sorted({len(r) for r in rows})} records.")
  return np.concatenate(rows, axis=1)


@dataclasses.dataclass(frozen=True)
class Joined:
  """A "network" that takes what ``joined`` made apart again: ``x [n, all] -> {layer: [n, ...]}``.

  Attributes:
    layers: names.
    shapes: of one record's activation, by layer.
  """

  layers: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]

  def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
    """Activations of rows."""
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in self.shapes])
    parts = jnp.split(x, ends[:-1], axis=1)
    return {
      name: part.reshape(-1, *shape)
      for name, shape, part in zip(self.layers, self.shapes, parts, strict=True)
    }


def shapes_of(activations: Mapping[str, Any], layers: Sequence[str] | None = None) -> Shapes:
  """Shape of one record's activation by layer, of those named, or of all.

  Raises:
    ValueError: none, or a layer that there is not, or no mapping.
  """
  if not isinstance(activations, Mapping):
    raise ValueError(f"activations must return {{layer: array}}, got {type(activations).__name__}.")
  names = tuple(activations) if layers is None else tuple(layers)
  missing = [name for name in names if name not in activations]
  if missing or not names:
    raise ValueError(
      f"activations gives no layer{f' {missing[0]!r}' if missing else ''}; it gives: "
      f"{', '.join(activations) or 'nothing'}."
    )
  return {name: tuple(np.shape(activations[name])[1:]) or (1,) for name in names}


@dataclasses.dataclass(frozen=True, eq=False)
class Computed:
  """``joined`` of a function's activations of records, computed whenever they are asked for.

  Attributes:
    function: see ``NeuralFP.activations``.
    records: what it takes, with a shape; row numbers and slices choose among them.
    shapes: of one record's activation, by layer.
    batch_size: records a call.
  """

  function: Function
  records: Any
  shapes: Shapes
  batch_size: int

  @property
  def shape(self) -> tuple[int, int]:
    """``(records, all their numbers)``."""
    return len(self.records), int(sum(np.prod(shape, dtype=int) for shape in self.shapes.values()))

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
    """Of the records ``key``, float32 ``[k, all their numbers]``.

    Raises:
      ValueError: as ``joined``; or the activations are not those of each record, or not finite.
    """
    numbers, rows = np.arange(len(self))[key], getattr(self.records, "iloc", self.records)
    parts = [np.zeros((0, self.shape[1]), np.float32)]
    for start in range(0, len(numbers), self.batch_size):
      chosen = numbers[start : start + self.batch_size]
      whole = chosen[-1] - chosen[0] == len(chosen) - 1 and (np.diff(chosen) == 1).all()
      batch = rows[chosen[0] : chosen[-1] + 1] if whole else rows[chosen]
      found = joined(self.function(batch), self.shapes)
      if len(found) != len(chosen):
        raise ValueError(
          f"activations gives {len(found)} rows for {len(chosen)} records; it must give one for "
          "each, in their order."
        )
      wrong = ~np.isfinite(found).all(axis=1)
      if wrong.any():
        raise ValueError(
          f"The activations of record {chosen[wrong.argmax()]} hold NaN or infinity; look at the "
          "network and at the record."
        )
      parts.append(found)
    return np.concatenate(parts)
