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


def in_batches(function: Function, records: Any, shapes: Shapes, batch_size: int) -> np.ndarray:
  """``joined`` of a function's activations of ``records``, ``batch_size`` at a time.

  Raises:
    ValueError: as ``joined``, or the activations are not those of each record.
  """
  rows = []
  for start in range(0, len(records), batch_size):
    batch = records[start : start + batch_size]
    found = joined(function(batch), shapes)
    if len(found) != len(batch):
      raise ValueError(
        f"activations gives {len(found)} rows for {len(batch)} records; it must give one for each, "
        "in their order."
      )
    rows.append(found)
  return np.concatenate(rows)
