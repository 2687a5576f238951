"""Features of random kernels: MiniRocket's transform against its definition, and what joins it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from detector_jax import features, metrics
from detector_jax.features import kernels
from detector_jax.preprocessing import Identity
from detector_jax.program import nested

SMALL = features.RandomKernels(shares=84 * 3, components=6)


def bumps(rng, n=60, time=32, width=4.0, channels=2):
  """Series with one bump at any place, and noise."""
  at = rng.uniform(6, time - 6, (n, 1, 1))
  steps = np.arange(time)[None, :, None]
  bump = np.exp(-np.square((steps - at) / width)) * np.ones((1, 1, channels))
  return (bump + 0.05 * rng.normal(size=bump.shape)).astype(np.float32)


class Norm:
  """Scores features by their length."""

  def __call__(self, variables, z):
    return jnp.sum(jnp.square(z), axis=1)


NORM = Norm()


@pytest.fixture(scope="module")
def fitted():
  return SMALL.fit(bumps(np.random.default_rng(0)))


@pytest.fixture(scope="module")
def detector(fitted):
  x = bumps(np.random.default_rng(0))
  size = features.apply(fitted, x[:1]).shape[1]
  inner = detector_jax.Detector.create(NORM, {}, Identity(), (size,))
  return inner.behind(fitted, x.shape[1:]).calibrate(x[:30], 0.1)


def test_there_are_84_kernels_that_sum_to_nothing():
  assert kernels.KERNELS.shape == (9, 84)
  np.testing.assert_array_equal(kernels.KERNELS.sum(axis=0), 0.0)
  assert len({tuple(kernel) for kernel in kernels.KERNELS.T}) == 84


@pytest.mark.parametrize("dilation", [1, 3])
def test_a_kernel_is_laid_as_a_dilated_correlation(dilation, rng):
  x = rng.normal(size=(2, 50)).astype(np.float32)
  number = kernels.TWOS.index((0, 4, 5))
  dilated = np.zeros(8 * dilation + 1)
  dilated[::dilation] = kernels.KERNELS[:, number]
  want = [np.correlate(np.pad(row, 4 * dilation), dilated, "valid") for row in x]
  got = kernels.spread(x[..., None], dilation) @ kernels.KERNELS[:, number]
  np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("time", [9, 24, 29, 427])
def test_dilations_reach_across_the_series_and_no_further(time):
  sizes, counts = kernels.dilations(time, 9996)
  assert sizes[0] == 1
  assert 8 * sizes[-1] <= time - 1
  assert sum(counts) == 9996 // 84


def test_features_are_shares_of_places_above_a_bias(monkeypatch):
  """Against NumPy, kernel by kernel, with steps that are as good as hard."""
  monkeypatch.setattr(kernels, "SOFT", 1e-6)
  rng = np.random.default_rng(3)
  x = bumps(rng, 5)
  drawn = SMALL.drawn(x)
  got = np.asarray(drawn(jnp.asarray(x)))
  assert got.shape == (5, 84 * 3)
  centred, at, begun, padded = x - np.asarray(drawn.center).mean(axis=0), 0, 0, 0
  for place, (dilation, count) in enumerate(zip(drawn.dilations, drawn.counts, strict=True)):
    weights = np.asarray(drawn.weights[place]).reshape(9, 2, 84)
    for number, kernel in enumerate(weights.transpose(2, 0, 1)):
      wide = np.pad(centred, ((0, 0), (4 * dilation, 4 * dilation), (0, 0)))
      taps = [wide[:, i * dilation :][:, :32] @ kernel[i] for i in range(9)]
      values = np.sum(taps, axis=0)
      if number >= 42:
        values = values[:, 4 * dilation : -4 * dilation]
      else:
        padded += 1
      for bias in np.asarray(drawn.biases)[number, begun : begun + count]:
        np.testing.assert_allclose(got[:, at], (values > bias).mean(axis=1), atol=1e-5)
        at += 1
    begun += count
  assert (at, padded) == (252, 42 * len(drawn.counts))


def test_every_other_kernel_is_padded_at_one_dilation_and_the_others_at_the_next():
  first, second = kernels.order(0), kernels.order(1)
  np.testing.assert_array_equal(first[:42], np.arange(0, 84, 2))
  np.testing.assert_array_equal(second, np.roll(first, 42))


def test_a_step_is_soft_around_its_bias():
  values = jnp.array([[[0.9], [1.0], [1.05], [2.0]]])
  got = kernels.shares(values, jnp.array([[1.0]]), jnp.array([5.0]))
  np.testing.assert_allclose(got, [[(0.0 + 0.5 + 0.75 + 1.0) / 4]], atol=1e-6)


def test_where_in_a_series_something_happens_hardly_counts(fitted):
  rng = np.random.default_rng(1)
  same, other = bumps(rng), bumps(rng, width=1.5)
  by = {}
  for values in (0.0, 1.0):
    settings = dataclasses.replace(SMALL, values=values)
    fit = settings.fit(bumps(np.random.default_rng(0)))
    train, *parts = (features.apply(fit, x) for x in (bumps(np.random.default_rng(0)), same, other))
    scores = [np.linalg.norm(p[:, None] - train[None], axis=2).min(1) for p in parts]
    by[values] = metrics.auroc(np.repeat([0, 1], 60), np.concatenate(scores))
  assert by[0.0] > 0.95 > 0.8 > by[1.0]


@pytest.mark.parametrize("values", [0.25, 0.75])
def test_nearest_series_differ_in_values_by_the_portion_that_is_set(values):
  x = bumps(np.random.default_rng(0))
  fitted = dataclasses.replace(SMALL, values=values).fit(x)
  z = features.apply(fitted, x)
  parts = np.split(z, [64], axis=1)
  apart = [np.square(np.sort(_between(part), axis=1)[:, 1]).mean() for part in parts]
  assert apart[0] / sum(apart) == pytest.approx(values, abs=1e-3)
  assert z.var(axis=0).mean() == pytest.approx(1.0, rel=1e-3)


def _between(z):
  return np.linalg.norm(z[:, None] - z[None], axis=2)


def test_distances_of_shares_outlive_whitening_when_series_are_few():
  """Also those to series that no combination of training ones makes."""
  rng = np.random.default_rng(0)
  x, other = bumps(rng, 12), bumps(rng, 5, width=1.5)
  fitted = dataclasses.replace(SMALL, values=0.0, components=64).fit(x)
  shares = [np.asarray(fitted.code(jnp.asarray(each))) for each in (x, other)]
  z = [features.apply(fitted, each)[:, 64:] for each in (x, other)]
  raw, white = (np.linalg.norm(a[:, None] - b[None], axis=2) for a, b in ((*shares,), (*z,)))
  np.testing.assert_allclose(raw / raw.mean(), white / white.mean(), rtol=0.03)


def test_the_same_seed_gives_the_same_map_and_another_another():
  x = bumps(np.random.default_rng(0))
  first, again, other = (features.apply(SMALL.fit(x, seed), x) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first[:, 64:] - other[:, 64:]).max() > 1e-2


def test_a_channel_s_unit_and_offset_do_not_count():
  x = bumps(np.random.default_rng(0))
  moved = x * np.float32([1.0, 50.0]) + np.float32([0.0, 20.0])
  one, two = SMALL.fit(x), SMALL.fit(moved)
  np.testing.assert_allclose(one.code(jnp.asarray(x)), two.code(jnp.asarray(moved)), atol=2e-3)


def test_the_derivative_is_finite(fitted):
  x = jnp.asarray(bumps(np.random.default_rng(0), 2))
  for each in (x, jnp.zeros_like(x)):
    gradient = jax.grad(lambda x: jnp.sum(jnp.square(fitted(x)[:, 64:])))(each)
    assert np.isfinite(gradient).all()
  assert np.abs(gradient).max() > 0 or np.abs(jax.grad(lambda x: jnp.sum(fitted(x)))(x)).max() > 0


def test_a_folder_gives_the_same_scores_and_the_map(detector, fitted, tmp_path):
  x = bumps(np.random.default_rng(2))
  detector.save(tmp_path / "detector")
  loaded = detector_jax.load(tmp_path / "detector")
  np.testing.assert_allclose(loaded.score(x), detector.score(x), rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(loaded.predict(x), detector.predict(x))
  arrays = nested(loaded.arrays, "features")
  again = SMALL.rebuilt(arrays, fitted.rows)
  np.testing.assert_array_equal(features.apply(again, x), features.apply(fitted, x))


@pytest.mark.parametrize(
  ("settings", "shape", "message"),
  [
    ({}, (9, 5), r"\[n, time, channels\] with 9 steps or more, got \[9, 5\]"),
    ({}, (9, 8, 1), r"9 steps or more, got \[9, 8, 1\]"),
    ({"shares": 83}, (9, 12, 1), "shares must be >= 84"),
    ({"components": 0}, (9, 12, 1), "components must be >= 1"),
    ({"values": 1.5}, (9, 12, 1), r"values must be in \[0, 1\], got 1.5"),
  ],
)
def test_what_cannot_be_fitted_says_so(settings, shape, message, rng):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(SMALL, **settings).fit(rng.normal(size=shape).astype(np.float32))


def test_series_that_are_all_the_same_are_refused():
  with pytest.raises(ValueError, match="nothing to learn from"):
    SMALL.fit(np.ones((20, 12, 2), np.float32))
