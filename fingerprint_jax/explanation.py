"""Why NeuralFP flags a record: which layer and which group of evidence object."""

import dataclasses
from typing import Any

import numpy as np

from detector_jax import health


@dataclasses.dataclass(frozen=True)
class Explanation:
  """What each layer, and each group of evidence, has to say of each record.

  Attributes:
    layers: names.
    error: ``[n, layers]`` reconstruction errors.
    low: ``[n, layers]`` thresholds mu; an error below is too small.
    high: ``[n, layers]`` thresholds tau; an error above is too large. The paper's rule has the same
      for all records; with groups they are those of the predicted class, for a layer that is asked
      alone at the rate of the whole.
    side: ``[n, layers]`` -1 below mu, +1 above tau, 0 between. The paper's rule flags a record if
      any is not 0.
    p_value: ``[n, layers]`` two-sided, of the layer alone.
    layer: ``[n]`` number of the layer that objects most.
    maps: layer -> ``[n, ...]`` the error by place, for layers that are maps.
    flagged: bool ``[n]``, whether the rule flags the record.
    groups: names of the groups of evidence, see ``evidence``; () with the paper's rule.
    group_p_value: ``[n, groups]``, of the group alone.
    group: ``[n]`` number of the group that adds most to the score.
  """

  layers: tuple[str, ...]
  error: np.ndarray
  low: np.ndarray
  high: np.ndarray
  side: np.ndarray
  p_value: np.ndarray
  layer: np.ndarray
  maps: dict[str, np.ndarray]
  flagged: np.ndarray
  groups: tuple[str, ...]
  group_p_value: np.ndarray
  group: np.ndarray

  def describe(self) -> list[str]:
    """One text for each record: what objected, which layer most, on which side, how sure it is."""
    texts = []
    for row, number in enumerate(self.layer):
      error, low, high = (each[row, number] for each in (self.error, self.low, self.high))
      side = {-1: "error too small", 0: "typical", 1: "error too large"}[self.side[row, number]]
      told = f"{self.layers[number]}: "
      if self.groups:
        group = self.group[row]
        verdict = "out-of-distribution" if self.flagged[row] else "typical"
        told = (
          f"{verdict}; {self.groups[group]}, p = {self.group_p_value[row, group]:.2g}; {told}"
          + (f"{side}, " if side != "typical" else "")
        )
      else:
        told = f"{side}; {told}"
      texts.append(
        f"{told}error {error:.3g} of [{low:.3g}, {high:.3g}], p = {self.p_value[row, number]:.2g}"
      )
    return texts

  def __str__(self) -> str:
    """One line for each record."""
    return "\n".join(f"record {row}: {text}" for row, text in enumerate(self.describe()))


def explain(detector: Any, x: np.ndarray) -> Explanation:
  """As ``NeuralFP.explain``, of a detector that was loaded from its folder.

  Args:
    detector: a ``Detector`` made by NeuralFP.
    x: ``[n, ...]`` records.

  Raises:
    ValueError: a detector of another method, or records that it refuses.
    HealthError: errors that are not finite.
  """
  layers = detector.metadata.get("layers")
  if not layers:
    raise ValueError("This detector has no layers to explain: NeuralFP did not make it.")
  report = detector.report(x)
  error = report["layer_error"]
  if not np.isfinite(error).all():
    row, number = np.argwhere(~np.isfinite(error))[0]
    raise health.HealthError(
      f"Layer {layers[number]!r} has activations that are not finite on row {row}; look at the "
      "network and at the record."
    )
  groups = tuple(detector.metadata.get("groups", ()))
  level = report["layer_extremeness"] > np.float32(detector.threshold)
  if groups:
    level = (error < report["layer_low"]) | (error > report["layer_high"])
  return Explanation(
    layers=tuple(layers),
    error=error,
    low=report["layer_low"],
    high=report["layer_high"],
    side=np.where(level, report["layer_side"], 0.0).astype(np.int64),
    p_value=report["layer_p_value"],
    layer=report["layer"],
    maps={n.removeprefix("map/"): values for n, values in report.items() if n.startswith("map/")},
    flagged=report["score"] > np.float32(detector.threshold),
    groups=groups,
    group_p_value=report.get("group_p_value", np.zeros((len(error), 0), np.float32)),
    group=report.get("group", np.zeros(len(error), np.int32)),
  )
