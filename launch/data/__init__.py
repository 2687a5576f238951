"""Where records come from: one typed ``Source`` in, one ``Splits`` out."""

import dataclasses
import re
from typing import Any

# One line for each source; it is known once it is imported.
from launch.data.bundled import BreastCancer as BreastCancer
from launch.data.bundled import Digits as Digits
from launch.data.bundled import ShiftedDigits as ShiftedDigits
from launch.data.files import Files as Files
from launch.data.formats.columns import DataError as DataError
from launch.data.image_sets import OneClassImages as OneClassImages
from launch.data.image_sets import OpenSetImages as OpenSetImages
from launch.data.pictures import Pictures as Pictures
from launch.data.real import RealTable as RealTable
from launch.data.series import Epilepsy as Epilepsy
from launch.data.source import Source as Source
from launch.data.splits import Splits as Splits
from launch.data.splits import taken as taken
from launch.data.synthetic import NoisySine as NoisySine
from launch.data.synthetic import Sine as Sine
from launch.data.synthetic import Sphere as Sphere
from launch.data.wake_word import WakeWord as WakeWord
from launch.data.windows import Windows as Windows

SOURCES = tuple(Source.known)
# The settings that all data had in common before each source had its own.
FORMER = frozenset(
  re.findall(
    r"\w+",
    "name typical split seed displacement radius train test label group header ood unseen "
    "negatives masked keyword features synthesised rotation limit",
  )
)


def named(name: str) -> Source:
  """The source of that name, with its own defaults.

  Raises:
    DataError: there is none.
  """
  for source in SOURCES:
    if source.reads(name):
      return source(name=name)
  names = ", ".join(dict.fromkeys(name for source in SOURCES for name in source.names))
  raise DataError(f"There is no data set {name!r}; there are: {names}.")


def from_settings(values: dict[str, Any]) -> tuple[type[Source], dict[str, Any]]:
  """The class that settings read from JSON belong to, and those of them that it has.

  A run of an earlier release has the settings of all sources; those of others are left out.

  Raises:
    ValueError: no such source.
  """
  name = values.get("name")
  suiting = [source for source in SOURCES if isinstance(name, str) and source.reads(name)]
  if not suiting:
    raise ValueError(f"there is no data set {name!r}")
  others = values.get("ood") or values.get("unseen") or "typical" not in values
  chosen = suiting[-1] if others else suiting[0]
  known = {field.name for field in dataclasses.fields(chosen)}
  return chosen, {
    key: value for key, value in values.items() if key in known | (values.keys() - FORMER)
  }
