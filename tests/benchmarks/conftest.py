"""A small set of ADBench, and few steps to train on it."""

import numpy as np
import pytest

from drocc_jax import recipe


@pytest.fixture
def one_set(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  (tmp_path / "adbench").mkdir()
  x = np.concatenate([rng.normal(size=(60, 2)), rng.normal(3.0, 1.0, size=(9, 2))])
  np.savez(tmp_path / "adbench" / "one.npz", X=x, y=np.repeat([0, 1], [60, 9]))
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  monkeypatch.setattr(recipe, "TRAIN_STEPS", 40)
