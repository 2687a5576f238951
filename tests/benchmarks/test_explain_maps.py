"""Planted squares, and whether a map points at them."""

import numpy as np
import pytest

from benchmarks import explain_maps


def test_a_square_of_another_picture_is_planted(rng):
  x, inside = explain_maps.planted(np.zeros((40, 20, 20, 1)), np.ones((40, 20, 20, 1)), rng)
  np.testing.assert_array_equal(x[..., 0] == 1.0, inside)
  assert (inside.sum(axis=(1, 2)) == explain_maps.PATCH**2).all()
  assert (inside.any(axis=1).sum(axis=1) == explain_maps.PATCH).all()
  corners = inside.reshape(40, -1).argmax(axis=1)
  assert len(np.unique(corners)) > 10


def test_pointed_is_the_share_of_largest_values_inside():
  inside = np.zeros((4, 3, 3), bool)
  inside[:, 1:, 1:] = True
  maps = np.zeros((4, 3, 3))
  for place, (row, column) in enumerate([(1, 1), (2, 2), (0, 2), (1, 2)]):
    maps[place, row, column] = 1.0
  assert explain_maps.pointed(maps, inside) == 0.75


@pytest.mark.long
def test_all_maps_are_measured(monkeypatch):
  monkeypatch.setattr(explain_maps, "TESTED", 2)
  monkeypatch.setattr(explain_maps, "TRAINED", 100)
  found = explain_maps.measured("weave", 0)
  assert found["explanation", "share flagged"] == 1.0
  maps = {
    f"{name}{features}"
    for name in ("explanation", "unlike patches")
    for features in explain_maps.FEATURES
  }
  assert {name for name, metric in found if metric == explain_maps.FOUND} == {"anywhere", *maps}
  assert found["anywhere", "share found"] == pytest.approx((12 / 64) ** 2)
