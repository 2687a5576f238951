"""Folders of .parquet files that are one table, as Spark, Dask and pandas write them."""

from collections.abc import Iterator
import contextlib
import pathlib

import pyarrow as pa
from pyarrow import dataset

from launch.data.formats.arrow_table import ArrowTable


class ParquetFolder(ArrowTable):
  """All files in the order of their names; folders ``key=value`` in it are a column ``key``."""

  ending = "folder of .parquet files"

  @staticmethod
  def is_one(path: pathlib.Path) -> bool:
    """Whether a folder holds .parquet files."""
    return next(path.rglob("*.parquet"), None) is not None

  def schema(self) -> pa.Schema:
    """See ``ArrowTable``."""
    files = sorted(map(str, self.source.path.rglob("*.parquet")))
    kind = dataset.HivePartitioning.discover(infer_dictionary=False)
    base = str(self.source.path)
    self._dataset = dataset.dataset(
      files, format="parquet", partitioning=kind, partition_base_dir=base
    )
    return self._dataset.schema

  @contextlib.contextmanager
  def batches(
    self, rows: int, columns: list[str]
  ) -> Iterator[tuple[Iterator[pa.RecordBatch], int]]:
    """See ``ArrowTable``."""
    total = self._dataset.count_rows()
    yield self._dataset.scanner(columns=columns, batch_size=rows).to_batches(), total
