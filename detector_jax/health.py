"""Checks that stop a run whose numbers cannot be trusted, or warn of them, and say why.

Losses and scores that must not be used raise a ``HealthError``. What may still rank well is a
``Finding``: it warns, and travels with the detector.
"""

from collections.abc import Sequence
import dataclasses
import logging

import numpy as np

logger = logging.getLogger(__name__)

LEAST_STEPS = 100
LEAST_SEPARATION = 0.5


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


def search_moved(travel: np.ndarray, radius: float) -> Finding:
  """Whether the adversarial search went anywhere.

  Args:
    travel: ``[n]`` distances between first and last point of searches with at least one step.
    radius: of the search.
  """
  mean = float(np.mean(travel))
  return Finding.from_check(
    "search travel, in units of the radius", mean / radius, mean > 1e-4 * radius,
    f"The search did not move: its negatives end {mean:.2g} from where they start, at a radius of "
    f"{radius:.3g}. The network is flat there, or step_size is too small: raise step_size or lower "
    "weight_decay.",
  )  # fmt: skip


def on_shell(distance: np.ndarray, radius: float, gamma: float) -> Finding:
  """Whether negatives lie at ``radius`` to ``gamma * radius`` from their records.

  Args:
    distance: ``[n]`` Euclidean distances of negatives from their records.
    radius: > 0.
    gamma: >= 1.
  """
  low, high = radius * (1.0 - 1e-3), gamma * radius * (1.0 + 1e-3)
  off = float(np.mean(~((distance >= low) & (distance <= high))))
  return Finding.from_check(
    "share of negatives off their shell", off, off == 0.0,
    f"{100 * off:.3g} % of the negatives are off their shell, {radius:.3g} to {gamma * radius:.3g} "
    f"from their records ({np.min(distance):.3g} to {np.max(distance):.3g}): the projection is "
    "wrong, or the radius is too small for the scale of the inputs. Standardise them.",
  )  # fmt: skip


def separated(typical: np.ndarray, negatives: np.ndarray) -> Finding:
  """Whether the network tells typical records from the negatives searched round them.

  Args:
    typical: ``[n]`` scores of typical records, best held out.
    negatives: ``[m]`` scores of negatives.
  """
  value = _auroc(typical, negatives)
  return Finding.from_check(
    "AUROC of typical records against their own negatives", value, value >= LEAST_SEPARATION,
    f"The network cannot tell its own negatives from the data (AUROC {value:.2f}): the boundary is "
    "not learned, or the negatives lie among the records, which fill their space. Raise radius, "
    "train longer, take a larger network, and hold the result against nearest neighbours.",
  )  # fmt: skip


def enough_steps(steps: int) -> Finding:
  """Whether training took at least ``LEAST_STEPS`` steps."""
  return Finding.from_check(
    "steps of training", steps, steps >= LEAST_STEPS,
    f"Training took {steps} steps, fewer than {LEAST_STEPS}: scores are next to those of an "
    "untrained network. Raise epochs or lower batch_size.",
  )  # fmt: skip


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


def check_not_inverted(typical: np.ndarray, far: np.ndarray) -> Finding:
  """Stops where points far from all data look more typical than the data itself.

  Args:
    typical: ``[n]`` scores of typical records, best held out.
    far: ``[m]`` scores of synthetic points far from the data.

  Returns:
    What was found.

  Raises:
    HealthError: fewer than a third of the pairs are ranked the right way round.
  """
  right = _auroc(typical, far)
  if right < 1.0 / 3.0:
    raise HealthError(
      f"Scores are upside down: points far from the data rank as more typical than the data "
      f"(AUROC {right:.2f}). Train longer, drop the warm-up (warmup_steps=0) or raise mu."
    )
  return Finding.from_check(
    "AUROC of typical records against far points", right, right >= 0.9,
    f"Some points far from the data rank as typical (AUROC {right:.2f}): the score does not fall "
    "off everywhere. Train longer, raise mu or gamma, or give calibration records from the field.",
  )  # fmt: skip


def _auroc(low: np.ndarray, high: np.ndarray) -> float:
  """Share of pairs in which ``high`` is above ``low``; ties count half."""
  ordered = np.sort(np.asarray(low, np.float64))
  below = np.searchsorted(ordered, high, side="left") + np.searchsorted(ordered, high, side="right")
  return float(np.mean(below)) / (2.0 * ordered.size)
