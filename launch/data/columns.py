"""Which columns of a file are what: features, label, group."""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from detector_jax import table
from detector_jax.table import listed, match


class DataError(ValueError):
  """Data that cannot be used; the message says why and what to do, in one sentence."""


@dataclasses.dataclass(frozen=True)
class Columns:
  """Which columns of a file (or arrays of an .npz or .mat) are no features.

  Attributes:
    label: name or number of the labels, or None.
    group: name or number of what records belong to, or None.
    required: whether a label that is not there is an error; a group always is.
    header: of a .csv, see ``header``.
    trained: names of the columns that are wanted where the file names its own, see
      ``detector_jax.table.match``; the others may hold anything. None: all.
  """

  label: str | None = None
  group: str | None = None
  required: bool = True
  header: str = "auto"
  trained: tuple[str, ...] | None = None

  def of(self, path: object, names: Sequence[str], named: bool) -> "Chosen":
    """The numbers of the columns of a file with these names."""
    label = find_column(path, names, self.label, "label", self.required)
    group = find_column(path, names, self.group, "group")
    if group is not None and group == label:
      raise DataError(f"Column {names[group]!r} of {path} cannot be label and group; name another.")
    places = [i for i in range(len(names)) if i not in (label, group)]
    if named and self.trained is not None:
      own = [names[i] for i in places]
      places = [places[i] for i in matched(own, self.trained, path)]
    return Chosen(places, label, group)


class Chosen(NamedTuple):
  """Numbers of the columns of one file: the features, the label and the group or None."""

  features: list[int]
  label: int | None
  group: int | None

  @property
  def numeric(self) -> list[int]:
    """All that must hold numbers."""
    return self.features if self.label is None else [*self.features, self.label]


def matched(names: Sequence[str], trained: Sequence[str] | None, path: object) -> list[int]:
  """``detector_jax.table.match`` for the columns of a file.

  Raises:
    DataError: columns are missing.
  """
  try:
    return match(names, trained, str(path))
  except ValueError as error:
    raise DataError(str(error)) from error


def find_column(
  path: object, names: Sequence[str], column: str | None, role: str, required: bool = True
) -> int | None:
  """Number of the column that is named, by name or by number; None where none is.

  Args:
    path: of the file, for messages.
    names: of its columns.
    column: name, or number from 0 (-1 is the last); None or "": none.
    role: what the column is, for messages: "label" or "group".
    required: whether a column that is not there is an error.

  Raises:
    DataError: it is not there although it is ``required``.
  """
  if not column:
    return None
  if column in names:
    return list(names).index(column)
  number = int(column) if column.removeprefix("-").isdecimal() else len(names)
  if -len(names) <= number < len(names):
    return number % len(names)
  if required:
    raise DataError(f"{path} has no {role} column {column!r}; it has {listed(names)}.")
  return None


def check_unique(path: object, names: Sequence[str]) -> None:
  """Raises a DataError where two columns have one name."""
  try:
    table.check_unique(path, names)
  except ValueError as error:
    raise DataError(str(error)) from error
