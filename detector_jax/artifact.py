"""A detector as one folder: JSON, arrays and the exported program. No pickle.

    detector.json   format version, metadata, input and output, threshold, checksums, versions
    arrays.npz      every array, by name
    program.bin     jax.export: ({name: array}, x [batch, ...]) -> {"score", "p_value", ...}

The program holds preprocessing, network and p-value for cpu, cuda and tpu, with the batch size and
the number of calibration records left open. Another process needs jax, numpy and flatbuffers, and
neither the network's code nor Flax. docs/detector_folder.md has the format field by field.
"""

from collections.abc import Sequence
import hashlib
import io
import json
import math
import os
import pathlib
import stat
import types
from typing import Any
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import atomic, processes
from detector_jax.program import ExportedProgram, ProgramError, flatten

FORMAT = "detector_jax"
VERSION = 2  # 1 has no input_offset; what needs none is written as 1
FILES = ("arrays.npz", "program.bin")
LABELS = {"0": "typical", "1": "anomalous"}
PROBE_BATCHES = (1, 7)
PARITY = 1e-6
PARITY_ELSEWHERE = 1e-3  # accelerators multiply matrices in lower precision
MOST_ROWS = 2**20
LONGEST_DESCRIPTION = 2**26


class ArtifactError(ValueError):
  """A folder that is not a whole detector of this format; the message says what is wrong."""


def save(detector: Any, folder: str | os.PathLike[str]) -> None:
  """Writes ``detector`` to ``folder``, whole or not at all.

  The folder is written beside its place, read back, compared with the detector on made-up records
  in batches of 1 and 7, and only then moved there.

  Raises:
    ArtifactError: ``folder`` exists and is not a detector or holds other files too, or what was
      written does not reproduce the detector's scores to 1e-6 of their size (1e-3 on accelerators).
    OSError: the place cannot be written; what was there is as it was.
  """
  folder = pathlib.Path(folder).resolve()
  if not _is_replaceable(folder):
    raise ArtifactError(
      f"{folder} exists and is not a detector, or holds other files too; choose another folder."
    )
  try:
    _replace(detector, folder)
  except OSError as error:
    raise OSError(
      f"The folder {folder} cannot be written: {error.strerror or error}; what was there is "
      "as it was."
    ) from error


def _replace(detector: Any, folder: pathlib.Path) -> None:
  """Writes a folder beside its place, checks it and moves it there."""
  with atomic.written_beside(folder, folder=True) as temporary:
    _write(detector, temporary)
    check_parity(detector, types.SimpleNamespace(**read(temporary)))


def _is_replaceable(folder: pathlib.Path) -> bool:
  """Whether ``folder`` is free, empty, or a detector and nothing else."""
  if not folder.exists():
    return True
  if not folder.is_dir():
    return False
  names = {entry.name for entry in folder.iterdir()}
  if not names <= {"detector.json", *FILES}:
    return False
  try:
    return not names or bool(read_description(folder))
  except ArtifactError:
    return False


def _write(detector: Any, folder: pathlib.Path) -> None:
  buffer = io.BytesIO()
  arrays: dict[str, Any] = flatten(detector.arrays)
  np.savez(buffer, **arrays)
  program = ExportedProgram.from_detector(detector)
  content = {"arrays.npz": buffer.getvalue(), "program.bin": program.serialized}
  for name, data in content.items():
    (folder / name).write_bytes(data)
  description = {
    "format": FORMAT,
    "version": 1 if detector.input_offset is None else VERSION,
    "metadata": detector.metadata,
    "input_shape": list(detector.input_shape),
    "input_dtype": "float32",
    "outputs": program.outputs,
    "score": "higher = more anomalous; anomalous when score > threshold",
    "labels": LABELS,
    "threshold": detector.threshold,
    "fpr": detector.fpr,
    "calibration_records": int(detector.arrays["calibration"].shape[0]),
    "batch_size": detector.batch_size,
    "confidence": detector.confidence,
    "input_range": detector.input_range,
    "input_offset": detector.input_offset,
    "platforms": list(program.exported.platforms),
    "versions": program.versions,
    "sha256": {name: _checksum(data) for name, data in content.items()},
  }
  description["sha256"]["detector.json"] = _description_checksum(description)
  (folder / "detector.json").write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")


def _checksum(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()


def _description_checksum(description: dict[str, Any]) -> str:
  """Checksum of everything in ``detector.json`` but the checksums."""
  facts = {name: value for name, value in description.items() if name != "sha256"}
  return _checksum(json.dumps(facts, sort_keys=True).encode())


def check_parity(detector: Any, loaded: Any) -> None:
  """Compares the scores of two detectors on ``probe``, in batches of 1 and 7.

  Both are compiled alike, so on a CPU their scores are the same to the bit as a rule.

  Raises:
    ArtifactError: they differ by more than 1e-6 of their size (1e-3 on accelerators).
  """
  limit = PARITY if jax.default_backend() == "cpu" else PARITY_ELSEWHERE
  x = probe(detector)
  want, got = (
    np.concatenate([scores_of(each, x[:size]) for size in PROBE_BATCHES])
    for each in (detector, loaded)
  )
  allowed = limit * float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
  same = np.isclose(want, got, rtol=0.0, atol=allowed, equal_nan=True)
  if not same.all():
    raise ArtifactError(
      "The exported program does not reproduce the detector: scores differ by up to "
      f"{np.abs(want - got)[~same].max():.3g}, where {allowed:.3g} is allowed. Nothing was "
      "written; a score must depend on its arguments alone."
    )


def scores_of(detector: Any, x: np.ndarray) -> np.ndarray:
  """Scores of ``x`` ``[n, ...]`` in one batch, by a program that takes little time to compile."""
  fast: Any = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
  score = jax.jit(lambda arrays, x: detector.program(arrays, x)["score"])
  return np.asarray(score.lower(detector.arrays, x).compile(fast)(detector.arrays, x))


def probe(detector: Any) -> np.ndarray:
  """Records like those of training, as far as the detector knows them; the same in every call."""
  rng, shape = np.random.default_rng(0), (max(PROBE_BATCHES), *detector.input_shape)
  if detector.input_range is not None:  # a network may have no finite answer beyond it
    low, high = detector.input_range
    return (low + (high - low) * rng.uniform(size=shape)).astype(np.float32)
  x, arrays = rng.normal(size=shape), flatten(detector.arrays)
  center, scale = (arrays.get(f"preprocessing/{name}") for name in ("center", "scale"))
  kept = arrays.get("preprocessing/kept", slice(None))
  if center is not None and scale is not None and center.shape == x[..., kept].shape[-1:]:
    x[..., kept] = center + scale * x[..., kept]
  return x.astype(np.float32)


def read(folder: str | os.PathLike[str]) -> dict[str, Any]:
  """The parts of a ``Detector`` that any estimator or run saved, by the names of its fields.

  Nothing of the folder is run, and no array is read before its size is known.

  Raises:
    ArtifactError: not a detector, a newer format, files that are missing, cut or changed, or values
      that no detector has.
    RuntimeError: this process was forked from one that had used JAX.
  """
  processes.claim()
  folder = pathlib.Path(folder)
  description = read_description(folder)
  content = {}
  for name in FILES:
    content[name] = _read_file(folder, name)
    if _checksum(content[name]) != description["sha256"].get(name):
      raise ArtifactError(
        f"{folder / name} is damaged: its checksum is not the one in detector.json. Save the "
        "detector again."
      )
  program = _read_program(folder, content["program.bin"], description)
  try:
    parts = _checked(description)
    arrays = _read_arrays(content["arrays.npz"])
    _check_calibration(arrays, parts, description)
    program.check_interface(arrays, parts["input_shape"])
  except ProgramError as error:
    raise ArtifactError(f"{folder / 'program.bin'} is no detector's: it {error}.") from error
  except (LookupError, TypeError, ValueError, OverflowError, zipfile.BadZipFile) as error:
    raise ArtifactError(f"{folder} is not a readable detector: {_in_one_line(error)}.") from error
  on_device = {name: jnp.asarray(array) for name, array in arrays.items()}
  return {"arrays": on_device, "program": program, **parts}


def _read_file(folder: pathlib.Path, name: str, most: int | None = None) -> bytes:
  """The bytes of a plain file that lies in the folder."""
  path = folder / name
  try:
    if not path.resolve(strict=True).is_relative_to(folder.resolve()):
      raise ArtifactError(f"{path} is a link that leaves the folder; put the file there.")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
      facts = os.fstat(descriptor)
      if not stat.S_ISREG(facts.st_mode):
        raise ArtifactError(f"{path} is no plain file; save the detector again.")
      if most is not None and facts.st_size > most:
        raise ArtifactError(f"{path} has {facts.st_size:,} bytes; it describes no detector.")
      return file.read()
  except (OSError, RuntimeError) as error:
    reason = getattr(error, "strerror", None) or str(error)
    raise ArtifactError(f"{path} cannot be read: {reason}.") from error


def _read_program(
  folder: pathlib.Path, serialized: bytes, description: dict[str, Any]
) -> ExportedProgram:
  versions = description.get("versions")
  versions = versions if isinstance(versions, dict) else {}
  try:
    return ExportedProgram.read(serialized, versions)
  except ProgramError as error:
    raise ArtifactError(f"{folder / 'program.bin'} is no detector's: it {error}.") from error
  except Exception as error:  # whatever its parser trips over
    raise ArtifactError(
      f"{folder / 'program.bin'}, written by jax {versions.get('jax', 'of another time')}, cannot "
      f"be read by jax {jax.__version__}: {_in_one_line(error)}."
    ) from error


def _read_arrays(data: bytes) -> dict[str, np.ndarray]:
  """The arrays of an .npz; each is as large as its bytes in the file, and none is unpacked."""
  arrays = {}
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    members = archive.infolist()
    if sum(member.file_size for member in members) > len(data):
      raise ValueError("arrays.npz unpacks to more than its size")
    for member in members:
      if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} of arrays.npz is compressed")
      with archive.open(member) as file:
        shape, dtype = _header(file)
        declared = math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
          raise ValueError("Object arrays cannot be loaded")
        if declared != member.file_size - file.tell():
          raise ValueError(f"{member.filename} of arrays.npz declares another size than it has")
        file.seek(0)
        array = np.lib.format.read_array(file, allow_pickle=False)
      arrays[member.filename.removesuffix(".npy")] = array
  return arrays


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
  """Shape and type of the array that a .npy stream begins."""
  version = np.lib.format.read_magic(file)
  if version == (1, 0):
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
  else:
    shape, _, dtype = np.lib.format.read_array_header_2_0(file)
  return shape, dtype


def _in_one_line(error: Exception) -> str:
  return " ".join(str(error).split()).rstrip(".")


def _number(value: Any) -> bool:
  """Whether a value of JSON is a finite number; true and false are none."""
  return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(values: Any, length: int) -> bool:
  return isinstance(values, list) and len(values) == length and all(map(_number, values))


def _checked(description: dict[str, Any]) -> dict[str, Any]:
  """The fields of a Detector that are described; a ValueError names one that none can have."""

  def require(condition: bool, name: str, wanted: str) -> None:
    if not condition:
      raise ValueError(f"{name} must be {wanted}, and is {str(description.get(name))[:60]}")

  metadata, shape = description["metadata"], description["input_shape"]
  require(isinstance(metadata, dict), "metadata", "an object")
  sizes = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
  require(sizes and len(shape) > 0, "input_shape", "a list of sizes >= 1")
  rows = description["batch_size"]
  require(type(rows) is int and 1 <= rows <= MOST_ROWS, "batch_size", f"in 1 to {MOST_ROWS}")
  require(_number(description["threshold"]), "threshold", "a finite number")
  for name in ("fpr", "confidence"):
    rate = description.get(name)
    require(rate is None or (_number(rate) and 0 < rate < 1), name, "null or in (0, 1)")
  span, offset = description.get("input_range"), description.get("input_offset")
  fine = span is None or (_numbers(span, 2) and span[0] <= span[1])
  require(fine, "input_range", "null or a smallest and a largest value")
  fine = offset is None or _numbers(offset, shape[-1])
  require(fine, "input_offset", f"null or {shape[-1]} numbers")
  _check_metadata(metadata, shape)
  return {
    "fpr": None if description["fpr"] is None else float(description["fpr"]),
    "confidence": description.get("confidence"),
    "threshold": float(description["threshold"]),
    "input_shape": tuple(shape),
    "metadata_json": json.dumps(metadata, sort_keys=True),
    "batch_size": rows,
    "input_range": None if span is None else (float(span[0]), float(span[1])),
    "input_offset": None if offset is None else tuple(map(float, offset)),
  }


def _check_metadata(metadata: dict[str, Any], shape: Sequence[int]) -> None:
  """Raises a ValueError where facts that scoring uses have another form than it expects."""
  names = metadata.get("feature_names")
  fine = names is None or (_names(names) and (len(shape) > 1 or len(names) == shape[0]))
  if not fine:
    raise ValueError("feature_names of its metadata are no names, one for each")
  named = metadata.get("report_names", {})
  if not isinstance(named, dict) or not all(map(_names, named.values())):
    raise ValueError("report_names of its metadata are no names")
  constants = metadata.get("constants", [])
  fine = isinstance(constants, list) and all(
    _numbers(each, 3) and each[0] in range(shape[-1]) for each in constants
  )
  if not fine:
    raise ValueError("constants of its metadata are no columns with value and spread")


def _names(values: Any) -> bool:
  return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _check_calibration(
  arrays: dict[str, np.ndarray], parts: dict[str, Any], description: dict[str, Any]
) -> None:
  scores = arrays["calibration"]
  if scores.ndim != 1 or scores.dtype != np.float32 or not np.isfinite(scores).all():
    raise ValueError("its calibration scores are no finite float32 numbers")
  if (np.diff(scores) < 0).any():
    raise ValueError("its calibration scores are not in ascending order")
  if description["calibration_records"] != len(scores):
    raise ValueError("its description has another number of calibration records than its arrays")
  if parts["fpr"] is not None and not len(scores):
    raise ValueError("it states a false-positive rate without calibration records")


def read_description(folder: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads and checks ``detector.json``.

  Raises:
    ArtifactError: missing, not JSON, of another kind, of a newer version, or changed.
  """
  path = pathlib.Path(folder) / "detector.json"
  if not path.is_symlink() and not path.exists():
    raise ArtifactError(f"{folder} is not a detector folder: {path.name} is missing.")
  try:
    description = json.loads(_read_file(pathlib.Path(folder), path.name, LONGEST_DESCRIPTION))
  except ArtifactError:
    raise
  except (ValueError, RecursionError) as error:
    raise ArtifactError(f"{path} is damaged: it is not JSON.") from error
  if not isinstance(description, dict) or description.get("format") != FORMAT:
    raise ArtifactError(f"{path} does not describe a {FORMAT} detector.")
  if type(description.get("version")) is not int or not 1 <= description["version"] <= VERSION:
    raise ArtifactError(
      f"{path} has format version {description.get('version')}; this release reads 1 to "
      f"{VERSION}. Update the package."
    )
  if not isinstance(description.get("sha256"), dict):
    raise ArtifactError(f"{path} is damaged: the checksums are missing.")
  if description["sha256"].get("detector.json") != _description_checksum(description):
    raise ArtifactError(f"{path} is damaged or was edited: its checksum does not match.")
  return description
