"""A detector for elsewhere: what ``launch.export`` writes, and what it says of it."""

import dataclasses
import pathlib

import detector_jax
from detector_jax import artifact
from launch import c_model, evaluation, onnx_model, run

FORMATS = ("folder", "onnx", "c")


def export(
  workdir: pathlib.Path, output: pathlib.Path, kind: str = "folder", precision: str | None = None
) -> detector_jax.Detector:
  """Writes the Detector of a finished run in one of ``FORMATS``, whole or not at all.

  Args:
    workdir: folder of the run.
    output: a folder that is new or empty, or a new file.
    kind: the format.
    precision: of the weights in a C header, see ``c_model.write``; None of all else.

  Returns:
    The Detector as it reads back from the folder, or the one that was converted.

  Raises:
    ValueError: the run is not finished or has no detector, its folder is damaged, or ``output`` is
      taken; a precision where there is none to choose; the format needs a package that is not
      installed, or cannot hold such a detector.
    OSError: ``output`` cannot be written.
  """
  if precision is not None and kind != "c":
    raise ValueError("--precision is of --format=c: leave it out, or write a C header.")
  if kind == "folder":
    check_free(output)
    detector = evaluation.load_detector(workdir)
    detector.save(output)
    return detector_jax.load(output)
  if output.exists() or output.is_symlink():
    raise ValueError(f"{output} exists: give an --output that is new.")
  detector = live(workdir)
  try:
    output.parent.mkdir(parents=True, exist_ok=True)
    if kind == "onnx":
      onnx_model.write(detector, output)
    else:
      c_model.write(detector, output, precision or "float32")
  except OSError as error:
    raise OSError(f"The file {output} cannot be written: {error.strerror}.") from error
  return detector


def check_free(output: pathlib.Path) -> None:
  """Raises a ValueError where ``output`` is a file or a folder that holds something."""
  if output.is_dir():
    if any(output.iterdir()):
      raise ValueError(f"{output} is not empty: give an --output that is new, or empty it first.")
  elif output.exists() or output.is_symlink():
    raise ValueError(f"{output} is a file: give an --output that is new.")


def live(workdir: pathlib.Path) -> detector_jax.Detector:
  """The Detector of a finished run, with a program that can be traced anew; needs no data.

  Raises:
    ValueError: the run is not finished or has no detector, or scores otherwise than its folder.
  """
  config, loaded = run.read_config(workdir), evaluation.load_detector(workdir)
  program, parts = run.method_of(config).rebuild(config, workdir, loaded)
  arrays = {name: loaded.arrays[name] for name in ("calibration", "threshold")}
  arrays |= parts
  detector = dataclasses.replace(loaded, arrays=arrays, program=program)
  artifact.check_parity(detector, loaded)
  return detector


def described(
  detector: detector_jax.Detector, output: pathlib.Path, precision: str | None = None
) -> list[tuple[str, str]]:
  """What was written, as pairs of a word and a phrase: size, input, and the stated rate.

  Args:
    detector: what ``export`` returned.
    output: what they wrote.
    precision: of its weights, where it is a C header.
  """
  files = output.iterdir() if output.is_dir() else [output]
  size = sum(path.stat().st_size for path in files)
  shape = ", ".join(map(str, ("n", *detector.input_shape)))
  values = ""
  if detector.input_range is not None:
    values = ", values from {:g} to {:g}".format(*detector.input_range)
  records = detector.calibration.scores.size
  offset_inside = detector.input_offset is not None and not output.is_dir()
  kind = "float64" if offset_inside else "float32"
  if detector.fpr is None:
    rate = f"none; anomalous above {detector.threshold:.4g}, which no held-out record defends"
  else:
    rate = f"{detector.rate}, above {detector.threshold:.4g}; from {records:,} held-out records"
  rounded = [("weights", f"rounded to {precision}; the rate is of those that are not")]
  return [
    ("detector", f"{output}, {_readable(size)}"),
    ("input", f"{kind} [{shape}]{values}"),
    ("rate", rate),
    *(rounded if precision not in (None, "float32") else []),
  ]


def _readable(size: int) -> str:
  return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
