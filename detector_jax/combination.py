"""Several scores of one kind of record as one: what one of them misses another may see."""

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
from detector_jax.program import p_value
from detector_jax.typical import with_typical

GROUPS = ("picture", "patch")  # what speaks in ``with_strangest``
USUAL = 0.99  # share of typical records whose strangest patch is usual


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


@dataclasses.dataclass(frozen=True)
class WithStrangest:
  """Score ``max(a, b)`` of a detector's score and the largest unlikeness of a patch.

  ``a`` is the detector's score less its median, ``b`` the unlikeness less its 99 % quantile, each
  in deviations of typical records. Less than its median, as for ``a``, would find fainter defects,
  and hide more of what the whole shows where no patch is strange. Beside score and p-value it
  reports ``group_deviation`` ``[batch, 2]``, a and b; ``group`` ``[batch]``, the number of the
  larger one in ``GROUPS``; and ``place`` ``[batch, axes]``, where the strangest patch begins.

  Attributes:
    program: of the detector, its feature map left out.
  """

  program: Callable[..., dict[str, jax.Array]]

  def __call__(self, arrays: dict[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    """As ``Program``; "units" of the arrays has center and scale of both, ``[2]`` each."""
    z, strangest, place = arrays["features"].with_strangest(x)
    units, inner = arrays["units"], {n: arrays[n] for n in arrays if n not in ("features", "units")}
    scores = jnp.stack([self.program(inner, z)["score"], strangest], axis=1)
    apart = (scores - units["center"][None]) / units["scale"][None]
    score = jnp.max(apart, axis=1)
    return {
      "score": score,
      "p_value": p_value(arrays["calibration"], score),
      "group_deviation": apart,
      "group": jnp.argmax(apart, axis=1).astype(jnp.int32),
      "place": place,
    }


def with_strangest(
  detector: Detector,
  x_typical: np.ndarray,
  fpr: float | None = None,
  confidence: float | None = None,
) -> Detector:
  """Lets the strangest patch of a record speak beside the score of a detector behind ``Patches``.

  The detector judges means over many patches, in which a defect of a few pixels is lost; the
  largest distance of a patch from all centroids is one patch's. The louder of the two speaks; a
  patch has to be stranger than usual ones to be heard. See ``WithStrangest``.

  Args:
    detector: behind a ``PatchMap``.
    x_typical: ``[n, ...]`` as in ``combine``.
    fpr: as in ``combine``.
    confidence: see ``Calibration``.

  Raises:
    ValueError: too few records.
    HealthError: scores that are not finite or all the same.
  """
  x = _different(detector, x_typical)
  joined = dataclasses.replace(
    detector.with_metadata(groups=list(GROUPS)),
    program=WithStrangest(detector.program),
    arrays={**detector.arrays, "units": {"center": jnp.zeros(2), "scale": jnp.ones(2)}},
  )
  raw = joined.report(x[::2])["group_deviation"].T
  arrays = {**joined.arrays, "units": _units(list(raw), (0.5, USUAL))}
  return _calibrated(dataclasses.replace(joined, arrays=arrays), x, fpr, confidence)


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
  x = _different(first, x_typical)
  scores = [each.score(x[::2], warn=False) for each in detectors]
  ranges = [each.input_range for each in detectors if each.input_range is not None]
  whole = Detector.create(
    SumOfScores(tuple(each.program for each in detectors)),
    {
      "parts": tuple({**each.arrays, "calibration": jnp.zeros((0,))} for each in detectors),
      **_units(scores, [0.5] * len(scores)),
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
  return _calibrated(whole, x, fpr, confidence)


def _different(detector: Detector, x_typical: np.ndarray) -> np.ndarray:
  """The different ones of records ``[n, ...]``, four or more."""
  x = detector.records(x_typical)
  x = x[splits.distinct(x)]
  if len(x) < 4:
    raise ValueError(f"Combining needs four different typical records or more, got {len(x)}.")
  return x


def _units(scores: Sequence[np.ndarray], quantiles: Sequence[float]) -> dict[str, jax.Array]:
  """Quantiles and deviations of typical scores, ``[parts, n]`` -> ``{"center", "scale"}``."""
  known = [np.asarray(each, np.float64) for each in scores]
  for each in known:
    health.check_scores(each)
  as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
  center = [np.quantile(each, share) for each, share in zip(known, quantiles, strict=True)]
  scale = [each.std() for each in known]
  return {"center": as_float32(center), "scale": as_float32(scale)}


def _calibrated(
  detector: Detector, x: np.ndarray, fpr: float | None, confidence: float | None
) -> Detector:
  """The threshold, from those of the records ``[n, ...]`` that did not give the units."""
  rate = splits.attainable_fpr(len(x[1::2]), confidence) if fpr is None else fpr
  return detector.calibrate(x[1::2], rate, confidence)
