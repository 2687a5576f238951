"""Standardisation: hand values, constant features, precision and refusals."""

import logging

import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax.preprocessing import (
  Standardizer,
  contrast_normalised,
  extreme_values,
  robust_range,
)

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


def test_a_few_glitches_do_not_set_the_scale(rng):
  x = rng.normal(size=(600, 2))
  plain = Standardizer.fit(x)
  x[5, 0] = 1e6
  robust, moments = Standardizer.fit(x), Standardizer.fit(x, scaling="moments")
  assert float(robust.scale[0]) == pytest.approx(float(plain.scale[0]), rel=0.15)
  assert moments.scale[0] > 1e4
  np.testing.assert_array_equal(robust.scale[1], plain.scale[1])
  assert robust(np.array([[100.0, 0.0]]))[0, 0] == 20.0


def test_without_glitches_the_scale_is_that_of_all_values(rng):
  for x in (rng.normal(size=(300, 3)), rng.uniform(size=(40, 3)), np.eye(9)):
    robust, moments = Standardizer.fit(x), Standardizer.fit(x, scaling="moments")
    np.testing.assert_array_equal(robust.center, moments.center)
    np.testing.assert_array_equal(robust.scale, moments.scale)


@pytest.mark.parametrize(("n", "lowest"), [(9, 0), (10, 1), (20, 2), (30, 3), (300, 3), (1000, 10)])
def test_the_values_that_are_farthest_out_are_left_out(n, lowest):
  x = np.random.default_rng(0).permutation(n).astype(float)[:, None]
  low, high = robust_range(x)
  assert (low.tolist(), high.tolist()) == ([lowest], [n - 1 - lowest])


@pytest.mark.parametrize("offset", [1.7e9, 101325.0, -1e10])
def test_a_large_offset_is_subtracted_in_float64(rng, offset, caplog):
  x = rng.normal(size=(400, 2)) * [1.0, 0.5]
  shift = np.array([0.0, offset])
  far, near = Standardizer.fit(x + shift), Standardizer.fit(x)
  assert not caplog.messages
  assert far.offset is not None
  assert (far.offset[0], near.offset) == (0.0, None)
  exact = (x + shift)[:, 1] - (x + shift)[:, 1].mean()
  got = far(x + shift)[:, 1]
  np.testing.assert_allclose(got, exact / exact.std(), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(far.shifted(x + shift)[:, 0], x[:, 0], rtol=1e-6)


def test_rounding_is_no_variation(caplog):
  x = np.random.default_rng(0).normal(size=(50, 3))
  x[:, 1] = np.where(x[:, 0] > 0, 0.1 + 0.2, 0.3)  # differs in the last bit
  assert Standardizer.fit(x).kept.tolist() == [0, 2]
  single = x.astype(np.float32)
  single[:, 1] = np.float32(101325.0) + np.float32(0.0078125) * (single[:, 0] > 0)
  assert Standardizer.fit(single).kept.tolist() == [0, 2]


def test_columns_are_named(caplog):
  x = np.array([[7.0, 0.0, 1e19], [7.0, 2.0, 0.0]])
  with pytest.raises(ValueError, match=r"Column 'c' holds 1e\+19"):
    Standardizer.fit(x, names=("a", "b", "c"))
  Standardizer.fit(x[:, :2], names=("a", "b"))
  assert caplog.messages == ["Dropped 1 constant features: 'a'."]


def test_values_far_from_all_others_are_found_by_column(rng):
  x = np.stack(
    [
      rng.normal(size=600),
      rng.lognormal(size=600),
      rng.uniform(size=600) < 0.005,
      np.full(600, 5.0),
    ],
    axis=1,
  )
  assert extreme_values(x).passed
  x[3, 0], x[9, 3] = -999.0, 1e6
  found = extreme_values(x, ("a", "b", "c", "d"))
  assert (found.value, found.passed) == (2.0, False)
  assert "Column 'a' holds -999, four in five of the others lie in [-1" in found.message
  assert "column 'd' holds 1e+06, nearly all others lie in [5, 5]" in found.message


def test_a_second_hill_is_neither_an_error_nor_a_code(rng):
  x = np.concatenate([rng.lognormal(1.0, 0.5, size=960), rng.lognormal(7.0, 0.5, size=40)])[:, None]
  assert extreme_values(x).passed
  assert not extreme_values(x[:-21]).passed  # 19 records are few
  code, glitch = x.copy(), x.copy()
  code[960:970] = -999.0
  glitch[3] = 1e7
  assert not extreme_values(code).passed
  assert "holds 1e+07" in extreme_values(glitch).message


def test_sentinels_in_some_rows_and_a_glitch_among_zeros_are_found(rng):
  x = rng.normal(size=(600, 4))
  x[:, 2], x[:, 3] = 0.0, 0.0
  x[::200, 3] = 1.0  # a flag
  assert extreme_values(x).passed
  x[:30, 0] = -999.0  # 5 % of the rows
  x[5, 2] = 1e6
  found = extreme_values(x)
  assert found.value == 2.0
  assert "Column 0 holds -999" in found.message
  assert "column 2 holds 1e+06" in found.message
