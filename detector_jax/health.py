"""Checks that stop a run whose numbers cannot be trusted, or warn of them, and say why.

Losses and scores that must not be used raise a ``HealthError``. What may still rank well is a
``Finding``: it warns, and travels with the detector.
"""

from collections.abc import Sequence
import dataclasses
import logging

import numpy as np

logger = logging.getLogger(__name__)


class HealthError(ValueError):
  """Scores or losses that must not be used; the message names cause and cure."""


@dataclasses.dataclass(frozen=True)
class Finding:
  """What one check of a trained detector came to.

  Attributes:
    check: what was looked at.
    value: what was found.
    passed: whether it is as it should be.
    message: where it is not, cause and cure in a sentence; else empty.
  """

  check: str
  value: float
  passed: bool
  message: str = ""

  @classmethod
  def from_check(cls, check: str, value: float, passed: bool, message: str) -> "Finding":
    """A finding whose message is kept only where the check failed."""
    return cls(check, float(value), bool(passed), "" if passed else message)


def warn(findings: Sequence[Finding]) -> None:
  """Logs a warning for every check that failed."""
  for finding in findings:
    if not finding.passed:
      logger.warning("%s", finding.message)


def check_loss(values: dict[str, float], step: int) -> None:
  """Stops at a loss or gradient that is not finite.

  Args:
    values: name -> value of what the last steps reported.
    step: number of the last step.

  Raises:
    HealthError: naming the first value that is NaN or infinite.
  """
  for name, value in values.items():
    if not np.isfinite(value):
      raise HealthError(
        f"Training diverged: {name} is {value} at step {step}. Lower learning_rate, or look for "
        "extreme values in the inputs."
      )


def check_scores(scores: np.ndarray) -> None:
  """Stops at scores that are not finite, or all the same.

  Args:
    scores: ``[n]`` scores of different records.

  Raises:
    HealthError: NaN or infinity, or one value for all of two or more records.
  """
  scores = np.asarray(scores)
  bad = int((~np.isfinite(scores)).sum())
  if bad:
    raise HealthError(
      f"{bad} of {scores.size} scores are not finite: the network has diverged. Lower "
      "learning_rate, or look for extreme values in the inputs."
    )
  if scores.size > 1 and np.ptp(scores) == 0.0:
    raise HealthError(
      f"All {scores.size} scores are {float(scores.flat[0]):g}: the network is dead or collapsed "
      "and ranks nothing. Lower learning_rate, or train with another random_state."
    )


def bad_score(
  row: int, score: float, named: dict[str, list[str]], report: dict[str, np.ndarray]
) -> HealthError:
  """The error of a record whose score is not finite, with what of its report is not either.

  Args:
    row: number of the record.
    score: of it.
    named: names of the values of a report, by its key.
    report: of that record alone, values ``[1, ...]`` by key.
  """
  where = ""
  for key in named.keys() & report.keys():
    pairs = zip(named[key], report[key][0], strict=False)  # a folder may name fewer or more
    bad = [name for name, value in pairs if not np.isfinite(value)]
    where += f": its {key} of {bad[0]!r} is not finite" if bad else ""
  return HealthError(
    f"The score of row {row} is {score}{where}; look at the network and at the record."
  )
