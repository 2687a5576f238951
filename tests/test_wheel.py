"""The wheel: three libraries and nothing else, which work with the core dependencies alone."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIBRARIES = {"detector_jax", "drocc_jax", "fingerprint_jax"}
USED = """
import importlib.util, pathlib, sys
import numpy as np
for name in ("launch", "configs", "benchmarks", "pyarrow", "matplotlib", "grain", "jinja2"):
  assert importlib.util.find_spec(name) is None, name
import detector_jax
import fingerprint_jax
from drocc_jax import DROCC
x = np.random.default_rng(0).normal(size=(60, 3))
model = DROCC(epochs=2, batch_size=16, random_state=0).fit(x)
model.save("detector")
loaded = detector_jax.load("detector")
np.testing.assert_allclose(loaded.score(x), -model.score_samples(x), rtol=1e-6)
for package in (detector_jax, fingerprint_jax, sys.modules["drocc_jax"]):
  assert (pathlib.Path(package.__file__).parent / "py.typed").exists()
print(detector_jax.__version__, loaded.metadata["method"])
"""


def call(*command: object, **options) -> str:
  done = subprocess.run(
    [*map(str, command)], capture_output=True, text=True, check=False, **options
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("wheel")
  source = folder / "source"  # a build leaves folders behind
  source.mkdir()
  for name in (*LIBRARIES, "pyproject.toml", "README.md", "LICENSE"):
    call("cp", "-r", ROOT / name, source)
  call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, source)
  (path,) = folder.glob("*.whl")
  return path


def test_it_holds_the_libraries_and_nothing_else(wheel):
  with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
  assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == LIBRARIES
  assert any(name.endswith("licenses/LICENSE") for name in names)
  assert all((f"{library}/py.typed") in names for library in LIBRARIES)


def test_it_works_with_the_core_dependencies_alone(wheel, tmp_path):
  call(sys.executable, "-m", "venv", tmp_path / "env")
  python = tmp_path / "env" / "bin" / "python"
  call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
  environment = {"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path)}
  said = call(python, "-W", "ignore", "-c", USED, cwd=tmp_path, env=environment)
  assert said.split() == ["0.1.0", "DROCC"]
