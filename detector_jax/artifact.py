"""A detector as one folder: JSON, arrays and the exported program. No pickle.

    detector.json   format version, metadata, input and output, threshold, checksums, versions
    arrays.npz      every array, by name
    program.bin     jax.export: ({name: array}, x [batch, ...]) -> {"score", "p_value", ...}

The program holds preprocessing, network and p-value for cpu, cuda and tpu, with the batch size and
the number of calibration records left open. Another process needs jax, numpy and flatbuffers, and
neither the network's code nor Flax. docs/detector_folder.md has the format field by field.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import shutil
import tempfile
from typing import Any
import zipfile

import jax
import jax.export  # pylint: disable=unused-import
import jax.numpy as jnp
import numpy as np

FORMAT = "detector_jax"
VERSION = 1
PLATFORMS = ("cpu", "cuda", "tpu")
FILES = ("arrays.npz", "program.bin")
PACKAGES = ("jax", "jaxlib", "numpy", "flax", "drocc-jax")
LABELS = {"0": "typical", "1": "anomalous"}
PROBE_BATCHES = (1, 7)
PARITY = 1e-6
PARITY_ELSEWHERE = 1e-3  # accelerators multiply matrices in lower precision


class ArtifactError(ValueError):
  """A folder that is not a whole detector of this format; the message says what is wrong."""


@dataclasses.dataclass(frozen=True, eq=False)
class ExportedProgram:
  """A program read back from its serialised form; compared by identity.

  Attributes:
    serialized: the bytes of ``program.bin``.
    versions: of the libraries that made it, by name.
    exported: the program in them.
  """

  serialized: bytes
  versions: dict[str, str]
  exported: jax.export.Exported

  @classmethod
  def read(cls, serialized: bytes, versions: dict[str, str]) -> "ExportedProgram":
    """Deserialises a program; what is raised for bytes that are none may be anything."""
    return cls(serialized, versions, jax.export.deserialize(bytearray(serialized)))

  @classmethod
  def of(cls, detector: Any) -> "ExportedProgram":
    """The program of a detector: exported, or as it was read."""
    if isinstance(detector.program, ExportedProgram):
      return detector.program
    exported = export(detector)
    return cls(bytes(exported.serialize()), _versions(), exported)

  @property
  def outputs(self) -> dict[str, dict[str, Any]]:
    """``{name: {"dtype", "shape"}}`` of what the program returns; "batch" stands for any size."""
    tree: Any = self.exported.out_tree
    found = tree.unflatten(self.exported.out_avals)
    return {
      name: {
        "dtype": str(aval.dtype),
        "shape": [size if isinstance(size, int) else str(size) for size in aval.shape],
      }
      for name, aval in found.items()
    }

  def __call__(self, arrays: dict[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    """As ``detector.Program``; ``arrays`` is the flat ``{name: array}`` of ``arrays.npz``."""
    return self.exported.call(arrays, x)

  def __reduce__(self) -> Any:
    return ExportedProgram.read, (self.serialized, self.versions)


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


def export(detector: Any) -> jax.export.Exported:
  """Exports a detector's program, with batch size and calibration length symbolic."""
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
  return jax.export.export(jax.jit(program), platforms=PLATFORMS)(shapes, x)


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
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
  try:
    temporary.chmod(0o755)
    _write(detector, temporary)
    check_parity(detector, load(temporary))
    old = None
    if folder.exists():
      old = temporary.with_name(temporary.name + "-old")
      os.replace(folder, old)
    try:
      os.replace(temporary, folder)
    except OSError:
      if old is not None:
        os.replace(old, folder)
      raise
    if old is not None:
      shutil.rmtree(old, ignore_errors=True)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


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
  program = ExportedProgram.of(detector)
  content = {"arrays.npz": buffer.getvalue(), "program.bin": program.serialized}
  for name, data in content.items():
    (folder / name).write_bytes(data)
  description = {
    "format": FORMAT,
    "version": VERSION,
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
    "input_range": detector.input_range,
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


def load(folder: str | os.PathLike[str]) -> Any:
  """Reads back a ``Detector`` that any estimator or run saved.

  Raises:
    ArtifactError: not a detector, a newer format, or files that are missing, cut or changed.
  """
  from detector_jax.detector import Detector  # pylint: disable=import-outside-toplevel

  folder = pathlib.Path(folder)
  description = read_description(folder)
  content = {}
  for name in FILES:
    try:
      content[name] = (folder / name).read_bytes()
    except OSError as error:
      raise ArtifactError(f"{folder / name} cannot be read: {error.strerror}.") from error
    if _checksum(content[name]) != description["sha256"].get(name):
      raise ArtifactError(
        f"{folder / name} is damaged: its checksum is not the one in detector.json. Save the "
        "detector again."
      )
  program = _read_program(folder, content["program.bin"], description)
  try:
    with np.load(io.BytesIO(content["arrays.npz"]), allow_pickle=False) as archive:
      arrays = {name: jnp.asarray(archive[name]) for name in archive.files}
    return Detector(
      arrays=arrays,
      program=program,
      fpr=description["fpr"],
      threshold=float(description["threshold"]),
      input_shape=tuple(description["input_shape"]),
      metadata_json=json.dumps(description["metadata"], sort_keys=True),
      batch_size=int(description["batch_size"]),
      input_range=_pair(description.get("input_range")),
    )
  except (LookupError, TypeError, ValueError, OverflowError, zipfile.BadZipFile) as error:
    raise ArtifactError(f"{folder} is not a readable detector: {_in_one_line(error)}.") from error


def _read_program(
  folder: pathlib.Path, serialized: bytes, description: dict[str, Any]
) -> ExportedProgram:
  versions = description.get("versions")
  versions = versions if isinstance(versions, dict) else {}
  try:
    return ExportedProgram.read(serialized, versions)
  except Exception as error:  # pylint: disable=broad-except  # whatever its parser trips over
    raise ArtifactError(
      f"{folder / 'program.bin'}, written by jax {versions.get('jax', 'of another time')}, cannot "
      f"be read by jax {jax.__version__}: {_in_one_line(error)}."
    ) from error


def _in_one_line(error: Exception) -> str:
  return " ".join(str(error).split()).rstrip(".")


def _pair(values: Any) -> tuple[float, float] | None:
  return None if values is None else (float(values[0]), float(values[1]))


def read_description(folder: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads and checks ``detector.json``.

  Raises:
    ArtifactError: missing, not JSON, of another kind, of a newer version, or changed.
  """
  path = pathlib.Path(folder) / "detector.json"
  try:
    description = json.loads(path.read_text())
  except OSError as error:
    raise ArtifactError(f"{folder} is not a detector folder: {path.name} is missing.") from error
  except (ValueError, RecursionError) as error:
    raise ArtifactError(f"{path} is damaged: it is not JSON.") from error
  if not isinstance(description, dict) or description.get("format") != FORMAT:
    raise ArtifactError(f"{path} does not describe a {FORMAT} detector.")
  if not isinstance(description.get("version"), int) or description["version"] > VERSION:
    raise ArtifactError(
      f"{path} has format version {description.get('version')}; this release reads up to "
      f"{VERSION}. Update the package."
    )
  if not isinstance(description.get("sha256"), dict):
    raise ArtifactError(f"{path} is damaged: the checksums are missing.")
  if description["sha256"].get("detector.json") != _description_checksum(description):
    raise ArtifactError(f"{path} is damaged or was edited: its checksum does not match.")
  return description
