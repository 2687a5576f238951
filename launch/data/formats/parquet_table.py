""".parquet files, batch by batch."""

from collections.abc import Iterator
import contextlib

import pyarrow as pa
from pyarrow import parquet

from launch.data.formats.arrow_table import ArrowTable


class Parquet(ArrowTable):
  """One file."""

  ending = ".parquet"

  def schema(self) -> pa.Schema:
    """See ``ArrowTable``."""
    return parquet.read_schema(self.source.path)

  @contextlib.contextmanager
  def batches(
    self, rows: int, columns: list[str]
  ) -> Iterator[tuple[Iterator[pa.RecordBatch], int]]:
    """See ``ArrowTable``."""
    with parquet.ParquetFile(self.source.path, pre_buffer=False, buffer_size=2**20) as file:
      yield file.iter_batches(rows, columns=columns), file.metadata.num_rows
