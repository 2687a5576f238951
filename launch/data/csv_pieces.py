"""CSV inputs for scoring: blocks of whole lines, from a file or from standard input."""

from collections.abc import Iterator, Sequence
import csv
import dataclasses
import functools
import io
import itertools
import re
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from detector_jax import table
from launch.data import formats
from launch.data.formats import DataError
from launch.data.pieces import Piece, problem, selected, unfit

BLOCK_BYTES = 2**23
LONGEST_LINE = 2**26
LONGEST_RECORD = 2**16  # of a record that goes over several lines
LINE_END = re.compile(rb"\r\n|\n|\r")
LINES = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


def csv_pieces(
  stream: BinaryIO,
  name: str,
  size: int,
  label: str | None,
  trained: Sequence[str] | None,
  header: str = "auto",
) -> Iterator[Piece]:
  """Yields the records of a CSV stream in pieces of about 8 MiB of text.

  A quoted field may hold line ends, up to 64 KiB of text; a quote that is not closed within that
  spoils its line alone.

  Args:
    stream: binary.
    name: of the input, for messages.
    size: of the stream in bytes, 0 where nobody knows.
    label: a column to leave out, by name or number.
    trained: names of the columns that are wanted, see ``pieces.selected``.
    header: whether the input has one, see ``formats.header``.

  Raises:
    DataError: no records, a header that cannot be used, or a column is missing.
  """
  blocks = _blocks(stream, name)
  first = next(blocks, b"").removeprefix(b"\xef\xbb\xbf")
  while not first.strip() and (more := next(blocks, b"")):
    first += more
  reader = csv.reader(io.TextIOWrapper(io.BytesIO(first), "utf-8", newline=""))
  fields = next((fields for fields in reader if fields), [])
  names, named = formats.header(name, fields, header, trained)
  lines = _Lines(name, names, selected(name, names, named, label, trained))
  line, start = 1, 0
  if named:
    line += reader.line_num
    ends = (match.end() for match in LINE_END.finditer(first))
    first = first[next(itertools.islice(ends, reader.line_num - 1, None), len(first)) :]
  for block in itertools.chain([first], blocks):
    x = lines.parse(block)
    done = stream.tell() / size if size else None
    if len(x):
      yield Piece(x, start, done, functools.partial(lines.explain, block, line))
    start += len(x)
    line += block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
  if not start:
    raise DataError(f"{name} holds no records.")


def _blocks(stream: BinaryIO, name: str) -> Iterator[bytes]:
  """Whole lines of a stream, about ``BLOCK_BYTES`` at a time."""
  rest = b""
  while data := stream.read(BLOCK_BYTES):
    if data.endswith(b"\r"):
      data += stream.read(1)
    data = rest + data
    cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if b'"' in data[:cut]:
      cut = _last_record(data[:cut])
    if cut:
      yield data[:cut]
    rest = data[cut:]
    if len(rest) > LONGEST_LINE:
      raise DataError(f"{name} has a line of more than {LONGEST_LINE} bytes; it is no CSV.")
  if rest:
    yield rest


@dataclasses.dataclass(frozen=True)
class _Lines:
  """How lines of a CSV input become rows.

  Attributes:
    name: of the input, for messages.
    names: of all its columns.
    columns: numbers of those that are wanted.
  """

  name: str
  names: list[str]
  columns: list[int]

  def parse(self, block: bytes) -> np.ndarray:
    """Rows ``[n, columns]`` of whole lines; NaN where a line is no record, blank lines left out."""
    wanted = [self.names[i] for i in self.columns]
    try:
      table = arrow_csv.read_csv(
        pa.BufferReader(block),
        arrow_csv.ReadOptions(column_names=self.names),
        convert_options=arrow_csv.ConvertOptions(
          column_types=dict.fromkeys(wanted, pa.float64()), include_columns=wanted
        ),
      )
    except pa.ArrowInvalid:
      table = None
    # A line with an odd number of quotes goes on in the next, which the fast reader does not know.
    if table is None or (b'"' in block and len(table) != sum(1 for _ in self._records(block))):
      values = [self._values(fields) for _, fields in self._records(block)]
      return np.array(values, np.float64).reshape(-1, len(wanted))
    return np.stack([column.to_numpy() for column in table.columns], axis=1)

  def explain(self, block: bytes, first_line: int, row: int) -> str:
    """What is wrong with a row of a block whose first line has that number in the input."""
    number, fields = next(itertools.islice(self._records(block), row, None))
    place = f"line {first_line + number} of {self.name}"
    if fields is None:
      return f"{place} has a quote that is not closed in the line"
    if len(fields) != len(self.names):
      return f"{place} has {len(fields)} fields where the first has {len(self.names)}"
    for i in self.columns:
      value = table.number(fields[i])
      if np.isnan(value) and fields[i].strip() not in table.MISSING:
        return f"{place} holds text, {fields[i][:40]!r} in column {self.names[i]!r}"
      if unfit(value):
        return f"{place} holds {problem(value)} in column {self.names[i]!r}"
    raise AssertionError(f"{place} can be scored.")

  def _values(self, fields: list[str] | None) -> list[float]:
    if fields is None or len(fields) != len(self.names):
      return [np.nan] * len(self.columns)
    return [table.number(fields[i]) for i in self.columns]

  def _records(self, block: bytes) -> Iterator[tuple[int, list[str] | None]]:
    """First line, from 0, and fields of each record that is not blank; None where it is no CSV."""
    lines = LINES.findall(block.decode("utf-8", errors="replace"))
    start = 0
    while start < len(lines):
      count, _ = _span(lines, start)
      fields = _fields(lines[start : start + count])
      if count > 1 and (fields is None or len(fields) != len(self.names)):
        count, fields = 1, None  # a stray quote, and no record of several lines
      if fields is None or fields:
        yield start, fields
      start += count


def _fields(lines: Sequence[str]) -> list[str] | None:
  """Fields of the lines of one record, none of a blank one; None where they are no CSV."""
  try:
    return next(csv.reader(lines, strict=True), [])
  except csv.Error:
    return None


def _last_record(data: bytes) -> int:
  """Where the last record of whole lines ends; what follows goes on in lines to come."""
  lines = LINES.findall(data.decode("latin-1"))
  if all(line.count('"') % 2 == 0 for line in lines):
    return len(data)
  start = 0
  while start < len(lines):
    count, whole = _span(lines, start)
    if not whole:
      return sum(map(len, lines[:start]))
    start += count
  return len(data)


def _span(lines: Sequence[str], start: int) -> tuple[int, bool]:
  """How many lines the record that begins there has, and whether its end is among them.

  Where a quote is not closed within ``LONGEST_RECORD`` the line is a record of its own; where it is
  not closed by the last line, too, but then lines to come may close it.
  """
  count, text, opened = 0, 0, True
  while opened and start + count < len(lines) and text <= LONGEST_RECORD:
    opened = _leaves_open(lines[start + count], opened and count > 0)
    text += len(lines[start + count])
    count += 1
  return 1 if opened else count, not opened or text > LONGEST_RECORD


def _leaves_open(line: str, opened: bool) -> bool:
  """Whether a quoted field goes on in the next line; a quote opens one at its beginning alone."""
  if '"' not in line:
    return opened
  begins = not opened
  for letter in line:
    if letter == '"' and (opened or begins):
      opened = not opened
      begins = True  # a doubled quote opens it again
    else:
      begins = letter == "," and not opened
  return opened
