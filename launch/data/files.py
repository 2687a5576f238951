"""Tables in files: .csv, .parquet, .feather, .sql, .npy, .npz and .mat.

Every problem with a file is a ``DataError`` of one sentence: what is wrong, where, what to do.
"""

import dataclasses
import os
import pathlib
from typing import Any, ClassVar

import numpy as np

from launch.data.formats import Columns, DataError, opened
from launch.data.formats.reader import Piece, joined
from launch.data.mixed import load_mixed
from launch.data.source import Source
from launch.data.splits import Splits

__all__ = ("DataError", "Files", "Table", "load_files", "read_table")

Path = str | os.PathLike[str]
ROWS = 2**16  # per piece
SERIES = "fill them, or take the clean stretches of the series."


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """The records of one file.

  Attributes:
    x: float64 ``[n, ...]``, finite and not empty.
    labels: int64 ``[n]``, 1 = anomalous and 0 = typical, or None.
    names: names of the columns of ``x``; columns without a name have their number in the file.
      None for records of more axes than one.
    named: whether the file names its columns.
    groups: ``[n]`` labels of what each record belongs to, or None.
  """

  x: np.ndarray
  labels: np.ndarray | None
  names: tuple[str, ...] | None
  named: bool
  groups: np.ndarray | None = None


@dataclasses.dataclass(kw_only=True)
class Files(Source):
  """Your own records in files: .csv, .parquet, .feather, .sql, .npy, .npz or .mat.

  See ``load_files``; a folder of .parquet files is one table.

  Attributes:
    train: file of typical records.
    test: file of test records; empty: none.
    label: label column (or array, in .npz and .mat): name, or number from 0; 1 = anomalous. Empty:
      none, or the array ``y`` if there is one.
    group: column (or array, in .npz and .mat) that says what each training record belongs to (a
      patient, a machine, a recording; text or numbers): records of one group are never divided into
      training and calibration. Empty: none; equal records never are.
    encoding: of a .csv, any that Python knows: "cp1252", "utf-16".
    dialect: of a .csv: delimiter (a comma, ;, | or "tab") and decimal mark, such as ";,"; "auto"
      looks at its first records.
    header: whether a .csv begins with names: "yes", "no", or "auto", which takes a first line of
      numbers alone for a record unless they are 0, 1, 2, ..., and says so.
    columns: "auto" learns a schema of a .csv or .parquet whose columns hold text, dates, booleans
      or missing cells, see ``detector_jax.schema``; "zip:category,id:drop" does so and sets the
      kinds of some. Empty: numbers alone.
  """

  names: ClassVar[tuple[str, ...]] = ("files",)

  name: str = "files"
  train: str = ""
  test: str = ""
  label: str = ""
  group: str = ""
  encoding: str = "utf-8"
  dialect: str = "auto"
  header: str = "auto"
  columns: str = ""

  @property
  def is_tested(self) -> bool:
    """Whether there is a test file."""
    return bool(self.test)

  def read(self) -> Splits:
    """See ``load_files``.

    Raises:
      DataError: no file to train on, or one that cannot be used.
    """
    if not self.train:
      raise DataError("The data set 'files' needs a file to train on: set train.")
    if self.columns:
      if self.header == "no":
        raise DataError(
          "data.columns names columns, and data.header=no says that there are no names."
        )
      written = (self.encoding, self.dialect)
      return load_mixed(self.train, self.test, self.label, self.group, self.columns, *written)
    return load_files(
      self.train,
      self.test or None,
      self.label or None,
      group=self.group or None,
      header=self.header,
      encoding=self.encoding,
      dialect=self.dialect,
    )


def read_table(
  path: Path,
  label: str | None = None,
  *,
  label_required: bool = True,
  group: str | None = None,
  role: str = "group",
  header: str = "auto",
  trained: tuple[str, ...] | None = None,
  encoding: str = "utf-8",
  dialect: str = "auto",
) -> Table:
  """Reads records, and labels where there are any.

  - .csv: comma-separated; see ``detector_jax.table.header`` for its first line.
  - .parquet and .feather: numeric columns; those that pandas stored as an index are left out.
  - .sql: a query, see ``launch.data.formats.sql_query``.
  - .npy: ``[n, d]``, or more axes when there is no label column. Never unpickled.
  - .npz and .mat: records in an array ``x`` or ``X`` ``[n, ...]``. Never unpickled.

  Args:
    path: the file.
    label: .csv, .parquet and .npy: name or number (from 0; -1 is the last) of the label column,
      None if there is none. .npz and .mat: name of the label array; None means ``y``, if there.
    label_required: whether a ``label`` that the file does not have is an error.
    group: name or number of the column (or name of the array) that says what each record belongs
      to, text or numbers; None if there is none.
    role: what ``group`` is, for messages.
    header: whether a .csv has one: "auto", "yes" or "no".
    trained: names of the columns that are wanted where the file names its own, in any order.
    encoding: of a .csv.
    dialect: likewise, see ``detector_jax.dialect``.

  Raises:
    DataError: the file is missing, empty, damaged, of an unknown ending, or holds anything but
      finite numbers and labels 0 and 1.
  """
  required = ("label", role) if label_required else (role,)
  columns = Columns(
    label,
    group,
    role,
    required,
    encoding=encoding,
    dialect=dialect,
    header=header,
    trained=trained,
  )
  with opened(path, columns) as reader:
    parts = []
    for piece in reader.pieces(ROWS):
      piece.check(columns.hint)
      parts.append((piece.x, piece.labels, piece.groups))
    x, labels, groups = (joined(values) for values in zip(*parts, strict=True))
    table = Table(x.astype(np.float64, copy=False), labels, reader.names, reader.named, groups)
  _check_records(path, table, columns)
  return dataclasses.replace(table, labels=_checked_labels(path, table, columns))


def piece_of(path: Path, columns: Columns, row: int) -> tuple[Piece, int]:
  """The piece of a file that holds a record, and the place of the record there."""
  with opened(path, columns) as reader:
    for piece in reader.pieces(ROWS):
      if row < piece.start + len(piece.x):
        return piece, row - piece.start
  raise IndexError(f"{path} has no record {row}.")


def load_files(
  train: Path,
  test: Path | None = None,
  label: str | None = None,
  *,
  group: str | None = None,
  header: str = "auto",
  encoding: str = "utf-8",
  dialect: str = "auto",
) -> Splits:
  """Training and, if given, test records from files.

  Test columns are matched to the training columns by name where both files have names, in any
  order, and by their number otherwise; see ``detector_jax.table``. Training records that are
  labelled anomalous become the ``negatives``: DROCC-OE and DROCC-LF learn from them, the other
  methods leave them aside.

  Args:
    train: typical records, with or without labels.
    test: records to test on, with or without labels; None or "": none.
    label: as in ``read_table``; at least one of the files must have it. A number is looked up in
      both, so where only the test file has labels, they must be beyond the training columns.
    group: of the training records, as in ``read_table``; a test file need not have it.
    header: as in ``read_table``.
    encoding: as in ``read_table``.
    dialect: likewise.

  Returns:
    Splits; ``y_test`` is None when the test file has no labels.

  Raises:
    DataError: a file that cannot be used (see ``read_table``), columns that differ, or no typical
      training record.
  """
  written: dict[str, Any] = {"header": header, "encoding": encoding, "dialect": dialect}
  learned = read_table(train, label, label_required=not test, group=group, **written)
  x_train, groups, negatives = learned.x, learned.groups, None
  if learned.labels is not None and (learned.labels == 1).any():
    x_train, negatives = x_train[learned.labels == 0], x_train[learned.labels == 1]
    groups = None if groups is None else groups[learned.labels == 0]
    if not len(x_train):
      raise DataError(
        f"All {len(negatives)} records of {train} are labelled 1; give typical ones (0)."
      )
  name = f"{pathlib.Path(train).name}, {len(x_train)} typical records"
  names = learned.names if learned.named else None
  if not test:
    return Splits(
      x_train, feature_names=names, description=name, negatives=negatives, groups=groups
    )
  tested = read_table(test, label, label_required=learned.labels is None, trained=names, **written)
  _check_shape(train, learned, test, tested)
  return Splits(
    x_train,
    tested.x,
    tested.labels,
    names,
    description=f"{name}; tested on {pathlib.Path(test).name}, {len(tested.x)} records",
    negatives=negatives,
    groups=groups,
  )


def _check_records(path: Path, table: Table, columns: Columns) -> None:
  wrong = ~np.isfinite(table.x)
  if wrong.any():
    row = int(np.argwhere(wrong)[0, 0])
    piece, row = piece_of(path, columns, row)
    place, found, cell = piece.fault(row)
    raise DataError(
      f"{path} holds {found} in {cell}, {place} ({int(wrong.sum())} such values in all); "
      + (f"impute or remove them{columns.hint}, which fills them." if columns.hint else SERIES)
    )


def _checked_labels(path: Path, table: Table, columns: Columns) -> np.ndarray | None:
  if table.labels is None:
    return None
  wrong = ~np.isin(table.labels, (0, 1))
  if wrong.any():
    row = int(wrong.argmax())
    piece, place = piece_of(path, columns, row)
    raise DataError(
      f"Label {columns.label or 'y'!r} of {path} is {table.labels[row]:g} in "
      f"{piece.fault(place).place}; write 0 for typical and 1 for anomalous records."
    )
  return table.labels.astype(np.int64)


def _check_shape(train: Path, learned: Table, test: Path, tested: Table) -> None:
  """Raises a DataError where test records are not of the size of training records."""
  have, need = tested.x.shape[1:], learned.x.shape[1:]
  if have != need:
    raise DataError(
      f"{test} has records of {_size(have)} where {train} has {_size(need)}; make them agree."
    )


def _size(shape: tuple[int, ...]) -> str:
  return f"{shape[0]} columns" if len(shape) == 1 else f"shape {list(shape)}"
