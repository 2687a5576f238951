"""Why records are flagged, in words, whichever method the detector is of."""

from collections.abc import Mapping

import numpy as np

import detector_jax
from detector_jax.combination import GROUPS, USUAL
from detector_jax.typical import Typical


def check(detector: detector_jax.Detector) -> None:
  """Raises a ValueError where a detector cannot say why it flags a record."""
  if not (detector.metadata.get("layers") or detector.metadata.get("groups")):
    Typical.from_detector(detector)


def texts(detector: detector_jax.Detector, x: np.ndarray) -> list[str]:
  """One text for each of the records ``[n, ...]``: columns, the strangest patch, or a layer.

  Raises:
    ValueError: as ``check``.
  """
  told: list[str] = []
  for start in range(0, len(x), detector.batch_size):  # maps of layers are large
    rows = x[start : start + detector.batch_size]
    if detector.metadata.get("layers"):
      import fingerprint_jax  # and Flax

      told += fingerprint_jax.explain(detector, rows).describe()
    elif detector.metadata.get("groups"):
      told += of_patches(detector.report(rows))
    else:
      told += detector.explain(rows).describe()
  return told


def of_patches(told: Mapping[str, np.ndarray]) -> list[str]:
  """What ``combination.WithStrangest`` reports, in words."""
  texts, usual = [], f"{100 * USUAL:.0f} %"
  for group, apart, place in zip(
    *(told[name].tolist() for name in ("group", "group_deviation", "place")), strict=True
  ):
    at = ", ".join(map(str, place))
    parts = (
      f"the whole picture is {apart[0]:+.1f} deviations from the median",
      f"the patch at {at} is {apart[1]:+.1f} deviations from what {usual} of pictures stay below",
    )
    texts.append(f"{GROUPS[group]}: {parts[group]}; {parts[1 - group]}")
  return texts
