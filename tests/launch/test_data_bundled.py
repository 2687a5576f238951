"""scikit-learn's sets: counts known from their documentation."""

import numpy as np
import pytest

from launch.data import bundled


def test_digits_zero_typical():
  got = bundled.digits(0, seed=0)
  assert got.x_train.shape == (89, 64)  # 178 zeros
  assert got.x_test.shape == (1797 - 89, 64)
  assert np.bincount(got.y_test).tolist() == [89, 1619]
  assert got.image_shape == (8, 8)
  assert got.feature_names[:2] == ("pixel_0_0", "pixel_0_1")
  assert got.x_train.max() == 16.0
  assert "0 typical" in got.description


def test_digits_trains_on_the_digit_that_was_asked_for():
  ones = bundled.digits(1, seed=0).x_train.mean(axis=0).reshape(8, 8)
  zeros = bundled.digits(0, seed=0).x_train.mean(axis=0).reshape(8, 8)
  assert zeros[3:5, 3:5].max() < 3.0  # a zero is hollow
  assert ones[3:5, 3:5].min() > 9.0


def test_digits_are_seeded():
  np.testing.assert_array_equal(bundled.digits(3, 1).x_train, bundled.digits(3, 1).x_train)
  assert not np.array_equal(bundled.digits(3, 1).x_train, bundled.digits(3, 2).x_train)


@pytest.mark.parametrize("typical", [-1, 10])
def test_digits_refuses_what_is_no_digit(typical):
  with pytest.raises(ValueError, match=f"from 0 to 9, got {typical}"):
    bundled.digits(typical, 0)


def test_breast_cancer_takes_benign_as_typical():
  got = bundled.breast_cancer(seed=0)
  assert got.x_train.shape == (178, 30)  # 357 benign
  assert np.bincount(got.y_test).tolist() == [179, 212]
  radius = got.x_test[:, got.feature_names.index("mean radius")]
  assert radius[got.y_test == 1].mean() > 1.3 * radius[got.y_test == 0].mean()
