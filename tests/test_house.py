"""The house's rules: which room may know which, and what no file may hold."""

import ast
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
EFFECTS = {"launch", "benchmarks", "configs", "absl", "orbax", "tensorflow_datasets", "matplotlib"}
FORBIDDEN = {
  "detector_jax": EFFECTS | {"drocc_jax", "fingerprint_jax"},
  "drocc_jax": EFFECTS | {"fingerprint_jax"},
  "fingerprint_jax": EFFECTS | {"drocc_jax"},
}
MACHINE_PATH = re.compile(r"(^|[ \"'=(`])/(work|farm|root|home|tmp)/[A-Za-z]", re.MULTILINE)


def tracked(*patterns: str) -> list[pathlib.Path]:
  """Files of the repository."""
  command = ["git", "ls-files", "-z", "--", *patterns]
  listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
  paths = [ROOT / name for name in listing.split("\0") if name]
  return [path for path in paths if path.is_file()]


def imported(source: str) -> set[str]:
  """Top-level names of everything that a module imports, inside functions too."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names |= {alias.name.split(".")[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names.add("." * node.level + (node.module or "").split(".")[0])
  return names


def test_imports_are_found_wherever_they_are():
  source = "import a.b, c as d\nfrom e.f import g\ndef h():\n  from i import j\nfrom . import k"
  assert imported(source) == {"a", "c", "e", "i", "."}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_arrow_runs_back(room):
  files = tracked(f"{room}/*.py")
  if room != "fingerprint_jax":
    assert len(files) > 5
  wrong = {
    f"{path.relative_to(ROOT)}: {name}"
    for path in files
    for name in imported(path.read_text()) & FORBIDDEN[room]
  }
  assert not wrong


def test_only_what_looks_into_networks_knows_flax():
  """So that a process that loads a detector and scores does not import it."""
  knows = {
    path.name for path in tracked("detector_jax/*.py") if "flax" in imported(path.read_text())
  }
  assert knows <= {"blocks.py", "taps.py", "features.py"}


def test_no_file_is_longer_than_400_lines():
  files = tracked("*.py")
  assert ROOT / "detector_jax" / "detector.py" in files
  lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
  assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_file_names_a_place_on_one_machine():
  place = "/".join(["", "home", "me"])
  assert MACHINE_PATH.search(f"open('{place}/x')")
  assert not MACHINE_PATH.search("https://example.org/home/me")
  found = []
  for path in tracked():
    if path.suffix in {".py", ".md", ".toml", ".txt", ".json", ".ipynb", ".yaml", ".yml", ""}:
      found += [path.name] * bool(MACHINE_PATH.search(path.read_text(errors="replace")))
  assert found == []
