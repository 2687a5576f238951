"""Cells of a table as they come: numbers, texts, times and gaps of one column."""

import datetime
import re
from typing import Any

import numpy as np

from detector_jax import notation, table

TRUE, FALSE = ("true", "yes", "y", "t", "on"), ("false", "no", "n", "f", "off")
BOOLEANS = dict.fromkeys(TRUE, 1.0) | dict.fromkeys(FALSE, 0.0)
_FLAGS = BOOLEANS | {"1": 1.0, "0": 0.0}
_WHOLE = re.compile(r"-?\d+\.0+")


def read(values: Any) -> np.ndarray:
  """One column ``[n]``: float64 with NaN where it holds numbers alone, else objects with None."""
  if hasattr(values, "to_pylist"):  # pyarrow
    numeric = str(values.type).startswith(("int", "uint", "float", "double", "halffloat"))
    values = values.to_numpy(zero_copy_only=False) if numeric else values.to_pylist()
  elif hasattr(values, "isna") and not _is_plain(getattr(values, "dtype", None)):
    missing = np.asarray(values.isna())
    values = np.array(values, object)
    values[missing] = None
  found = values if isinstance(values, np.ndarray) else np.asarray(values, object)
  if _is_plain(found.dtype):
    return found.astype(np.float64)
  if found.dtype.kind == "M":
    found = found.astype("datetime64[us]")  # nanoseconds would become whole numbers
  result = np.empty(len(found), object)
  result[:] = [None if _is_missing(value) else value for value in found.tolist()]
  return result


def _is_plain(dtype: Any) -> bool:
  return isinstance(dtype, np.dtype) and dtype.kind in "uif"


def _is_missing(value: Any) -> bool:
  text = value.strip() if isinstance(value, str) else None
  return text in table.MISSING if text is not None else str(value) in ("None", "nan", "NaT", "<NA>")


def missing_in(values: np.ndarray) -> np.ndarray:
  """Bool ``[n]``: the gaps of a column that ``read`` gave."""
  if values.dtype != object:
    return np.isnan(values)
  return np.array([each is None for each in values], bool)


def text_of(value: Any) -> str:
  """A category's name: whole numbers are the same text whatever type they have, 3.0 like 3."""
  text = str(value)
  return text[: text.index(".")] if text[-1:] == "0" and _WHOLE.fullmatch(text) else text


def categories_in(values: np.ndarray) -> list[str]:
  """The category of each cell; a gap is one of its own, "missing"."""
  gaps = missing_in(values)
  return ["missing" if gap else text_of(each) for each, gap in zip(values, gaps, strict=True)]


def seconds_of(value: Any) -> float:
  """Seconds since 1970 of a datetime, date or ISO 8601 text, in UTC where it names no zone."""
  try:
    if isinstance(value, str):
      value = datetime.datetime.fromisoformat(value.strip())
    if isinstance(value, np.datetime64):
      return float(value.astype("datetime64[us]").astype(np.int64)) / 1e6
    if not isinstance(value, datetime.datetime):
      if not isinstance(value, datetime.date):
        return np.nan
      value = datetime.datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
      value = value.replace(tzinfo=datetime.UTC)
    return value.timestamp()
  except (ValueError, OverflowError):
    return np.nan


def numbers_in(
  name: str, kind: str, values: np.ndarray, strict: bool = True, written: str = ""
) -> np.ndarray:
  """Cells as float64, NaN where they are missing.

  Args:
    name: of the column.
    kind: see ``column.KINDS``.
    values: see ``read``.
    strict: whether a cell that is not of that kind is an error; else it is NaN.
    written: see ``notation``; "" is as Python reads numbers, and ISO 8601.

  Raises:
    ValueError: a cell is not of that kind.
  """
  kind = "number" if kind == "log" else kind
  if values.dtype != object and kind == "number":
    return values
  missing = missing_in(values)
  result = np.full(len(values), np.nan)
  rows = np.flatnonzero(~missing)
  if written:
    text = np.array([isinstance(each, str) for each in values[rows]], bool)
    read_all = notation.numbers_in if kind == "number" else notation.seconds_in
    result[rows[text]] = read_all(values[rows[text]].tolist(), written)
    rows = rows[~text]
  for row in rows.tolist():
    value = values[row]
    if kind in ("time", "elapsed"):
      result[row] = seconds_of(value)
    elif kind == "boolean":
      if isinstance(value, (bool, np.bool_)):
        result[row] = float(value)
      else:
        result[row] = _FLAGS.get(text_of(value).strip().lower(), np.nan)
    else:
      result[row] = table.number(value) if isinstance(value, str) else float(value)
  wrong = np.isnan(result) & ~missing
  if strict and wrong.any():
    row = int(wrong.argmax())
    like = f" like {written!r}" if written else ""
    raise ValueError(
      f"column {name!r} holds {text_of(values[row])[:40]!r} in record {row}, no {kind}{like}"
    )
  return result


def number(value: float) -> str:
  """A number for people: four digits, and all those before the point."""
  value = float(value)
  return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
