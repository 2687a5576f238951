"""Test environment: 4 emulated CPU devices, implicit rank promotion raises, shared fixtures.

Compiling is most of the time here: most optimisations are off and XLA emits CPU code in its older
way, which takes a third of the time (JAX_DISABLE_MOST_OPTIMIZATIONS=0 in the environment puts both
back to what users have), and workers and the commands that tests start share what they compile, in
a folder that the next run finds again.
"""

from collections.abc import Iterator
from importlib import metadata
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] != "0" and metadata.version("jaxlib") < "0.11":
  # Of these releases alone: XLA ends a process that has a flag which it does not know.
  os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
  )
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR",
  str(pathlib.Path(__file__).resolve().parents[1] / ".pytest_cache" / "compiled"),
)
# Seconds; programs that take less are not worth a file.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Marks every test of faults and notebooks as slow."""
  for item in items:
    if item.path.parent.name in {"faults", "notebooks"}:
      item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
  """Ends the compiled programs of the modules before, once they hold many memory maps.

  A process may have 65,530 (vm.max_map_count), every program takes some, and XLA crashes when there
  are none left.
  """
  yield
  with open("/proc/self/maps", "rb") as maps:
    if sum(1 for _ in maps) > 20_000:
      jax.clear_caches()


@pytest.fixture
def rng() -> np.random.Generator:
  return np.random.default_rng(0)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
  """Folder of the real data sets; the test is skipped where there is none."""
  folder = os.environ.get("OOD_DATA_DIR")
  if not folder:
    pytest.skip("OOD_DATA_DIR is not set: it names the folder of the real data sets")
  return pathlib.Path(folder)
