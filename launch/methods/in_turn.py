"""A threshold where nothing is held out: each stretch of a series is scored without having trained.

Windows of one stretch resemble one another, so that a threshold of a single held-out stretch is
that of the stretch. Here a detector is trained without each stretch in turn and scores it; all
these scores together set the threshold of the detector that has trained on everything, and all are
in its units: a network that measures distances by those between its own training records would have
others without each stretch. The detector has seen more than those, so that the threshold errs to
the high side, if at all. This is the pooled form of cross-conformal prediction: exact where scores
of the detectors are exchangeable, and else off by what leaving a stretch out changes.

References:
  Vovk, Cross-conformal predictors (2015); Barber et al., Predictive inference with the
  jackknife+ (2021).
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import Detector, calibration
from detector_jax.program import flatten, nested
from detector_jax.splits import AUTO_FPR
from drocc_jax import cross, drocc
from drocc_jax.contamination import Roles
from drocc_jax.settings import Training
from launch.data import Splits

SIZE = Training.calibration_size
WHOLE = "training"  # stage of the detector of all records
CONSTANTS = "variables/stats/constants"  # what a network fixes before it trains


def detector(config: Any, splits: Splits, trained: Callable[..., Detector]) -> Detector:
  """The detector of all records, with the threshold of those that left a stretch out.

  Args:
    config: of the run.
    splits: records of stretches.
    trained: ``(config, roles, name, claimed, constants)``: trains a stage of that name on some
      records; the workdir is claimed for ``claimed``, the network's units are ``constants``, or its
      own where that is None.

  Raises:
    ValueError: a setting that is of held-out records, a rate that the windows cannot defend, or too
      few stretches.
  """
  if config.contamination is not None or config.features.defects:
    raise ValueError(
      "contamination and features.defects are for held-out records: set data.folds=0 with them."
    )
  usual = {"calibration": (cross.AUTO, cross.SPLIT), "calibration_size": (SIZE,)}
  for name, fine in usual.items():
    if (got := getattr(config, name)) not in fine:
      raise ValueError(
        f"{name} is of single records, and the stretches of a series are set by data.folds: leave "
        f"it at {fine[0]}, or set data.folds=0; got {got!r}."
      )
  assert splits.stretches is not None
  calibration.check_rate(AUTO_FPR if config.fpr is None else config.fpr, config.confidence)
  if config.fpr is not None:
    number = int(np.sum(splits.stretches[:, 0] == splits.stretches[:, 1]))
    calibration.check_records(number, config.fpr, config.confidence)
  free = dataclasses.replace(config, fpr=None, confidence=None)

  def of(rows: np.ndarray, name: str, constants: Any = None) -> Detector:
    return trained(free, Roles(rows, np.arange(0), None), name, config, constants)

  x = splits.x_train
  found = of(np.arange(len(x)), WHOLE)
  constants = nested(flatten(found.arrays), CONSTANTS)
  held_out = scores(x, splits.stretches, functools.partial(of, constants=constants))
  found = found.calibrate_scores(held_out, config.fpr, config.confidence)
  told = found.metadata["summary"].partition("; ")[0]
  return found.with_metadata(
    config=dataclasses.asdict(config),
    calibration_records=len(held_out),
    cross_conformal=True,
    summary=f"{told}; the threshold is of {len(held_out):,} of them, scored by detectors that had "
    "trained without their stretch of the series.",
  )


def scores(
  x: np.ndarray, stretches: np.ndarray, trained: Callable[[np.ndarray, str], Detector]
) -> np.ndarray:
  """Scores ``[m]`` of the records that lie within one stretch.

  Args:
    x: ``[n, ...]`` typical records.
    stretches: int ``[n, 2]``, see ``launch.data.Splits``.
    trained: ``(rows, name)``: the detector of these records; the name says which stretch is out.

  Raises:
    ValueError: fewer than two stretches hold a record.
  """
  within = stretches[:, 0] == stretches[:, 1]
  if len(numbers(stretches)) < 2:
    raise ValueError(
      "Typical records lie within one stretch of the series alone, which leaves none to set the "
      "threshold by: give a longer clean stretch, or set data.folds=0."
    )
  found = []
  for number in numbers(stretches):
    touching = (stretches == number).any(axis=1)
    rows = np.flatnonzero(~touching)
    detector = trained(rows, f"without_stretch_{number + 1}")
    found.append(detector.score(x[within & touching], warn=False))
  return np.concatenate(found)


def with_constants(state: drocc.State, constants: dict[str, Any] | None) -> drocc.State:
  """The state of a network before it trains, with units of another where there are some."""
  if not constants:
    return state
  stats = {**state.stats, "constants": jax.tree.map(jnp.asarray, constants)}
  average = {**state.average, "stats": jax.tree.map(jnp.copy, stats)}
  return dataclasses.replace(state, stats=stats, average=average)


def numbers(stretches: np.ndarray) -> list[int]:
  """The stretches ``[n, 2]`` that hold a record whole, each of which is left out once."""
  return np.unique(stretches[stretches[:, 0] == stretches[:, 1], 0]).tolist()
