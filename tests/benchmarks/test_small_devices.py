"""The table of C headers: what is counted, and the means over the sets."""

import jax
import numpy as np
import pytest

from benchmarks import small_devices
from benchmarks.ledger import Ledger
from detector_jax import Detector, Standardizer
from drocc_jax import networks, recipe
from launch import c_model


@pytest.mark.skipif(small_devices.compiler() is None, reason="no C compiler")
def test_decisions_bytes_and_microseconds_of_every_precision(monkeypatch):
  typical, x = (small_devices.drawn(80, seed)[:, :3] for seed in (0, 1))
  network = networks.MLP((128, 128))
  params, stats = networks.as_forward(network).init(jax.random.key(0), x)
  detector = Detector.create(
    recipe.NegativeLogit(network),
    {"params": params, "stats": stats},
    Standardizer.fit(typical),
    (3,),
    metadata={"method": "DROCC"},
  ).calibrate(typical, 0.1)
  decided = detector.predict(x)
  wrong = np.where(np.arange(80) < 8, 1 - decided, decided)
  monkeypatch.setattr(type(detector), "predict", lambda self, x: wrong)
  labels = np.arange(80) % 2
  found = small_devices.measured(detector, x, labels, np.arange(80) >= 4)
  assert list(found) == ["detector", *c_model.PRECISIONS]
  float32, int16, int8 = (found[precision] for precision in c_model.PRECISIONS)
  assert float32["differ"] == pytest.approx(1e5 * 4 / 76)
  assert float32["auroc"] == pytest.approx(found["detector"]["auroc"], abs=0.01)
  weights = 128 * 128
  assert 1.9 * weights < float32["bytes"] - int16["bytes"] < 2.2 * weights
  assert 0.9 * weights < int16["bytes"] - int8["bytes"] < 1.1 * weights
  assert float32["header_bytes"] > int16["header_bytes"] > int8["header_bytes"] > 2 * weights
  assert 0 < int8["microseconds"] < 1000


def test_means_are_over_the_sets_alone(monkeypatch):
  monkeypatch.setattr(small_devices.adbench, "names", lambda: ("one", "two"))
  values = {small_devices.DRAWN: 9.0, "one": 1.0, "two": 3.0}
  monkeypatch.setattr(
    small_devices, "cell", lambda row, seed: {"int8": {"differ": values[row] + seed, "bytes": 7.0}}
  )
  told = []
  records, drawn = small_devices.table(2, lambda *each: told.append(each), Ledger())
  assert len(told) == small_devices.count(2) == 6
  assert drawn == {}
  by = {(r.row, r.metric): (r.mean, r.std) for r in records}
  assert by["mean of the sets", "differ"] == (2.5, 0.5)
  assert by[small_devices.DRAWN, "differ"] == (9.5, 0.5)
  assert ("mean of the sets", "bytes") not in by
