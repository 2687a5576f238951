"""What a detector computes: a traceable program, and one that was read back from its bytes."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import functools
import importlib.metadata
import platform
from typing import Any

import jax
import jax.export
from jax.extend import mlir
from jax.interpreters.mlir import make_ir_context
import jax.numpy as jnp
import numpy as np

PLATFORMS = ("cpu", "cuda", "tpu")
PACKAGES = ("jax", "jaxlib", "numpy", "flax", "drocc-jax")
CUSTOM_CALLS = frozenset(("shape_assertion", "Sharding"))
DIALECTS = frozenset(("builtin", "func", "stablehlo", "chlo", "sdy"))
DEEPEST = 100  # nesting of loops, and of calls
REFUSED = frozenset(("stablehlo.infeed", "stablehlo.outfeed", "stablehlo.send", "stablehlo.recv"))


class ProgramError(ValueError):
  """A program that must not be run, or is not one of a detector; the message goes on from "it"."""


@dataclasses.dataclass(frozen=True)
class Program:
  """``(arrays, x) -> {"score", "p_value", ...}``, pure, comparable and hashable.

  Attributes:
    score_fn: ``(variables, x) -> [batch]`` on preprocessed inputs; higher = more anomalous. A
      frozen dataclass with ``__call__`` serves best: equal ones share their compilation.
    report_fn: ``(variables, x, threshold) -> {name: [batch, ...]}``, what else the method has to
      say of a record, or None.
  """

  score_fn: Callable[[Any, jax.Array], jax.Array]
  report_fn: Callable[[Any, jax.Array, jax.Array], dict[str, jax.Array]] | None = None

  def __call__(self, arrays: dict[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    """Scores raw ``x`` ``[batch, ...]``; ``arrays`` as in ``Detector``."""
    z = arrays["features"](x) if "features" in arrays else x
    variables, z = arrays["variables"], arrays["preprocessing"](z)
    score = self.score_fn(variables, z)
    result = {"score": score, "p_value": p_value(arrays["calibration"], score)}
    if self.report_fn is not None:
      result |= self.report_fn(variables, z, arrays["threshold"])
    return result


def p_value(calibration: jax.Array, score: jax.Array) -> jax.Array:
  """``calibration.p_values`` of scores ``[batch]`` within a program."""
  above = jnp.sum(calibration[None, :] >= score[:, None], axis=1, dtype=jnp.float32)
  return (1.0 + above) / (1.0 + calibration.shape[0])


@functools.partial(jax.jit, static_argnums=0)
def scores_of(program: Callable[..., Any], arrays: Any, x: jax.Array) -> jax.Array:
  """Scores ``[batch]`` of ``x`` ``[batch, ...]``, compiled."""
  return program(arrays, x)["score"]


@functools.partial(jax.jit, static_argnums=0)
def report_of(program: Callable[..., Any], arrays: Any, x: jax.Array) -> dict[str, jax.Array]:
  """All that a program gives for ``x`` ``[batch, ...]``, compiled."""
  return program(arrays, x)


@dataclasses.dataclass(frozen=True, eq=False)
class ExportedProgram:
  """A program read back from its serialised form; compared by identity.

  Attributes:
    serialized: the bytes of ``program.bin``.
    versions: of the libraries that made it, by name.
  """

  serialized: bytes
  versions: dict[str, str]

  @functools.cached_property
  def exported(self) -> jax.export.Exported:
    """The program in the bytes, read when it is first asked for: unpickling runs no reader."""
    exported = jax.export.deserialize(bytearray(self.serialized))
    check_operations(exported)
    return exported

  @classmethod
  def read(cls, serialized: bytes, versions: dict[str, str]) -> "ExportedProgram":
    """Deserialises a program, without running any of it.

    Raises:
      ProgramError: it does what no detector does, see ``check_operations``.
      Exception: the bytes are no program; it may be anything.
    """
    program = cls(serialized, versions)
    _ = program.exported
    return program

  @classmethod
  def from_detector(cls, detector: Any) -> "ExportedProgram":
    """The program of a detector: exported, or as it was read."""
    if isinstance(detector.program, ExportedProgram):
      return detector.program
    exported = export(detector)
    check_operations(exported)
    return cls(bytes(exported.serialize()), _versions())

  @property
  def outputs(self) -> dict[str, dict[str, Any]]:
    """``{name: {"dtype", "shape"}}`` of what the program returns; "batch" stands for any size."""
    tree: Any = self.exported.out_tree
    found = tree.unflatten(self.exported.out_avals)
    if not isinstance(found, dict) or not all(hasattr(aval, "shape") for aval in found.values()):
      raise ProgramError("gives no values by name")
    return {
      name: {
        "dtype": str(aval.dtype),
        "shape": [size if isinstance(size, int) else str(size) for size in aval.shape],
      }
      for name, aval in found.items()
    }

  def check_interface(self, arrays: dict[str, Any], input_shape: tuple[int, ...]) -> None:
    """Checks that the program takes these arrays and records, and gives a score for each record.

    Raises:
      ProgramError: it does not.
    """
    in_tree: Any = self.exported.in_tree
    args, kwargs = in_tree.unflatten(self.exported.in_avals)
    if kwargs or len(args) != 2 or not isinstance(args[0], dict) or not hasattr(args[1], "shape"):
      raise ProgramError("takes other arguments than arrays by name and records")
    known, x = args
    if known.keys() != arrays.keys():
      raise ProgramError(f"takes the arrays {sorted(known)}, and there are {sorted(arrays)}")
    for name, aval in known.items():
      have = np.shape(arrays[name])
      fits = len(have) == len(aval.shape) and all(
        size == wanted for size, wanted in zip(have, aval.shape, strict=True) if _is_size(wanted)
      )
      if not fits or aval.dtype != arrays[name].dtype:
        raise ProgramError(
          f"takes {name!r} as {aval.dtype} {list(map(str, aval.shape))}, and it is "
          f"{arrays[name].dtype} {list(have)}"
        )
    if tuple(x.shape[1:]) != tuple(input_shape) or _is_size(x.shape[0]) or x.dtype != np.float32:
      raise ProgramError(f"takes records {x.dtype} {list(map(str, x.shape))}")
    outputs, batch = self.outputs, str(x.shape[0])
    for name in ("score", "p_value"):
      if outputs.get(name) != {"dtype": "float32", "shape": [batch]}:
        raise ProgramError(f"gives no {name!r} of one float32 for each record")
    for name, found in outputs.items():
      if not found["shape"] or found["shape"][0] != batch:
        raise ProgramError(f"gives {name!r} {found['shape']}, not one for each record")

  def __call__(self, arrays: dict[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    """As ``detector.Program``; ``arrays`` is the flat ``{name: array}`` of ``arrays.npz``."""
    return self.exported.call(arrays, x)

  def __reduce__(self) -> Any:
    return ExportedProgram, (self.serialized, self.versions)


def _is_size(size: Any) -> bool:
  """Whether a dimension is a number rather than a symbol."""
  return isinstance(size, int)


def _versions() -> dict[str, str]:
  """Versions of Python and of those ``PACKAGES`` that are installed."""
  result = {"python": platform.python_version()}
  for name in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      result[name] = importlib.metadata.version(name)
  return result


def flatten(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
  """``{name: array}`` of a pytree's leaves, e.g. ``variables/params/Dense_0/bias``."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(arrays)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
    for path, leaf in leaves
  }


def _too_deep(calls: dict[str, set[str]]) -> bool:
  """Whether a chain of calls has a circle or more than ``DEEPEST`` links."""
  left = dict(calls)
  for _ in range(DEEPEST):
    leaves = {name for name, callees in left.items() if not callees & left.keys()}
    if not leaves:
      break
    left = {name: callees for name, callees in left.items() if name not in leaves}
  return bool(left)


def nested(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
  """The nested dict of which ``flatten`` made the arrays ``prefix/A/B/...``."""
  result: dict[str, Any] = {}
  for name, array in arrays.items():
    if name.startswith(prefix + "/"):
      *path, last = name.removeprefix(prefix + "/").split("/")
      place = result
      for key in path:
        place = place.setdefault(key, {})
      place[last] = array
  return result


def export(detector: Any) -> jax.export.Exported:
  """Exports a detector's program, with batch size and calibration length symbolic.

  Raises:
    ValueError: the network asks for the batch size as an integer.
  """
  treedef: Any = jax.tree.structure(detector.arrays)
  names = list(flatten(detector.arrays))

  def program(flat: dict[str, jax.Array], x: jax.Array) -> dict[str, jax.Array]:
    return detector.program(treedef.unflatten([flat[name] for name in names]), x)

  batch, one_more = jax.export.symbolic_shape("batch, one_more")
  records = one_more - 1  # a symbolic dimension is at least 1, an uncalibrated detector has none
  shapes = {
    name: jax.ShapeDtypeStruct((records,) if name == "calibration" else array.shape, array.dtype)
    for name, array in flatten(detector.arrays).items()
  }
  x = jax.ShapeDtypeStruct((batch, *detector.input_shape), jnp.float32)
  try:
    with _without_locations():
      return jax.export.export(jax.jit(program), platforms=PLATFORMS)(shapes, x)
  except TypeError as error:
    if "_DimExpr" not in str(error):
      raise
    raise ValueError(
      "The network asks for the size of a batch as an integer, so that no program for batches of "
      "any size can be made of it: write x.shape[0] for len(x) in it."
    ) from error


@contextlib.contextmanager
def _without_locations() -> Iterator[None]:
  """What is lowered names no source file: no path of this machine, the same bytes from any line."""
  before = getattr(jax.config, "jax_traceback_in_locations_limit")  # noqa: B009
  jax.config.update("jax_traceback_in_locations_limit", 0)
  try:
    yield
  finally:
    jax.config.update("jax_traceback_in_locations_limit", before)


def check_operations(exported: jax.export.Exported) -> None:
  """Refuses a program that could do more than compute, before any of it runs.

  Custom calls reach compiled code of the process by name, with arguments that nobody checks: one
  that takes the address of a callback can crash it. ``CUSTOM_CALLS`` alone are let through; what
  talks to a host or another device is not. A program can still loop and fill memory.

  Raises:
    ProgramError: naming what was found.
  """
  module = mlir.deserialize_portable_artifact(exported.mlir_module_serialized, make_ir_context())
  found: list[str] = []
  calls: dict[str, set[str]] = {}
  waiting: list[tuple[Any, int, str]] = [(module.operation, 0, "")]
  while waiting:
    operation, depth, function = waiting.pop()
    name = operation.name
    if name == "func.func":
      function = operation.attributes["sym_name"].value
      calls.setdefault(function, set())
    elif name == "func.call":
      calls.setdefault(function, set()).add(operation.attributes["callee"].value)
    elif name == "stablehlo.custom_call":
      target = operation.attributes["call_target_name"].value
      if target not in CUSTOM_CALLS:
        found.append(f"the custom call {target!r}")
    elif name in REFUSED or name.split(".")[0] not in DIALECTS:
      found.append(f"the operation {name!r}")
    if depth > DEEPEST:
      found.append(f"operations nested {depth} deep")
      break
    for region in operation.regions:
      for block in region.blocks:
        waiting += [(each.operation, depth + 1, function) for each in block.operations]
  if _too_deep(calls):
    found.append("functions that call themselves, or one another too deeply")
  if found:
    raise ProgramError(f"holds {found[0]}, which detectors do not use")
