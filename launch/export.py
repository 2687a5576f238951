"""Exports a finished run.

  python -m launch.export --workdir=runs/digits --output=detector/

The folder holds all that scoring needs, on cpu, cuda and tpu, and none of the training code; see
docs/detector_folder.md. With --format=onnx the output is one file for onnxruntime, which gives
score and p_value; it needs the extra "onnx". With --format=c it is one C99 header for a device
without either, of DROCC on an MLP, in the --precision of its weights. Each is written whole or not
at all.
"""

import pathlib

from absl import flags

from launch import c_model, exporting
from launch import flags as common

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run that launch.train finished.")
_OUTPUT = flags.DEFINE_string(
  "output", "", "Where the detector goes: a new folder, file.onnx or file.h."
)
_FORMAT = flags.DEFINE_enum("format", "folder", exporting.FORMATS, "What to write.")
_PRECISION = flags.DEFINE_enum(
  "precision", None, c_model.PRECISIONS, "Of the weights in a C header, float32 unless given."
)


def main() -> None:
  """Writes the detector and says what it is."""
  common.require(workdir=_WORKDIR.value, output=_OUTPUT.value)
  output = pathlib.Path(_OUTPUT.value)
  workdir = pathlib.Path(_WORKDIR.value)
  detector = exporting.export(workdir, output, _FORMAT.value, _PRECISION.value)
  for name, phrase in exporting.described(detector, output, _PRECISION.value):
    print(f"{name + ':':<9} {phrase}")


if __name__ == "__main__":
  common.run(main)
