"""CSV: blocks of whole lines, from a file or from standard input, in UTF-8 or made so."""

import codecs
from collections.abc import Iterator
import contextlib
import csv
import functools
import io
import itertools
import re
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import compute
from pyarrow import csv as arrow_csv

from detector_jax import dialect, table
from detector_jax.table import unfit
from launch.data.formats.columns import Columns, DataError, as_data_error
from launch.data.formats.reader import Fault, Input, Piece, Reader, problem

BLOCK_BYTES = 2**23
LONGEST_LINE = 2**26
LONGEST_RECORD = 2**16  # of a record that goes over several lines
LINE_END = re.compile(r"\r\n|\n|\r")
END = r"(?:\r\n|\n|\r|\Z)"
QUOTED = r"\"[^\"]*+(?:\"\"[^\"]*+)*+\""
LINE = re.compile(rf"[^\r\n]*+{END}")


class Patterns(NamedTuple):
  """What records look like; ``simple``: lines of which every reader of CSV makes the same."""

  record: re.Pattern[str]
  open: re.Pattern[str]
  simple: re.Pattern[bytes]


@functools.cache
def patterns(delimiter: str) -> Patterns:
  """The patterns of a CSV with that delimiter."""
  mark = re.escape(delimiter)
  plain = rf"(?!\")[^{mark}\r\n]*+"
  simple = rf"(?:\"[^\"\r\n]*+(?:\"\"[^\"\r\n]*+)*+\"|[^\"{mark}\r\n]*+)"
  line = rf"{simple}(?:{mark}{simple})*+"
  return Patterns(
    re.compile(rf"(?:{QUOTED}|{plain})(?:{mark}(?:{QUOTED}|{plain}))*+{END}"),
    re.compile(rf"(?:(?:{QUOTED}|{plain}){mark})*+\"[^\"]*+(?:\"\"[^\"]*+)*+\Z"),
    re.compile(rf"(?:{line}(?:\r\n|\n|\r))*+{line}".encode()),
  )


class Csv(Reader):
  """Separated by commas or what else is found, about 8 MiB at a time whatever ``rows`` says.

  A quoted field may hold line ends, up to 64 KiB of text; a quote that is not closed within that
  spoils its line alone. What the first line is taken for, see ``detector_jax.table.header``; of raw
  columns it is the header.
  """

  ending = ".csv"
  tabular = True

  def __init__(self, source: Input, columns: Columns):
    super().__init__(source, columns)
    stream = _as_utf8(source.stream, columns.encoding)
    head = _head(stream)
    text = head.decode("utf-8-sig", errors="surrogateescape")
    try:
      self._dialect = dialect.of(columns.dialect, text, source.name)
    except ValueError as error:
      raise DataError(str(error)) from error
    self._patterns, self.decimal = patterns(self._dialect.delimiter), self._dialect.decimal
    self._blocks = _blocks(stream, source.name, self._dialect.delimiter, head)
    first = next(self._blocks, b"").removeprefix(b"\xef\xbb\xbf")
    while not first.strip() and (more := next(self._blocks, b"")):
      first += more
    reader = csv.reader(
      io.TextIOWrapper(io.BytesIO(first), "utf-8", newline=""), delimiter=self._dialect.delimiter
    )
    fields = next((fields for fields in reader if fields), [])
    self._every, self.named = fields, True
    with as_data_error():
      if fields and columns.raw:
        table.check_unique(source.name, fields)
      else:
        fields = [self._dialect.plain(field) for field in fields]
        self._every, self.named = table.header(source.name, fields, columns.header, columns.trained)
    self._chosen = columns.choose(source.name, self._every, self.named)
    self.names = tuple(self._every[i] for i in self._chosen.features)
    columns.check_kept(source.name, self._every)
    self._first, self._line = first, 1
    if self.named:
      self._line += reader.line_num
      ends = (match.end() for match in LINE_END.finditer(first.decode("latin-1")))
      self._first = first[next(itertools.islice(ends, reader.line_num - 1, None), len(first)) :]
    beside = [] if self._chosen.label is None else [self._chosen.label]
    numbers = [] if columns.raw else [*self._chosen.features, *beside]
    self._numbers = numbers
    self._texts = [*self._chosen.features, *beside] if columns.raw else []
    self._texts += [] if self._chosen.group is None else [self._chosen.group]

  def pieces(self, rows: int) -> Iterator[Piece]:
    """See ``Reader``."""
    del rows
    start, line = 0, self._line
    for block in itertools.chain([self._first], self._blocks):
      numbers, texts, refused = self._parse(block)
      if len(numbers):
        done = self.source.stream.tell() / self.source.size if self.source.size else None
        fault = functools.partial(self._fault, block, line)
        kept = self._kept(block, refused is None)
        yield self._piece(numbers, texts, start, done, fault, refused, kept)
      start += len(numbers)
      line += block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
    if not start:
      raise self.no_records()

  def _piece(self, numbers: np.ndarray, texts: list[Any], *facts: Any) -> Piece:
    """A piece of the columns of numbers, ``[n, columns]``, and of text."""
    start, done, fault, refused, kept = facts
    count, labels, groups = len(self._chosen.features), None, None
    if self._chosen.group is not None:  # an empty cell names no group
      groups = np.array([each or None for each in texts.pop().to_pylist()], object)
    x: Any = None
    if self.columns.raw:
      labels = texts[count] if len(texts) > count else None
    else:
      x = numbers[:, :count]
      labels = numbers[:, count] if numbers.shape[1] > count else None
    texts = texts[:count]
    return Piece(x, start, done, self.source.name, fault, refused, labels, groups, texts, kept)

  def _parse(self, block: bytes) -> tuple[np.ndarray, list[Any], np.ndarray | None]:
    """Numbers ``[n, columns]``, columns of text and refused records of whole lines.

    Blank lines are left out; a cell of a refused record is NaN or nothing.
    """
    types = dict.fromkeys(map(str, self._numbers), pa.float64())
    types |= dict.fromkeys(map(str, self._texts), pa.string())
    try:
      found = arrow_csv.read_csv(
        pa.BufferReader(block),
        arrow_csv.ReadOptions(column_names=[str(i) for i in range(len(self._every))]),
        arrow_csv.ParseOptions(delimiter=self._dialect.delimiter),
        convert_options=arrow_csv.ConvertOptions(
          column_types=types,
          include_columns=list(types),
          null_values=sorted(table.MISSING),
          decimal_point=self._dialect.decimal,
          strings_can_be_null=self.columns.raw,
        ),
      )
    except pa.ArrowInvalid:
      found = None
    # A line with an odd number of quotes goes on in the next, which the fast reader does not know.
    if found is None or (
      b'"' in block
      and not self._patterns.simple.fullmatch(block)
      and len(found) != sum(1 for _ in self._records(block))
    ):
      return self._parse_lines(block)
    numbers = [found[str(i)].to_numpy() for i in self._numbers]
    x = np.stack(numbers, axis=1) if numbers else np.zeros((len(found), 0))
    texts = [found[str(i)].combine_chunks() for i in self._texts]
    return x, self._as_wanted(texts), None

  def _parse_lines(self, block: bytes) -> tuple[np.ndarray, list[Any], np.ndarray]:
    """As ``_parse``, line by line."""
    empty: list[str] = [""] * len(self._every)
    records = [fields for _, fields in self._records(block)]
    refused = np.array([self._refused(fields) for fields in records], bool)
    kept = [f if f is not None and len(f) == len(empty) else empty for f in records]
    numbers = [[self._number(fields[i]) for i in self._numbers] for fields in kept]
    nothing = table.MISSING if self.columns.raw else ()
    texts = [
      pa.array([None if f[i] in nothing or not _is_utf8(f[i]) else f[i] for f in kept], pa.string())
      for i in self._texts
    ]
    texts = self._as_wanted(texts)
    return np.array(numbers, np.float64).reshape(len(kept), len(self._numbers)), texts, refused

  def _as_wanted(self, texts: list[pa.Array]) -> list[pa.Array]:
    """Columns of text as they are where raw ones are wanted, else with decimal points."""
    return texts if self.columns.raw else [plain_cells(cells, self._dialect) for cells in texts]

  def _number(self, field: str) -> float:
    return table.number(self._dialect.plain(field)) if self._is_number(field) else np.nan

  def _is_number(self, field: str) -> bool:
    thousands = self._dialect.decimal == "," and "." in field  # or a point among commas
    return not thousands and table.is_number(self._dialect.plain(field))

  def _kept(self, block: bytes, fast: bool) -> dict[str, pa.Array]:
    """The cells of ``Columns.keep`` as text, for the records of ``_parse``.

    Args:
      block: whole lines.
      fast: whether the fast reader makes the same records of it.
    """
    keep = {name: self._every.index(name) for name in self.columns.keep}
    if not keep:
      return {}
    if fast:
      found = arrow_csv.read_csv(
        pa.BufferReader(block),
        arrow_csv.ReadOptions(column_names=[str(i) for i in range(len(self._every))]),
        arrow_csv.ParseOptions(delimiter=self._dialect.delimiter),
        convert_options=arrow_csv.ConvertOptions(
          column_types={str(i): pa.binary() for i in keep.values()},
          include_columns=[str(i) for i in keep.values()],
        ),
      )
      cells = {name: found[str(i)].to_pylist() for name, i in keep.items()}
    else:
      records = [fields or [] for _, fields in self._records(block)]
      cells = {
        name: ["".join(fields[i : i + 1]).encode(errors="surrogateescape") for fields in records]
        for name, i in keep.items()
      }
    return {
      name: pa.array([cell.decode(errors="replace") or None for cell in column], pa.string())
      for name, column in cells.items()
    }

  def _refused(self, fields: list[str] | None) -> bool:
    """Whether fields are no record, or one of the numbers is text."""
    if fields is None or len(fields) != len(self._every):
      return True
    if not all(_is_utf8(fields[i]) for i in self._texts):
      return True
    return not all(self._is_number(fields[i]) for i in self._numbers)

  def _fault(self, block: bytes, first_line: int, row: int) -> Fault:
    """What is wrong with a row of a block whose first line has that number in the file."""
    number, fields = next(itertools.islice(self._records(block), row, None))
    place = f"line {first_line + number}"
    if fields is None:
      return Fault(place, "has a quote that is not closed in the line")
    if len(fields) != len(self._every):
      return Fault(place, f"has {len(fields)} fields where the first has {len(self._every)}")
    if not all(_is_utf8(fields[i]) for i in self._texts):
      return Fault(place, "is not UTF-8: if the file has another encoding, such as cp1252, set it")
    for i in self._numbers:
      cell = f"column {self._every[i]!r}"
      if not self._is_number(fields[i]):
        return Fault(place, f"text, {fields[i][:40]!r}", cell)
    for i in self._chosen.features if self._numbers else ():
      if unfit(value := self._number(fields[i])):
        return Fault(place, problem(value), f"column {self._every[i]!r}")
    return Fault(place, "")

  def _records(self, block: bytes) -> Iterator[tuple[int, list[str] | None]]:
    """First line, from 0, and fields of each record that is not blank; None where it is no CSV."""
    line, text = 0, block.decode("utf-8", errors="surrogateescape")
    delimiter = self._dialect.delimiter
    for start, end, fields in _records(text, delimiter, len(self._every)):
      if fields is None or fields:
        yield line, fields
      line += len(LINE_END.findall(text[start:end]))


def encoding_of(name: str) -> str:
  """Python's name of an encoding, "utf-8-sig" of UTF-8 with or without its mark.

  Raises:
    DataError: there is no such encoding.
  """
  try:
    known = codecs.lookup(name).name
  except LookupError as error:
    raise DataError(
      f"There is no encoding {name!r}; take one of Python's, such as cp1252 or utf-16."
    ) from error
  return "utf-8-sig" if known == "utf-8" else known


def _as_utf8(stream: Any, encoding: str) -> Any:
  """A stream of bytes in UTF-8, of one in another encoding."""
  name = encoding_of(encoding)
  return stream if name == "utf-8-sig" else codecs.EncodedFile(stream, "utf-8", name)


def _is_utf8(field: str) -> bool:
  return field.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in field)


def _head(stream: BinaryIO) -> bytes:
  """The first bytes of a stream, with a line or more that is not blank where there is one."""
  head = b""
  while not head.strip() and (more := stream.read(BLOCK_BYTES)):
    head += more
  return head


def _blocks(stream: BinaryIO, name: object, delimiter: str, head: bytes) -> Iterator[bytes]:
  """Whole lines of a stream of which ``head`` is read, about ``BLOCK_BYTES`` at a time."""
  rest, simple = b"", patterns(delimiter).simple
  while data := head or stream.read(BLOCK_BYTES):
    head = b""
    if data.endswith(b"\r"):
      data += stream.read(1)
    data = rest + data
    cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if b'"' in data[:cut] and not simple.fullmatch(data, 0, cut):
      text = data[:cut].decode("latin-1")
      cut = max((end for _, end, _ in _records(text, delimiter, more=True)), default=0)
    if cut:
      yield data[:cut]
    rest = data[cut:]
    if len(rest) > LONGEST_LINE:
      raise DataError(f"{name} has a line of more than {LONGEST_LINE} bytes; it is no CSV.")
  if rest:
    yield rest


def _records(
  text: str, delimiter: str, width: int = 0, more: bool = False
) -> Iterator[tuple[int, int, list[str] | None]]:
  """Where each record begins and ends, and its fields: none of a blank line, None of no CSV.

  Args:
    text: of whole lines.
    delimiter: between fields.
    width: fields of a record that goes over several lines; 0: any number.
    more: whether lines are to come: a record that they may complete is left out.
  """
  start, known = 0, patterns(delimiter)
  while start < len(text):
    line, found = LINE.match(text, start), known.record.match(text, start)
    assert line is not None
    several = found is not None and found.end() > line.end()
    if found is not None and several and found.end() - start > LONGEST_RECORD:
      found = None
    if (
      found is None
      and more
      and len(text) - start <= LONGEST_RECORD
      and known.open.match(text, start)
    ):
      return
    fields = None
    if found is not None:
      with contextlib.suppress(csv.Error):
        fields = next(csv.reader([found[0]], strict=True, delimiter=delimiter), [])
    if fields is not None and several and width not in (0, len(fields)):
      fields = None  # a stray quote
    end = line.end() if found is None or fields is None else found.end()
    yield start, end, fields
    start = end


def plain_cells(cells: pa.Array, written: dialect.Dialect) -> pa.Array:
  """Text cells ``[n]`` whose numbers have a point."""
  if written.decimal == ".":
    return cells
  return compute.replace_substring_regex(cells, dialect.CELL, r"\1.\2")
