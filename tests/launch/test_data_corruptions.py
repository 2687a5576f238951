"""Corruptions: what each strength does, measured on images where it can be told by hand."""

import numpy as np
import pytest

from launch.data import corruptions
from launch.data.corruptions import CORRUPTIONS

X = np.random.default_rng(0).random((4, 12, 12, 3), np.float32)
each = pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
strengths = pytest.mark.parametrize("strength", [1, 2, 3])


@each
@strengths
def test_keeps_shape_type_range_and_its_input(corrupt, strength):
  before = X.copy()
  got = corrupt(X, strength, 0)
  assert (got.shape, got.dtype) == (X.shape, np.float32)
  assert got.min() >= 0.0
  assert got.max() <= 1.0
  np.testing.assert_array_equal(X, before)
  assert not np.array_equal(got, X)


@each
def test_is_a_function_of_its_arguments(corrupt):
  np.testing.assert_array_equal(corrupt(X, 2, 7), corrupt(X, 2, 7))


@each
def test_is_stronger_with_its_strength(corrupt):
  ramp = np.linspace(0.0, 1.0, 16, dtype=np.float32)
  x = np.broadcast_to(ramp[:, None, None] * (ramp > 0.5)[:, None], (50, 16, 16, 1)).copy()
  distances = [np.linalg.norm(corrupt(x, strength, 0) - x) for strength in (1, 2, 3)]
  assert distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("name", ["gaussian_noise", "occlusion"])
def test_draws_by_the_seed(name):
  assert not np.array_equal(CORRUPTIONS[name](X, 1, 0), CORRUPTIONS[name](X, 1, 1))


@pytest.mark.parametrize("name", ["blur", "rotation", "contrast"])
def test_corrupts_each_image_by_itself(name):
  alone = CORRUPTIONS[name](X[1:2], 1, 0)
  np.testing.assert_allclose(CORRUPTIONS[name](X, 1, 0)[1:2], alone, atol=1e-6)


@pytest.mark.parametrize(("strength", "sd"), [(1, 0.1), (2, 0.2), (3, 0.4)])
def test_noise_has_its_standard_deviation(strength, sd):
  x = np.full((50, 20, 20, 1), 0.5, np.float32)
  noise = corruptions.gaussian_noise(x, strength, 0) - x
  assert np.quantile(np.abs(noise), 0.6827) == pytest.approx(sd, rel=0.03)
  assert np.abs(noise).max() <= 0.5


@pytest.mark.parametrize(("strength", "sd"), [(1, 0.5), (2, 1.0), (3, 2.0)])
def test_blur_of_a_point_is_a_gaussian(strength, sd):
  x = np.zeros((2, 31, 31, 2), np.float32)
  x[0, 15, 15, 0] = 1.0
  got = corruptions.blur(x, strength, 0)
  assert got.sum() == pytest.approx(1.0, abs=1e-5)
  assert got[0, ..., 0].sum() == pytest.approx(1.0, abs=1e-5)
  wanted = np.exp(-0.5 * (np.arange(-15, 16) / sd) ** 2)
  line = got[0, :, 15, 0] / got[0, 15, 15, 0]
  np.testing.assert_allclose(line, wanted, atol=1e-3)


def test_blur_keeps_a_constant():
  x = np.full((1, 8, 8, 1), 0.3, np.float32)
  np.testing.assert_allclose(corruptions.blur(x, 3, 0), x, atol=1e-6)


@pytest.mark.parametrize(("strength", "degrees"), [(1, 15), (2, 30), (3, 60)])
def test_rotation_turns_a_point_counter_clockwise(strength, degrees):
  x = np.zeros((1, 41, 41, 1), np.float32)
  x[0, 19:22, 35:38] = 1.0  # 16 pixels to the right of the centre (20, 20)
  got = corruptions.rotation(x, strength, 0)[0, ..., 0]
  rows, columns = np.mgrid[:41, :41]
  up, right = 20 - (got * rows).sum() / got.sum(), (got * columns).sum() / got.sum() - 20
  assert np.hypot(up, right) == pytest.approx(16, abs=0.1)
  assert np.degrees(np.arctan2(up, right)) == pytest.approx(degrees, abs=0.5)


def test_rotation_brings_in_black():
  got = corruptions.rotation(np.ones((1, 20, 20, 3), np.float32), 2, 0)
  assert (got[0, 0, 0] == 0.0).all()
  np.testing.assert_allclose(got[0, 6:14, 6:14], 1.0, atol=1e-6)


@pytest.mark.parametrize(
  ("strength", "wanted"), [(1, [0.2, 0.8]), (2, [0.3, 0.7]), (3, [0.4, 0.6])]
)
def test_contrast_draws_values_to_their_mean(strength, wanted):
  x = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
  np.testing.assert_allclose(corruptions.contrast(x, strength, 0).ravel(), wanted, rtol=1e-6)


@pytest.mark.parametrize(("strength", "side"), [(1, 4), (2, 6), (3, 8)])
def test_occlusion_is_a_whole_square(strength, side):
  got = corruptions.occlusion(np.zeros((200, 16, 20, 3), np.float32), strength, 0)
  covered = got == 0.5
  assert set(np.unique(got)) == {0.0, 0.5}
  assert (covered.sum(axis=(1, 2, 3)) == 3 * side**2).all()
  assert (covered.any(axis=(2, 3)).sum(axis=1) == side).all()
  assert (covered.any(axis=(1, 3)).sum(axis=1) == side).all()
  tops, lefts = covered.any(axis=(2, 3)).argmax(axis=1), covered.any(axis=(1, 3)).argmax(axis=1)
  assert set(tops) == set(range(16 - side + 1))
  assert set(lefts) == set(range(20 - side + 1))


@each
def test_takes_no_images(corrupt):
  assert corrupt(X[:0], 1, 0).shape == (0, 12, 12, 3)


@each
@pytest.mark.parametrize(
  ("x", "strength", "message"),
  [
    (X[0], 1, r"float32 \[n, h, w, c\], got float32 \[12, 12, 3\]"),
    (np.zeros((1, 2, 2, 1)), 1, r"float32 \[n, h, w, c\], got float64 \[1, 2, 2, 1\]"),
    (255 * X + 1, 1, r"lie in \[0, 1\], got values from 1\S* to 25"),
    (np.full((1, 2, 2, 1), np.nan, np.float32), 1, r"lie in \[0, 1\], got values from nan"),
    (X, 0, "strength must be 1, 2 or 3, got 0"),
    (X, 4, "strength must be 1, 2 or 3, got 4"),
  ],
)
def test_refuses(corrupt, x, strength, message):
  with pytest.raises(ValueError, match=message):
    corrupt(x, strength, 0)
