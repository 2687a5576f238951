"""What records hold that training never had, and that their scores do not show or do not name."""

from collections import Counter
import dataclasses
from typing import Any

import numpy as np

from detector_jax import health

TOLD = 5  # columns named in a message


@dataclasses.dataclass(frozen=True, eq=False)
class Unseen:
  """Counts of records, which add up over batches.

  Attributes:
    records: all of them.
    changed: those that differ in a column that was constant in training and therefore dropped.
    changes: such records by column, in words.
    strange: those with a category that training did not have.
    strangers: such records by column, in words.
  """

  records: int = 0
  changed: int = 0
  changes: Counter[str] = dataclasses.field(default_factory=Counter)
  strange: int = 0
  strangers: Counter[str] = dataclasses.field(default_factory=Counter)

  def __add__(self, other: "Unseen") -> "Unseen":
    """The counts of both."""
    pairs = zip(vars(self).values(), vars(other).values(), strict=True)
    return Unseen(*(ours + theirs for ours, theirs in pairs))

  def __bool__(self) -> bool:
    """Whether there is anything to tell."""
    return bool(self.changed or self.strange)

  def findings(self) -> list[health.Finding]:
    """Shares of records, each with what it comes to in a sentence."""
    share = 1.0 / max(self.records, 1)
    return [
      health.Finding.from_check(
        "share of records that differ in columns dropped as constant",
        self.changed * share,
        not self.changed,
        f"Of {self.records:,} records {self.changed:,} differ in a column that was constant in "
        f"training and that the detector does not look at: {_told(self.changes)}. Train again with "
        "records in which it varies.",
      ),
      health.Finding.from_check(
        "share of records with a category that training did not have",
        self.strange * share,
        not self.strange,
        f"Of {self.records:,} records {self.strange:,} have a category that training did not have: "
        f"{_told(self.strangers)}.",
      ),
    ]


def counted(detector: Any, x: np.ndarray) -> Unseen:
  """The counts of records ``[n, ...]`` as numbers; of another shape than the detector's none."""
  if x.shape[1:] != detector.input_shape or x.dtype.kind not in "buif":
    return Unseen(len(x))
  unknown = np.zeros(x.shape, bool)
  strangers = Counter[str]()
  schema, constants = detector.schema, detector.metadata.get("constants")
  for column, places in schema.groups if schema is not None else ():
    if column.kind != "category":
      continue
    strange = column.is_unknown(x[:, places])
    unknown[:, places] = strange[:, None]
    always = f" (always {column.categories[0]!r} in training, so that no score shows it)"
    told = repr(column.name) + (always if len(column.categories) == 1 and not column.others else "")
    strangers += Counter({told: int(strange.sum())})
  strange_rows = int(unknown.any(axis=1).sum()) if x.ndim == 2 else 0
  if not constants:
    return Unseen(len(x), strange=strange_rows, strangers=strangers)
  columns, values, spread = np.array(constants, np.float64).T
  places = columns.astype(np.int64)
  kind = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
  rounding = 2.0 * np.finfo(kind).eps * np.abs(values)
  differs = np.abs(x[:, places] - values) > spread + rounding
  differs &= ~unknown[:, places]  # which is told already
  names = detector.feature_names
  changes = Counter(
    {
      f"{repr(names[place]) if names else place} (always {value:g} in training)": int(count)
      for place, value, count in zip(places.tolist(), values, differs.sum(axis=0), strict=True)
      if count
    }
  )
  return Unseen(len(x), int(differs.any(axis=1).sum()), changes, strange_rows, strangers)


def _told(counts: Counter[str]) -> str:
  """The columns of most records, in words."""
  told = [f"{name} in {count:,}" for name, count in counts.most_common(TOLD)]
  more = f", and {len(counts) - TOLD} more columns" if len(counts) > TOLD else ""
  return ", ".join(told) + more
