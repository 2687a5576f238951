"""Random divisions of records that keep together what belongs together.

A copy of a training record tells nothing of how a fresh one scores: where copies of one record lie
on both sides of a split, a threshold calibrated on one side states a false-alarm rate that does not
hold. Equal records therefore stay on one side, and so do the groups that a user names (patients,
machines, recordings).
"""

from collections.abc import Sequence
import math
from typing import Any

import numpy as np

from detector_jax import calibration

MIX = np.uint64(0x9E3779B97F4A7C15)
AUTO_FPR = 0.05
CALIBRATION_CAP = 1000
OFTEN = 10
HASHED_AT_ONCE = 2**22  # numbers


def group_rows(x: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
  """Numbers the records by what must not be divided.

  Args:
    x: ``[n, ...]`` numbers. Equal records belong together.
    groups: ``[n]`` labels; records with equal labels belong together, too. A record that stands in
      two groups joins them.

  Returns:
    int64 ``[n]`` group numbers from 0, in the order in which the groups first come. Where all
    records differ and there are no ``groups`` it is ``arange(n)``.

  Raises:
    ValueError: ``groups`` has another length than ``x``, or holds a label that is missing.
  """
  ids = _numbered(hashes(x))
  if groups is None:
    return ids
  labels = np.asarray(groups)
  if labels.shape != (len(ids),):
    raise ValueError(
      f"There are {len(ids)} records, but groups has shape {list(labels.shape)}: give each record "
      "one label."
    )
  missing = [i for i, label in enumerate(labels.tolist()) if label is None or label != label]
  if missing:
    raise ValueError(f"groups holds no label for record {missing[0]}: give each record one.")
  known: dict[Any, int] = {}
  named = np.array([known.setdefault(label, len(known)) for label in labels.tolist()])
  while True:  # equal records may join groups, whose other records may join more
    joined = _least(ids, _least(named, ids))
    if (joined == ids).all():
      return _numbered(ids)
    ids = joined


def _least(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
  """``[n]`` the least of ``values`` among the records with the same ``ids``."""
  least = np.full(ids.max() + 1, np.iinfo(np.int64).max)
  np.minimum.at(least, ids, values)
  return least[ids]


def divide(ids: np.ndarray, sizes: Sequence[int], seed: int | Sequence[int]) -> list[np.ndarray]:
  """Divides records at random into parts, group by group.

  The groups are drawn in random order. A part takes each that still fits into its size; the others
  stay for the parts after it, and the last part takes what is left. A part is smaller than asked
  for where groups are large.

  Args:
    ids: ``[n]`` group numbers, as ``group_rows`` gives them.
    sizes: of all parts but the last, in records.
    seed: of the draw.

  Returns:
    Row numbers of each part, ``len(sizes) + 1`` arrays, in the order of the draw. Where every
    record is a group of its own they are consecutive stretches of one permutation.
  """
  rows = np.argsort(ids, kind="stable")
  counts = np.bincount(ids)
  ends = np.cumsum(counts)
  left = np.random.default_rng(seed).permutation(len(counts))
  parts = []
  for size in sizes:
    taken = _fitting(counts[left], size)
    parts.append(left[taken])
    left = left[~taken]
  parts.append(left)
  if len(counts) == len(ids):
    return [rows[part] for part in parts]
  members = [[rows[ends[g] - counts[g] : ends[g]] for g in part.tolist()] for part in parts]
  return [np.concatenate([np.arange(0), *each]).astype(np.int64) for each in members]


def distinct(x: np.ndarray) -> np.ndarray:
  """Row numbers of the first of each set of equal records ``[n, ...]``, ascending.

  Raises:
    ValueError: ``x`` is a single value.
  """
  if np.ndim(x) == 0:
    raise ValueError(f"Records must be an array [n, ...], got {np.asarray(x).item()!r}.")
  _, first = np.unique(group_rows(x), return_index=True)
  return first


def folds(x: np.ndarray, number: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
  """Divides records at random into folds of about one size, for cross-validation.

  Equal records, and those of one group, are in one fold.

  Args:
    x: ``[n, ...]`` records.
    number: of the folds, >= 2; fewer where there are fewer groups.
    seed: of the draw.
    groups: ``[n]`` labels of records that must not be divided, or None.

  Returns:
    int64 ``[n]``: numbers of the folds from 0, each of which has a record, and -1 for records that
    stand there ten times as often as the median one, which are in no fold.

  Raises:
    ValueError: all records are equal, or of one group.
  """
  ids = group_rows(x, groups)
  counts = np.bincount(ids)
  free = np.flatnonzero(counts <= OFTEN * np.median(counts)) if groups is None else np.unique(ids)
  number = min(number, len(free))
  if number < 2:
    raise ValueError(
      f"{len(x)} records that are all equal, or all of one group, cannot be divided into folds."
    )
  drawn = np.random.default_rng(seed).permutation(free)
  fold_of, sizes = np.full(len(counts), -1), np.zeros(number, int)
  for group in drawn[np.argsort(-counts[drawn], kind="stable")]:
    fold_of[group] = np.argmin(sizes)
    sizes[fold_of[group]] += counts[group]
  return fold_of[ids]


def calibration_rows(
  x: np.ndarray,
  size: float,
  seed: int,
  *,
  fpr: float | None = None,
  confidence: float | None = None,
  groups: np.ndarray | None = None,
  discounted: float = 0.0,
  parts: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
  """Divides records into those that train and those that are held out, at random.

  Equal records, and those of one group, go to one side; of equal ones one is held out, and the
  others do nothing. Records that stand there ten times as often as the median one always train.
  Everything that can keep ``fpr`` from being defended is said here, before training.

  Args:
    x: ``[n, ...]`` typical records.
    size: share of the distinct records to hold out, in [0, 1); at least one record when above 0,
      at most 1,000, and more of either, up to half of them, where ``fpr`` needs more.
    seed: of the draw.
    fpr: stated false-positive rate, or None.
    confidence: see ``calibration.conformal_threshold``.
    groups: ``[n]`` labels of records that must not be divided, or None.
    discounted: share of the held-out records, in [0, 1), that is left out when the threshold is
      set; so many more are held out where ``fpr`` needs them.
    parts: of the held-out records, equally large, of which one sets the threshold; of several each
      has two records or more.

  Returns:
    Sorted training rows and sorted calibration rows.

  Raises:
    ValueError: a setting out of its range, too few records for ``fpr``, or none left to train on.
  """
  if not 0.0 <= size < 1.0:
    raise ValueError(f"calibration_size must be in [0, 1), got {size!r}.")
  calibration.check_rate(AUTO_FPR if fpr is None else fpr, confidence)
  if fpr is not None and size == 0.0:
    raise ValueError(f"fpr={fpr:g} needs held-out records: set calibration_size above 0.")
  if size == 0.0 and parts > 1:
    raise ValueError("What is joined needs held-out records: set calibration_size above 0.")
  if size == 0.0:
    return np.arange(len(x)), np.arange(0)
  ids, first = group_rows(x, groups), distinct(x)
  if groups is None:  # what stands for much of the data must not be missing from training
    copies = np.bincount(ids)
    first = first[copies[ids[first]] <= OFTEN * np.median(copies)]
  number = min(int(np.ceil(size * len(first))), CALIBRATION_CAP)
  number = number if parts == 1 else max(number, 2 * parts)
  needed = 0 if fpr is None else calibration.records_needed(fpr, confidence)
  needed = parts * int(np.ceil(needed / (1.0 - discounted)))
  if fpr is not None and needed > number:
    if needed > len(first) // 2:
      sure = "" if confidence is None else f" with {100 * confidence:.10g} % confidence"
      raise ValueError(
        f"fpr={fpr:g}{sure} needs {needed:,} held-out records, no two of them equal, and of "
        f"{len(first):,} different ones at most half are held out: give more records, or ask for a "
        f"rate of {calibration.attainable_fpr(len(first) // 2 // parts, confidence):.3g} or more."
      )
    number = needed
  numbers = np.unique(ids[first], return_inverse=True)[1]
  drawn, _ = divide(numbers, [number], seed)
  held_out = np.sort(first[drawn])
  rows = np.flatnonzero(~np.isin(ids, ids[held_out]))
  if not len(rows):
    raise ValueError(
      f"calibration_size={size} of {len(x)} rows ({len(first)} different ones) leaves none to "
      "train on."
    )
  if not len(held_out):
    raise ValueError(
      f"Every group has more than the {number} records to hold out for the threshold: give smaller "
      "groups, or raise calibration_size."
    )
  if fpr is not None:
    counted = len(held_out) // parts
    counted -= int(discounted * counted)
    calibration.check_records(counted, fpr, confidence)
  return rows, held_out


def attainable_fpr(num_rows: int, confidence: float | None = None) -> float:
  """5 %, or the smallest false-positive rate that so few calibration rows can defend."""
  return max(AUTO_FPR, calibration.attainable_fpr(num_rows, confidence))


def _fitting(counts: np.ndarray, size: int) -> np.ndarray:
  """bool, shape of ``counts``: taken one after the other wherever the sum stays within ``size``."""
  taken = np.zeros(len(counts), bool)
  if len(counts) and counts.max() == 1:
    taken[: max(size, 0)] = True
    return taken
  total = 0
  for i, count in enumerate(counts.tolist()):
    if total + count <= size:
      taken[i] = True
      total += count
  return taken


def _numbered(labels: np.ndarray) -> np.ndarray:
  """Numbers of equal labels ``[n]``, in the order in which they first come."""
  _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
  rank = np.empty(len(first), np.int64)
  rank[np.argsort(first)] = np.arange(len(first))
  return rank[inverse.reshape(-1)]


def hashes(x: Any) -> np.ndarray:
  """uint64 ``[n]``, equal for equal records; others collide with a probability of n^2 / 2^65.

  Args:
    x: ``[n, ...]`` an array, or ``batching.Selection``; some are looked at at a time.
  """
  at_once = max(1, HASHED_AT_ONCE // max(1, math.prod(x.shape[1:])))
  parts = [_hashes(np.asarray(x[i : i + at_once])) for i in range(0, len(x), at_once)]
  return np.concatenate([np.zeros(0, np.uint64), *parts])


def _hashes(x: np.ndarray) -> np.ndarray:
  flat = x.reshape(len(x), math.prod(x.shape[1:]))
  if flat.dtype.kind == "f":
    flat = flat + flat.dtype.type(0)  # -0.0 is 0.0
  if flat.dtype.itemsize not in (1, 2, 4, 8) or flat.dtype.kind not in "buif":
    flat = flat.astype(np.float64)
  bits = np.ascontiguousarray(flat).view(f"u{flat.dtype.itemsize}")
  result = np.zeros(len(bits), np.uint64)
  for column in bits.T:
    result ^= column.astype(np.uint64)
    result *= MIX
    result ^= result >> np.uint64(29)
  return result
