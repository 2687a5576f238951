"""What a file format is: a class that reads the records of a file a piece at a time.

Training joins the pieces that scoring looks at one by one. Places in a .csv are lines, counted from
1 as editors do; in other files rows, from 0 as NumPy does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import pathlib
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np

from detector_jax.table import unfit
from launch.data.formats.columns import Columns, DataError


class Fault(NamedTuple):
  """A place such as "line 3", what is found there, and in which cell: "" of a whole record."""

  place: str
  found: str
  cell: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
  """Some records of a file.

  Attributes:
    x: ``[n, ...]`` real numbers, not finite in a record that cannot be used; of raw columns None
      until they are encoded.
    start: number of the first record in the file, from 0.
    done: share of the file that is read with this piece, in [0, 1], or None where nobody knows.
    name: of the file.
    fault: what is wrong with record ``i``.
    refused: bool ``[n]``, what is no record, or holds something other than numbers; None: nothing.
    labels: ``[n]`` numbers, raw cells, or None.
    groups: ``[n]`` objects or None.
    raw: raw columns, pyarrow arrays of ``n`` cells, or none.
    kept: name -> cells of ``Columns.keep``, pyarrow arrays ``[n]``; nothing where a .csv has none.
  """

  x: Any
  start: int
  done: float | None
  name: object
  fault: Callable[[int], Fault]
  refused: np.ndarray | None = None
  labels: Any = None
  groups: np.ndarray | None = None
  raw: Sequence[Any] = ()
  kept: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def explain(self, row: int) -> str:
    """What is wrong with record ``row``, and where: "line 3 of x.csv has 2 fields ..."."""
    place, found, cell = self.fault(row)
    return f"{place} of {self.name} " + (f"holds {found} in {cell}" if cell else found)

  def refuse(self, row: int, advice: str = "repair it") -> DataError:
    """The error of record ``row``."""
    said = self.explain(row)
    return DataError(f"{said[0].upper()}{said[1:]}; {advice}.")

  def check(self, hint: str = "") -> None:
    """Raises a DataError for the first record that is none, or holds text where numbers go.

    Args:
      hint: see ``Columns``.
    """
    if self.refused is None or not self.refused.any():
      return
    row = int(self.refused.argmax())
    place, found, cell = self.fault(row)
    if not cell:
      raise self.refuse(row, "repair the line")
    raise DataError(
      f"{cell[0].upper()}{cell[1:]} of {self.name} holds {found} in {place}; encode it as numbers "
      f"(labels as 0 typical, 1 anomalous) or remove it{hint}."
    )


def joined(parts: Sequence[Any]) -> Any:
  """The values of all pieces, None where they have none."""
  return None if parts[0] is None else np.concatenate(parts)


class Input(NamedTuple):
  """A name for messages, the path, the open file, and its bytes in all: 0 where nobody knows."""

  name: object
  path: pathlib.Path
  stream: BinaryIO
  size: int


class Reader:
  """One file that is being read; a format is a subclass.

  Args:
    source: the file.
    columns: what is wanted of it.

  Attributes:
    ending: of the files of the format, in small letters.
    tabular: whether the format can have named columns of other things than numbers.
    names: of the columns of ``Piece.x`` or ``Piece.raw``; columns without a name have their number
      in the file. None for records of more axes than one.
    named: whether the file names its columns.
    decimal: mark of the numbers in raw columns of text, which are as the file has them.

  Raises:
    DataError: the file cannot be used. What a damaged one makes a parser raise, see ``opened``.
  """

  ending: ClassVar[str]
  tabular: ClassVar[bool] = False

  names: tuple[str, ...] | None
  named: bool = False
  decimal: str = "."

  def __init__(self, source: Input, columns: Columns):
    self.source, self.columns = source, columns

  def pieces(self, rows: int) -> Iterator[Piece]:
    """All records, ``rows`` at a time or as many as suit the format; can be called once.

    Raises:
      DataError: there are none.
    """
    raise NotImplementedError

  def piece(self, x: Any, start: int, end: int, total: int, **more: Any) -> Piece:
    """The records ``start, ..., end - 1`` of ``total`` in all, which are numbered."""

    def fault(row: int) -> Fault:
      wrong = [] if x is None else np.argwhere(unfit(x[row])).tolist()
      if not wrong:
        return Fault(f"row {start + row}", "")
      cell = f"column {self.names[wrong[0][0]]!r}" if self.names else f"place {wrong[0]}"
      return Fault(f"row {start + row}", problem(x[row][tuple(wrong[0])]), cell)

    return Piece(x, start, end / total, self.source.name, fault, **more)

  def no_records(self) -> DataError:
    """The error of a file without any."""
    return DataError(f"{self.source.name} holds no records.")


def problem(value: float) -> str:
  """What is wrong with a number that float32 cannot hold."""
  if np.isnan(value):
    return "NaN or nothing"
  return "infinity" if np.isinf(value) else f"{value:g}, too large a number,"
