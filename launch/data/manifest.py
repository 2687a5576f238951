"""What records a run was given: counts and checksums, to tell whether they are still the same."""

import hashlib
from typing import Any

import numpy as np

from launch.data.splits import Splits


def from_splits(splits: Splits) -> dict[str, Any]:
  """The manifest of an experiment's records, as JSON has it.

  Returns:
    ``description``, and for each part there is ("train", "negatives", "validation", "test",
    "groups") its
    ``records``, the ``shape`` of one, and ``sha256`` of the bytes of records and labels (little-
    endian, in their order); ``anomalous`` too where the part is labelled.
  """
  validation = splits.validation
  parts = {
    "train": (splits.x_train, splits.y_train),
    "negatives": (splits.negatives, None),
    "validation": (None, None) if validation is None else (validation.x, validation.y),
    "test": (splits.x_test, splits.y_test),
    "groups": (None if splits.groups is None else np.array(splits.groups, str), None),
  }
  found = {
    name: _part(x, y, labelled=name in ("validation", "test"))
    for name, (x, y) in parts.items()
    if x is not None
  }
  return {"description": splits.description, **found}


def _part(x: np.ndarray, y: np.ndarray | None, labelled: bool) -> dict[str, Any]:
  digest = hashlib.sha256()
  for values in (x, y):
    if values is not None:
      kind = values.dtype.newbyteorder("<")
      digest.update(np.ascontiguousarray(values, kind).data)
  part = {"records": len(x), "shape": list(x.shape[1:]), "sha256": digest.hexdigest()}
  if labelled and y is not None:
    part["anomalous"] = int(np.sum(y == 1))
  return part


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
  """The first part of two manifests that differs, in words; empty where none does."""
  for name in ("train", "negatives", "validation", "test", "groups"):
    then, here = before.get(name, {}), now.get(name, {})
    if then.get("sha256") != here.get("sha256"):
      count, other = then.get("records", 0), here.get("records", 0)
      how = f"{count:,} then, {other:,} now" if count != other else "as many, with other values"
      return f"its {name} records ({how})"
  return ""
