"""A Detector as an ONNX model, through jax2onnx; needs the extra ``onnx``.

jax2onnx converts the primitives of a traced program. Before that the program is simplified: calls
are inlined, what nothing depends on is left out (an LSTM's random initial state is never used), and
primitives that it lacks, or converts to what onnxruntime cannot run, are replaced by others.
"""

from collections.abc import Callable
import json
import os
import pathlib
from typing import Any

import jax
import jax.export
import jax.extend.core
import jax.numpy as jnp
import numpy as np

import detector_jax
from detector_jax import artifact, atomic
from detector_jax.table import reason_of

OUTPUTS = ("score", "p_value")
PARITY = 1e-4
CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call")


def write(detector: detector_jax.Detector, path: str | os.PathLike[str]) -> None:
  """Writes ``x [batch, ...] -> score [batch], p_value [batch]`` as one file, or nothing.

  ``x`` is float32, or float64 where the detector has an ``input_offset``, which the model subtracts
  first. The model is run by onnxruntime before it is moved to its place.

  Args:
    detector: a live one, not one that was loaded; its program must be traceable.
    path: the file; its folder must exist.

  Raises:
    ValueError: the extra is not installed, the detector cannot be converted, or the model's scores
      are not the detector's to 1e-4 of their size.
    OSError: the file cannot be written.
  """
  jax2onnx, runtime = _packages()
  x = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("batch"), *detector.input_shape), np.float32)

  def program(x: jax.Array) -> tuple[jax.Array, ...]:
    told = detector.program(detector.arrays, x)
    return tuple(told[name] for name in OUTPUTS)

  try:
    simple = simplified(program, x)
    model = jax2onnx.to_onnx(
      jax.extend.core.jaxpr_as_fun(simple),
      inputs=[x],
      model_name="detector",
      input_names=["x"],
      output_names=list(OUTPUTS),
    )
  except Exception as error:  # whatever a converter trips over
    reason = reason_of(error)
    raise ValueError(
      f"This detector cannot be converted to ONNX ({reason}); take --format=folder."
    ) from error
  if detector.input_offset is not None:
    _take_raw_records(model, np.asarray(detector.input_offset, np.float64))
  for name, value in _facts(detector).items():
    model.metadata_props.add(key=name, value=value)
  serialized = model.SerializeToString()
  _check_parity(detector, runtime.InferenceSession(serialized, providers=["CPUExecutionProvider"]))
  with atomic.written_beside(pathlib.Path(path)) as temporary:
    temporary.write_bytes(serialized)


def _take_raw_records(model: Any, offset: np.ndarray) -> None:
  """Makes the input float64 and subtracts the offset there, as ``Detector`` does on the host."""
  from onnx import TensorProto, helper, numpy_helper  # comes with jax2onnx

  graph = model.graph
  (x,) = graph.input
  x.type.tensor_type.elem_type = TensorProto.DOUBLE
  for node in graph.node:
    node.input[:] = [f"{x.name}_shifted" if name == x.name else name for name in node.input]
  graph.initializer.append(numpy_helper.from_array(offset, f"{x.name}_offset"))
  first = [
    helper.make_node("Sub", [x.name, f"{x.name}_offset"], [f"{x.name}_centred"]),
    helper.make_node("Cast", [f"{x.name}_centred"], [f"{x.name}_shifted"], to=TensorProto.FLOAT),
  ]
  for place, node in enumerate(first):
    graph.node.insert(place, node)


def _packages() -> tuple[Any, Any]:
  try:
    import jax2onnx
    import onnxruntime
  except ImportError as error:
    raise ValueError(
      f"--format=onnx needs {error.name}, which is not installed: pip install 'drocc-jax[onnx]'."
    ) from error
  return jax2onnx, onnxruntime


def _facts(detector: detector_jax.Detector) -> dict[str, str]:
  """What ``detector.json`` would say, as strings."""
  return {
    "method": str(detector.metadata.get("method")),
    "score": "higher = more anomalous; anomalous when score > threshold",
    "labels": json.dumps(artifact.LABELS),
    "threshold": json.dumps(detector.threshold),
    "fpr": json.dumps(detector.fpr),
    "calibration_records": str(detector.calibration.scores.size),
    "confidence": json.dumps(detector.confidence),
    "input_range": json.dumps(detector.input_range),
    "feature_names": json.dumps(detector.feature_names),
    "metadata": detector.metadata_json,
  }


def _check_parity(detector: detector_jax.Detector, session: Any) -> None:
  records = artifact.probe(detector)
  raw = records
  if detector.input_offset is not None:
    raw = records.astype(np.float64) + np.asarray(detector.input_offset)
  for size in artifact.PROBE_BATCHES:
    want = artifact.scores_of(detector, records[:size])
    got, _ = session.run(list(OUTPUTS), {"x": raw[:size]})
    allowed = PARITY * float(np.abs(want).max())
    if not np.allclose(want, got, rtol=0.0, atol=allowed, equal_nan=True):
      raise ValueError(
        f"The ONNX model does not reproduce the detector: scores differ by up to "
        f"{np.abs(want - got).max():.3g}, where {allowed:.3g} is allowed. Nothing was written; "
        "take --format=folder."
      )


def simplified(function: Callable[..., Any], *specs: jax.ShapeDtypeStruct) -> Any:
  """The jaxpr of ``function`` without calls, dead equations and the primitives of ``RULES``."""
  closed = jax.make_jaxpr(function)(*specs)
  for _ in range(2):  # what is dead shows once calls are inlined
    closed = jax.make_jaxpr(lambda *args, old=closed: _evaluate(old, args))(*specs)
  return closed


def _evaluate(closed: Any, args: Any) -> list[Any]:
  jaxpr = closed.jaxpr
  values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *args), strict=True))

  def read(atom: Any) -> Any:
    return atom.val if isinstance(atom, jax.extend.core.Literal) else values[atom]

  for equation in _needed(jaxpr):
    primitive, inputs = equation.primitive, [read(atom) for atom in equation.invars]
    if primitive.name in RULES:
      result = RULES[primitive.name](*inputs, **equation.params)
      result = result if primitive.multiple_results else [result]
    elif primitive.name in CALLS:
      inner = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
      result = _evaluate(inner, inputs)
    else:
      result = primitive.bind(*inputs, **equation.params)
      result = result if primitive.multiple_results else [result]
    values.update(zip(equation.outvars, result, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def _needed(jaxpr: Any) -> list[Any]:
  """The equations that an output depends on, in their order."""
  needed, kept = set(map(id, jaxpr.outvars)), []
  for equation in reversed(jaxpr.eqns):
    if any(id(variable) in needed for variable in equation.outvars):
      kept.append(equation)
      needed.update(map(id, equation.invars))
  return kept[::-1]


def _max_pool(x: jax.Array, **how: Any) -> jax.Array:
  """``lax.reduce_window`` with max, by reshaping; the windows must not overlap or be padded."""
  window = how["window_dimensions"]
  plain = tuple(how["window_strides"]) == tuple(window) and not np.any(how["padding"])
  if not plain or np.any(np.array([*how["base_dilation"], *how["window_dilation"]]) != 1):
    raise NotImplementedError("max-pooling whose windows overlap, are padded or dilated")
  shape: list[Any] = []
  axes = []
  for axis, size in enumerate(window):
    if size == 1:
      shape.append(x.shape[axis])
      continue
    windows = x.shape[axis] // size
    x = jax.lax.slice_in_dim(x, 0, windows * size, axis=axis)
    axes.append(len(shape) + 1)
    shape += [windows, size]
  return jnp.max(x.reshape(shape), axis=axes)


def _sums(*inputs: jax.Array, jaxpr: Any, dimensions: tuple[int, ...], **_: Any) -> list[jax.Array]:
  """``lax.reduce`` of several arrays at once, by a sum of each."""
  if {equation.primitive.name for equation in jaxpr.eqns} != {"add"}:
    raise NotImplementedError("a reduction of several arrays that is no sum")
  arrays, starts = inputs[: len(inputs) // 2], inputs[len(inputs) // 2 :]
  return [
    start + jnp.sum(array, axis=dimensions) for array, start in zip(arrays, starts, strict=True)
  ]


RULES: dict[str, Callable[..., Any]] = {
  "lt_to": lambda a, b, **_: jax.lax.lt(a, b),
  "le_to": lambda a, b, **_: jax.lax.le(a, b),
  "reduce_window_max": _max_pool,
  "reduce": _sums,
}
