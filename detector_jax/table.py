"""Tables as they come: columns found by name, cells made numbers.

One rule for every way into a detector (estimators, ``Detector.score``, the launcher's commands):
where records and detector both name their columns, they are matched by name, in any order; columns
that the detector was not trained on are ignored and said once; one that is missing is refused by
name. Where either has no names, the place counts.
"""

from collections.abc import Mapping, Sequence
import logging
import math
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

LISTED = 20
CHECKED_AT_ONCE = 2**22  # numbers
HEADERS = ("auto", "yes", "no")
REMEDY = 'encode the column as numbers, leave it out, or train with columns="auto"'
# What stands for a missing number in a CSV, as pyarrow has it.
MISSING = frozenset(
  (
    "",
    "#N/A N/A",
    "#N/A",
    "#NA",
    "-1.#IND",
    "-1.#QNAN",
    "-NaN",
    "-nan",
    "1.#IND",
    "1.#QNAN",
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "n/a",
    "nan",
    "null",
  )
)


def reason_of(error: Exception) -> str:
  """What an error of another library says, for the end of a sentence: its first line."""
  return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")


def listed(names: Sequence[str]) -> str:
  """Names for a message, the first 20 of them."""
  if not names:
    return "nothing"
  more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
  return ", ".join(map(repr, names[:LISTED])) + more


def names_of(x: Any) -> tuple[str, ...] | None:
  """Names of the columns that records carry themselves, or None.

  Args:
    x: a frame of pandas or polars, a table or batch of pyarrow, a structured array, columns by name
      or a sequence of dicts, all of which name their columns; anything else does not, nor does a
      frame whose columns pandas numbered.

  Raises:
    ValueError: some columns have names and others numbers, or two have the same.
  """
  if isinstance(x, (str, bytes)):
    return None
  if isinstance(x, Sequence) and len(x) and isinstance(x[0], Mapping):
    found: list[Any] = list(x[0])
  elif isinstance(x, Mapping):
    found = list(x)
  elif isinstance(x, np.ndarray):
    found = list(x.dtype.names or ())
  else:
    columns: Any = getattr(x, "column_names", getattr(x, "columns", None))
    found = [] if columns is None or isinstance(columns, str) else list(columns)
  named = [isinstance(name, str) for name in found]
  if not any(named):
    return None
  if not all(named):
    raise ValueError(
      f"Column {found[named.index(False)]!r} has no name while others have one, such as "
      f"{found[named.index(True)]!r}: name all columns with text, or none."
    )
  if len(set(found)) < len(found):
    twice = next(name for name in found if found.count(name) > 1)
    raise ValueError(f"Two columns are named {twice!r}; rename one.")
  return tuple(found)


def match(
  names: Sequence[str],
  trained: Sequence[str] | None,
  what: str = "The records",
  extra: bool = True,
  kept: Sequence[str] = (),
) -> list[int]:
  """Places of the columns that a detector was trained on, in its order.

  Args:
    names: of the columns at hand.
    trained: names of the training columns; None takes all columns as they stand. Names that are
      the columns' own numbers ("0", "1", ...) name nothing where the columns have none of them.
    what: the records, for messages.
    extra: whether to log the columns that are ignored.
    kept: columns that stand beside the scores, and are not told as ignored.

  Raises:
    ValueError: columns are missing; the message names them.

  Examples:
    >>> match(["weight", "id", "height"], trained=["height", "weight"], extra=False)
    [2, 0]
  """
  if trained is None:
    return list(range(len(names)))
  places = {name: place for place, name in enumerate(names)}
  lacking = [name for name in trained if name not in places]
  if len(lacking) == len(trained) and list(trained) == [str(i) for i in range(len(trained))]:
    return list(range(len(names)))
  if lacking:
    verb = "lacks" if what[:1].islower() or not what.endswith("s") else "lack"
    raise ValueError(f"{what} {verb} {listed(lacking)}, which the detector was trained on.")
  known = {*trained, *kept}
  ignored = [name for name in names if name not in known]
  if ignored and extra:
    logger.warning("Left out %s of %s: the detector was not trained on it.", listed(ignored), what)
  return [places[name] for name in trained]


def records(x: Any, trained: Sequence[str] | None = None) -> np.ndarray:
  """Records as numbers, columns in the detector's order.

  Args:
    x: ``[n, ...]``: an array, nested lists, or what ``names_of`` finds names in. A cell that is
      missing (None, ``pd.NA``, masked) becomes NaN, which whoever scores refuses by its place.
    trained: names of the training columns, or None.

  Returns:
    ``[n, ...]``; float64, or float32 where every column is, for records with names.

  Raises:
    ValueError: columns are missing, or a cell is no number; the message names it.

  Examples:
    >>> records([{"height": 2, "weight": 7}, {"weight": None, "height": 3}], ["weight", "height"])
    array([[ 7.,  2.],
           [nan,  3.]])
  """
  names = names_of(x)
  if names is None:
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
      return np.ma.filled(x.astype(np.result_type(x.dtype, np.float32)), np.nan)
    return np.asarray(x)
  places = match(names, trained)
  wanted = [names[place] for place in places]
  if isinstance(x, Sequence):
    for row, record in enumerate(x):
      lacking = [name for name in wanted if name not in record]
      if lacking:
        raise ValueError(f"Record {row} lacks {listed(lacking)}; give every record a value.")
    columns = [_numbers([record[name] for record in x], name) for name in wanted]
  else:
    columns = [_numbers(x[name], name) for name in wanted]
  return np.stack(columns, axis=1)


def _numbers(values: Any, name: str) -> np.ndarray:
  """One column ``[n]`` of a table as floating point; NaN where a cell is missing."""
  if hasattr(values, "isna") and getattr(values.dtype, "kind", "O") not in "mMf":  # pandas
    missing = np.asarray(values.isna())
    values = np.asarray(values, object) if missing.any() else values
    if missing.any():
      values[missing] = None
  if hasattr(values, "to_pylist"):  # pyarrow
    values = values.to_numpy(zero_copy_only=False)
  found = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
  if found.ndim != 1:
    raise ValueError(f"Column {name!r} holds more than one value per record; give one number each.")
  if found.dtype.kind == "f":
    return found if found.dtype.itemsize in (4, 8) else found.astype(np.float64)
  if found.dtype.kind in "bui":
    return found.astype(np.float64)
  if found.dtype.kind == "O":
    try:
      if not any(isinstance(value, (str, bytes)) for value in found):
        return found.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
      pass
    for row, value in enumerate(found):
      if not _is_number(value):
        raise ValueError(
          f"Row {row} of column {name!r} holds {str(value)[:40]!r}, no number; {REMEDY}."
        )
  kind = "text" if found.dtype.kind in "US" else found.dtype
  raise ValueError(f"Column {name!r} holds {kind}; {REMEDY}.")


def _is_number(value: Any) -> bool:
  if value is None:
    return True
  if isinstance(value, (str, bytes)):
    return False
  try:
    float(value)
  except (TypeError, ValueError, OverflowError):
    return False
  return True


def header(
  name: object,
  first: Sequence[str],
  choice: str = "auto",
  trained: Sequence[str] | None = None,
) -> tuple[list[str], bool]:
  """Names of the columns of a CSV input, and whether it names them itself.

  Args:
    name: of the input, for messages.
    first: fields of its first record.
    choice: "yes" takes them for a header, "no" for a record. "auto" takes them for a header unless
      every one is a number or missing; numbers are one too where they are 0, 1, 2, ..., as pandas
      numbers columns, or hold more than half of the names that a detector was trained on.
    trained: those names, or None.

  Raises:
    ValueError: there are no fields, another choice, or a column has no name or that of another.
  """
  if not first:
    raise ValueError(f"{name} is empty; write it again.")
  if choice not in HEADERS:
    raise ValueError(f"header must be one of {', '.join(HEADERS)}; got {choice!r}.")
  fields = [field.strip() for field in first]
  named = choice == "yes"
  if choice == "auto":
    numbers = all(is_number(field) for field in first)
    counted = fields == [str(i) for i in range(len(fields))]
    known = 2 * len(set(trained or ()) & set(fields)) > len(trained or ())
    named = not numbers or counted or known
    if numbers and not known:
      shown = ",".join(fields[:4]) + (",..." if len(fields) > 4 else "")
      logger.warning(
        "The first line of %s, %s, holds numbers alone and is taken for a %s; set the header to "
        "%s if that is wrong.",
        name,
        shown,
        "header" if named else "record",
        "no" if named else "yes",
      )
  names = fields if named else [str(i) for i in range(len(fields))]
  if "" in names:
    raise ValueError(
      f"Column {names.index('')} of {name} has no name in the header; name it, or remove it if it "
      "is a row number."
    )
  check_unique(name, names)
  return names, named


def number(field: str) -> float:
  """The number that a field of a CSV input holds, NaN where it holds none.

  Underscores and digits of other scripts are numbers to Python, and none in a CSV.
  """
  try:
    return float(field) if field.isascii() and "_" not in field else np.nan
  except ValueError:
    return np.nan


def is_number(field: str) -> bool:
  """Whether a field is a number or stands for a missing one.

  Examples:
    >>> [is_number(field) for field in ("1e3", "NA", "", "1_000", "red")]
    [True, True, True, False, False]
  """
  text = field.strip()
  return text in MISSING or text.lower().lstrip("+-") == "nan" or not np.isnan(number(field))


def check_unique(path: object, names: Sequence[str]) -> None:
  """Raises a ValueError where two columns have one name."""
  if len(set(names)) < len(names):
    twice = next(name for name in names if list(names).count(name) > 1)
    raise ValueError(f"{path} has two columns named {twice!r}; rename one.")


def check_finite(x: np.ndarray, names: Sequence[str] | None = None) -> None:
  """Raises a ValueError naming row and column of the first NaN or infinity in ``x`` ``[n, ...]``.

  Values that float32 cannot hold count as infinite.

  Args:
    x: numbers.
    names: of the columns of ``[n, columns]``, or None. Coordinates of one name are of one cell.
  """
  if x.dtype.kind != "f":
    return
  at_once = max(1, CHECKED_AT_ONCE // max(1, math.prod(x.shape[1:])))
  if not any(unfit(x[start : start + at_once]).any() for start in range(0, len(x), at_once)):
    return
  wrong = unfit(x)
  place = np.argwhere(wrong)[0]
  value = x[tuple(place)]
  found = "NaN" if np.isnan(value) else "infinity" if np.isinf(value) else f"{value:g}"
  where, count = f"row {place[0]}", int(wrong.sum())
  if names is not None and x.ndim == 2:
    where += f", column {names[place[-1]]!r}"
    count = len({(row, names[column]) for row, column in np.argwhere(wrong).tolist()})
  elif x.ndim > 1:
    where += f", column {place[-1]}"
  raise ValueError(
    f"Input contains {found} at {where} ({count} such values in all); impute or remove them."
  )


def unfit(x: Any) -> np.ndarray:
  """bool, the shape of ``x``: values that are missing, infinite, or too large for float32."""
  with np.errstate(over="ignore"):
    return np.logical_not(np.isfinite(np.asarray(x, np.float32)))


def check_range(x: np.ndarray, low: float, high: float) -> None:
  """Refuses records ten times beyond the span of the training records."""
  margin = 10.0 * max(high - low, 1e-12)
  smallest, largest = float(x.min()), float(x.max())
  if smallest < low - margin or largest > high + margin:
    raise ValueError(
      f"Records range from {smallest:g} to {largest:g}, training records from {low:g} to {high:g}: "
      "give them in the units of training (divide bytes by 255)."
    )
