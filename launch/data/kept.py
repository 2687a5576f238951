"""Columns of an input that are written beside its scores, as they are: --keep=id,timestamp.

They are read a second time, in step with the records, so that the readers of records need not know
of them: rows are those of ``read_pieces``, lines that are blank left out.
"""

from collections.abc import Iterator, Sequence
import contextlib
import csv
import itertools
import pathlib
from typing import Any, Self

import pyarrow as pa
from pyarrow import parquet

from detector_jax import table
from launch.data.formats import DataError
from launch.data.formats.csv_text import encoding_of

WRITTEN = ("row", "first", "last", "score", "p_value", "decision", "layer", "side", "reason")
ROWS = 2**14


class Kept:
  """The kept columns of a file, some rows at a time; a context manager, which closes it.

  Args:
    source: .csv or .parquet.
    names: of the columns; none keeps nothing.
    header: of a .csv, see ``table.header``.
    trained: names of the detector's columns, see ``table.header``.
    encoding: of a .csv.

  Raises:
    DataError: an input of another kind, a column that is not there, or one named as a column of the
      scores is.
  """

  def __init__(
    self,
    source: str,
    names: Sequence[str],
    header: str = "auto",
    trained: Sequence[str] | None = None,
    encoding: str = "utf-8",
  ):
    self._source, self._names = source, tuple(names)
    self._open = contextlib.ExitStack()
    self._held: pa.Table | None = None
    self._parts: Iterator[pa.Table] = iter(())
    path = pathlib.Path(source).expanduser()
    taken = [name for name in names if name in WRITTEN]
    if taken or len(set(names)) < len(names):
      raise DataError(f"--keep={','.join(names)} would write two columns of one name.")
    if not names:
      return
    with contextlib.ExitStack() as stack:
      if path.suffix.lower() == ".parquet":
        file = stack.enter_context(parquet.ParquetFile(path))
        self._check(file.schema_arrow.names)
        batches = file.iter_batches(ROWS, columns=list(self._names))
        self._parts = (pa.table(batch).select(self._names) for batch in batches)
      elif path.suffix.lower() == ".csv":
        encoding = encoding_of(encoding)
        text = open(path, newline="", encoding=encoding, errors="replace")  # noqa: SIM115
        records = (fields for fields in csv.reader(stack.enter_context(text)) if fields)
        first = next(records, [])
        found, named = table.header(path, first, header, trained)
        self._check(found)
        places = [found.index(name) for name in names]
        self._parts = self._csv(records if named else itertools.chain([first], records), places)
      else:
        raise DataError(f"--keep is for .csv and .parquet files, which name columns, not {source}.")
      self._open = stack.pop_all()

  def _check(self, found: Sequence[str]) -> None:
    lacking = [name for name in self._names if name not in found]
    if lacking:
      raise DataError(
        f"{self._source} has no column {table.listed(lacking)} to keep; it has "
        f"{table.listed(list(found))}."
      )

  def _csv(self, records: Iterator[list[str]], places: list[int]) -> Iterator[pa.Table]:
    while part := list(itertools.islice(records, ROWS)):
      columns = [["".join(fields[i : i + 1]) or None for fields in part] for i in places]
      arrays = [pa.array(column, pa.string()) for column in columns]
      yield pa.table(arrays, names=list(self._names))

  def take(self, rows: int) -> dict[str, Any]:
    """The next rows: name -> pyarrow array ``[rows]``.

    Raises:
      DataError: there are fewer, since quotes are not closed or the file changes.
    """
    if not self._names:
      return {}
    parts, have = [self._held] if self._held is not None else [], len(self._held or ())
    while have < rows and (part := next(self._parts, None)) is not None:
      parts.append(part)
      have += len(part)
    if have < rows:
      raise DataError(
        f"{self._source} has another number of records for --keep than for the scores: a quote is "
        "not closed, or the file was changed meanwhile. Repair it, or leave --keep out."
      )
    whole = pa.concat_tables(parts)
    self._held = whole.slice(rows)
    taken = whole.slice(0, rows).combine_chunks()
    return {name: _flat(taken.column(name)) for name in self._names}

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    self._open.close()


def _flat(column: pa.ChunkedArray) -> pa.Array:
  """A column in one piece, categories of pandas as their text."""
  if pa.types.is_dictionary(column.type):
    column = column.cast(column.type.value_type)
  return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
