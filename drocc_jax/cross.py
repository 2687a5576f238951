r"""A stated false-alarm rate from few records, without holding any of them out.

A fifth of 50 records tells next to nothing of the rate, and is missed in training. With
``calibration="cross"`` the records are divided into folds, and a network is trained without each of
them. The mean of their logits scores new records; a training record is scored by the one network
that did not see it, and these scores, one for each record, set the threshold and the p-values:

.. math:: p(x) = (1 + \#\{i : s_{k(i)}(x_i) \ge \bar s(x)\}) / (n + 1)

Vovk's cross-conformal p-value has :math:`s_{k(i)}(x)` in the place of the mean :math:`\bar s(x)`;
the rate that it realises is proven to be at most about twice the stated one (Barber et al., Theorem
4, with a term of the order of the share of a fold), and is about the stated one in practice. For
the mean there is no such proof. It scatters less than one network does, so that fewer typical
records reach the tail of the scores of single ones.

What standardises the records is measured on all of them, and so is which ones are isolated.

References:
  Vovk, Cross-conformal predictors (2015); Barber, Candes, Ramdas and Tibshirani, Predictive
  inference with the jackknife+ (2021); Hennhoefer and Preisach, Leave-one-out-, bootstrap- and
  cross-conformal anomaly detectors (2024), who score by a mean of the members, too.
"""

from typing import Any

import jax
import numpy as np

from detector_jax import calibration, splits
from drocc_jax import contamination, ensemble
from drocc_jax.settings import Training

AUTO, SPLIT, CROSS = "auto", "split", "cross"
FEW = 200  # records, below which "auto" is "cross"


def divide(
  x: np.ndarray,
  settings: Training,
  seed: int,
  *,
  plain: bool,
  fpr: float | None = None,
  groups: np.ndarray | None = None,
  parts: int = 1,
) -> contamination.Roles:
  """Says of records ``[n, ...]`` which train and which set the threshold.

  Args:
    x: raw records.
    settings: of the run.
    seed: of the division.
    plain: whether nothing but the standardisation stands before the network, and the network does
      not start from the records; "auto" is "split" where something does.
    fpr: see ``contamination.divide``.
    groups: likewise.
    parts: likewise.

  Raises:
    ValueError: as ``contamination.divide``; or "cross" is asked for and cannot be had.
  """
  if not _crossed(x, settings, plain):
    return contamination.divide(x, settings, seed, fpr=fpr, groups=groups, parts=parts)
  share = contamination.share_of(settings.contamination, x)
  folds = splits.folds(x, max(2, round(1.0 / settings.calibration_size)), seed, groups)
  different = splits.distinct(x)
  held_out = different[folds[different] >= 0]
  calibration.check_rate(splits.AUTO_FPR if fpr is None else fpr)
  if fpr is not None:
    counted = len(held_out) - int(contamination.COUNTED * (share or 0.0) * len(held_out))
    calibration.check_records(counted, fpr)
  rows = contamination.typical_rows(x, share) if share else np.arange(len(x))
  return contamination.Roles(rows, held_out, share, folds)


def _crossed(x: np.ndarray, settings: Training, plain: bool) -> bool:
  """Whether the records are divided into folds."""
  choice, size = settings.calibration, settings.calibration_size
  if choice not in (AUTO, SPLIT, CROSS):
    raise ValueError(f"calibration must be {AUTO}, {SPLIT} or {CROSS}; got {choice!r}.")
  if choice == SPLIT:
    return False
  reasons = {
    "records of columns, without a feature map or a network that starts from the records": not (
      plain and x.ndim == 2
    ),
    "members=1: it trains one network a fold": settings.members != 1,
    "confidence=None: a rate with confidence takes records held out from all networks": (
      settings.confidence is not None
    ),
    "calibration_size in (0, 1), the share of a fold": not 0.0 < size < 1.0,
  }
  if choice == AUTO:
    return not any(reasons.values()) and len(splits.distinct(x)) < FEW
  for reason, missing in reasons.items():
    if missing:
      raise ValueError(f'calibration="{CROSS}" needs {reason}.')
  return True


def starts_blank(network: Any) -> bool:
  """Whether a network, None for the default, starts from random numbers alone, not from records."""
  return not getattr(network, "init_rows", 0)


def parts_of(without: np.ndarray) -> list[np.ndarray]:
  """The numbers of the records that each member trains on.

  Args:
    without: bool ``[members, n]``, those that it does not.

  Raises:
    ValueError: a fold has all records that train.
  """
  parts = [np.flatnonzero(~fold) for fold in without]
  if not all(map(len, parts)):
    raise ValueError("One fold has all records that train: give more records, or smaller groups.")
  return parts


def held_out_scores(
  network: ensemble.Network, variables: dict[str, Any], z: np.ndarray, without: np.ndarray
) -> np.ndarray:
  """Scores ``[m]`` of preprocessed records ``[m, d]``, each by the member without it.

  Args:
    network: that was trained, a member for each fold.
    variables: of all members.
    z: records.
    without: bool ``[members, m]``, in each column one that is True.
  """
  assert isinstance(network, ensemble.Ensemble)
  params, stats = variables["params"], variables["stats"]
  logits = jax.jit(ensemble.each_logit, static_argnums=0)(network, params, stats, z)
  return -np.asarray(logits)[np.argmax(without, axis=0), np.arange(len(z))]
