"""The model card of a detector: what it is, what it promises, and what it cannot see.

After Mitchell et al. 2019, "Model Cards for Model Reporting". Everything in it is read from the
detector, or asked of its score; no data are needed. ``python -m detector_jax card FOLDER`` writes
it.
"""

from collections.abc import Iterable, Mapping
import dataclasses
from typing import Any

import jax
import numpy as np

from detector_jax import batching
from detector_jax.program import flatten, nested, scores_of
from detector_jax.typical import Typical

FARTHEST = 32.0  # standard deviations that a number is moved by
STEPS = np.geomspace(1.0, FARTHEST, 41)


@dataclasses.dataclass(frozen=True)
class Reach:
  """What one column can do while all others keep their middle values.

  Attributes:
    name: of the column.
    alarms: values, in words, from which on or at which the detector raises an alarm; () where this
      column alone never does, so that an error in it goes unnoticed unless others show it too.
  """

  name: str
  alarms: tuple[str, ...]


def reach(detector: Any) -> list[Reach]:
  """Moves one column of a middle record after the other, and looks at the decision.

  The middle record has the median of each number and the most frequent category; where the detector
  flags it, what ``Detector.explain`` makes of it. A number is moved to both sides by up to 32
  standard deviations, any other column takes each of its typical values. What two columns do
  together is not looked at.

  Args:
    detector: a ``Detector`` of rows of columns.

  Raises:
    ValueError: the detector keeps no typical values or has no columns, or no record that it lets
      pass was found.
  """
  if len(detector.input_shape) > 1:
    raise ValueError("Its records are no rows of columns.")
  typical = Typical.from_detector(detector)
  base = _middle(detector, typical)
  tried = []
  for group in typical.groups:
    place = group.places[0]
    if group.is_number:
      for sign, word in ((-1.0, "below"), (1.0, "above")):
        moved = np.repeat(base[None], len(STEPS), axis=0)
        moved[:, place] += sign * STEPS * typical.scale[place]
        if typical.whole[place]:
          moved[:, place] = typical.coordinates(np.round(typical.numbers(moved)))[:, place]
        tried += [(group, word, row) for row in moved]
    else:
      levels = typical.values[np.isfinite(typical.values[:, place])][:, list(group.places)]
      for level in levels:
        moved = base.copy()
        moved[list(group.places)] = level
        tried.append((group, "", moved))
  scores = batching.in_batches(
    lambda x: scores_of(detector.program, detector.arrays, x),
    np.asarray([row for _, _, row in tried], np.float32),
    detector.batch_size,
  )
  offset = np.broadcast_to(np.asarray(detector.input_offset or 0.0, np.float64), base.shape)
  found: dict[str, dict[str, str]] = {group.name: {} for group in typical.groups}
  for (group, word, row), high in zip(tried, scores > np.float32(detector.threshold), strict=True):
    if high:
      places = list(group.places)
      said = group.words((row.astype(np.float64) + offset)[places])
      found[group.name].setdefault(word or said, f"{word} {said}".strip())
  return [Reach(name, tuple(alarms.values())) for name, alarms in found.items()]


def _middle(detector: Any, typical: Typical) -> np.ndarray:
  """A record ``[width]`` in the middle of the typical ones that the detector lets pass."""
  base = np.zeros(typical.values.shape[1], np.float32)
  for group in typical.groups:
    places = list(group.places)
    known = typical.values[np.isfinite(typical.values[:, places[0]])][:, places]
    categorical = group.column is not None and group.column.kind == "category"
    base[places] = known[0 if categorical else len(known) // 2]
  offset = np.asarray(detector.input_offset or 0.0, np.float64)
  explanation = detector.explain((base.astype(np.float64) + offset)[None])
  if not explanation.passes[0]:
    raise ValueError("The detector flags even the middle of its typical records; train it again.")
  return np.asarray(explanation.moved[0] - offset, np.float32)


def facts(detector: Any, described: Mapping[str, Any]) -> dict[str, str]:
  """What a detector is, by name, in words.

  Args:
    detector: a ``Detector``.
    described: its ``detector.json``.
  """
  schema, known = detector.schema, detector.metadata
  weights = nested(flatten(detector.arrays), "variables")
  trained = f"{known.get('training_records', 'unknown')} records"
  if trimmed := known.get("trimmed_records"):
    trained += f"; {trimmed} more were left out, far from all others"
  rows: dict[str, Any] = {
    "method": known.get("method", known.get("estimator", {}).get("class", "unknown")),
    "trained on": known.get("data", trained),
    "input": f"[n, {', '.join(map(str, detector.input_shape))}]",
    **({} if schema else {"columns": ", ".join(detector.feature_names or ()) or "without names"}),
    **({f"column {c.name}": c.describe() for c in schema.columns} if schema else {}),
    "threshold": f"{detector.threshold:.6g}, anomalous above",
    "rate": detector.rate,
    "calibrated on": f"{detector.calibration.scores.size} {_kind(detector)} records",
    "parameters": f"{sum(int(np.size(leaf)) for leaf in jax.tree.leaves(weights)):,}",
    "versions": ", ".join(f"{k} {v}" for k, v in sorted(described.get("versions", {}).items())),
  }
  return {name: str(value) for name, value in rows.items()}


def health(detector: Any) -> dict[str, str]:
  """What the checks of the training found, by name, in words."""
  return {
    finding["check"]: f"{finding['value']:.4g}, "
    + ("passed" if finding["passed"] else f"WARNING: {finding['message']}")
    for finding in detector.metadata.get("health", [])
  }


def markdown(detector: Any, described: Mapping[str, Any]) -> str:
  """The card as Markdown; arguments as of ``facts``."""
  known = facts(detector, described)
  summary = detector.metadata.get("summary")
  parts = [f"# Model card: a detector by {known['method']}", *([summary] if summary else [])]
  parts += ["## What it is", _table(("", ""), known.items())]
  if found := health(detector):
    parts += ["## Health of the training", _table(("check", "verdict"), found.items())]
  parts += ["## What one column can do"]
  try:
    parts += [SAID, _table(("column", "an alarm"), told(reach(detector)))]
  except ValueError as error:
    parts += [f"Not known. {error}"]
  return "\n\n".join([*parts, "## When to retrain", _until(detector)]) + "\n"


SAID = (
  "All other columns keep their middle values (medians, most frequent categories). A column "
  f"without an alarm can take any value within {FARTHEST:g} standard deviations, or any of its "
  "typical ones, and nothing is flagged unless other columns are unusual too."
)


def told(found: Iterable[Reach]) -> list[tuple[str, str]]:
  """Rows of a table: a column, and its alarms in words."""
  return [(each.name, ", ".join(each.alarms) or "none by itself") for each in found]


def _kind(detector: Any) -> str:
  """What the records that set the threshold are."""
  return "cross-validated" if detector.metadata.get("cross_conformal") else "held-out"


def _until(detector: Any) -> str:
  held = detector.calibration.scores.size
  rate = (
    f"The stated rate rests on {held} {_kind(detector)} records and holds for records like these"
    if held
    else "No records were held out, so that no rate is stated"
  )
  return (
    f"{rate}: not when what is typical changes. Watch for that (`python -m launch.watch`, or "
    "`detector_jax.Monitor`), and train again on newer records after a drift alarm. Anomalies are "
    "what lies apart from the training records; those that look like them are not found, and an "
    "unusual record need not be a harmful one."
  )


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
  lines = [head, ("---", "---"), *rows]
  return "\n".join(
    f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in lines
  )
