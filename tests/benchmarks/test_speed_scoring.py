"""The scoring benchmark compares like with like, and measures the file that it says."""

import jax
import numpy as np
import pytest

from benchmarks import speed_scoring
from detector_jax import Detector, Standardizer
from drocc_jax import networks, recipe
from launch.data.files import read_table


@pytest.fixture(scope="module")
def detector():
  x = 3.0 + 5.0 * np.random.default_rng(0).normal(size=(300, speed_scoring.FEATURES))
  network, standardizer = networks.MLP((16,)), Standardizer.fit(x)
  variables = network.init(jax.random.key(0), standardizer(x[:1]))
  variables = {"params": variables["params"], "stats": {}}
  return Detector.create(recipe.NegativeLogit(network), variables, standardizer, x.shape[1:])


def test_pytorch_scores_the_same(detector):
  pytest.importorskip("torch")
  x = np.random.default_rng(1).normal(size=(50, speed_scoring.FEATURES)).astype(np.float32)
  x[0] *= 1e4  # beyond the clip
  ours = detector.score(x)
  for batch_size in (7, 100):
    theirs = speed_scoring.torch_score(detector, batch_size)(x)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ending", speed_scoring.ENDINGS)
def test_files_hold_the_same_records_whatever_their_format(tmp_path, monkeypatch, ending):
  monkeypatch.setattr(speed_scoring, "BLOCK", 7)
  speed_scoring.write_file(tmp_path / f"x{ending}", 20)
  got = read_table(tmp_path / f"x{ending}").x
  np.testing.assert_array_equal(np.float32(got), np.concatenate(list(speed_scoring._blocks(20))))
  assert got.shape == (20, speed_scoring.FEATURES)


@pytest.mark.slow
def test_a_file_is_scored_by_the_command(detector):
  facts = speed_scoring.score_file(detector, ".npy", 300)
  assert facts["rows"] == 300
  assert facts["file_bytes"] == 300 * speed_scoring.FEATURES * 4 + 128
  assert 1e7 < facts["peak_bytes"] < 1e10
