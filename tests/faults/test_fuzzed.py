"""Inputs that nobody meant: whatever comes, an error is one sentence and nothing is half written.

What the commands turn into a sentence are ValueError (``DataError``, ``ArtifactError``) and
OSError; any other exception would reach the user as a traceback.
"""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import types

from absl import flags as absl_flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import config_flags
import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest
import scipy.io

import detector_jax
from detector_jax import artifact as artifact_module
from launch import flags, scoring, watching, workdirs
from launch.data import files, formats
from launch.data import scoring as reading
from launch.data.formats import csv_text
from launch.data.formats.reader import Input
from launch.methods import METHODS
from launch.methods.drocc import Config
from tests.helpers import linear_detector

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

ALLOWED = (ValueError, OSError)
ALL = list(HealthCheck)
MANY = settings(deadline=None, derandomize=True, database=None, suppress_health_check=ALL)
MANY = settings(MANY, max_examples=1000)
SOME = settings(MANY, max_examples=200)
FEW = settings(MANY, max_examples=20)

FIELD = st.one_of(
  st.sampled_from(["", "0", "1", "-1.5", "1e400", "nan", "inf", "NULL", "a", '"', '"1"', '"a,b"']),
  st.text(max_size=6),
  st.floats(width=32).map(repr),
)
CSV = st.lists(st.lists(FIELD, max_size=4).map(",".join), max_size=6).flatmap(
  lambda lines: st.sampled_from(["\n", "\r\n", "\r"]).map(lambda end: end.join(lines).encode())
)
TEXT = st.one_of(st.binary(max_size=120), CSV, CSV.map(lambda t: b"\xef\xbb\xbf" + t))


def one_sentence(error: BaseException) -> None:
  text = " ".join(str(error).split())
  assert text, repr(error)
  assert "Traceback" not in text


@contextlib.contextmanager
def contained():
  try:
    yield
  except ALLOWED as error:
    one_sentence(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("fuzzed")


@pytest.fixture(scope="module")
def detector():
  return linear_detector(batch_size=4)


@MANY
@given(content=TEXT, label=st.sampled_from([None, "0", "-1", "a", "\x00", "9" * 30, "²"]))
def test_csv_for_training(folder, content, label):
  path = folder / "x.csv"
  path.write_bytes(content)
  with contained():
    table = files.read_table(path, label)
    assert table.x.ndim == 2
    assert np.isfinite(table.x).all()


@MANY
@given(
  content=TEXT,
  label=st.sampled_from([None, "0", "a"]),
  trained=st.sampled_from([None, ["0", "1"], ["a", "b"]]),
  block=st.sampled_from([1, 3, 7, 100]),
)
def test_csv_for_scoring(content, label, trained, block):
  before = csv_text.BLOCK_BYTES
  csv_text.BLOCK_BYTES = block
  try:
    with contained(), formats.damage_named("x.csv", ".csv"):
      rows = 0
      source = Input("x.csv", pathlib.Path(), io.BytesIO(content), 0)
      columns = formats.Columns(label, labelled=False, trained=trained)
      for piece in csv_text.Csv(source, columns).pieces(1):
        assert piece.start == rows
        rows += len(piece.x)
        for row in np.flatnonzero(detector_jax.table.unfit(piece.x).any(axis=1)).tolist():
          assert "line" in piece.explain(row)
  finally:
    csv_text.BLOCK_BYTES = before


def saved(ending: str) -> bytes:
  """A good file."""
  x = np.arange(12.0).reshape(6, 2)
  buffer = io.BytesIO()
  if ending == ".npy":
    np.save(buffer, x)
  elif ending == ".npz":
    np.savez(buffer, x=x, y=np.array([0, 1] * 3))
  elif ending == ".mat":
    scipy.io.savemat(buffer, {"x": x, "y": np.array([0, 1] * 3)})
  else:
    table = pa.table({"a": x[:, 0], "b": x[:, 1]})
    parquet.write_table(table, buffer)
  return buffer.getvalue()


def damaged(draw, content: bytes) -> bytes:
  """A file with some bytes changed, cut or doubled."""
  wrong = bytearray(content)
  for _ in range(draw(st.integers(1, 4))):
    place = draw(st.integers(0, max(0, len(wrong) - 1)))
    kind = draw(st.sampled_from(["flip", "byte", "cut", "double", "long"]))
    if not wrong:
      break
    if kind == "flip":
      wrong[place] ^= 1 << draw(st.integers(0, 7))
    elif kind == "byte":
      wrong[place] = draw(st.integers(0, 255))
    elif kind == "cut":
      del wrong[place:]
    elif kind == "double":
      wrong[place:place] = wrong[place : place + 40]
    else:
      wrong[place : place + 4] = b"\xff\xff\xff\x7f"
  return bytes(wrong)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".parquet"])
@SOME
@given(draw=st.data())
def test_damaged_arrays(folder, ending, draw):
  _damaged_array(folder, ending, draw)


@FEW
@given(draw=st.data())
def test_damaged_mat_files(folder, draw):
  """Few: each is first read in a process of its own."""
  _damaged_array(folder, ".mat", draw)


def _damaged_array(folder, ending, draw):
  path = folder / f"x{ending}"
  path.write_bytes(damaged(draw.draw, saved(ending)))
  with contained():
    table = files.read_table(path, "y" if ending in (".npz", ".mat") else None)
    assert np.isfinite(table.x).all()
  with contained():
    for piece in reading.read_pieces(path, None, None, 4):
      assert len(piece.x) <= 6


@SOME
@given(content=TEXT, on_bad_row=st.sampled_from(scoring.ON_BAD_ROW))
def test_scores_are_whole_or_not_there(folder, detector, content, on_bad_row):
  source, output = folder / "in.csv", folder / "out" / "scores.csv"
  source.write_bytes(content)
  output.unlink(missing_ok=True)
  with contextlib.redirect_stderr(io.StringIO()), contained():
    tally = scoring.score_input(detector, str(source), output, on_bad_row=on_bad_row)
    rows = tally.rows - (tally.bad if on_bad_row == "skip" else 0)
    assert len(output.read_text().splitlines()) == rows + 1
  left = [path.name for path in output.parent.iterdir()] if output.parent.exists() else []
  assert left in ([], ["scores.csv"])


JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
  ),
  max_leaves=6,
)
LINE = st.one_of(
  st.binary(max_size=40),
  JSON.map(lambda value: json.dumps(value).encode()),
  st.sampled_from(
    [b"[" * 5000, b'{"a":' * 5000, b"9" * 5000, b"[1e999,-1e999]", b"[1" + b"0" * 400 + b",1]"]
  ),
  st.lists(st.floats(allow_nan=False) | st.integers(), min_size=2, max_size=2).map(
    lambda pair: json.dumps(pair).encode()
  ),
)


@MANY
@given(lines=st.lists(LINE, max_size=4), on_bad_row=st.sampled_from(watching.ON_BAD_ROW))
def test_lines_to_watch(watcher, lines, on_bad_row):
  written = []
  with contained():
    tally = watching.watch(watcher, lines, written.append, on_bad_row)
    assert tally.records + (tally.bad if on_bad_row == "nan" else 0) == len(written)
  for line in written:
    told = json.loads(line)
    assert line.endswith("}\n")
    assert told["score"] is None or np.isfinite(told["score"])


@pytest.fixture(scope="module")
def watcher(detector):
  return watching.Watcher(detector)


@pytest.fixture(scope="module")
def state(detector, folder):
  path = folder / "state.json"
  watching.watch(watching.Watcher(detector, state=path), ["[0, 0]"] * 3, lambda _: None)
  return path.read_bytes()


@SOME
@given(draw=st.data())
def test_damaged_states_of_watch(folder, detector, state, draw):
  path = folder / "damaged.json"
  value = draw.draw(st.one_of(JSON.map(lambda v: json.dumps(v).encode()), st.binary(max_size=50)))
  path.write_bytes(value if draw.draw(st.booleans()) else damaged(draw.draw, state))
  with contained():
    resumed = watching.Watcher(detector, state=path)
    watching.watch(resumed, ["[0, 0]"], lambda _: None)


@pytest.fixture(scope="module")
def artifact(detector, folder):
  detector.save(folder / "detector")
  return {path.name: path.read_bytes() for path in (folder / "detector").iterdir()}


@SOME
@given(draw=st.data())
def test_damaged_detectors(artifact, draw):
  name = draw.draw(st.sampled_from(sorted(artifact)))
  with tempfile.TemporaryDirectory() as place:
    for each, content in artifact.items():
      wrong = damaged(draw.draw, content) if each == name else content
      (pathlib.Path(place) / each).write_bytes(wrong)
    with contained():
      detector_jax.load(place)
      if name != "detector.json":  # where a blank may change
        assert (pathlib.Path(place) / name).read_bytes() == artifact[name]


SETTINGS = ["method", "data", "seed", "epochs", "drocc", "network", "classifier", "fingerprint"]
DESCRIBED = [
  *("format", "version", "metadata", "input_shape", "fpr", "threshold", "batch_size"),
  *("input_range", "sha256", "versions", "outputs"),
]


@SOME
@given(value=JSON, name=st.sampled_from(DESCRIBED))
def test_descriptions_that_somebody_signed(artifact, value, name):
  """A detector.json with wrong values and a checksum that fits."""
  description = json.loads(artifact["detector.json"])
  description[name] = value
  if isinstance(description["sha256"], dict):
    checksum = artifact_module._description_checksum(description)
    description["sha256"]["detector.json"] = checksum
  with tempfile.TemporaryDirectory() as place:
    for each, content in artifact.items():
      (pathlib.Path(place) / each).write_bytes(content)
    (pathlib.Path(place) / "detector.json").write_text(json.dumps(description))
    with contained():
      detector_jax.load(place)


@MANY
@given(
  value=st.one_of(JSON, st.dictionaries(st.sampled_from(SETTINGS), JSON)),
  raw=st.none() | st.binary(max_size=40),
)
def test_stored_configurations(folder, value, raw):
  (folder / "config.json").write_bytes(json.dumps(value).encode() if raw is None else raw)
  with contained():
    method, values = workdirs.read(folder)
    if method in METHODS:  # as run.read_config looks it up
      workdirs.from_dict(folder, METHODS[method].config, values)
  with contained():
    workdirs.check(folder, Config())
  (folder / "config.json").unlink()


@contextlib.contextmanager
def flags_of(arguments):
  """Flags of their own, as a command's module would define them, and its command line."""
  values, argv, owner = absl_flags.FlagValues(), sys.argv, flags.flags
  sys.argv = ["train", *arguments]
  config_flags.DEFINE_config_file("config", None, flag_values=values)
  flags.flags = types.SimpleNamespace(FLAGS=values, Error=absl_flags.Error)
  try:
    yield values
  finally:
    sys.argv, flags.flags = argv, owner


def parsed(arguments, capsys):
  """Exit code and standard error of a command line."""
  sys.modules.pop("config_config", None)  # a new process has no earlier file's get_config
  with flags_of(arguments):
    try:
      flags.parse(sys.argv)
      return 0, ""
    except SystemExit as stop:
      return stop.code, capsys.readouterr().err


NAMES = [
  *("epochs", "seed", "data.name", "data.ood", "drocc.radius", "drocc.num_steps", "fpr"),
  *("network.hidden", "network", "data", "", ".", "a.b.c", "drocc.", "__class__", "x.y"),
]
OVERRIDE = st.builds(
  lambda name, sign, value: f"--config.{name}{sign}{value}",
  st.sampled_from(NAMES) | st.text(max_size=5),
  st.sampled_from(["=", "", " "]),
  st.text(max_size=6)
  | st.sampled_from(["1", "1.5", "(1,)", "(", "None", "True", "'a'", "1e999", "__import__('os')"]),
)


@SOME
@given(
  arguments=st.lists(
    OVERRIDE | st.text(max_size=6).map(lambda t: f"--{t}") | st.text(max_size=5), max_size=3
  )
)
def test_command_lines(capsys, arguments):
  code, said = parsed(["--config=configs/drocc_digits.py", *arguments], capsys)
  assert code in (0, 2)
  if code:
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1


CODE = st.sampled_from(
  [
    "",
    "x = 1",
    "def get_config(): return 1",
    "def get_config(): return None",
    "def get_config(): return 1 / 0",
    "import nothing_here",
    "def (",
    "\x00",
    "def get_config(a, b): return 1",
    "get_config = 3",
    "def get_config():\n  raise Exception()",
    "def get_config():\n  return get_config()",
    "\ufeffx = '\ud83d'",
  ]
)


@SOME
@given(code=CODE, more=st.lists(OVERRIDE, max_size=1), after=st.sampled_from(["", ":", ":lf"]))
def test_config_files(folder, capsys, code, more, after):
  path = folder / "config.py"
  path.write_bytes(code.encode("utf-8", "surrogatepass"))
  status, said = parsed([f"--config={path}{after}", *more], capsys)
  assert status == 2
  assert said.startswith("error: ")
  assert len(said.splitlines()) == 1


def test_any_setting_can_be_overridden_in_frozen_parts_too():
  """Found here: settings of NeuralFP's networks are frozen, and could not be set."""
  arguments = [
    "--config=configs/neuralfp_digits.py",
    "--config.fingerprint.epochs=3",
    "--config.classifier.training.epochs=4",
  ]
  with flags_of(arguments) as values:
    flags.parse(sys.argv)
    config = values.config
  assert (config.fingerprint.epochs, config.classifier.training.epochs) == (3, 4)
  assert config.fingerprint.batch_size == 64
