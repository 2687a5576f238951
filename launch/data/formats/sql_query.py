"""A query of a database: an .sql file whose first line says of which one.

  -- sqlite:///bank.db
  SELECT * FROM payments WHERE day < '2026-03-01' ORDER BY id

SQLite needs nothing else; any other database goes through SQLAlchemy (extra ``sql``) and its
driver. The path of an SQLite database is relative to the .sql file, and it is only read.
"""

from collections.abc import Iterator
import contextlib
import pathlib
import sqlite3
from typing import Any

import pyarrow as pa

from launch.data.formats.arrow_table import ArrowTable
from launch.data.formats.columns import DataError

SQLITE = "sqlite:///"


class Sql(ArrowTable):
  """The result of the query, which is held in memory."""

  ending = ".sql"

  def schema(self) -> pa.Schema:
    """See ``ArrowTable``."""
    first, _, query = self.source.path.read_text(encoding="utf-8").partition("\n")
    url = first.removeprefix("--").strip()
    if not first.startswith("--") or "://" not in url or not query.strip():
      raise DataError(
        f"The first line of {self.source.name} must name the database, as in -- sqlite:///bank.db, "
        "and a query must follow."
      )
    names, rows = (
      _sqlite(self._database(url), query) if url.startswith(SQLITE) else _any(url, query)
    )
    if len(set(names)) < len(names):
      twice = next(name for name in names if names.count(name) > 1)
      raise DataError(f"{self.source.name} has two columns named {twice!r}; rename one.")
    if not rows:
      raise self.no_records()
    cells = zip(*rows, strict=True)
    self._table = pa.table({n: _column(list(each)) for n, each in zip(names, cells, strict=True)})
    return self._table.schema

  @contextlib.contextmanager
  def batches(
    self, rows: int, columns: list[str]
  ) -> Iterator[tuple[Iterator[pa.RecordBatch], int]]:
    """See ``ArrowTable``."""
    chosen = self._table.select(columns)
    yield iter(chosen.to_batches(rows)), len(chosen)

  def _database(self, url: str) -> pathlib.Path:
    path = self.source.path.parent / pathlib.Path(url.removeprefix(SQLITE)).expanduser()
    if not path.is_file():
      raise DataError(f"There is no database {path}, which {self.source.name} names.")
    return path


def _sqlite(path: pathlib.Path, query: str) -> tuple[list[str], list[Any]]:
  """Names and rows of a query of an SQLite file."""
  with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
    found = base.execute(query)
    return [each[0] for each in found.description or ()], found.fetchall()


def _any(url: str, query: str) -> tuple[list[str], list[Any]]:
  """Names and rows of a query of any database that SQLAlchemy knows."""
  try:
    import sqlalchemy
  except ImportError as error:
    raise DataError(
      "A database other than SQLite goes through SQLAlchemy: install the extra sql, and its driver."
    ) from error
  engine = sqlalchemy.create_engine(url)
  try:
    with engine.connect() as connection:
      found = connection.execute(sqlalchemy.text(query))
      return list(found.keys()), [tuple(row) for row in found]
  finally:
    engine.dispose()


def _column(values: list[Any]) -> pa.Array:
  """A column of one type: as it is, or text where SQLite has several in one."""
  try:
    return pa.array(values)
  except (pa.ArrowInvalid, pa.ArrowTypeError):
    if all(value is None or isinstance(value, (int, float)) for value in values):
      return pa.array([None if value is None else float(value) for value in values])
    return pa.array([None if value is None else str(value) for value in values], pa.string())
