"""What the formats have in common that name their columns and give them a type."""

from collections.abc import Iterator
import contextlib

import numpy as np
import pyarrow as pa

from detector_jax import table
from launch.data.formats.columns import Columns, DataError, as_data_error
from launch.data.formats.reader import Input, Piece, Reader


class ArrowTable(Reader):
  """Numeric columns, or raw ones of any type; those that pandas stored as an index are left out.

  A format says what its columns are, and gives them in batches.
  """

  tabular = True
  named = True

  def __init__(self, source: Input, columns: Columns):
    super().__init__(source, columns)
    self._schema = self.schema()
    every = self._column_names()
    features, label, group = columns.choose(source.name, every, True)
    columns.check_kept(source.name, self._schema.names)
    self.names = tuple(every[i] for i in features)
    self._label, self._group = (None if i is None else every[i] for i in (label, group))
    if not columns.raw:
      self._check_numeric([name for name in every if name in (*self.names, self._label)])

  def schema(self) -> pa.Schema:
    """Names and types of the columns."""
    raise NotImplementedError

  def batches(
    self, rows: int, columns: list[str]
  ) -> contextlib.AbstractContextManager[tuple[Iterator[pa.RecordBatch], int]]:
    """These columns, ``rows`` at a time or as the file has them, and the number of all rows."""
    raise NotImplementedError

  def pieces(self, rows: int) -> Iterator[Piece]:
    """See ``Reader``."""
    assert self.names is not None
    columns = (*self.names, self._label, self._group, *self.columns.keep)
    wanted = list(dict.fromkeys(name for name in columns if name is not None))
    start = 0
    with self.batches(rows, wanted) as (batches, total):
      for batch in batches:
        if len(batch):
          yield self._piece(batch, start, total)
        start += len(batch)
    if not start:
      raise self.no_records()

  def _piece(self, batch: pa.RecordBatch, start: int, total: int) -> Piece:
    assert self.names is not None
    groups = None
    if self._group is not None:  # an empty cell names no group
      cells = (None if each == "" else each for each in batch[self._group].to_pylist())
      groups = np.array(list(cells), object)
    place = (start, start + len(batch), total)
    labels = None if self._label is None else batch[self._label]
    kept = {name: _plain(batch[name]) for name in self.columns.keep}
    if self.columns.raw:
      raw = [batch[name] for name in self.names]
      return self.piece(None, *place, labels=labels, groups=groups, raw=raw, kept=kept)
    x = np.stack([_numbers(batch[name]) for name in self.names], axis=1)
    labels = None if labels is None else _numbers(labels)
    return self.piece(x, *place, labels=labels, groups=groups, kept=kept)

  def _column_names(self) -> list[str]:
    """Names of the columns, without those that pandas stored as an index and nobody asks for."""
    names = self._schema.names
    with as_data_error():
      table.check_unique(self.source.name, names)
    index = {name for name in names if name.startswith("__index_level_")}
    stored = self._schema.pandas_metadata or {}
    index |= {name for name in stored.get("index_columns", []) if isinstance(name, str)}
    index -= {self.columns.label, self.columns.group, *(self.columns.trained or ())}
    if not set(names) - index:
      raise DataError(f"{self.source.name} has no columns; write it again.")
    return [name for name in names if name not in index]

  def _check_numeric(self, names: list[str]) -> None:
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    for name in names:
      kind = self._schema.field(name).type
      if not any(check(kind) for check in checks):
        raise DataError(
          f"Column {name!r} of {self.source.name} holds {kind}; encode it as numbers (labels as 0 "
          f"typical, 1 anomalous) or remove it{self.columns.hint}."
        )


def _plain(values: pa.Array) -> pa.Array:
  """A column, categories of pandas as their text."""
  return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _numbers(values: pa.Array) -> np.ndarray:
  return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
