"""Made textures: what a scratch changes, and the table of them."""

import numpy as np
import pytest

from benchmarks import defects
from benchmarks.ledger import Ledger


@pytest.mark.parametrize("kind", defects.KINDS)
def test_textures_are_pictures_that_differ(kind, rng):
  x = defects.textures(kind, 3, rng)
  assert (x.shape, x.dtype) == ((3, 64, 64, 1), np.float32)
  assert 0.0 <= x.min() < 0.35 < 0.65 < x.max() <= 1.0
  assert np.abs(x[0] - x[1]).mean() > 0.05


@pytest.mark.parametrize("length", defects.LENGTHS)
def test_a_scratch_has_its_length_width_and_depth(length, rng):
  x = np.full((20, 64, 64, 1), 0.5, np.float32)
  changed = defects.scratched(x, length, 0.25, rng) - x
  np.testing.assert_allclose(np.abs(changed[changed != 0.0]), 0.25)
  assert {float(np.sign(each.sum())) for each in changed} == {-1.0, 1.0}
  area = length * defects.WIDTH + np.pi * defects.WIDTH**2 / 4.0
  assert (changed != 0.0).sum(axis=(1, 2, 3)).mean() == pytest.approx(area, rel=0.2)
  for each in changed[..., 0]:
    rows, columns = np.nonzero(each)
    assert np.hypot(np.ptp(rows), np.ptp(columns)) == pytest.approx(length, abs=2.5)


class Stand:
  """In the place of DROCC: every picture is flagged, and the patches know what is a scratch."""

  threshold = -1.0

  def __init__(self, features, random_state):
    assert features.defects

  def fit(self, x):
    self.detector_ = self
    return self

  def report(self, x):
    scratch = (np.arange(len(x)) >= defects.TESTED).astype(np.float32)
    return {"score": scratch, "group_deviation": np.stack([0.0 * scratch, scratch], axis=1)}


def test_the_table_has_every_length_of_every_kind(monkeypatch):
  monkeypatch.setattr(defects, "KINDS", defects.KINDS[:1])
  monkeypatch.setattr(defects, "TRAINED", 40)
  monkeypatch.setattr(defects, "TESTED", 10)
  monkeypatch.setattr(defects, "DROCC", Stand)
  told = []
  records, figures = defects.table(1, lambda *said: told.append(said), Ledger())
  rows = [f"stripes, scratch of {n}, depth {d}" for d in (0.25, 0.1) for n in (6, 12, 24)]
  for method in (defects.JOINED, defects.POOLED, defects.PATCH, defects.PIXELS):
    assert [r.row for r in records if (r.method, r.metric) == (method, "auroc")] == rows
  flagged = {r.row: r.mean for r in records if r.metric == "flagged"}
  assert flagged == dict.fromkeys(["stripes, typical", *rows], 100.0)
  assert [r.mean for r in records if r.method == defects.PATCH] == [100.0] * 6
  assert [r.mean for r in records if r.method == defects.POOLED] == [50.0] * 6
  assert told == [(1, "stripes, seed 0")]
  assert not figures
