"""The speed benchmark's arithmetic and its message where PyTorch is missing."""

import sys

import numpy as np
import pytest

from benchmarks import speed


def test_operations_of_a_hand_counted_case():
  case = speed.Case(rows=300, features=3, epochs=2, radius=1.0, learning_rate=1e-3)
  # 2 epochs of 2 steps; a product of 256 x 3 x 128 is 2 * 98,304 operations; an ascent step has two
  # such products, the outer step two of twice the batch.
  product = 2 * 256 * 3 * 128
  assert speed.operations(case, 3) == 2 * 2 * (50 * 2 + 2 * 2) * product


def test_rows_without_a_data_directory(monkeypatch):
  monkeypatch.delenv("OOD_DATA_DIR", raising=False)
  x, source = speed.rows_of("thyroid", speed.CASES["thyroid"])
  assert x.shape == (3586, 6)
  assert x.dtype == np.float32
  assert "standard-normal" in source


def test_without_torch_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(ValueError, match=r"pip install -e '\.\[torch\]'"):
    speed.check_torch()
