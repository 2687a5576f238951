"""Views: hand-computed pooling, moments under a mask, channels that do not vary."""

import jax.numpy as jnp
import numpy as np
import pytest

from fingerprint_jax import views


def test_windows_that_fit_are_averaged():
  a = np.arange(2 * 8 * 14 * 3, dtype=np.float32).reshape(2, 8, 14, 3)
  got = views.pool(jnp.asarray(a))
  assert got.shape == (2, 4, 7, 3)
  np.testing.assert_allclose(got[1, 2, 3, 1], a[1, 4:6, 6:8, 1].mean(), rtol=1e-6)
  np.testing.assert_allclose(got, a.reshape(2, 4, 2, 7, 2, 3).mean(axis=(2, 4)), rtol=1e-6)


def test_windows_that_do_not_fit_average_what_there_is():
  a = np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype(np.float32)
  got = views.pool(jnp.asarray(a))
  assert got.shape == (2, 5, 5, 3)
  np.testing.assert_allclose(got[:, 0, 0], a[:, :2, :2].mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(got[:, 1, 4], a[:, 2:4, 8].mean(axis=1), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(got[:, 4, 4], a[:, 8, 8], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(views.pool(jnp.full((1, 9, 9, 1), 3.0)), 3.0, rtol=1e-6)


@pytest.mark.parametrize(
  ("shape", "want"),
  [
    ((5,), (5,)),
    ((300,), (300,)),
    ((49, 2), (49, 2)),
    ((100, 2), (34, 2)),
    ((7, 7, 3), (7, 7, 3)),
    ((28, 28, 1), (7, 7, 1)),
    ((8, 30, 2), (4, 6, 2)),
    ((1, 1, 8), (1, 1, 8)),
    ((4, 9, 4, 2), (4, 3, 4, 2)),
  ],
)
def test_pooled_shape_is_the_shape_of_pool(shape, want):
  assert views.pooled_shape(shape) == want
  assert views.pool(jnp.zeros((2, *shape))).shape == (2, *want)


def test_moments_leave_the_masked_out_even_if_they_are_nan():
  a = np.random.default_rng(1).normal(size=(5, 4, 4, 3)).astype(np.float32)
  a[3:] = np.nan
  mask = jnp.array([1.0, 1.0, 1.0, 0.0, 0.0])
  mean, square = views.moments(jnp.asarray(a), mask)
  np.testing.assert_allclose(mean, a[:3].mean(axis=(1, 2)).sum(axis=0), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(square, (a[:3] ** 2).mean(axis=(1, 2)).sum(axis=0), rtol=1e-5)
  about = jnp.array([1.0, 2.0, 3.0])
  moved, moved_square = views.moments(jnp.asarray(a), mask, about)
  np.testing.assert_allclose(moved, mean - 3.0 * about, rtol=1e-4)
  np.testing.assert_allclose(moved_square, square - 2.0 * about * mean + 3.0 * about**2, rtol=1e-4)


def test_a_view_standardises_by_channel():
  a = np.random.default_rng(2).normal([5.0, -1.0], [0.1, 3.0], size=(200, 7, 7, 2))
  a = a.astype(np.float32)
  view = views.standardised(jnp.asarray(a.mean(axis=(0, 1, 2))), jnp.asarray(a.var(axis=(0, 1, 2))))
  got = np.asarray(view(jnp.asarray(a)))
  np.testing.assert_allclose(got.mean(axis=(0, 1, 2)), 0.0, atol=1e-4)
  np.testing.assert_allclose(got.std(axis=(0, 1, 2)), 1.0, rtol=1e-4)
  one = (a[0, 1, 2] - a.mean(axis=(0, 1, 2))) / a.std(axis=(0, 1, 2))
  np.testing.assert_allclose(got[0, 1, 2], one, rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1 / 3, 1000.0])
def test_a_dead_channel_takes_the_largest_scale_of_its_layer(value):
  mean = jnp.array([2.0, value, -1.0])
  view = views.standardised(mean, jnp.array([0.25, 1e-15, 0.04]))
  np.testing.assert_allclose(view.scale, [0.5, 0.5, 0.2], rtol=1e-6)
  woken = np.asarray(view(jnp.array([[2.0, value + 1.0, -1.0]])))
  np.testing.assert_allclose(woken, [[0.0, 2.0, 0.0]], atol=1e-6)
