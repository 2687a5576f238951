"""A detector as one folder: JSON, arrays and the exported program. No pickle.

    detector.json   format version, metadata, input shape, threshold, checksums, versions
    arrays.npz      every array, by name
    program.bin     jax.export: ({name: array}, x [batch, ...]) -> {"score", "p_value", ...}

The program holds preprocessing, network and p-value for cpu, cuda and tpu, with the batch size and
the number of calibration records left open. Another process needs jax, numpy and flatbuffers, and
neither the network's code nor Flax.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
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


class ArtifactError(ValueError):
  """A folder that is not a whole detector of this format; the message says what is wrong."""


@dataclasses.dataclass(frozen=True, eq=False)
class ExportedProgram:
  """A program read back from its serialised form; compared by identity.

  Attributes:
    serialized: the bytes of ``program.bin``.
    call: the function in it.
  """

  serialized: bytes
  call: Any

  @classmethod
  def read(cls, serialized: bytes) -> "ExportedProgram":
    """Deserialises a program."""
    return cls(serialized, jax.export.deserialize(bytearray(serialized)).call)

  def __call__(self, arrays: dict[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    """As ``detector.Program``; ``arrays`` is the flat ``{name: array}`` of ``arrays.npz``."""
    return self.call(arrays, x)

  def __reduce__(self) -> Any:
    return ExportedProgram.read, (self.serialized,)


def flatten(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
  """``{name: array}`` of a pytree's leaves, e.g. ``variables/params/Dense_0/bias``."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(arrays)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
    for path, leaf in leaves
  }


def export(detector: Any) -> bytes:
  """Serialises a detector's program, with batch size and calibration length symbolic."""
  if isinstance(detector.program, ExportedProgram):
    return detector.program.serialized
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
  return bytes(jax.export.export(jax.jit(program), platforms=PLATFORMS)(shapes, x).serialize())


def save(detector: Any, folder: str | os.PathLike[str]) -> None:
  """Writes ``detector`` to ``folder``, whole or not at all.

  The folder is written beside its place, read back, compared with the detector on a probe, and
  only then moved there.

  Raises:
    ArtifactError: ``folder`` exists and is not a detector or holds other files too, or the
      export does not reproduce the detector's scores to 1e-5 relative.
    OSError: the place cannot be written.
  """
  folder = pathlib.Path(folder).resolve()
  if not _is_replaceable(folder):
    raise ArtifactError(
      f"{folder} exists and is not a detector, or holds other files too; choose another folder."
    )
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
  try:
    temporary.chmod(0o755)
    _write(detector, temporary)
    _check_parity(detector, load(temporary))
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
      shutil.rmtree(old)
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
  content = {"arrays.npz": buffer.getvalue(), "program.bin": export(detector)}
  for name, data in content.items():
    (folder / name).write_bytes(data)
  description = {
    "format": FORMAT,
    "version": VERSION,
    "metadata": detector.metadata,
    "input_shape": list(detector.input_shape),
    "input_dtype": "float32",
    "score": "higher = more anomalous; anomalous when score > threshold",
    "threshold": detector.threshold,
    "fpr": detector.fpr,
    "calibration_records": int(detector.arrays["calibration"].shape[0]),
    "batch_size": detector.batch_size,
    "input_range": detector.input_range,
    "versions": {"jax": jax.__version__, "numpy": np.__version__},
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


def _check_parity(detector: Any, loaded: Any) -> None:
  rng, shape = np.random.default_rng(0), (7, *detector.input_shape)
  x = rng.normal(size=shape)
  if detector.input_range is not None:  # a network may have no finite answer beyond it
    low, high = detector.input_range
    x = low + (high - low) * rng.uniform(size=shape)
  x = x.astype(np.float32)
  want, got = detector.score(x), loaded.score(x)
  if not np.allclose(want, got, rtol=1e-5, atol=1e-5):
    raise ArtifactError(
      f"The exported program does not reproduce the detector: scores differ by up to "
      f"{np.abs(want - got).max():.3g}. Nothing was written."
    )


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
  try:
    with np.load(io.BytesIO(content["arrays.npz"]), allow_pickle=False) as archive:
      arrays = {name: jnp.asarray(archive[name]) for name in archive.files}
    program = ExportedProgram.read(content["program.bin"])
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
  except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
    raise ArtifactError(f"{folder} is not a readable detector: {error}.") from error


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
  except ValueError as error:
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
