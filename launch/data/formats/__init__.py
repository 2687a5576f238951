"""One reader for each file format, for training and for scoring."""

from collections.abc import Iterator
import contextlib
import io
import os
import pathlib
import sys

import pyarrow as pa

from detector_jax.table import reason_of
from launch.data.formats.arrays import Mat, Npy, Npz
from launch.data.formats.columns import Columns, DataError
from launch.data.formats.csv_text import Csv
from launch.data.formats.feather_table import Feather
from launch.data.formats.parquet_folder import ParquetFolder
from launch.data.formats.parquet_table import Parquet
from launch.data.formats.pictures import ENDINGS as PICTURES
from launch.data.formats.pictures import Pictures
from launch.data.formats.reader import Input, Reader
from launch.data.formats.sql_query import Sql

__all__ = ("READERS", "STANDARD_INPUT", "Columns", "DataError", "damage_named", "opened")

STANDARD_INPUT = "-"
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")  # of a .csv
# One entry for each format.
READERS: dict[str, type[Reader]] = {
  each.ending: each for each in (Csv, Parquet, Feather, Sql, Npy, Npz, Mat)
}


@contextlib.contextmanager
def opened(source: str | os.PathLike[str], columns: Columns) -> Iterator[Reader]:
  """The reader of a file, of a folder, of .parquet files or pictures, or of "-", CSV on stdin.

  Raises:
    DataError: it is missing, empty, damaged, of an unknown ending, or has not what is wanted.
  """
  if source == STANDARD_INPUT:
    name = "standard input"
    with damage_named(name, ".csv"):
      yield Csv(Input(name, pathlib.Path(), sys.stdin.buffer, 0), columns)
    return
  path = pathlib.Path(source).expanduser()
  known = [ending for ending, reader in READERS.items() if reader.tabular or not columns.raw]
  ending = path.suffix.lower()
  squeezed = ending in COMPRESSED and path.with_suffix("").suffix.lower() == Csv.ending
  if squeezed:
    ending = Csv.ending
  if path.is_dir() and ParquetFolder.is_one(path):
    with damage_named(path, ParquetFolder.ending):
      yield ParquetFolder(Input(path, path, io.BytesIO(), 0), columns)
    return
  if columns.keep and not (ending in READERS and READERS[ending].tabular):
    raise DataError(f"--keep is for tables, which name columns, not {source}.")
  if path.is_dir() and ending not in known:
    yield Pictures(Input(path, path, io.BytesIO(), 0), columns)
    return
  if ending in PICTURES:
    raise DataError(f"{path} is one picture, and pictures are read by the folder: give its folder.")
  if ending not in known:
    raise DataError(
      f"{path} has an unknown ending {path.suffix!r}; known ones are {', '.join(known)}, "
      f"and .csv with {', '.join(COMPRESSED)}."
    )
  if not path.is_file():
    raise DataError(f"There is no file {path}; check the name.")
  if not path.stat().st_size:
    raise DataError(f"{path} is empty; write it again.")
  if squeezed:
    with damage_named(path, "".join(path.suffixes[-2:])), pa.input_stream(str(path)) as stream:
      yield Csv(Input(path, path, stream, 0), columns)
    return
  with damage_named(path, ending), open(path, "rb") as stream:
    yield READERS[ending](Input(path, path, stream, path.stat().st_size), columns)


@contextlib.contextmanager
def damage_named(name: object, ending: str) -> Iterator[None]:
  """Makes whatever a parser raises over a damaged file a DataError.

  Args:
    name: of the file.
    ending: of the format, e.g. ".csv".
  """
  try:
    yield
  except DataError:
    raise
  except Exception as error:  # a damaged file makes its parser raise anything
    if "Object arrays cannot be loaded" in str(error):
      raise DataError(
        f"{name} holds Python objects, which are refused since loading them can run code; save an "
        "array of numbers."
      ) from error
    reason = reason_of(error)
    raise DataError(
      f"{name} cannot be read, it is damaged or not a {ending} file ({reason}); write it again."
    ) from error
