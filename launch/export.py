"""Exports a finished run.

  python -m launch.export --workdir=runs/digits --output=detector/

The folder holds all that scoring needs, on cpu, cuda and tpu, and none of the training code; see
docs/detector_folder.md. With --format=onnx the output is one file for onnxruntime, which gives
score and p_value; it needs the extra "onnx". Either is written whole or not at all.
"""

import pathlib

from absl import flags

from launch import exporting
from launch import flags as common

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run that launch.train finished.")
_OUTPUT = flags.DEFINE_string("output", "", "Where the detector goes: a new folder, or file.onnx.")
_FORMAT = flags.DEFINE_enum("format", "folder", exporting.FORMATS, "What to write.")


def main() -> None:
  """Writes the detector and says what it is."""
  common.require(workdir=_WORKDIR.value, output=_OUTPUT.value)
  output = pathlib.Path(_OUTPUT.value)
  write = exporting.export_onnx if _FORMAT.value == "onnx" else exporting.export_folder
  detector = write(pathlib.Path(_WORKDIR.value), output)
  for name, phrase in exporting.described(detector, output):
    print(f"{name + ':':<9} {phrase}")


if __name__ == "__main__":
  common.run(main)
