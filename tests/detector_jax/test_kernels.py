"""Features of random kernels: MiniRocket's transform against its definition, and what joins it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from detector_jax import features
from detector_jax.features import kernels
from detector_jax.preprocessing import Identity, extreme_values
from detector_jax.program import nested

SMALL = features.RandomKernels(shares=84 * 3, components=6)


def bumps(rng, n=60, width=4.0, channels=2, late=None):
  """Series with one bump at any place, or among four at ``late``, and noise."""
  at = rng.uniform(6, 26, (n, 1, 1)) if late is None else 8 + late + rng.uniform(0, 4, (n, 1, 1))
  steps = np.arange(32)[None, :, None]
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


def test_where_in_a_series_something_happens_counts_for_values_and_hardly_for_shares():
  """Trained on bumps of the first half: others late, and narrower ones where those were."""
  rng, found = np.random.default_rng(1), []
  x, late = bumps(rng, late=0), bumps(rng, late=12)
  narrow = bumps(rng, late=0, width=1.5)
  fitted = dataclasses.replace(SMALL, components=60).fit(x)
  train, *others = (features.apply(fitted, each) for each in (x, late, narrow))
  for part in (slice(fitted.parts[0]), slice(fitted.parts[0], None)):
    moved, changed = (_between(z[:, part], train[:, part]).min(axis=1).mean() for z in others)
    found.append(moved / changed)
  assert found[1] < 0.5 * found[0]


def _between(z, other):
  return np.linalg.norm(z[:, None] - other[None], axis=2)


def test_values_and_shares_stand_apart_each_with_variances_of_mean_one(fitted):
  x = bumps(np.random.default_rng(0))
  assert fitted.parts == (7, 7)  # components and the length of what they leave out
  z = features.apply(fitted, x)
  assert z.shape == (60, 14)
  for first in (0, 7):
    assert z[:, first : first + 6].var(axis=0).mean() == pytest.approx(1.0, abs=1e-3)
  moved = dataclasses.replace(fitted, biases=fitted.biases + 0.5)
  changed = np.abs(features.apply(moved, x) - z).max(axis=0)
  assert changed[:7].max() == 0.0
  assert changed[7:].min() > 0.0


def test_with_all_components_distances_to_training_series_lose_nothing():
  """Fewer series than components: each part is a rotation, and the length of what is outside."""
  x, other = bumps(np.random.default_rng(0), 20), bumps(np.random.default_rng(1), 5, late=3)
  fitted = dataclasses.replace(SMALL, components=500, noise=1e6).fit(x)
  assert fitted.parts == (20, 20)
  z, w = (features.apply(fitted, each) for each in (x, other))
  for part, name in ((slice(20), "values"), (slice(20, None), "angles")):
    raw = [np.asarray(getattr(fitted, name)(jnp.asarray(each))) for each in (x, other)]
    got, want = _between(w[:, part], z[:, part]), _between(raw[1], raw[0])
    np.testing.assert_allclose(got / want, (got / want).mean(), rtol=2e-3)


def test_what_rounding_leaves_of_training_series_outside_the_components_is_no_extreme_value():
  x = bumps(np.random.default_rng(0), 20)
  fitted = dataclasses.replace(SMALL, components=500).fit(x)
  z = features.apply(fitted, x)
  assert extreme_values(z).passed
  outside = features.apply(fitted, bumps(np.random.default_rng(1), 5, late=3))
  assert outside[:, [19, 39]].min() > 10.0 * z[:, [19, 39]].max()


def test_angles_of_shares_vary_equally_over_the_training_series(fitted):
  x = bumps(np.random.default_rng(0))
  angles = np.asarray(fitted.angles(jnp.asarray(x)))
  deviations = angles.std(axis=0)
  constant = np.asarray(fitted.deviations) == 1.0
  np.testing.assert_allclose(deviations[~constant], 1.0, rtol=1e-3)
  assert deviations[constant].max(initial=0.0) < 1e-3
  shares = np.clip(np.asarray(fitted.shares(jnp.asarray(x))), 1e-4, 1 - 1e-4)
  want = np.arcsin(np.sqrt(shares)) / np.asarray(fitted.deviations)
  np.testing.assert_allclose(angles, want, rtol=1e-4)


def test_values_of_a_long_series_are_means_over_steps(fitted, monkeypatch):
  monkeypatch.setattr(kernels, "MOST_VALUES", 24)
  x = bumps(np.random.default_rng(0), 3)
  z = (x - np.asarray(fitted.center)) / np.asarray(fitted.scale)
  want = [z[:, first : first + 3].mean(axis=1) for first in range(0, 30, 3)]
  np.testing.assert_allclose(fitted.values(jnp.asarray(x)), np.concatenate(want, 1), atol=1e-5)


def test_the_same_seed_gives_the_same_map_and_another_another():
  x = bumps(np.random.default_rng(0))
  first, again, other = (features.apply(SMALL.fit(x, seed), x) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 1e-2


def test_a_channel_s_unit_and_offset_do_not_count():
  x = bumps(np.random.default_rng(0))
  moved = x * np.float32([1.0, 50.0]) + np.float32([0.0, 20.0])
  one, two = SMALL.fit(x), SMALL.fit(moved)
  np.testing.assert_allclose(one.shares(jnp.asarray(x)), two.shares(jnp.asarray(moved)), atol=2e-3)


def test_features_have_a_derivative(fitted):
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.square(fitted(x)))))
  assert np.isfinite(gradient(jnp.zeros((2, 32, 2)))).all()
  assert np.abs(gradient(jnp.asarray(bumps(np.random.default_rng(0), 2)))).max() > 1e-3


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
  ],
)
def test_what_cannot_be_fitted_says_so(settings, shape, message, rng):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(SMALL, **settings).fit(rng.normal(size=shape).astype(np.float32))


def test_series_that_are_all_the_same_are_refused():
  with pytest.raises(ValueError, match="nothing to learn from"):
    SMALL.fit(np.ones((20, 12, 2), np.float32))


def test_a_map_of_an_earlier_release_is_not_rebuilt():
  with pytest.raises(ValueError, match="of an earlier release"):
    features.RandomKernels().rebuilt({"center": np.zeros(16), "factors": np.ones(2)}, 8)
