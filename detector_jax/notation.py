"""How a column writes its numbers and times, where that is not as Python reads them.

A notation is text that is kept with a column. Of times it is a format of ``datetime.strptime``,
such as ``%d.%m.%Y %H:%M``; of numbers it is how the column would write one thousand, such as
``1.000,0 €`` or ``$1,000.0``. It is guessed where all cells of a column share one, and may be set.
"""

from collections.abc import Sequence
import datetime
import itertools
import re
import unicodedata

import numpy as np

DATES = (
  *("%d.%m.%Y", "%d.%m.%y", "%Y/%m/%d", "%Y.%m.%d", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y"),
  *("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
MOST_SYMBOL = 8  # characters of a unit
_MARKS = {",": ".", ".": ",", " ": ",", "'": "."}  # of thousands, and the decimal mark beside it
_NUMBER = re.compile(r"([^\d.+-]*)([+-]?)([^\d.+-]*)(\d[\d.,' ]*|\.\d+)(.*)", re.DOTALL)
_THOUSAND = re.compile(r"(\D*)1(\D?)000(?:(\D)0)?(\D*)", re.DOTALL)


def of_times(texts: Sequence[str]) -> str:
  """The format that all of some texts have, "" where there is none.

  Raises:
    ValueError: they may have two, as where no day is above 12.

  Examples:
    >>> of_times(["24.12.2026 18:30", "01.02.2027 00:00"])
    '%d.%m.%Y %H:%M'
    >>> of_times(["red", "blue"])
    ''
  """
  formats = [date + clock for date, clock in itertools.product(DATES, CLOCKS)]
  for text in texts:
    formats = [each for each in formats if not np.isnan(seconds(text, each))]
    if not formats:
      return ""
  return _only(formats, "time")


def _only(notations: Sequence[str], kind: str) -> str:
  """The one notation, "" of none; a ValueError where there are several."""
  if len(notations) > 1:
    told = " or ".join(notations)
    raise ValueError(f"may be written as {told}: set its kind to '{kind} {notations[0]}', say")
  return notations[0] if notations else ""


def of_numbers(texts: Sequence[str]) -> str:
  """How all of some texts write numbers, "" where they do not, or where Python reads them so.

  Raises:
    ValueError: a mark may be of thousands or of decimals, as in "1,234".

  Examples:
    >>> of_numbers(["1.234,50 €", "12,00 €"]), of_numbers(["$5", "$1,250.5"]), of_numbers(["7 kg"])
    ('1.000,0 €', '$1,000.0', '1000.0 kg')
    >>> of_numbers(["A-17", "A-18"]), of_numbers(["3.5", "1e3"])
    ('', '')
  """
  found = [_NUMBER.fullmatch(text.strip()) for text in texts]
  parts = {(m[1] + m[3], m[4][len(m[4].rstrip()) :] + m[5]) if m else None for m in found}
  before, after = (parts.pop() if len(parts) == 1 else None) or ("?", "")
  if not _is_symbol(before) or len(after) > MOST_SYMBOL or re.search(r"[\d/:-]", after):
    return ""
  values: dict[tuple[float, ...], str] = {}
  for thousands, decimal in (("", "."), *_MARKS.items()):
    notation = f"{before}1{thousands}000{decimal}0{after}"
    read = tuple(number(text, notation) for text in texts)
    if not any(np.isnan(read)):
      values.setdefault(read, notation)
  return "" if "1000.0" in values.values() else _only(list(values.values()), "number")


def _is_symbol(text: str) -> bool:
  """Whether it may stand before a number: a currency's sign or three letters, or nothing."""
  symbol = text.strip()
  sign = all(unicodedata.category(each) == "Sc" for each in symbol)
  return sign or re.fullmatch(r"[A-Z]{3}", symbol) is not None


def check(kind: str, notation: str) -> None:
  """Raises a ValueError where a notation is none that a kind has."""
  if kind in ("time", "elapsed"):
    try:
      moment = datetime.datetime(2026, 12, 24, 18, 30)
      datetime.datetime.strptime(moment.strftime(notation), notation)
    except ValueError as error:
      raise ValueError(f"{notation!r} is no format of datetime.strptime: {error}") from error
    if "%" not in notation:
      raise ValueError(f"{notation!r} is no format of datetime.strptime, such as %d.%m.%Y")
  elif kind not in ("number", "log") or not _THOUSAND.fullmatch(notation):
    raise ValueError(f"{notation!r} does not write one thousand as a {kind}, such as 1.000,0 €")


def seconds(text: str, notation: str) -> float:
  """Seconds since 1970 of a time, in UTC where it names no zone; NaN where it is none."""
  try:
    moment = datetime.datetime.strptime(text.strip(), notation)
  except ValueError:
    return np.nan
  return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def number(text: str, notation: str) -> float:
  """The number that a text holds, with its unit or without; NaN where it holds none."""
  written = _THOUSAND.fullmatch(notation)
  assert written is not None
  before, thousands, decimal, after = (part or "" for part in written.groups())
  digits = text.strip()
  sign = digits[:1] if digits[:1] in "+-" else ""
  digits = digits.removeprefix(sign).strip().removeprefix(before.strip()).strip()
  digits = digits.removesuffix(after.strip()).strip().replace("\u202f", " ").replace("\xa0", " ")
  if not sign and digits[:1] in ("+", "-"):
    sign, digits = digits[0], digits[1:]
  grouped = rf"\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+|" if thousands else ""
  fraction = rf"(?:{re.escape(decimal)}\d*)?" if decimal else ""
  if not digits.isascii() or not re.fullmatch(rf"(?:{grouped}\d+){fraction}|{fraction}", digits):
    return np.nan
  plain = digits.replace(thousands, "") if thousands else digits
  try:
    return float(sign + (plain.replace(decimal, ".") if decimal else plain))
  except ValueError:
    return np.nan


def unit(notation: str) -> str:
  """What stands beside a column's numbers: " €" of ``1.000,0 €``, and "" of a time's format."""
  written = _THOUSAND.fullmatch(notation)
  return "" if written is None else " ".join(f"{written[1]} {written[4]}".split())
