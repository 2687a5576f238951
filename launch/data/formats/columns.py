"""Which columns of a file are what: features, label, group."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
from typing import NamedTuple

from detector_jax import table


class DataError(ValueError):
  """Data that cannot be used; the message says why and what to do, in one sentence."""


class Chosen(NamedTuple):
  """Numbers of the columns of one file: the features, the label and the group or None."""

  features: list[int]
  label: int | None
  group: int | None


@dataclasses.dataclass(frozen=True)
class Columns:
  """What is wanted of a file.

  Attributes:
    label: column of labels: name, or number from 0; of an .npz or .mat the array. None or "": none.
    group: likewise, what says to which group a record belongs, or at which time it was taken.
    role: what ``group`` is, for messages.
    required: which of "label" and ``role`` must be there where they are given.
    labelled: whether the labels are read; else the column is left out and may hold anything.
    encoding: of a .csv, any that Python knows.
    dialect: of a .csv, see ``dialect.of``.
    header: of a .csv, see ``detector_jax.table.header``.
    trained: names of the columns that are wanted where the file names its own, see
      ``detector_jax.table.match``; the others may hold anything. None: all.
    pattern: of a folder: which of its files, as ``pathlib.Path.glob`` has it.
    shape: of a folder of pictures: ``(height, width, channels)`` of a record.
    raw: whether features and labels are wanted as they are, not as numbers; the file then must name
      its columns.
    keep: names of columns that are wanted as they are, whatever else they are, and are not told as
      left out; see ``Piece.kept``.
  """

  label: str | None = None
  group: str | None = None
  role: str = "group"
  required: tuple[str, ...] = ("label", "group")
  labelled: bool = True
  encoding: str = "utf-8"
  dialect: str = "auto"
  header: str = "auto"
  trained: Sequence[str] | None = None
  pattern: str = "**/*"
  shape: tuple[int, ...] | None = None
  raw: bool = False
  keep: Sequence[str] = ()

  @property
  def hint(self) -> str:
    """What messages add where a schema could read the columns; none of a series."""
    return "" if self.role == "time" else ", or give --config.data.columns=auto"

  def choose(self, path: object, names: Sequence[str], named: bool) -> Chosen:
    """The numbers of the columns of a file with these names.

    Raises:
      DataError: one is missing, or two are the same, or nothing is left.
    """
    label = self._find(path, names, self.label, "label")
    group = self._find(path, names, self.group, self.role)
    if group is not None and group == label:
      raise DataError(
        f"Column {names[group]!r} of {path} cannot be label and {self.role}; name another."
      )
    places = [i for i in range(len(names)) if i not in (label, group)]
    if not places:
      raise DataError(f"{path} holds no columns beside the label.")
    if named:
      with as_data_error():
        theirs = [names[i] for i in places]
        found = table.match(theirs, self.trained, str(path), not self.raw, self.keep)
      places = [places[i] for i in found]
    return Chosen(places, label if self.labelled else None, group)

  def check_kept(self, path: object, names: Sequence[str]) -> None:
    """Raises a DataError where a file with these names lacks a column that is to be kept."""
    lacking = [name for name in self.keep if name not in names]
    if lacking:
      raise DataError(
        f"{path} has no column {table.listed(lacking)} to keep; it has {table.listed(names)}."
      )

  def _find(self, path: object, names: Sequence[str], column: str | None, role: str) -> int | None:
    if not column:
      return None
    if column in names:
      return list(names).index(column)
    number = int(column) if column.removeprefix("-").isdecimal() else len(names)
    if -len(names) <= number < len(names):
      return number % len(names)
    if role in self.required:
      raise DataError(f"{path} has no {role} column {column!r}; it has {table.listed(names)}.")
    return None


@contextlib.contextmanager
def as_data_error() -> Iterator[None]:
  """Makes what the core refuses with a ValueError a DataError."""
  try:
    yield
  except ValueError as error:
    raise DataError(str(error)) from error
