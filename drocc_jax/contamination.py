"""Training records of which a few per cent are what the detector is to find.

A network that is shown anomalies as typical learns them, and a threshold set on held-out records
that hold some goes mute: it lies among their scores. With a share stated (not in the paper) three
things are done.

1. The most extreme training records are left out before training, four times the share: what a few
   left anomalies cost is more than what typical records on the rim are worth. An isolation forest
   ranks them, grown on what a first one kept, as the concentration steps of the minimum covariance
   determinant do. Its trees see columns one by one and know no scale, which anomalies distort.
2. What standardises the records is measured on those kept.
3. The threshold leaves the highest held-out scores out, half as many as are said to be anomalous,
   see ``clean_scores``.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from detector_jax.health import Finding
from detector_jax.splits import calibration_rows
from drocc_jax.settings import Calibration

AUTO = "auto"
TIMES, MOST_LEFT_OUT = 4.0, 0.4  # of the share; of the records
COUNTED = 0.5  # share of the anomalies that the threshold is taken to find
TREES, FEWER_TREES, SAMPLE, LEAST = 100, 50, 2000, 40
CORE, TAIL, NEIGHBOURS, CLIP, LEVEL = 0.6, 0.15, 20, 20.0, 0.01
DETACHED = "share of the training records in a detached tail"


def share_of(contamination: Any, x: np.ndarray | None = None) -> float | None:
  """The share that a setting stands for; None where nothing is stated.

  Args:
    contamination: None, "auto" or a number in (0, 0.5), as text too.
    x: ``[n, ...]`` raw training records, None where they are not at hand. "auto" takes twice the
      share in their detached tail, since a tail is what is seen of it, at most 0.1; see
      ``detached``.

  Raises:
    ValueError: anything else, or "auto" without records.
  """
  if contamination is None:
    return None
  if isinstance(contamination, str) and contamination == AUTO:
    if x is None:
      raise ValueError('contamination="auto" looks at all records at once: state a share instead.')
    return min(2.0 * detached(x), MOST_LEFT_OUT / TIMES)
  try:
    share = float(contamination)
  except (TypeError, ValueError):
    share = math.nan
  if not 0.0 < share < 0.5:
    raise ValueError(
      'contamination must be a share in (0, 0.5), "auto", or None where all records are typical, '
      f"got {contamination!r}."
    )
  return share


def typical_rows(x: np.ndarray, share: float) -> np.ndarray:
  """Numbers of the records that are left to train on.

  Args:
    x: ``[n, ...]`` raw training records, of which ``share`` may be anomalies.
    share: in [0, 0.5). ``4 share`` of the records are left out, at most 0.4 of them where that is
      more than ``share``.

  Returns:
    int64 ``[m]`` in ascending order.

  References:
    Liu, Ting and Zhou, Isolation Forest (2008); Rousseeuw and Van Driessen, A fast algorithm for
    the minimum covariance determinant estimator (1999), for the concentration step.
  """
  left_out = round(len(x) * max(share, min(TIMES * share, MOST_LEFT_OUT)))
  if not left_out:
    return np.arange(len(x))
  return _concentrated(_standard(x), len(x) - left_out, TREES)


class Roles(NamedTuple):
  """What becomes of the records that are given as typical.

  Attributes:
    rows: numbers of those that train, in ascending order.
    held_out: numbers of those that set the threshold.
    share: of both that may be anomalies, None where nothing is stated.
    folds: ``[n]`` fold of each record, see ``splits.folds``, where a network is trained without
      each of them and ``rows`` and ``held_out`` share records; else None.
  """

  rows: np.ndarray
  held_out: np.ndarray
  share: float | None
  folds: np.ndarray | None = None

  @property
  def number(self) -> int:
    """How many folds there are, 0 without any."""
    return 0 if self.folds is None else int(self.folds.max()) + 1

  def without(self, rows: np.ndarray) -> np.ndarray | None:
    """Whether each of ``rows`` is in each fold, bool ``[folds, n]``; None where there are none."""
    if self.folds is None:
      return None
    return np.arange(self.number)[:, None] == self.folds[rows][None]


def divide(
  x: np.ndarray,
  settings: Calibration,
  seed: int,
  *,
  fpr: float | None = None,
  groups: np.ndarray | None = None,
  parts: int = 1,
) -> Roles:
  """Divides records ``[n, ...]``, and leaves training records out that are likely anomalies.

  Args:
    x: raw records.
    settings: of the run.
    seed: of the division.
    fpr: that the held-out records must be able to defend, or None.
    groups: see ``splits.calibration_rows``, which says what it raises.
    parts: likewise.

  Raises:
    ValueError: a setting out of its range, too few records for ``fpr``, or a share that may be
      anomalous where several scores are joined.
  """
  share = share_of(settings.contamination, x)
  if share and parts > 1:
    raise ValueError(
      "contamination is for the score of the network alone: leave it out, or the defects of the "
      "features, whose score is joined with it."
    )
  rows, held_out = calibration_rows(
    x,
    settings.calibration_size,
    seed,
    fpr=fpr,
    confidence=settings.confidence,
    groups=groups,
    parts=parts,
    discounted=COUNTED * (share or 0.0),
  )
  if share:
    rows = rows[typical_rows(x[rows], share)]
  return Roles(rows, held_out, share)


def clean_scores(scores: np.ndarray, share: float | None) -> np.ndarray:
  r"""Held-out scores without the highest, half as many as are said to be anomalous.

  Let ``k`` of ``m`` scores be left out, ``m_0`` of the ``m`` records be typical, and ``A`` of the
  anomalous ones score above the threshold that the others give at a rate ``a``. The false-alarm
  rate is then at most

  .. math:: (a (m - k + 1) + k - A) / (m_0 + 1)

  in expectation, which is the rate stated where at least ``k`` held-out anomalies score above the
  threshold. So the assumption is that *half* of the stated share is there, and found. Where there
  is none at all, or none is found, the rate is at most about ``a + share / 2``. Anomalies that
  score above all typical records are found in a share of ``min(1, 1 / 2 + a / share)`` or more.
  With none left out the rate is valid wherever anomalies score higher than typical records do, but
  no more than a share of ``a / share`` of them is found.

  Args:
    scores: ``[m]``.
    share: of the records that may be anomalies, in [0, 0.5); None is 0.

  References:
    Bashari, Sesia and Romano, Robust conformal outlier detection under contaminated reference data
    (ICML 2025): contaminated scores are conservative, and to trim them all is not valid.
  """
  return np.sort(scores)[: len(scores) - int(COUNTED * (share or 0.0) * len(scores))]


def detached(x: np.ndarray) -> float:
  r"""Share of the records in a tail that is detached from all others; 0 where there is none.

  With ``d`` the mean distances of the records to their 20 nearest neighbours in the core, six in
  ten of them that a forest holds for most typical, in descending order, the spacings

  .. math:: E_i = i (\sqrt{d_{(i)}} - \sqrt{d_{(i + 1)}})

  are independent and exponential, of one mean, where :math:`\sqrt{d}` has an exponential tail
  (Renyi's representation). The tail ends where, in the upper 15 %, :math:`E_i` is largest in units
  of the mean of those below it, down to the median. It is detached where that is more than
  :math:`\log(0.15 n / 0.01)`, which one such sample of ``n`` in a hundred exceeds. Columns with
  heavy tails stay below, since a square root is taken. No label enters; the constants were chosen
  on the development sets of ``benchmarks.adbench_sets``. Anomalies among the data, or in a cluster
  as dense as the data, are not seen.

  Args:
    x: ``[n, ...]`` raw records; of more than 2,000 as many, evenly spread. Fewer than 40 have no
      tail.

  References:
    Renyi, On the theory of order statistics (1953).
  """
  z = _standard(x[:: -(-len(x) // SAMPLE)])
  n = len(z)
  if n < LEAST:
    return 0.0
  distances = _distances(z, _concentrated(z, round(CORE * n), FEWER_TREES))
  spacings = np.arange(1, n) * -np.diff(np.sqrt(np.sort(distances)[::-1]))
  half = n // 2
  # Of those from number i on, counted from 0, down to the median.
  means = np.cumsum(spacings[:half][::-1])[::-1] / np.arange(half, 0, -1)
  ends = np.arange(max(2, math.ceil(0.01 * n)), int(TAIL * n))
  # Of which most are 0 where most records are alike: nothing can be compared with these.
  known = means[ends] > 1e-6 * spacings.max(initial=0.0)
  ratios = np.where(known, spacings[ends - 1] / np.where(known, means[ends], 1.0), 0.0)
  best = int(np.argmax(ratios))
  return float(ends[best]) / n if ratios[best] > math.log(TAIL * n / LEVEL) else 0.0


def tail_finding(x: np.ndarray) -> Finding:
  """Whether the training records, all said to be typical, have a detached tail."""
  share = detached(x)
  return Finding.from_check(
    DETACHED,
    share,
    share == 0.0,
    f"{100 * share:.2g} % of the training records lie apart from all others. If they are "
    "anomalies, the network learns them as typical, the threshold lies among their scores, and few "
    'are found: set contamination to the share that there may be, or to "auto".',
  )


def _standard(x: np.ndarray) -> np.ndarray:
  """Rows of standardised columns, float64 ``[n, d]``; a forest reads float32."""
  x = np.asarray(x, np.float64).reshape(len(x), -1)
  x = x / np.maximum(np.abs(x).max(axis=0), np.finfo(np.float64).tiny)
  scale = x.std(axis=0)
  return (x - x.mean(axis=0)) / np.where(scale > 0.0, scale, 1.0)


def _concentrated(z: np.ndarray, number: int, trees: int) -> np.ndarray:
  """The ``number`` records that a forest, grown on those that a first one kept, isolates last."""
  kept = np.arange(len(z))
  for _ in range(2):
    forest = IsolationForest(n_estimators=trees, random_state=0).fit(z[kept])
    kept = np.sort(np.argsort(-forest.score_samples(z), kind="stable")[:number])
  return kept


def _distances(z: np.ndarray, core: np.ndarray) -> np.ndarray:
  """Mean distance of each record to its nearest 20 others in the core, by the core's scale."""
  scale = z[core].std(axis=0)
  columns = scale > 1e-9
  if not columns.any():
    return np.zeros(len(z))
  z = np.clip((z[:, columns] - z[core][:, columns].mean(axis=0)) / scale[columns], -CLIP, CLIP)
  found = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(z[core]).kneighbors(z)[0]
  inside = np.zeros(len(z), bool)
  inside[core] = True
  return np.where(inside, found[:, 1:].mean(axis=1), found[:, :-1].mean(axis=1))
