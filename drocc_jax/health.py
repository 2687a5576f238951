"""What is checked of a trained DROCC: its scores, its searches, and how long it trained."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax.detector import Detector
from detector_jax.health import Finding, HealthError, check_scores
from detector_jax.preprocessing import Identity

EXAMINED = 128
LEAST_STEPS = 100
LEAST_SEPARATION = 0.5


def check_health(detector: Detector, scores: np.ndarray, typical: np.ndarray) -> list[Finding]:
  """Stops at scores that rank nothing, or rank points far from the data as typical.

  Args:
    detector: a new detector, ``arrays["preprocessing"]`` a ``Standardizer``.
    scores: ``[n]``, its scores of typical records.
    typical: ``[m, ...]`` raw typical records, round which the far points are drawn.

  Returns:
    What the check of far points found.

  Raises:
    HealthError: scores are not finite, all the same, or upside down.
  """
  check_scores(scores)
  z = detector.arrays["preprocessing"].transform(typical)
  far = dataclasses.replace(
    detector,
    arrays={**detector.arrays, "preprocessing": Identity()},
    input_shape=z.shape[1:],
    input_range=None,
    input_offset=None,
    metadata_json="{}",
  )
  return [check_not_inverted(scores, far.score(_far_points(z)))]


def examined(
  examine: Callable[..., Any], state: Any, z: np.ndarray, starts_blank: bool = True
) -> list[Finding]:
  """Checks of the searches that a trained state makes, and of how long it trained.

  Args:
    examine: of ``fit.Program``.
    state: that was trained.
    z: ``[n, ...]`` standardised typical records, best held out; ``EXAMINED`` are drawn.
    starts_blank: whether what the network says of records, it learned from the negatives. One that
      starts from the records, see ``networks.sample_for``, does well without telling these apart.
  """
  rows = np.random.default_rng(0).integers(len(z), size=EXAMINED)
  found = jax.device_get(examine(state, jnp.asarray(z[rows]), jax.random.key(0)))
  hyper = jax.tree.map(np.min, jax.device_get(state.hyper))  # the members of an ensemble share them
  radius, gamma = float(hyper.radius), float(hyper.gamma)
  findings = [
    enough_steps(int(np.max(state.step))),
    separated(found.typical, found.negatives, needed=starts_blank),
  ]
  if int(hyper.num_steps):
    findings.append(search_moved(found.travel, radius))
  if found.distance is not None:
    findings.append(on_shell(found.distance, radius, gamma))
  return findings


def search_moved(travel: np.ndarray, radius: float) -> Finding:
  """Whether the adversarial search went anywhere.

  Args:
    travel: ``[n]`` distances between first and last point of searches with at least one step.
    radius: of the search.
  """
  mean = float(np.mean(travel))
  return Finding.from_check(
    "search travel, in units of the radius",
    mean / radius,
    mean > 1e-4 * radius,
    f"The search did not move: its negatives end {mean:.2g} from where they start, at a radius of "
    f"{radius:.3g}. The network is flat there, or step_size is too small: raise step_size or lower "
    "weight_decay.",
  )


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
    "share of negatives off their shell",
    off,
    off == 0.0,
    f"{100 * off:.3g} % of the negatives are off their shell, {radius:.3g} to {gamma * radius:.3g} "
    f"from their records ({np.min(distance):.3g} to {np.max(distance):.3g}): the projection is "
    "wrong, or the radius is too small for the scale of the inputs. Standardise them.",
  )


def separated(typical: np.ndarray, negatives: np.ndarray, needed: bool = True) -> Finding:
  """Whether the network tells typical records from the negatives searched round them.

  Args:
    typical: ``[n]`` scores of typical records, best held out.
    negatives: ``[m]`` scores of negatives.
    needed: whether it is a fault where the network does not.
  """
  value = _auroc(typical, negatives)
  return Finding.from_check(
    "AUROC of typical records against their own negatives",
    value,
    not needed or value >= LEAST_SEPARATION,
    f"The network cannot tell its own negatives from the data (AUROC {value:.2f}): the boundary is "
    "not learned, or the negatives lie among the records, which fill their space. Raise radius, "
    "train longer, take a larger network, and hold the result against nearest neighbours.",
  )


def enough_steps(steps: int) -> Finding:
  """Whether training took at least ``LEAST_STEPS`` steps."""
  return Finding.from_check(
    "steps of training",
    steps,
    steps >= LEAST_STEPS,
    f"Training took {steps} steps, fewer than {LEAST_STEPS}: scores are next to those of an "
    "untrained network. Raise epochs or lower batch_size.",
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
    "AUROC of typical records against far points",
    right,
    right >= 0.9,
    f"Some points far from the data rank as typical (AUROC {right:.2f}): the score does not fall "
    "off everywhere. Train longer, raise mu or gamma, or give calibration records from the field.",
  )


def _far_points(z: np.ndarray) -> np.ndarray:
  """256 standardised records, fewer of large ones, moved by ``6 sqrt(d)`` in random directions."""
  rng = np.random.default_rng(0)
  z = z[rng.integers(len(z), size=int(np.clip(2**23 // z[0].size, 16, 256)))]
  direction = rng.normal(size=z.shape)
  norm = np.sqrt(np.sum(direction**2, axis=tuple(range(1, z.ndim)), keepdims=True))
  return (z + 6.0 * np.sqrt(z[0].size) * direction / norm).astype(np.float32)


def _auroc(low: np.ndarray, high: np.ndarray) -> float:
  """Share of pairs in which ``high`` is above ``low``; ties count half."""
  ordered = np.sort(np.asarray(low, np.float64))
  below = np.searchsorted(ordered, high, side="left") + np.searchsorted(ordered, high, side="right")
  return float(np.mean(below)) / (2.0 * ordered.size)
