"""Many texts as numbers at once, where they differ in their digits alone."""

from collections.abc import Callable, Sequence

import numpy as np

FEW = 8  # texts of one layout are read one by one where there are fewer
LONGEST = 64  # characters of texts that are read together
ZEROS = str.maketrans("123456789", "000000000")
_FACTORS = np.random.default_rng(0).integers(2**63, size=LONGEST, dtype=np.uint64)


def read(
  texts: Sequence[str],
  together: Callable[[np.ndarray, str], np.ndarray],
  one: Callable[[str], float],
) -> np.ndarray:
  """The numbers of texts, float64 ``[n]``.

  Args:
    texts: of which many may have one layout: the same characters at the same places, digits apart.
    together: the numbers of texts of one layout, and NaN of those that ``one`` is to read, given
      the codes of their characters ``[length, m]`` and a text with 0 for every digit.
    one: the number of a text.
  """
  result = np.full(len(texts), np.nan)
  # NumPy pads texts with the character 0 to the length of the longest.
  short = [row for row, text in enumerate(texts) if len(text) <= LONGEST and "\0" not in text]
  if len(short) >= FEW:
    places, padded = np.array(short), np.array([texts[row] for row in short])
    codes = np.ascontiguousarray(padded.view(np.uint32).reshape(len(short), -1).T)
    keys = np.zeros(len(short), np.uint64)  # 64 bits: two layouts share one in 10^19 pairs
    for factor, code in zip(_FACTORS, codes, strict=False):
      keys += factor * np.where(code - ord("0") < 10, ord("0"), code).astype(np.uint64)
    order = np.argsort(keys, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
      if len(rows) >= FEW:
        like = str(padded[rows[0]])
        result[places[rows]] = together(codes[: len(like), rows], like.translate(ZEROS))
  rest = np.flatnonzero(np.isnan(result)).tolist()
  known = {text: one(text) for text in {texts[row] for row in rest}}
  for row in rest:
    result[row] = known[texts[row]]
  return result


def text(codes: np.ndarray) -> str:
  """The text of codes ``[length]``."""
  return "".join(map(chr, codes.tolist()))


def whole(codes: np.ndarray) -> np.ndarray:
  """The whole numbers, int64 ``[n]``, of digits ``[digits, n]``, at most 18 of them."""
  result = np.zeros(codes.shape[1], np.int64)
  for code in codes:
    result = 10 * result + code - ord("0")
  return result
