"""DROCC-OE and DROCC-LF with scikit-learn's face: some negatives are known, but not all."""

import dataclasses
import logging
import numbers
from typing import Any, ClassVar, Self

import numpy as np

from drocc_jax import drocc_lf, drocc_oe
from drocc_jax.algorithm import Algorithm
from drocc_jax.estimator import DROCC

logger = logging.getLogger(__name__)

SIGMA_STEPS = {"batch": 1, "epoch": 0}


@dataclasses.dataclass(eq=False, repr=False)
class DROCCOE(DROCC):
  """DROCC that also learns from labelled negatives: one-class classification with outlier exposure.

  Args:
    nu: weight of the given negatives, >= 0; typical records and negatives enter as means.

  The other parameters and the attributes are those of ``DROCC``; typical records alone are held
  out for the threshold, so ``fpr`` is the share of typical records that are turned away.

  References:
    Goyal et al., DROCC: Deep Robust One-Class Classification, ICML 2020, section 4.
  """

  _algorithm: ClassVar[Algorithm] = drocc_oe.ALGORITHM

  nu: float = drocc_oe.Config.nu

  def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> Self:
    """Trains on typical records and given negatives.

    Args:
      X: ``[n, features]``, ``[n, time, channels]`` or ``[n, height, width, channels]``.
      y: ``[n]``, +1 for a typical record and -1 for a negative; at least 2 and 1 of them.
      groups: ``[n]``, see ``DROCC.fit``; those of negatives count for nothing.

    Raises:
      ValueError: data, labels or a setting that cannot be used; the message names it.
      HealthError: training diverged, or its scores are constant or upside down.
    """
    x = self._validated(X, reset=True)
    typical = self._typical(y, len(x))
    _check_apart(x[typical], x[~typical])
    if groups is not None:
      groups = np.asarray(groups)
      if groups.shape != (len(x),):
        raise ValueError(f"There are {len(x)} records, but groups has shape {list(groups.shape)}.")
      groups = groups[typical]
    return self._train(x[typical], x[~typical], groups)

  def fit_predict(self, X: Any, y: Any = None, **kwargs: Any) -> np.ndarray:
    """``fit(X, y).predict(X)``."""
    return self.fit(X, y, **kwargs).predict(X)

  def _typical(self, y: Any, count: int) -> np.ndarray:
    name = type(self).__name__
    if y is None:
      raise ValueError(
        f"{name} requires y to be passed, but the target y is None: +1 for typical records, -1 for "
        "negatives; without negatives use DROCC."
      )
    labels = np.asarray(y)
    if labels.shape != (count,):
      raise ValueError(f"There are {count} records, but y has shape {list(labels.shape)}.")
    for value in labels.tolist():
      if not (isinstance(value, numbers.Real) and value in (-1, 1)):
        raise ValueError(
          f"y must be +1 for typical records and -1 for negatives, but holds {value!r}."
        )
    for label, kind, least in ((1, "typical records", 2), (-1, "negatives", 1)):
      found = int(np.sum(labels == label))
      if found < least:
        hint = "" if label == 1 else "; without negatives use DROCC"
        raise ValueError(
          f"{name} needs {kind} (y = {label:+d}), at least {least}, got {found}{hint}."
        )
    return labels == 1

  def __sklearn_tags__(self) -> Any:
    tags = super().__sklearn_tags__()
    tags.target_tags.required = True
    return tags


@dataclasses.dataclass(eq=False, repr=False)
class DROCCLF(DROCCOE):
  """DROCC-OE that measures distance where it matters: each coordinate counts by its influence.

  Given negatives teach the network which coordinates tell the classes apart; the shell on which
  further negatives are searched then follows those.

  Args:
    radius: distance of the searched negatives, > 0: the square root of the sum over coordinates
      of sigma, which has mean 1, times the square of the displacement.
    noise_scale: as for ``DROCC``. "auto", a short start, where most coordinates are noise: further
      negatives are then searched only where the given ones differ. Unseen negatives that differ
      elsewhere are missed, so the default is the paper's long start.
    solver: of the projection, "secular" (exact) or "grid" (the paper's).
    sigma_from: "logit" or "loss", whose gradient sigma is.
    sigma_every: "batch", or "epoch": sigma by the network as it was at its start.

  The other parameters and the attributes are those of ``DROCCOE``.

  References:
    Goyal et al., DROCC: Deep Robust One-Class Classification, ICML 2020, section 4, Proposition 1
    and Algorithm 2.
  """

  _algorithm: ClassVar[Algorithm] = drocc_lf.ALGORITHM

  _: dataclasses.KW_ONLY
  solver: str = drocc_lf.Config.solver
  sigma_from: str = drocc_lf.Config.sigma_from
  sigma_every: str = "batch"

  def _config(self) -> drocc_lf.Config:
    if self.sigma_every not in SIGMA_STEPS:
      raise ValueError(
        f"sigma_every must be one of {', '.join(SIGMA_STEPS)}; got {self.sigma_every!r}."
      )
    return dataclasses.replace(super()._config(), sigma_steps=SIGMA_STEPS[self.sigma_every])


def _check_apart(typical: np.ndarray, negatives: np.ndarray) -> None:
  """Refuses negatives that are all typical records too, and warns of some."""
  known = {row.tobytes() for row in np.ascontiguousarray(typical)}
  same = [
    place for place, row in enumerate(np.ascontiguousarray(negatives)) if row.tobytes() in known
  ]
  if len(same) == len(negatives):
    raise ValueError(
      f"All {len(negatives)} negatives are equal to typical records: check how y was made."
    )
  if same:
    logger.warning(
      "%d of %d negatives are equal to typical records; the first is negative number %d.",
      len(same),
      len(negatives),
      same[0],
    )
