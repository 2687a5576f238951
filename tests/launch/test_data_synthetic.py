"""Geometry of the synthetic sets."""

import numpy as np
import pytest

from launch.data import synthetic


def parts(got):
  return got.x_train, got.x_test[got.y_test == 0], got.x_test[got.y_test == 1]


@pytest.mark.parametrize("dim", [1, 3, 10])
def test_sphere_has_a_ball_inside_a_sphere(dim):
  train, typical, anomalous = parts(synthetic.sphere(0, 1.4, num=200, dim=dim))
  assert (train.shape, typical.shape, anomalous.shape) == ((200, dim), (100, dim), (100, dim))
  assert np.linalg.norm(np.concatenate([train, typical]), axis=1).max() <= 1.0
  np.testing.assert_allclose(np.linalg.norm(anomalous, axis=1), 1.4, rtol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_sphere_is_uniform_in_volume(dim):
  train, typical, anomalous = parts(synthetic.sphere(0, 1.2, num=20000, dim=dim))
  for x in (train, typical):
    # The share of volume within r is r^dim, so that |x|^dim is uniform on [0, 1].
    share = np.sort(np.linalg.norm(x, axis=1) ** dim)
    assert np.abs(share - (np.arange(len(x)) + 0.5) / len(x)).max() < 1.63 / np.sqrt(len(x))
  for x in (train, anomalous):
    assert np.abs(x.mean(axis=0)).max() < 4.0 * 1.2 / np.sqrt(dim * len(x))
    # Fourth moments of the coordinates of a uniform direction; a cube's would be smaller.
    direction = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose((direction**4).mean(axis=0), 3.0 / (dim * (dim + 2)), rtol=0.04)


def test_sine_lies_on_its_curve():
  train, typical, anomalous = parts(synthetic.sine(0, 0.4, num=2000))
  for t, y in (train.T, typical.T):
    np.testing.assert_allclose(y, np.sin(t), atol=1e-15)
    assert -2 * np.pi <= t.min() < -1.9 * np.pi
    assert 1.9 * np.pi < t.max() <= 2 * np.pi
  shift = anomalous[:, 1] - np.sin(anomalous[:, 0])
  np.testing.assert_allclose(np.abs(shift), 0.4, rtol=1e-12)
  assert (shift > 0).sum() == (shift < 0).sum() == 500
  assert np.abs(np.corrcoef(anomalous[:, 0], np.sign(shift))[0, 1]) < 0.1


def test_sine_has_raw_coordinates():
  got = synthetic.sine(0, 2.0)
  assert got.x_train.shape == got.x_test.shape == (1000, 2)
  assert np.bincount(got.y_test).tolist() == [500, 500]
  assert got.x_train[:, 0].std() == pytest.approx(4 * np.pi / np.sqrt(12), rel=0.05)
  assert got.x_train[:, 1].std() == pytest.approx(np.sqrt(0.5), rel=0.05)


@pytest.mark.parametrize("make", [synthetic.sine, synthetic.sphere])
def test_typical_records_are_fresh_and_do_not_depend_on_the_anomalies(make):
  near, far, other = make(5, 1.2, 100), make(5, 1.8, 100), make(6, 1.2, 100)
  np.testing.assert_array_equal(near.x_train, far.x_train)
  np.testing.assert_array_equal(near.x_test[near.y_test == 0], far.x_test[far.y_test == 0])
  assert not np.array_equal(near.x_test, far.x_test)
  assert not np.array_equal(near.x_train, other.x_train)
  assert not set(near.x_train[:, 0]) & set(near.x_test[:, 0])


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: synthetic.sphere(0, 1.0), "radius must be > 1, .* got 1.0"),
    (lambda: synthetic.sphere(0, float("nan")), "radius must be > 1, .* got nan"),
    (lambda: synthetic.sphere(0, float("inf")), "radius must be > 1, .* got inf"),
    (lambda: synthetic.sphere(0, 1.2, dim=0), "dim must be at least 1, got 0"),
    (lambda: synthetic.sphere(0, 1.2, num=0), "num must be even and at least 2, got 0"),
    (lambda: synthetic.sine(0, 0.0), "displacement must be > 0, got 0.0"),
    (lambda: synthetic.sine(0, float("inf")), "displacement must be > 0, got inf"),
    (lambda: synthetic.sine(0, 0.5, num=3), "num must be even and at least 2, got 3"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()
