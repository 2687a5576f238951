"""Checks that stop a run whose numbers cannot be trusted, and say why."""

import numpy as np


class HealthError(ValueError):
  """Scores or losses that must not be used; the message names cause and cure."""


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


def check_not_inverted(typical: np.ndarray, far: np.ndarray) -> None:
  """Stops where points far from all data look more typical than the data itself.

  Args:
    typical: ``[n]`` scores of typical records, best held out.
    far: ``[m]`` scores of synthetic points far from the data.

  Raises:
    HealthError: fewer than a third of the pairs are ranked the right way round.
  """
  ordered = np.sort(np.asarray(typical, np.float64))
  below = np.searchsorted(ordered, far, side="left") + np.searchsorted(ordered, far, side="right")
  right = float(np.mean(below)) / (2.0 * ordered.size)
  if right < 1.0 / 3.0:
    raise HealthError(
      f"Scores are upside down: points far from the data rank as more typical than the data "
      f"(AUROC {right:.2f}). Train longer, drop the warm-up (warmup_steps=0) or raise mu."
    )
