"""The flags ``--sweep.NAME=VALUES``: which settings one program can sweep, and their values.

A setting can be swept where another value compiles nothing: those that the algorithms trace (their
``Hyper``), and the seed.
"""

import collections
from collections.abc import Sequence
import dataclasses
import difflib
import math
import re
import typing
from typing import Any

from absl import flags
import numpy as np

from drocc_jax import drocc_lf
from launch.methods import drocc

MOST_VALUES = 10_000
HELP = "values as 1,2,4, integers as 0:5 (0, 1, 2, 3, 4), or log(0.5,8,5), evenly spaced factors"
_RANGE = re.compile(r"(-?\d+):(-?\d+)")
_LOG = re.compile(r"log\(([^,()]+),([^,()]+),([^,()]+)\)")

Axes = dict[str, tuple[float, ...]]


def names(hyper_class: Any = drocc_lf.Hyper) -> tuple[str, ...]:
  """What can be swept for an algorithm; for DROCC-LF, the default, whatever can be for any."""
  return (*(field.name for field in dataclasses.fields(hyper_class)), "seed")


def define(argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines ``--sweep.NAME`` for all that can be swept.

  Names in ``argv`` that cannot be are defined too, so that parsing refuses them with the reason.

  Args:
    argv: the arguments of the command.
    flag_values: where to define them.
  """
  given = [argument.lstrip("-") for argument in argv if re.match(r"--?sweep\.", argument)]
  asked = (flag.split("=", 1)[0].removeprefix("sweep.") for flag in given)
  for name in dict.fromkeys((*names(), *asked)):
    flags.DEFINE_multi(
      Values(name),
      flags.ArgumentSerializer(),
      f"sweep.{name}",
      None,
      f"{name}: {HELP}.",
      flag_values=flag_values,
    )
    flags.register_validator(
      f"sweep.{name}",
      lambda value: value is None or len(value) == 1,
      f"{name} is swept more than once; give all its values in one flag",
      flag_values=flag_values,
    )


def given(flag_values: flags.FlagValues = flags.FLAGS) -> Axes:
  """The axes that the parsed flags name, in one order whatever that of the flags.

  Raises:
    ValueError: there is none.
  """
  axes: Axes = {}
  for name in names():
    value = flag_values[f"sweep.{name}"].value
    if value is not None:
      axes[name] = value[0]
  if not axes:
    raise ValueError(
      f"There is nothing to sweep: give --sweep.NAME=VALUES, {HELP}. Valid: {', '.join(names())}."
    )
  return axes


class Values(flags.ArgumentParser):
  """Parses the values of one axis to a tuple; see ``HELP``.

  Args:
    name: of the axis; ``parse`` refuses one that cannot be swept.
  """

  def __init__(self, name: str):
    super().__init__()
    self._name = name

  def parse(self, argument: str) -> tuple[float, ...]:
    """The values, ints where the setting is an integer.

    Raises:
      ValueError: the setting cannot be swept, or the values are none, too many, no numbers, not
        finite, given twice, or not integers where they must be.
    """
    check_name(self._name)
    values: list[float] = []
    for part in re.split(r",(?![^(]*\))", argument.strip().removesuffix(",")):
      if not part.strip():
        raise ValueError(f"{self._name} has an empty value or none; give {HELP}")
      values += _values(part.strip(), _kind(self._name))
    if twice := [value for value, count in collections.Counter(values).items() if count > 1]:
      raise ValueError(f"{self._name} has the value {twice[0]:g} twice")
    return tuple(values)

  def flag_type(self) -> str:
    """What ``--help`` says of the type."""
    return "values"


def check_name(name: str) -> None:
  """Raises a ValueError where no algorithm can sweep a setting of that name in one program."""
  if name in names():
    return
  valid = f"Valid: {', '.join(names())}"
  if name.split(".")[-1] in names():
    raise ValueError(f"{name} is not the name of an axis; did you mean {name.split('.')[-1]}?")
  if name.split(".")[0] in _untraced():
    raise ValueError(
      f"{name} cannot be swept in one program, another value needs other data or another program; "
      f"run it as separate sweeps. {valid}"
    )
  close = difflib.get_close_matches(name, names(), 1)
  hint = f"did you mean {close[0]}? " if close else ""
  raise ValueError(f"{name} is no setting that can be swept; {hint}{valid}")


def _untraced() -> set[str]:
  """Settings of experiment and algorithm that are not traced."""
  configs = (drocc.Config, drocc_lf.Config)
  return {field.name for config in configs for field in dataclasses.fields(config)} - set(names())


def _kind(name: str) -> type:
  """Type int or float, that of the values of an axis."""
  kind = typing.get_type_hints(drocc_lf.Config).get(name, int)
  return int if kind in (int, int | None) else float


def _values(part: str, kind: type) -> list[float]:
  """The values of one item of a list."""
  if found := _RANGE.fullmatch(part):
    first, end = (int(number) for number in found.groups())
    if end <= first:
      raise ValueError(f"the range {part} is empty; {first}:{first + 5} are five values")
    _check_number(part, end - first)
    return [kind(value) for value in range(first, end)]
  if found := _LOG.fullmatch(part):
    low, high = (_number(text.strip(), float) for text in found.groups()[:2])
    count = int(_number(found.group(3).strip(), int))
    if not 0.0 < low < high or count < 2:
      raise ValueError(f"{part} must be log(lo,hi,n) with 0 < lo < hi and n of 2 or more")
    _check_number(part, count)
    spaced = np.geomspace(low, high, count)
    if kind is int:
      return [int(value) for value in dict.fromkeys(np.round(spaced))]
    return [float(f"{value:.6g}") for value in spaced]
  return [_number(part, kind)]


def _number(text: str, kind: type) -> float:
  try:
    value = kind(text)
  except ValueError:
    noun = "integer" if kind is int else "number"
    raise ValueError(f"{text!r} is no {noun}; give {HELP}") from None
  if not math.isfinite(value):
    raise ValueError(f"{text!r} is not finite")
  return value


def _check_number(part: str, count: int) -> None:
  if count > MOST_VALUES:
    raise ValueError(f"{part} has {count:,} values, more than the {MOST_VALUES:,} of one axis")
