"""A toy method: the weighted distance of a standardised record from a centre."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import Detector, Standardizer


@dataclasses.dataclass(frozen=True)
class Distance:
  """Score of the toy method; ``power`` makes instances differ."""

  power: float = 1.0

  def __call__(self, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    """Maps ``[batch, 3]`` to ``[batch]``."""
    moved = x - variables["center"][None]
    return jnp.sum(variables["layer"]["weight"][None] * jnp.square(moved), axis=1) ** self.power


@pytest.fixture(scope="session")
def records() -> np.ndarray:
  return np.random.default_rng(1).normal(2.0, 3.0, size=(120, 3))


@pytest.fixture(scope="session")
def make_detector(records: np.ndarray) -> Callable[..., Detector]:
  """Makes an uncalibrated detector, of another score function if one is given."""
  variables = {
    "center": jnp.array([0.1, -0.2, 0.3]),
    "layer": {"weight": jnp.array([1.0, 2.0, 0.5])},
  }

  def make(score_fn: Callable[..., jax.Array] = Distance()) -> Detector:
    return Detector.create(
      score_fn,
      variables,
      Standardizer.fit(records),
      (3,),
      threshold=2.5,
      metadata={"method": "toy"},
    )

  return make


@pytest.fixture(scope="session")
def uncalibrated(make_detector: Callable[..., Detector]) -> Detector:
  return make_detector()


@pytest.fixture(scope="session")
def detector(uncalibrated: Detector) -> Detector:
  """The toy detector, calibrated at 10 % on 50 records."""
  return uncalibrated.calibrate(np.random.default_rng(2).normal(2.0, 3.0, size=(50, 3)), 0.1)
