"""What the tests of the service share: a detector on disk and records for it."""

import pathlib

import numpy as np
import pytest

from tests.launch.served import made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("served") / "detector"
  made(input_range=(-50.0, 50.0)).save(path)
  return path


@pytest.fixture
def records(rng: np.random.Generator) -> np.ndarray:
  return rng.normal(size=(30, 2))
