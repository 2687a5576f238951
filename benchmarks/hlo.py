"""What a compiled program does, read from its text: kernels, operations and bytes.

XLA's own ``compiled.cost_analysis()`` counts the body of a loop once, however often it runs, and
has one total for all kernels; here every kernel is counted as often as it runs, by itself. The
rules are those of XLA: a fusion reads its operands and writes its result, of an operand that it
only slices the slices; a product of matrices or a convolution has two operations for each term, and
every other instruction one for each element.
"""

from collections.abc import Iterator
import math
import re
from typing import NamedTuple

BITS = {"pred": 8, "token": 0, "bf16": 16} | {
  f"{kind}{bits}": bits for kind in "sufc" for bits in (2, 4, 8, 16, 32, 64, 128)
}
FREE = frozenset(
  (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("copy-done", "async-done", "async-update", "slice-done", "partition-id", "opt-barrier"),
  )
)
MOVES = FREE | frozenset(
  (
    *("copy", "copy-start", "slice", "dynamic-slice", "dynamic-update-slice", "concatenate", "pad"),
    *("broadcast", "reshape", "transpose", "reverse", "iota", "gather", "custom-call", "convert"),
  )
)
SLICES = frozenset(("dynamic-slice", "gather", "slice"))
_ARRAY = re.compile(r"([a-z]+[0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([^\s=]+) = (.*)$")
_CALLED = re.compile(
  r"(calls|to_apply|condition|body|true_computation|false_computation)=%?([^\s,)]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'known_trip_count[^}]*?"n":"(\d+)"')


class Kernel(NamedTuple):
  """One kernel.

  Attributes:
    times: that it runs.
    operations: of one run, floating-point.
    bytes: of one run, read from and written to memory.
  """

  times: int
  operations: float
  bytes: float


class Instruction(NamedTuple):
  """A line of a program.

  Attributes:
    name: of its result.
    root: whether the computation returns it.
    shape: of its result, as the text has it.
    opcode: what it does.
    operands: names; of a parameter its number.
    rest: of the line.
  """

  name: str
  root: bool
  shape: str
  opcode: str
  operands: tuple[str, ...]
  rest: str

  @property
  def called(self) -> dict[str, str]:
    """Computations that it calls, by what for."""
    return dict(_CALLED.findall(self.rest))


class Program:
  """A compiled program.

  Args:
    text: ``compiled.as_text()``.
    trips: iterations of a loop whose number the compiler does not know.

  Attributes:
    kernels: in the order of the program.
    traced_loops: iterations in all of loops whose number the compiler does not know.

  Raises:
    ValueError: the text holds no program.
  """

  def __init__(self, text: str, trips: int):
    self._trips, self._entry, self.traced_loops = trips, "", 0
    self._computations: dict[str, dict[str, Instruction]] = {}
    current: dict[str, Instruction] = {}
    for line in text.splitlines():
      if header := _HEADER.match(line):
        current = self._computations.setdefault(header[2], {})
        self._entry = header[2] if header[1] else self._entry
      elif line.startswith("  ") and (found := _INSTRUCTION.match(line)):
        current[found[2]] = _instruction(found[2], bool(found[1]), found[3])
    if not self._entry:
      raise ValueError("The text holds no compiled program.")
    self.kernels = list(self._run(self._entry, 1))

  @property
  def operations(self) -> float:
    """Floating-point operations of one run of the program."""
    return sum(kernel.times * kernel.operations for kernel in self.kernels)

  @property
  def bytes(self) -> float:
    """Bytes that one run of the program reads and writes."""
    return sum(kernel.times * kernel.bytes for kernel in self.kernels)

  @property
  def launches(self) -> int:
    """Kernels of one run of the program."""
    return sum(kernel.times for kernel in self.kernels)

  def _run(self, computation: str, times: int) -> Iterator[Kernel]:
    """The kernels of a computation that runs so many times."""
    table = self._computations[computation]
    for one in table.values():
      called = one.called
      if one.opcode == "while":
        known = _TRIPS.search(one.rest)
        trips = int(known[1]) if known else self._trips
        self.traced_loops += 0 if known else times * trips
        yield from self._run(called["condition"], times * trips)
        yield from self._run(called["body"], times * trips)
      elif one.opcode == "conditional":
        yield from max(
          (list(self._run(name, times)) for name in _branches(one)),
          key=lambda kernels: sum(kernel.times * kernel.bytes for kernel in kernels),
        )
      elif one.opcode in ("call", "async-start") and called:
        yield from self._run(next(iter(called.values())), times)
      elif one.opcode not in FREE and not _is_scalar(one, table):
        yield Kernel(times, self._operations(one, table), self._bytes(one, table))

  def _operations(self, one: Instruction, table: dict[str, Instruction]) -> float:
    if one.opcode == "fusion":
      inner = self._computations[one.called["calls"]]
      return sum(self._operations(each, inner) for each in inner.values())
    if one.opcode in MOVES:
      return 0.0
    if one.opcode == "dot":
      return 2.0 * _elements(one.shape) * _contracted(one, table)
    if one.opcode == "convolution":
      return 2.0 * _elements(one.shape) * _taps(one, table)
    if one.opcode in ("reduce", "reduce-window"):
      return float(sum(_elements(table[name].shape) for name in one.operands if name in table))
    return float(_elements(one.shape))

  def _bytes(self, one: Instruction, table: dict[str, Instruction]) -> float:
    read = [_bytes(table[name].shape) for name in one.operands if name in table]
    if one.opcode in SLICES:
      return 2.0 * _bytes(one.shape)
    if one.opcode == "dynamic-update-slice":
      return 2.0 * read[1]
    if one.opcode != "fusion":
      return float(sum(read) + _bytes(one.shape))
    inner = self._computations[one.called["calls"]]
    written = float(_bytes(one.shape))
    for number, each in enumerate(_parameters(inner)):
      users = [user for user in inner.values() if each in user.operands]
      if users and all(user.opcode in SLICES and user.operands[0] == each for user in users):
        read[number] = sum(_bytes(user.shape) for user in users)
      elif users and all(_updates(user, each) for user in users):
        part = sum(_bytes(inner[user.operands[1]].shape) for user in users)
        written += part - read[number] if _bytes(one.shape) >= read[number] else 0
        read[number] = 0
    return float(sum(read)) + max(written, 0.0)


def _updates(user: Instruction, name: str) -> bool:
  return user.opcode == "dynamic-update-slice" and user.operands[0] == name


def _instruction(name: str, root: bool, line: str) -> Instruction:
  """Reads ``shape opcode(operands), rest``."""
  shape, line = _shape(line)
  opcode, _, line = line.partition("(")
  depth, end = 1, 0
  while depth and end < len(line):
    depth += {"(": 1, ")": -1}.get(line[end], 0)
    end += 1
  operands = tuple(re.findall(r"%([^\s,()]+)", line[: end - 1]))
  if opcode == "parameter":
    operands = (line[: end - 1],)
  return Instruction(name, root, shape, opcode.strip(), operands, line[end:])


def _shape(line: str) -> tuple[str, str]:
  """The shape that a line begins with, which may be a tuple's, and what follows it."""
  if not line.startswith("("):
    shape, _, rest = line.partition(" ")
    return shape, rest
  depth = 0
  for place, letter in enumerate(line):
    depth += {"(": 1, ")": -1}.get(letter, 0)
    if not depth:
      return line[: place + 1], line[place + 1 :].lstrip()
  raise ValueError(f"A tuple does not end: {line[:80]}")


def _parameters(table: dict[str, Instruction]) -> list[str]:
  found = [one for one in table.values() if one.opcode == "parameter"]
  return [one.name for one in sorted(found, key=lambda one: int(one.operands[0]))]


def _branches(one: Instruction) -> list[str]:
  if found := _BRANCHES.search(one.rest):
    return [name.strip().lstrip("%") for name in found[1].split(",")]
  return [name for kind, name in one.called.items() if kind.endswith("_computation")]


def _is_scalar(one: Instruction, table: dict[str, Instruction]) -> bool:
  """Whether an instruction is a counter's or a predicate's, which is no kernel of its own."""
  shapes = [one.shape, *(table[name].shape for name in one.operands if name in table)]
  return all(_elements(shape) <= 1 for shape in shapes)


def _sizes(shape: str) -> list[int]:
  """Of the axes of an array."""
  found = _ARRAY.search(shape)
  return [int(size) for size in found[2].split(",") if size] if found else []


def _elements(shape: str) -> int:
  found = _ARRAY.findall(shape)
  return sum(math.prod(int(size) for size in sizes.split(",") if size) for _, sizes, _ in found)


def _bytes(shape: str) -> int:
  """Bytes in the device's main memory; ``S(1)`` is a TPU's own beside its units."""
  return sum(
    math.ceil(math.prod(int(size) for size in sizes.split(",") if size) * BITS.get(kind, 32) / 8)
    for kind, sizes, layout in _ARRAY.findall(shape)
    if "S(1)" not in layout
  )


def _contracted(one: Instruction, table: dict[str, Instruction]) -> int:
  """Terms of each element of a matrix product."""
  sizes = _sizes(table[one.operands[0]].shape)
  axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.rest)
  return math.prod(sizes[int(axis)] for axis in axes[1].split(",") if axis) if axes else 1


def _taps(one: Instruction, table: dict[str, Instruction]) -> float:
  """Terms of each element of a convolution; those that fall into padding are counted, too."""
  labels = re.search(r"dim_labels=\w+_(\w+)->", one.rest)
  sizes = _sizes(table[one.operands[1]].shape)
  if labels is None:
    return 1.0
  taps = math.prod(sizes) / sizes[labels[1].index("o")]
  dilated = re.search(r"lhs_dilate=([\dx]+)", one.rest)
  groups = re.search(r"batch_group_count=(\d+)", one.rest)
  apart = math.prod(int(each) for each in dilated[1].split("x")) if dilated else 1
  return max(taps / apart / (int(groups[1]) if groups else 1), 1.0)
