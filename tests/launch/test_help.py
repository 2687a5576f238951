"""``--help``: every flag, and every field of every configuration with a description."""

import dataclasses
import pathlib
import runpy
import subprocess
import sys

import pytest

from launch import help as help_text
from launch import run

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("[!_]*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_field_of_every_config_is_described(path):
  config = runpy.run_path(str(path))["get_config"]()
  run.method_of(config)
  missing = [name for name, _, text in help_text.described(config) if not text]
  assert missing == []


@dataclasses.dataclass
class Inner:
  """Inner.

  Attributes:
    width: of it, in
      two lines.
  """

  width: int = 3


@dataclasses.dataclass
class Base:
  """Base.

  Attributes:
    seed: of all draws.
    name: of the base.
  """

  seed: int = 0
  name: str = "a"


@dataclasses.dataclass
class Outer(Base):
  """Outer.

  Attributes:
    name: of the outer one.
    inner: not listed itself.
  """

  inner: Inner = dataclasses.field(default_factory=Inner)


def test_descriptions_come_from_the_nearest_docstring():
  assert list(help_text.described(Outer(name="b"))) == [
    ("seed", 0, "of all draws."),
    ("name", "b", "of the outer one."),
    ("inner.width", 3, "of it, in two lines."),
  ]


def helped(*arguments: str) -> str:
  command = [sys.executable, "-m", "launch.train", *arguments, "--help"]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert (result.returncode, result.stderr) == (0, "")
  return result.stdout


def test_help_lists_flags_and_the_configurations():
  text = helped()
  for name in ("--config\n", "--workdir\n", "--device\n", "--devices\n", "--traceback\n"):
    assert f"  {name}" in text
  for path in CONFIGS:
    assert f"configs/{path.name}" in text
  assert max(map(len, text.splitlines())) <= 100


def test_help_with_a_config_lists_its_fields_with_overrides_and_no_others():
  text = helped("--config=configs/drocc_files.py", "--config.data.train=mine.csv")
  assert "--config.data.train=mine.csv\n      file of typical records." in text
  assert "--config.drocc.radius=None" in text
  assert "keyword" not in text
  assert "--config.data.typical" not in text
