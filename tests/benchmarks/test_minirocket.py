"""MiniRocket's transform against its definition."""

import numpy as np
import pytest

from benchmarks import minirocket


def test_there_are_84_kernels_that_sum_to_nothing(rng):
  assert len(minirocket.KERNELS) == 84
  constant = np.ones((1, 40))
  for kernel in minirocket.KERNELS:
    np.testing.assert_allclose(minirocket.convolved(constant, kernel, 2)[0, 8:-8], 0.0)


@pytest.mark.parametrize("dilation", [1, 3])
def test_a_kernel_is_laid_as_a_dilated_correlation(rng, dilation):
  x = rng.normal(size=(2, 50))
  weights = np.full(9, -1.0)
  weights[[0, 4, 5]] = 2.0
  dilated = np.zeros(8 * dilation + 1)
  dilated[::dilation] = weights
  want = [np.correlate(np.pad(row, 4 * dilation), dilated, "valid") for row in x]
  np.testing.assert_allclose(minirocket.convolved(x, (0, 4, 5), dilation), want, atol=1e-12)


def test_features_are_shares_of_places_above_a_bias(rng):
  x = rng.integers(-1, 2, size=(5, 30, 3)).astype(float)  # with ties
  transform = minirocket.Transform.fit(x, 0, 84 * 4)
  got = transform(x)
  assert got.shape == (5, 84 * 4)
  at = 0
  for laid in transform.laid:
    values = minirocket.convolved(x[:, :, laid.channels].sum(2), laid.kernel, laid.dilation)
    if not laid.padded:
      values = values[:, 4 * laid.dilation : -4 * laid.dilation]
    want = [(values > bias).mean(axis=1) for bias in laid.biases]
    np.testing.assert_allclose(got[:, at : at + len(want)].T, want, atol=1e-6)
    at += len(want)
  assert {laid.padded for laid in transform.laid} == {True, False}
  assert max(len(laid.channels) for laid in transform.laid) > 1


@pytest.mark.parametrize("time", [24, 29, 427])
def test_dilations_reach_across_the_series_and_no_further(time):
  sizes, counts = minirocket.dilations(time)
  assert sizes[0] == 1
  assert 8 * sizes[-1] <= time - 1
  assert counts.sum() == 9996 // 84
