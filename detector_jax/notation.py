"""How a column writes its numbers and times, where that is not as Python reads them.

A notation is text that is kept with a column. Of times it is a format of ``datetime.strptime``,
such as ``%d.%m.%Y %H:%M``; of numbers it is how the column would write one thousand, such as
``1.000,0 €`` or ``$1,000.0``, or 100,000 where groups have two digits, ``1,00,000.0``. Where no
minus stands before negative numbers, it is how the column would write the negative one:
``(1,000.0)``, ``1.000,0-``. It is guessed where all cells of a column share one, and may be set.
"""

from collections.abc import Sequence
import datetime
import functools
import ipaddress
import itertools
import re
from typing import Any, NamedTuple
import unicodedata

import numpy as np

from detector_jax import alike

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
_WRITTEN = ("1000.0", "1,000.0", "1.000,0", "1 000,0", "1'000.0", "1,00,000.0")
_MINUS = {  # of negative numbers: signs that do not stand before them
  "()": re.compile(r"([^\d()]*)\(([^()]*\d[^()]*)\)([^\d()]*)"),
  "-": re.compile(r"([^-]*\d[^-]*)-((?:\s[^-\d]*)?)"),
}
_NUMBER = re.compile(r"([^\d.+-]*)([+-]?)([^\d.+-]*)(\d[\d.,' ]*|\.\d+)(.*)", re.DOTALL)
_LEADING_ZERO = re.compile(r"[^\d.]*0\d")
_VERSION = re.compile(r"\s*(?:\d\.|\d+\.\d\.)")  # 3.11.12: with a year of two digits days have two
# Digits of the parts of a time that ``seconds_in`` knows, and their least and greatest number.
_DIGITS = {
  "d": ("0{1,2}", 1, 31),
  "m": ("0{1,2}", 1, 12),
  "Y": ("0000", 1, 9999),
  "y": ("00", 0, 99),
  "H": ("0{1,2}", 0, 23),
  "I": ("0{1,2}", 1, 12),
  "M": ("0{1,2}", 0, 59),
  "S": ("0{1,2}", 0, 59),
  "f": ("0{1,6}", 0, 999_999),
}
_WORDS = "bBpZ"  # parts of a time that are names
_SAME = ("Yy", "mbB", "HI")  # parts that say the same
HEAD = 8  # texts that a notation is tried on first
TRIED = 10  # texts of one layout of which one must be a time
EXACT, MOST_DIGITS = 2**53, 15  # float64 has every whole number up to the one, of the other
_SPACES = str.maketrans({"\u202f": " ", "\xa0": " ", "\u2019": "'"})
_THOUSAND = re.compile(r"(\D*)1(\D?)((?<=\D)00\2)?000(?:(\D)0)?(\D*)", re.DOTALL)


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
  for some in (texts[:HEAD], texts):
    formats = [each for each in formats if not np.isnan(seconds_in(some, each)).any()]
  return _only(formats, "time")


def _only(notations: Sequence[str], kind: str) -> str:
  """The one notation, "" of none; a ValueError where there are several."""
  if len(notations) > 1:
    told = " or ".join(notations)
    raise ValueError(f"may be written as {told}: set its kind to '{kind} {notations[0]}', say")
  return notations[0] if notations else ""


def of_numbers(texts: Sequence[str]) -> str:
  """How all of some texts write numbers, "" where they do not, or where Python reads them so.

  Parentheses and a minus behind a number are signs where some cells have them and others do not:
  "(12)" in every cell may be a name.

  Raises:
    ValueError: a mark may be of thousands or of decimals, as in "1,234".

  Examples:
    >>> of_numbers(["1.234,50 €", "12,00 €"]), of_numbers(["$5", "$1,250.5"]), of_numbers(["7 kg"])
    ('1.000,0 €', '$1,000.0', '1000.0 kg')
    >>> of_numbers(["(5.00)", "7.50"]), of_numbers(["(5)", "(6)"])
    ('(1000.0)', '')
    >>> of_numbers(["A-17", "A-18"]), of_numbers(["3.5", "1e3"])
    ('', '')
  """
  plain = [_plain(text) for text in texts]
  if any(map(_LEADING_ZERO.match, plain)):  # an identifier is written with zeros
    return ""
  shared: tuple[str, str] | None = None
  split = [
    _unmarked(zeros) for zeros in dict.fromkeys(text.translate(alike.ZEROS) for text in plain)
  ]
  minus = "".join({mark for _, mark in split})
  if minus not in ("", *_MINUS) or (minus and all(mark for _, mark in split)):
    return ""
  for zeros, _ in split:
    found = _NUMBER.fullmatch(zeros)
    if found is None:
      return ""
    parts = found[1] + found[3], found[4][len(found[4].rstrip()) :] + found[5]
    shared = shared or parts
    if [part.strip() for part in parts] != [part.strip() for part in shared]:
      return ""
  before, after = shared or ("?", "")
  suits = _is_symbol(before) and len(after) <= MOST_SYMBOL
  if not suits or all(map(_is_called, plain)) or re.search(r"[\d:-]|^\s*/", after):
    return ""
  values: dict[bytes, str] = {}
  for written in _WRITTEN:
    notation = f"{minus[:1].strip('-')}{before}{written}{after}{minus[-1:]}"
    for some in (plain[:HEAD], plain):
      numbers = numbers_in(some, notation)
      if np.isnan(numbers).any():
        break
    else:
      values.setdefault(numbers.tobytes(), notation)
  return "" if "1000.0" in values.values() else _only(list(values.values()), "number")


def _plain(text: str) -> str:
  """A text with the spaces and the apostrophe that keyboards have."""
  return (text if text.isascii() else text.translate(_SPACES)).strip()


def _unmarked(text: str) -> tuple[str, str]:
  """A text without a sign of ``_MINUS``, and which one it had."""
  for mark, pattern in _MINUS.items():
    if found := pattern.fullmatch(text):
      return "".join(found.groups()), mark
  return text, ""


def _is_called(text: str) -> bool:
  """Whether a text may be a telephone number, or an address of a network."""
  found = _NUMBER.fullmatch(text)
  if found is not None and found[2] == "+" and " " in found[4].strip():
    return True
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
    except (ValueError, re.error) as error:
      raise ValueError(f"{held} is no format of datetime.strptime: {error}") from error
    if "%" not in notation:
      raise ValueError(f"{held} is no format of datetime.strptime, such as %d.%m.%Y")
  elif kind not in ("number", "log") or not _is_of_numbers(notation):
    raise ValueError(f"{held} does not write one thousand as a {kind}, such as 1.000,0 €")


def seconds(text: str, notation: str) -> float:
  """Seconds since 1970 of a time, in UTC where it names no zone; NaN where it is none."""
  moment = _moment(text.strip(), notation)
  return np.nan if moment is None else moment.timestamp()


def _moment(text: str, notation: str) -> datetime.datetime | None:
  try:
    moment = datetime.datetime.strptime(text, notation)
  except ValueError:
    return None
  return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def seconds_in(texts: Sequence[str], notation: str) -> np.ndarray:
  """As ``seconds`` for each, float64 ``[n]``, to the same bits and far faster where many are alike.

  What is not plainly a time, and formats with other parts than ``_DIGITS`` and ``_WORDS``, are left
  to ``seconds``.
  """

  def together(codes: np.ndarray, zeros: str) -> np.ndarray:
    found = _layout(notation).fullmatch(zeros)
    if found is None:
      return np.full(codes.shape[1], np.nan)
    return _seconds_alike(codes, found, notation)

  return alike.read(
    [text.strip() for text in texts], together, lambda text: seconds(text, notation)
  )


def _seconds_alike(codes: np.ndarray, found: re.Match[str], notation: str) -> np.ndarray:
  """``seconds`` of texts of one layout, NaN where they may be none."""
  values: dict[str, np.ndarray] = {}
  fine = np.ones(codes.shape[1], bool)
  for part, (start, end) in ((part, found.span(part)) for part in found.groupdict()):
    if part in _DIGITS:
      _, least, greatest = _DIGITS[part]
      values[part] = alike.whole(codes[start:end])
      fine &= (values[part] >= least) & (values[part] <= greatest)
      values[part] *= 10 ** (6 - (end - start)) if part == "f" else 1
  tried = (_moment(alike.text(codes[:, row]), notation) for row in np.flatnonzero(fine)[:TRIED])
  like = next((moment for moment in tried if moment), None)  # its names are those of the others
  if like is None:
    return np.full(codes.shape[1], np.nan)
  year: Any = values.get("Y", like.year)
  hour: Any = values.get("H", like.hour)
  if "y" in values:
    year = 1900 + values["y"] + 100 * (values["y"] < 69)  # as POSIX has it
  if "I" in values:
    hour = values["I"] % 12 + (12 if like.hour >= 12 else 0)
  month = np.asarray(12 * (year - 1970) + values.get("m", like.month) - 1).astype("datetime64[M]")
  day = month.astype("datetime64[D]") + (values.get("d", 1) - 1)
  fine &= day.astype("datetime64[M]") == month
  clock = (hour * 60 + values.get("M", 0)) * 60 + values.get("S", 0)
  moments = day.astype("datetime64[us]").astype(np.int64) + clock * 10**6 + values.get("f", 0)
  return np.where(fine & (np.abs(moments) < EXACT), moments / 1e6, np.nan)


@functools.lru_cache
def _layout(notation: str) -> re.Pattern[str]:
  """What texts of a format are like once every digit is 0; no text where it has unknown parts."""
  literals, parts = re.split("%(.)", notation)[::2], re.split("%(.)", notation)[1::2]
  known = all(part in _DIGITS or part in _WORDS for part in parts)
  twice = len(set(parts)) < len(parts) or any(len(set(parts) & set(same)) > 1 for same in _SAME)
  if not known or twice or re.search(r"[\d%]", "".join(literals)):
    return re.compile(r"(?!)")
  pattern = ""
  for literal, part in itertools.zip_longest(literals, parts, fillvalue=""):
    pattern += re.sub(r"(?:\\?\s)+", r"\\s+", re.escape(literal))
    if part:
      pattern += f"(?P<{part}>{_DIGITS[part][0] if part in _DIGITS else r'[^0 ]+'})"
  return re.compile(pattern)


def number(text: str, notation: str) -> float:
  """The number that a text holds, with its unit or without; NaN where it holds none."""
  form = _form(notation)
  digits, mark = _unmarked(_plain(text)) if form.minus else (_plain(text), "")
  sign = digits[:1] if digits[:1] in "+-" else ""
  digits = digits.removeprefix(sign).strip().removeprefix(form.before).strip()
  digits = digits.removesuffix(form.after).strip()
  if not sign and digits[:1] in ("+", "-"):
    sign, digits = digits[0], digits[1:]
  if (form.minus and sign == "-") or (mark and (sign or mark != form.minus)):
    return np.nan
  if not digits.isascii() or not form.pattern.fullmatch(digits):
    return np.nan
  plain = digits.replace(form.thousands, "") if form.thousands else digits
  try:
    number = float(plain.replace(form.decimal, ".") if form.decimal else plain)
  except ValueError:
    return np.nan
  return -number if mark or sign == "-" else number


def numbers_in(texts: Sequence[str], notation: str) -> np.ndarray:
  """As ``number`` for each, float64 ``[n]``, to the same bits and faster where many are alike."""
  form = _form(notation)

  def together(codes: np.ndarray, zeros: str) -> np.ndarray:
    places = [place for place, character in enumerate(zeros) if character == "0"]
    like, unread = number(zeros.replace("0", "1"), notation), np.full(codes.shape[1], np.nan)
    if np.isnan(like) or len(places) > MOST_DIGITS:
      return unread
    mark = zeros.find(form.decimal, places[0]) if form.decimal else -1
    scale = float(np.copysign(10 ** sum(place > mark > 0 for place in places), like))
    if int("1" * len(places)) / scale != like:
      return unread
    fine = (codes[places[0]] > ord("0")) | (not form.thousands or form.thousands not in zeros)
    return np.where(fine, alike.whole(codes[places]) / scale, np.nan)

  return alike.read([_plain(text) for text in texts], together, lambda text: number(text, notation))


class _Form(NamedTuple):
  """A notation of numbers in parts.

  Attributes:
    before: the unit before a number.
    thousands: the mark of thousands.
    decimal: the decimal mark.
    after: the unit after a number.
    minus: of negative numbers, one of ``_MINUS``; "" is a minus before them.
    pattern: what is between the units.
  """

  before: str
  thousands: str
  decimal: str
  after: str
  minus: str
  pattern: re.Pattern[str]


@functools.lru_cache
def _form(notation: str) -> _Form:
  plain, minus = _unmarked(_plain(notation))
  written = _THOUSAND.fullmatch(plain)
  assert written is not None
  before, thousands, pairs, decimal, after = (part or "" for part in written.groups())
  mark = re.escape(thousands)
  grouped = rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+|" if thousands else ""
  if pairs:
    grouped = rf"[1-9]\d?(?:{mark}\d\d)*{mark}\d{{3}}|"
  fraction = rf"(?:{re.escape(decimal)}\d*)?" if decimal else ""
  pattern = re.compile(rf"(?:{grouped}\d+){fraction}|{fraction}")
  return _Form(before.strip(), thousands, decimal, after.strip(), minus, pattern)


def unit(notation: str) -> str:
  """What stands beside a column's numbers: " €" of ``1.000,0 €``, and "" of a time's format."""
  form = _form(notation) if _is_of_numbers(notation) else None
  return "" if form is None else " ".join(f"{form.before} {form.after}".split())


def _is_of_numbers(notation: str) -> bool:
  return _THOUSAND.fullmatch(_unmarked(_plain(notation))[0]) is not None
