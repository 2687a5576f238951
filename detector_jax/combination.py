"""Several detectors of one kind of record as one: what one of them misses another may see."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import health, splits
from detector_jax.detector import Detector
from detector_jax.preprocessing import Identity
from detector_jax.typical import with_typical


@dataclasses.dataclass(frozen=True)
class SumOfScores:
  """Score ``sum_i (s_i - center_i) / scale_i`` of the scores ``s_i`` of several programs.

  Attributes:
    programs: of the parts, see ``Detector.program``.
  """

  programs: tuple[Callable[..., dict[str, jax.Array]], ...]

  def __call__(self, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    """Maps raw records ``[batch, ...]`` to scores ``[batch]``."""
    scores = jnp.stack(
      [
        program(arrays, x)["score"]
        for program, arrays in zip(self.programs, variables["parts"], strict=True)
      ],
      axis=1,
    )
    return jnp.sum((scores - variables["center"][None]) / variables["scale"][None], axis=1)


def combine(
  detectors: Sequence[Detector],
  x_typical: np.ndarray,
  *,
  fpr: float | None = None,
  confidence: float | None = None,
) -> Detector:
  """One detector that adds up the scores of several, each in units of its own typical scores.

  The unit is the deviation of its scores of typical records, and 0 their median. Ranks among such
  scores (conformal p-values) would do where all parts say little; but beyond the largest of them
  all ranks are one, and there an anomaly that one part is sure of would count for as much as one
  that it hardly notices.

  Args:
    detectors: two or more, of records of one shape.
    x_typical: ``[n, ...]`` raw typical records that none of them was trained on: of the different
      ones every other gives the units, the rest the threshold.
    fpr: of the threshold; None takes 5 %, or what the records can defend.
    confidence: see ``Calibration``.

  Raises:
    ValueError: fewer than two detectors, detectors of different records, or too few records.
    HealthError: a detector whose scores are not finite or all the same.
  """
  detectors = tuple(detectors)
  if len(detectors) < 2:
    raise ValueError(f"It takes two detectors or more to combine, got {len(detectors)}.")
  first = detectors[0]
  for name in ("input_shape", "input_offset", "feature_names"):
    values = [getattr(each, name) for each in detectors]
    if any(value != values[0] for value in values):
      raise ValueError(f"Detectors of different records cannot be combined: {name} is {values}.")
  x = first.records(x_typical)
  x = x[splits.distinct(x)]
  if len(x) < 4:
    raise ValueError(f"Combining needs four different typical records or more, got {len(x)}.")
  scores = [each.score(x[::2], warn=False).astype(np.float64) for each in detectors]
  for each in scores:
    health.check_scores(each)
  ranges = [each.input_range for each in detectors if each.input_range is not None]
  as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
  whole = Detector.create(
    SumOfScores(tuple(each.program for each in detectors)),
    {
      "parts": tuple({**each.arrays, "calibration": jnp.zeros((0,))} for each in detectors),
      "center": as_float32([np.median(each) for each in scores]),
      "scale": as_float32([each.std() for each in scores]),
    },
    Identity(),
    first.input_shape,
    metadata={
      "method": " + ".join(str(each.metadata.get("method")) for each in detectors),
      "parts": [each.metadata for each in detectors],
      "feature_names": first.feature_names,
    },
    input_range=(max(low for low, _ in ranges), min(high for _, high in ranges))
    if ranges
    else None,
    batch_size=min(each.batch_size for each in detectors),
  )
  whole = with_typical(dataclasses.replace(whole, input_offset=first.input_offset), x)
  rate = splits.attainable_fpr(len(x[1::2]), confidence) if fpr is None else fpr
  return whole.calibrate(x[1::2], rate, confidence)
