"""A Detector as one C99 header: weights, preprocessing, calibration, and a scoring function.

For DROCC on an MLP, alone or as an ensemble. The header needs the standard library's mathematics
and nothing else, allocates nothing and keeps no state; ``c_source`` has its text, ``c_parts`` the
weights and how they are rounded.
"""

import os
import pathlib
from typing import Any

import numpy as np

import detector_jax
from detector_jax import artifact, atomic
from launch import c_source
from launch.c_parts import PRECISIONS, Parts, parts_of

__all__ = ("PRECISIONS", "write")
PARITY = 1e-4


def write(
  detector: detector_jax.Detector,
  path: str | os.PathLike[str],
  precision: str = "float32",
  x_typical: Any = None,
) -> None:
  """Writes a header, whole or not at all.

  Args:
    detector: a live one, not one that was loaded.
    path: the file; its name without ending, as an identifier, begins every name in it.
    precision: of the weights, one of ``PRECISIONS``, see ``c_parts.rounded``. Biases, the last
      layer and what is computed between layers are float32.
    x_typical: ``[n, ...]`` raw typical records that training did not see, which the detector of
      rounded weights is calibrated with, at the rate of ``detector``. None keeps its threshold and
      calibration scores: those of float32 weights.

  Raises:
    ValueError: an unknown precision, a detector that cannot be written as C, or that scores
      otherwise than its parts; or too few records for its rate.
    OSError: the file cannot be written.
  """
  path, parts = pathlib.Path(path), parts_of(detector, precision)
  whole = parts.into(detector)
  x = artifact.probe(detector)
  want, got = artifact.scores_of(whole, x), parts.score(x)
  allowed = PARITY * float(np.abs(want).max())
  if not np.allclose(want, got, rtol=0.0, atol=allowed, equal_nan=True):
    raise ValueError(
      "The header would not reproduce the detector: scores differ by up to "
      f"{np.abs(want - got).max():.3g}, where {allowed:.3g} is allowed. Nothing was written; take "
      "--format=folder."
    )
  if x_typical is not None:
    whole = whole.calibrate(x_typical, detector.fpr, detector.confidence)
  note = "" if precision == "float32" else f" Its weights are rounded to {precision}."
  if note and x_typical is None:
    note += " Threshold and p-values are those of weights that are not."
  with atomic.written_beside(path) as temporary:
    temporary.write_text(text(whole, parts, path.stem, note), encoding="ascii")


def text(detector: detector_jax.Detector, parts: Parts, stem: str, note: str = "") -> str:
  """The header of a detector and its parts; ``note`` is said of them in it."""
  prefix = c_source.prefix_of(stem)
  arrays = _preprocessing_arrays(parts) | _log_units(detector)
  calls, kinds, sizes = [], dict[str, None](), {"z": parts.width, "a": 1, "b": 0}
  for m, layers in enumerate(parts.members):
    source = "z"
    for i, layer in enumerate(layers):
      left, (inputs, units) = len(layers) - 1 - i, layer.weights.shape
      target, kind = "ab"[left % 2], layer.weights.dtype.name
      values = {"weights": layer.weights.ravel(), "unit": layer.unit, "bias": layer.bias}
      own = {f"{name}_{m}_{i}": each for name, each in values.items() if each is not None}
      arrays |= own
      kinds[kind] = None
      sizes[target] = max(sizes[target], units)
      given = [source, inputs, *(f"{prefix}_{name}" for name in own), units, target]
      calls.append(f"{prefix}_dense_{kind}({', '.join(map(str, given))});")
      calls += [f"{prefix}_activate({target}, {units});"] if left else []
      source = target
    calls.append("total += a[0];")
  scores, clip = detector.calibration.scores, parts.preprocessing.clip
  if scores.size:
    arrays["calibration"] = scores
  return c_source.render(
    p=prefix,
    P=prefix.upper(),
    told=c_source.comment(_told(detector, parts, prefix.upper(), note)),
    columns=parts.columns,
    inputs=parts.inputs,
    value=_value(detector),
    threshold=c_source.number(detector.threshold),
    arrays=arrays,
    kinds=list(kinds),
    activation=parts.activation if len(parts.members[0]) > 1 else "",
    squares=parts.squares,
    sizes=sizes,
    clip=c_source.number(clip) if np.isfinite(clip) else "",
    calls=calls,
    members=len(parts.members),
    calibration=scores.size,
  )


def _preprocessing_arrays(parts: Parts) -> dict[str, np.ndarray]:
  """The arrays of a ``Standardizer``, with a value for every input where it has one a channel."""
  standardizer = parts.preprocessing
  channels = {"center": standardizer.center, "scale": standardizer.scale}
  arrays = {
    name: np.tile(np.asarray(values), parts.inputs // len(values))
    for name, values in channels.items()
  }
  if standardizer.kept is not None:
    arrays["kept"] = np.asarray(standardizer.kept, np.int32)
  if standardizer.offset is not None:
    offset = np.asarray(standardizer.offset, np.float64)
    arrays["offset"] = np.tile(offset, parts.columns // len(offset))
  return arrays


def _log_units(detector: detector_jax.Detector) -> dict[str, np.ndarray]:
  """The unit of each column on a log scale, 0 of the others; nothing where there is none."""
  groups = detector.schema.groups if detector.schema is not None else ()
  units = [column.unit if column.kind == "log" else 0.0 for column, _ in groups]
  return {"log_unit": np.array(units, np.float64)} if any(units) else {}


def _value(detector: detector_jax.Detector) -> str:
  return "float" if detector.input_offset is None else "double"


def _told(detector: detector_jax.Detector, parts: Parts, upper: str, note: str) -> list[str]:
  """What the header says of itself, paragraph by paragraph."""
  count = f"{len(parts.members)} networks" if len(parts.members) > 1 else "one network"
  names = detector.feature_names
  return [
    f"A detector of anomalies: {detector.metadata.get('method')}, {count}.{note}",
    "",
    f"One C file of a program defines {upper}_IMPLEMENTATION before it includes this header. Link "
    "it with -lm, and leave out -ffast-math, under which nothing is NaN.",
    "",
    f"A record is {parts.columns} values of type {_value(detector)} as they come, in the order of "
    f"training. It is anomalous where its score is above {upper}_THRESHOLD: {detector.rate}.",
    *(["", f"Columns: {c_source.names(names)}"] if names else []),
  ]
