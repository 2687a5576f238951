"""Which records of a fit do what."""

import dataclasses

import numpy as np

from detector_jax import calibration, splits
from detector_jax.batching import Records
from fingerprint_jax import one_out

HELD_OUT_CAP = 6000


@dataclasses.dataclass(frozen=True)
class Rows:
  """Which records do what; row numbers, disjoint.

  Attributes:
    train: fit the autoencoders.
    reference: tell how errors of typical records are distributed.
    calibration: set the threshold.
  """

  train: np.ndarray
  reference: np.ndarray
  calibration: np.ndarray


def split_rows(
  x: Records,
  size: float,
  fpr: float,
  seed: int,
  *,
  confidence: float | None = None,
  groups: np.ndarray | None = None,
) -> Rows:
  """Splits the records at random; half of those held out are the reference.

  Equal records, and those of one group, have one role; of equal ones one is held out, and the
  others do nothing.

  Args:
    x: ``[n, ...]`` records.
    size: share of the different records held out, in (0, 1), at most 6,000; more, up to half of
      them, where ``fpr`` needs more.
    fpr: false-positive rate that the calibration records must be able to defend.
    seed: of the split.
    confidence: see ``calibration.conformal_threshold``.
    groups: ``[n]`` labels of records that must not be divided, or None.

  Raises:
    ValueError: a setting out of its range, or too few records for ``fpr``; says how many it takes.
  """
  if not 0.0 < size < 1.0:
    raise ValueError(f"calibration_size must be in (0, 1), got {size!r}.")
  calibration.check_rate(fpr, confidence)
  keys = splits.hashes(x)
  ids, first = splits.group_rows(keys, groups), splits.distinct(keys)
  needed = max(calibration.records_needed(fpr, confidence), 2 * one_out.TAIL_RECORDS)
  held_out = min(int(np.ceil(size * len(first))), HELD_OUT_CAP)
  if held_out < 2 * needed <= len(first) // 2:
    held_out = 2 * needed
  if held_out >= len(first):
    raise ValueError(
      f"calibration_size={size:g} of {len(first)} different records leaves none to train on; hold "
      "out fewer."
    )
  middle = held_out // 2
  parts = splits.divide(ids[first], [middle, held_out - middle], seed)
  reference, calibrating = (np.sort(first[part]) for part in parts[:2])
  if min(len(reference), len(calibrating)) < needed:
    raise ValueError(
      f"A false-positive rate of {fpr:g} needs {2 * needed} held-out records (half tell how errors "
      f"are distributed, half set the threshold), no two of them equal, but "
      f"calibration_size={size:g} of {len(first)} different records, at most {HELD_OUT_CAP:,}, is "
      f"{len(reference) + len(calibrating)}: give more records, or ask for a larger fpr."
    )
  held = np.concatenate([reference, calibrating])
  training = np.flatnonzero(~np.isin(ids, ids[held]))
  return Rows(training, reference, calibrating)


def given_rows(
  x: Records, fresh: Records, fpr: float, seed: int, *, confidence: float | None = None
) -> Rows:
  """Rows of ``x`` followed by ``fresh``: all of the first train, the rest are held out in halves.

  Of ``fresh``, records that are equal to another or to one of ``x`` do nothing.

  Args:
    x: ``[n, ...]`` training records.
    fresh: ``[m, ...]`` records that the network was not trained on.
    fpr: see ``split_rows``.
    seed: of the halves.
    confidence: see ``split_rows``.

  Raises:
    ValueError: records of another shape, or too few for ``fpr``.
  """
  if fresh.shape[1:] != x.shape[1:]:
    raise ValueError(
      f"X_calibration has records of shape {list(fresh.shape[1:])}, X of {list(x.shape[1:])}."
    )
  calibration.check_rate(fpr, confidence)
  different = splits.distinct(np.concatenate([splits.hashes(x), splits.hashes(fresh)]))
  held = np.random.default_rng(seed).permutation(different[different >= len(x)])
  needed = max(calibration.records_needed(fpr, confidence), 2 * one_out.TAIL_RECORDS)
  if len(held) < 2 * needed:
    raise ValueError(
      f"A false-positive rate of {fpr:g} needs {2 * needed} records in X_calibration (half tell "
      "how errors are distributed, half set the threshold) that differ from one another and from "
      f"X, got {len(held)}: give more, or ask for a larger fpr."
    )
  middle = len(held) // 2
  return Rows(np.arange(len(x)), np.sort(held[:middle]), np.sort(held[middle:]))
