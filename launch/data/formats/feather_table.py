""".feather files (Arrow's own format on disk), batch by batch."""

from collections.abc import Iterator
import contextlib

import pyarrow as pa

from launch.data.formats.arrow_table import ArrowTable


class Feather(ArrowTable):
  """One file of version 2, compressed or not; pieces are as the file has them."""

  ending = ".feather"

  def schema(self) -> pa.Schema:
    """See ``ArrowTable``."""
    with pa.memory_map(str(self.source.path)) as file:
      return pa.ipc.open_file(file).schema

  @contextlib.contextmanager
  def batches(
    self, rows: int, columns: list[str]
  ) -> Iterator[tuple[Iterator[pa.RecordBatch], int]]:
    """See ``ArrowTable``."""
    del rows
    with pa.memory_map(str(self.source.path)) as file:
      places = [self._schema.get_field_index(name) for name in columns]
      reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=places))
      numbers = range(reader.num_record_batches)
      total = sum(reader.get_batch(i).num_rows for i in numbers)
      yield (reader.get_batch(i) for i in numbers), total
