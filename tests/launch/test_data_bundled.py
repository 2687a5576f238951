"""scikit-learn's sets: counts known from their documentation."""

import numpy as np
import pytest
from sklearn import datasets

from launch.data import bundled, corruptions


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


@pytest.fixture(scope="module")
def shifted():
  return bundled.digits_shifted(seed=0)


def by_source(got, source):
  return got.x_test[got.sources == source]


def test_digits_shifted_has_thirds_of_each_class(shifted):
  classes = np.bincount(datasets.load_digits().target)
  typical = shifted.class_test[shifted.sources == "digits"]
  assert (len(shifted.x_train), len(typical)) == (1198, 599)
  np.testing.assert_array_equal(np.bincount(shifted.y_train) + np.bincount(typical), classes)
  np.testing.assert_allclose(np.bincount(typical), classes / 3, atol=1.0)


def test_digits_shifted_keeps_each_digit_once(shifted):
  got = np.concatenate([shifted.x_train, by_source(shifted, "digits")]).reshape(-1, 64)
  wanted = datasets.load_digits().data / 16.0
  np.testing.assert_array_equal(got[np.lexsort(got.T)], wanted[np.lexsort(wanted.T)])


def test_digits_shifted_is_an_out_of_distribution_set(shifted):
  assert shifted.x_train.shape == (1198, 8, 8, 1)
  assert shifted.x_train.dtype == shifted.x_test.dtype == np.float32
  assert (shifted.x_train.min(), shifted.x_train.max()) == (0.0, 1.0)
  assert (shifted.x_test.min(), shifted.x_test.max()) == (0.0, 1.0)
  assert shifted.image_shape == (8, 8)
  names, counts = np.unique(shifted.sources, return_counts=True)
  assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
    "digits": 599,
    "rotated": 599,
    "inverted": 599,
    "noisy": 599,
    "blank": 17,
    "noise": 599,
  }
  np.testing.assert_array_equal(shifted.y_test, shifted.sources != "digits")
  np.testing.assert_array_equal(shifted.class_test == -1, shifted.y_test == 1)


def test_digits_shifted_are_made_from_the_test_images(shifted):
  x = by_source(shifted, "digits")
  np.testing.assert_array_equal(by_source(shifted, "inverted"), 1.0 - x)
  np.testing.assert_array_equal(by_source(shifted, "rotated")[:, 0, :, 0], x[:, :, -1, 0])
  noisy = corruptions.gaussian_noise(x, bundled.NOISE_STRENGTH, 0)
  np.testing.assert_array_equal(by_source(shifted, "noisy"), noisy)
  blank = by_source(shifted, "blank").reshape(-1, 64)
  np.testing.assert_array_equal(blank, np.repeat(np.arange(17)[:, None] / 16.0, 64, axis=1))
  noise = by_source(shifted, "noise")
  assert noise.mean() == pytest.approx(0.5, abs=0.01)
  assert noise.std() == pytest.approx(np.sqrt(1 / 12), abs=0.01)


def test_digits_shifted_are_seeded(shifted):
  again, other = bundled.digits_shifted(0), bundled.digits_shifted(1)
  np.testing.assert_array_equal(again.x_test, shifted.x_test)
  assert not np.array_equal(other.x_train, shifted.x_train)
  assert not np.array_equal(by_source(other, "noise"), by_source(shifted, "noise"))
