"""How a column writes its numbers and times, where that is not as Python reads them.

A notation is text that is kept with a column. Of times it is a format of ``datetime.strptime``,
such as ``%d.%m.%Y %H:%M``; of numbers it is how the column would write one thousand, such as
``1.000,0 €`` or ``$1,000.0``. It is guessed where all cells of a column share one, and may be set.
"""

from collections.abc import Sequence
import datetime
import functools
import ipaddress
import itertools
import re
import unicodedata

import numpy as np

DATES = (
  *("%d.%m.%Y", "%d.%m.%y", "%Y/%m/%d", "%Y.%m.%d", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y"),
  *("%Y-%m-%d", "%d %B %Y", "%B %d, %Y"),
  *("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S %Z")
MOST_SYMBOL = 8  # characters of a unit
# Codes of ISO 4217 that money is written with most: SKU and INV stand before names.
CURRENCIES = (
  "AED ARS AUD BDT BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KES"
  " KRW KZT MAD MXN MYR NGN NOK NZD PEN PHP PKR PLN QAR RON RSD RUB SAR SEK SGD THB TRY TWD UAH"
  " USD VND XAF XOF ZAR"
)
_MARKS = {",": ".", ".": ",", " ": ",", "'": "."}  # of thousands, and the decimal mark beside it
_NUMBER = re.compile(r"([^\d.+-]*)([+-]?)([^\d.+-]*)(\d[\d.,' ]*|\.\d+)(.*)", re.DOTALL)
_VERSION = re.compile(r"\s*(?:\d\.|\d+\.\d\.)")  # 3.11.12: with a year of two digits days have two
_SPACES = str.maketrans({"\u202f": " ", "\xa0": " ", "\u2019": "'"})
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
  if any(_VERSION.match(text) for text in texts):
    formats = [each for each in formats if "%y" not in each]
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
  shared: tuple[str, str] | None = None
  called = True  # whether all may be telephone numbers or addresses of a network
  for text in map(_plain, texts):
    found = _NUMBER.fullmatch(text)
    if found is None or re.match("0[0-9]", found[4]):  # an identifier is written with zeros
      return ""
    parts = found[1] + found[3], found[4][len(found[4].rstrip()) :] + found[5]
    if parts != (shared or parts):
      return ""
    shared = parts
    called = called and ((found[2] == "+" and " " in found[4].strip()) or _is_address(text))
  before, after = shared or ("?", "")
  suits = _is_symbol(before) and len(after) <= MOST_SYMBOL
  if called or not suits or re.search(r"[\d:-]|^\s*/", after):
    return ""
  values: dict[tuple[float, ...], str] = {}
  for thousands, decimal in (("", "."), *_MARKS.items()):
    notation = f"{before}1{thousands}000{decimal}0{after}"
    numbers = (number(text, notation) for text in texts)
    read = tuple(itertools.takewhile(lambda value: not np.isnan(value), numbers))
    if len(read) == len(texts):
      values.setdefault(read, notation)
  return "" if "1000.0" in values.values() else _only(list(values.values()), "number")


def _plain(text: str) -> str:
  """A text with the spaces and the apostrophe that keyboards have."""
  return text.translate(_SPACES).strip()


def _is_address(text: str) -> bool:
  try:
    ipaddress.IPv4Address(text)
  except ValueError:
    return False
  return True


def _is_symbol(text: str) -> bool:
  """Whether it may stand before a number: a currency's sign or code, or nothing."""
  symbol = text.strip()
  code = len(symbol) == 3 and symbol in CURRENCIES.split()
  return code or all(unicodedata.category(each) == "Sc" for each in symbol)


def check(name: str, kind: str, notation: str) -> None:
  """Raises a ValueError, which names a column, where a notation is none that its kind has."""
  held = f"column {name!r}: {notation!r}"
  if kind in ("time", "elapsed"):
    try:
      moment = datetime.datetime(2026, 12, 24, 18, 30)
      datetime.datetime.strptime(moment.strftime(notation), notation)
    except ValueError as error:
      raise ValueError(f"{held} is no format of datetime.strptime: {error}") from error
    if "%" not in notation:
      raise ValueError(f"{held} is no format of datetime.strptime, such as %d.%m.%Y")
  elif kind not in ("number", "log") or not _THOUSAND.fullmatch(notation):
    raise ValueError(f"{held} does not write one thousand as a {kind}, such as 1.000,0 €")


def seconds(text: str, notation: str) -> float:
  """Seconds since 1970 of a time, in UTC where it names no zone; NaN where it is none."""
  try:
    moment = datetime.datetime.strptime(text.strip(), notation)
  except ValueError:
    return np.nan
  return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def number(text: str, notation: str) -> float:
  """The number that a text holds, with its unit or without; NaN where it holds none."""
  before, thousands, decimal, after, pattern = _reader(notation)
  digits = _plain(text)
  sign = digits[:1] if digits[:1] in "+-" else ""
  digits = digits.removeprefix(sign).strip().removeprefix(before).strip()
  digits = digits.removesuffix(after).strip()
  if not sign and digits[:1] in ("+", "-"):
    sign, digits = digits[0], digits[1:]
  if not digits.isascii() or not pattern.fullmatch(digits):
    return np.nan
  plain = digits.replace(thousands, "") if thousands else digits
  try:
    return float(sign + (plain.replace(decimal, ".") if decimal else plain))
  except ValueError:
    return np.nan


@functools.lru_cache
def _reader(notation: str) -> tuple[str, str, str, str, re.Pattern[str]]:
  """Unit before, marks of thousands and decimals, unit after, and what is between the units."""
  written = _THOUSAND.fullmatch(_plain(notation))
  assert written is not None
  before, thousands, decimal, after = (part or "" for part in written.groups())
  grouped = rf"[1-9]\d{{0,2}}(?:{re.escape(thousands)}\d{{3}})+|" if thousands else ""
  fraction = rf"(?:{re.escape(decimal)}\d*)?" if decimal else ""
  pattern = re.compile(rf"(?:{grouped}\d+){fraction}|{fraction}")
  return before.strip(), thousands, decimal, after.strip(), pattern


def unit(notation: str) -> str:
  """What stands beside a column's numbers: " €" of ``1.000,0 €``, and "" of a time's format."""
  written = _THOUSAND.fullmatch(notation)
  return "" if written is None else " ".join(f"{written[1]} {written[4]}".split())
