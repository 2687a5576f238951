"""The table of NeuralFP's peers: rates by hand, and peers that share a pass of the network."""

import numpy as np
import pytest

from benchmarks import neuralfp_peers
from benchmarks.baselines.networks import NETWORK_BASELINES
from benchmarks.neuralfp_peers import HELD_OUT_CLASSES


def test_rates_by_hand():
  scores = {
    "reference": np.zeros(3),
    "calibration": np.arange(1.0, 100.0),  # the 99th is the threshold at 1 %
    "typical": np.array([0.0, 1.0, 2.0, 100.0]),
    HELD_OUT_CLASSES: np.array([3.0, 3.0]),
    "noise": np.array([200.0, 1.5]),
    "blur": np.array([200.0, 200.0]),
  }
  got = neuralfp_peers._rates(scores)
  assert got["|realised_fpr_at_stated_1%"] == 0.25
  assert got[f", {HELD_OUT_CLASSES}|auroc"] == 0.75
  assert got[", noise|auroc"] == pytest.approx((4 + 2) / 8)
  assert got[f", {HELD_OUT_CLASSES}|recall_at_stated_1%_fpr"] == 0.0
  assert got[", mean of ten shifts|auroc"] == pytest.approx((0.75 + 1.0) / 2)
  assert got[", mean of ten shifts|recall_at_stated_1%_fpr"] == 0.75


def forward(x):
  return x[:, :3], x


@pytest.mark.parametrize("name", ["energy", "ViM"])
def test_peers_of_one_pass_score_as_they_do_alone(name, rng):
  x, y = (
    rng.normal(size=(200, 6)) + 3.0 * np.eye(6)[:3].repeat(67, axis=0)[:200],
    np.arange(200) % 3,
  )
  x = x.astype(np.float32)
  sets = {
    "calibration": x[:120],
    "typical": x[120:],
    HELD_OUT_CLASSES: 2.0 * x[50:],
    "far": 4.0 * x[:50],
  }
  want = NETWORK_BASELINES[name](forward).fit(x, y)
  want = neuralfp_peers._rates({each: want.score(rows) for each, rows in sets.items()})
  assert neuralfp_peers._of_last_two(forward, x, y, sets)[name] == pytest.approx(want, abs=1e-6)
