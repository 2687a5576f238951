"""Standardisation: hand values, constant features, precision and refusals."""

import logging

import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax.preprocessing import Standardizer, contrast_normalised

X = np.array([[0.0, 10.0], [2.0, 30.0]])


def test_hand_values_per_feature():
  standardizer = Standardizer.fit(X)
  np.testing.assert_array_equal(standardizer.center, [1, 20])
  np.testing.assert_array_equal(standardizer.scale, [1, 10])
  np.testing.assert_array_equal(standardizer(np.array([[3.0, 20.0]])), [[2, 0]])
  assert standardizer.kept is None


def test_hand_values_per_channel():
  images = np.zeros((2, 2, 2, 2))
  images[0, ..., 0], images[..., 1] = 4.0, [[1.0, 3.0], [1.0, 3.0]]
  standardizer = Standardizer.fit(images)
  np.testing.assert_array_equal(standardizer.center, [2, 2])
  np.testing.assert_array_equal(standardizer.scale, [2, 1])
  np.testing.assert_array_equal(standardizer(images)[0, 0, 0], [1, -1])


def test_training_data_come_out_with_mean_0_and_deviation_1(rng):
  x = rng.normal(3.0, [1e-3, 1.0, 1e4], size=(200, 3))
  z = np.asarray(Standardizer.fit(x)(x), np.float64)
  np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-3)
  np.testing.assert_allclose(z.std(axis=0), 1.0, rtol=1e-3)


def test_without_scaling_values_stay_raw(caplog):
  x = np.array([[7.0, 0.0], [7.0, 2.0]])
  standardizer = Standardizer.fit(x, scaling="none")
  assert caplog.messages == ["Dropped 1 constant features: 0."]
  np.testing.assert_array_equal(standardizer(np.array([[9.0, 3.5]])), [[3.5]])


def test_results_are_clipped():
  standardizer = Standardizer.fit(X, clip=5.0)
  np.testing.assert_array_equal(standardizer(np.array([[100.0, -1e9]])), [[5, -5]])


def test_constant_features_are_dropped_and_logged(caplog):
  x = np.array([[7.0, 0.0, 0.0], [7.0, 2.0, 0.0]])
  with caplog.at_level(logging.WARNING):
    standardizer = Standardizer.fit(x)
  assert caplog.messages == ["Dropped 2 constant features: 0, 2."]
  np.testing.assert_array_equal(standardizer.kept, [1])
  np.testing.assert_array_equal(standardizer(np.array([[9.0, 3.0, 9.0]])), [[2]])


def test_constant_features_are_clipped_and_logged(caplog):
  x = np.array([[7.0, 0.0], [7.0, 2.0]])
  with caplog.at_level(logging.WARNING):
    standardizer = Standardizer.fit(x, constant="clip", clip=3.0)
  assert caplog.messages == ["Clipped 1 constant features: 0."]
  np.testing.assert_array_equal(standardizer(np.array([[8.0, 1.0], [1e6, 1.0]])), [[1, 0], [3, 0]])


def test_constant_channels_are_never_dropped(rng):
  images = rng.normal(size=(3, 2, 2, 2))
  images[..., 1] = 5.0
  assert Standardizer.fit(images, constant="drop")(images).shape == images.shape


def test_a_feature_too_small_for_float32_counts_as_constant(rng):
  x = rng.normal(size=(20, 2)) * [1.0, 1e-40]
  standardizer = Standardizer.fit(x)
  np.testing.assert_array_equal(standardizer.kept, [0])
  assert np.isfinite(standardizer(x)).all()


def test_statistics_are_computed_in_float64(rng):
  # float32 rounds a mean near 1000 by up to 3e-5, which changes these deviations by up to 1e-4.
  x = rng.normal(1000.0 + 1e-5 * np.arange(6), 2e-3, size=(5000, 6)).astype(np.float32)
  want = x.astype(np.float64).std(axis=0)
  np.testing.assert_allclose(Standardizer.fit(x).scale, want, rtol=1e-6)


@pytest.mark.parametrize("value", [1e30, -1e30])
def test_values_that_overflow_float32_arithmetic_are_refused_by_column(value):
  x = np.array([[0.0, 1.0], [1.0, value]])
  with pytest.raises(ValueError, match=r"Column 1 holds 1e\+30"):
    Standardizer.fit(x)


def test_all_constant_is_refused():
  with pytest.raises(ValueError, match="Every feature is constant"):
    Standardizer.fit(np.ones((5, 2)))


def test_unknown_settings_are_refused():
  with pytest.raises(ValueError, match="constant must be one of"):
    Standardizer.fit(X, constant="keep")
  with pytest.raises(ValueError, match="scaling must be one of"):
    Standardizer.fit(X, scaling="minmax")
  with pytest.raises(ValueError, match="clip must be > 0"):
    Standardizer.fit(X, clip=0.0)


def test_contrast_of_each_image_is_its_own(rng):
  x = rng.uniform(size=(40, 6, 5, 3))
  standardizer = Standardizer.fit(x, scaling="contrast")
  centred = x - x.mean(axis=(1, 2, 3), keepdims=True)
  contrast = centred / np.abs(centred).mean(axis=(1, 2, 3), keepdims=True)
  want = (contrast - contrast.mean(axis=(0, 1, 2))) / contrast.std(axis=(0, 1, 2))
  np.testing.assert_allclose(standardizer(jnp.asarray(x)), want, rtol=0, atol=1e-4)
  brighter = 3.0 * x + rng.uniform(size=(40, 1, 1, 1))
  np.testing.assert_allclose(standardizer(jnp.asarray(brighter)), want, rtol=0, atol=1e-4)
  plain = Standardizer.fit(x)
  assert np.abs(plain(jnp.asarray(brighter)) - plain(jnp.asarray(x))).max() > 1.0


def test_an_image_without_contrast_is_not_blown_up():
  flat = np.full((2, 7, 9, 3), 0.1, np.float32)
  flat += np.random.default_rng(0).uniform(0.0, 1e-7, flat.shape).astype(np.float32)  # rounding
  for x in (flat, jnp.asarray(flat), 0.0 * flat):
    assert np.abs(contrast_normalised(x)).max() < 0.05


def test_contrast_is_not_for_tables():
  with pytest.raises(ValueError, match="'contrast' is for images and series"):
    Standardizer.fit(X, scaling="contrast")
