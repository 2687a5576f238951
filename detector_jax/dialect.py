"""What separates the fields of a CSV, and what the digits of its numbers: sniffed, or set."""

import csv
import dataclasses
import io
import logging
import re

logger = logging.getLogger(__name__)

DELIMITERS, DECIMALS = ",;\t|", ".,"
SAMPLE = 50  # records that are looked at
WITH_POINT = re.compile(r"\s*[-+]?\d*\.\d+(?:[eE][-+]?\d+)?\s*")
WITH_COMMA = re.compile(r"\s*[-+]?\d*,\d+(?:[eE][-+]?\d+)?\s*")
THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2},\d{3}\s*")
CELL = r"^(\s*[-+]?\d*),(\d+(?:[eE][-+]?\d+)?\s*)$"


@dataclasses.dataclass(frozen=True)
class Dialect:
  """How a CSV is written.

  Attributes:
    delimiter: between fields.
    decimal: between the whole and the broken part of a number.
  """

  delimiter: str = ","
  decimal: str = "."

  def __str__(self) -> str:
    """In words."""
    comma = " and numbers have a decimal comma" if self.decimal == "," else ""
    return f"fields are separated by {_called(self.delimiter)}{comma}"

  def plain(self, field: str) -> str:
    """A field whose number, if it is one, has a point."""
    return field if self.decimal == "." else re.sub(CELL, r"\1.\2", field)


def of(setting: str, text: str, path: object) -> Dialect:
  """The dialect of a file that begins with ``text``; said where it is sniffed and not the usual.

  Args:
    setting: "auto", or delimiter and decimal mark such as ";,"; "tab" stands for its character.
    text: whole lines.
    path: of the file, for messages.

  Raises:
    ValueError: no such setting, or a text that reads well in several ways.
  """
  if setting != "auto":
    found = setting.replace("tab", "\t")
    if (
      len(found) != 2
      or found[0] not in DELIMITERS
      or found[1] not in DECIMALS
      or (found[0] == found[1])
    ):
      raise ValueError(
        "The dialect of a .csv is its delimiter (a comma, ;, | or tab) and its decimal mark (a "
        f"point or a comma), such as ';,' or 'tab.', or auto; got {setting!r}."
      )
    return Dialect(*found)
  tables = {each: table for each in DELIMITERS if (table := _table(text, each))}
  if len(tables) > 1:
    told = " and ".join(map(_called, tables))
    raise ValueError(
      f"The fields of {path} could be separated by {told}: say which, with the decimal mark, by "
      "dialect=',.' or dialect=';,'."
    )
  delimiter = next(iter(tables), ",")
  dialect = Dialect(delimiter, "." if delimiter == "," else _decimal(tables[delimiter], path))
  if dialect != Dialect():
    logger.info("%s: %s.", path, dialect)
  return dialect


def _called(delimiter: str) -> str:
  return {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[delimiter]


def _table(text: str, delimiter: str) -> list[list[str]]:
  """The first records, where all of them have as many fields, and more than one; else nothing."""
  rows: list[list[str]] = []
  try:
    for fields in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
      if fields:
        rows.append(fields)
      if len(rows) == SAMPLE:
        break
  except csv.Error:
    return []
  if len(rows) > 1 and not text.endswith(("\n", "\r")):
    rows = rows[:-1]  # the last may go on beyond the text
  widths = {len(fields) for fields in rows}
  return rows if len(widths) == 1 and widths != {1} else []


def _decimal(rows: list[list[str]], path: object) -> str:
  """The decimal mark of the numbers in a table whose delimiter is no comma."""
  cells = [field for fields in rows for field in fields]
  commas = [field for field in cells if WITH_COMMA.fullmatch(field)]
  if not commas:
    return "."
  if any(map(WITH_POINT.fullmatch, cells)) or all(map(THOUSANDS.fullmatch, commas)):
    raise ValueError(
      f"Whether {commas[0].strip()!r} in {path} has a decimal comma cannot be told: say so by "
      "dialect=';,' or dialect=';.', with the delimiter of the file."
    )
  return ","
