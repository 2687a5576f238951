"""Feature maps: hand values, invariants, folders, memory, and what they refuse."""

import dataclasses
import tracemalloc

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from detector_jax import features, metrics
from detector_jax.features import patches, rotations
from detector_jax.preprocessing import Identity, Standardizer

SMALL = features.Patches(centroids=8, window=3, components=6, patches=500)
TURNS = features.Rotations(
  channels=(8, 8), layers=((3, 2), (3, 2)), hidden=16, epochs=30, batch_size=16, shift=0
)


def striped(rng, n=60, side=12, channels=2):
  """Images of stripes that lie, brighter towards the top: they have an upright."""
  rows = np.sin(2.1 * np.arange(side)) + np.linspace(2.0, 0.0, side)
  images = rows[None, :, None, None] * np.ones((n, side, side, channels))
  return (images + 0.2 * rng.normal(size=images.shape)).astype(np.float32)


class Norm:
  """Scores features by their length."""

  def __call__(self, variables, z):
    return jnp.sum(jnp.square(z), axis=1)


def behind(fitted, x):
  """A detector of the length of the features of ``x``."""
  size = features.apply(fitted, x[:1]).shape[1]
  inner = detector_jax.Detector.create(NORM, {}, Identity(), (size,))
  return inner.behind(fitted, x.shape[1:])


NORM = Norm()


def test_patches_by_hand():
  x = jnp.arange(12.0).reshape(1, 3, 4, 1)
  got = patches.extract(x, 2, 1)
  assert got.shape == (1, 2, 3, 4)
  np.testing.assert_array_equal(got[0, 1, 2], [6, 7, 10, 11])
  np.testing.assert_array_equal(patches.extract(x, 2, 2)[0, 0], [[0, 1, 4, 5], [2, 3, 6, 7]])


def test_the_strangest_patch_is_where_the_picture_was_changed(rng):
  fitted = dataclasses.replace(SMALL, stride=2).fit(striped(rng))
  x = striped(rng, 3)
  x[1, 4:7, 8:11] += 5.0 * rng.normal(size=(3, 3, 2)).astype(np.float32)
  z, strangest, place = fitted.with_strangest(x)
  np.testing.assert_allclose(z, features.apply(fitted, x), rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(strangest, np.max(fitted.unlikeness(x), axis=(1, 2)))
  assert strangest[1] > 1.5 * max(strangest[0], strangest[2])
  np.testing.assert_array_equal(place[1], [4, 8])


def test_patches_of_a_series_are_its_windows():
  x = jnp.arange(10.0).reshape(1, 5, 2)
  np.testing.assert_array_equal(
    patches.extract(x, 3, 2)[0], [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9]]
  )


def test_pooling_by_hand():
  x = jnp.arange(9.0).reshape(1, 3, 3, 1)
  # parts of rows and columns: the first two (rounded from 1.5) and the last
  np.testing.assert_allclose(patches.pooled(x, 2)[0], [2.0, 3.5, 6.5, 8.0])
  np.testing.assert_allclose(patches.pooled(x, 1)[0], [4.0])


def test_the_triangle_code_by_hand():
  """One patch, no whitening: the distances to the centroids are 1 and 3, their mean 2."""
  fitted = features.PatchMap(
    jnp.eye(2) - 0.5,
    jnp.zeros(2),
    jnp.array([[1.0, 0.0], [1.0, -4.0]]),
    jnp.array(0.0),
    None,
    window=2,
    stride=1,
    pool=1,
    rows=1,
    hellinger=False,
  )
  # the patch (0, 2) less its mean over its deviation is (-1, 1); negated, (1, -1)
  code = fitted(jnp.array([[[2.0], [0.0]]]))
  np.testing.assert_allclose(code, [[1.0, 0.0]], atol=1e-6)


def test_hellinger_s_code_by_hand(rng):
  x = rng.normal(size=(20, 8, 8, 1)).astype(np.float32)
  plain = dataclasses.replace(SMALL.fit(x), hellinger=False)
  code = np.asarray(plain.one_sided(x))
  roots = dataclasses.replace(plain, hellinger=True).one_sided(x)
  expected = np.sqrt(code / code.sum(axis=1, keepdims=True))
  np.testing.assert_allclose(roots, expected, atol=1e-4)
  np.testing.assert_allclose(np.square(roots).sum(axis=1), 1.0, rtol=1e-4)


def test_a_flat_picture_has_a_code_with_a_derivative(rng):
  fitted = SMALL.fit(rng.normal(size=(20, 8, 8, 1)).astype(np.float32))
  flat = jnp.zeros((1, 8, 8, 1))
  assert np.isfinite(fitted(flat)).all()
  assert np.isfinite(jax.grad(lambda x: jnp.sum(fitted(x)))(flat)).all()


def test_features_are_white_over_the_training_rows(rng):
  x = rng.normal(size=(300, 10, 10, 1)).astype(np.float32)
  settings = dataclasses.replace(SMALL, noise=0.0)
  z = features.apply(settings.fit(x), x).astype(np.float64)
  assert z.shape == (300, 6)
  np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-3)
  np.testing.assert_allclose(z.T @ z / len(z), np.eye(6), atol=1e-3)


def test_noise_shrinks_weak_directions_more():
  x = np.random.default_rng(0).normal(size=(4000, 2)) * [3.0, 1.0]
  whitening = features.Whitening.fit([x[:1000], x[1000:]], 2, noise=0.2)  # 0.2 * 5 = 1
  variance = np.asarray(whitening(x)).var(axis=0)
  np.testing.assert_allclose(variance / variance[1], [(9 / 10) / (1 / 2), 1.0], rtol=0.06)
  np.testing.assert_allclose(variance.mean(), 1.0, rtol=1e-4)


@pytest.mark.parametrize("components", [0, -3, 2.5])
def test_components_are_counted(components, rng):
  with pytest.raises(ValueError, match="components must be"):
    features.Whitening.fit([rng.normal(size=(9, 3))], components)


def test_the_residual_is_the_length_of_what_components_leave_out(rng):
  x = np.zeros((400, 3))
  x[:, :2] = rng.normal(size=(400, 2)) * [3.0, 1.0]
  whitening = features.Whitening.fit([x], 1, noise=0.0, residual=True)
  left = np.sqrt(x[:, 1].var() / 2.0)  # of the two directions that are left out
  found = np.asarray(whitening(jnp.asarray([[30.0, 0.0, 0.0], [0.0, 4.0, 3.0]], jnp.float32)))
  np.testing.assert_allclose(np.abs(found[:, 0]), [30.0 / x[:, 0].std(), 0.0], atol=0.4)
  np.testing.assert_allclose(found[1, 1], 5.0 / left, rtol=0.05)
  assert found[0, 1] < 1.0


def test_what_no_training_row_shows_is_in_the_residual(rng):
  x = np.concatenate([rng.normal(size=(40, 5)), np.zeros((40, 30))], axis=1)
  plain, whole = (features.Whitening.fit([x], 64, 0.1, residual=on) for on in (False, True))
  other = jnp.asarray(np.eye(35)[[20]] * 50.0, jnp.float32)
  near, far = (np.abs(each(other) - each(jnp.zeros_like(other))).max() for each in (plain, whole))
  assert near < 0.1 < 20.0 < far
  assert whole(other).shape == (1, plain(other).shape[1] + 1)


def test_the_residual_of_rows_that_components_say_in_full_is_finite(rng):
  x = rng.normal(size=(60, 4))
  for rows in (np.tile(x, 2), np.concatenate([x, np.ones((60, 5))], axis=1)):
    whitening = features.Whitening.fit([rows], 64, noise=0.0, residual=True)
    found = np.asarray(whitening(jnp.asarray(rows, jnp.float32)))
    assert np.isfinite(found).all()
    assert np.abs(found[:, -1]).max() < 10.0


def test_components_leave_something_out_of_a_training_row(rng):
  x = rng.normal(size=(20, 40))
  whitening = features.Whitening.fit([x], 64, 0.1, residual=True)
  assert whitening.projection.shape == (40, 10)
  assert np.asarray(whitening(jnp.asarray(x, jnp.float32)))[:, -1].min() > 0.1


def test_codes_are_hardly_whitened_but_for_defects(rng):
  x = rng.normal(size=(300, 10, 10, 1)).astype(np.float32)
  spread = {}
  for defects in (False, True):
    fitted = dataclasses.replace(SMALL, noise=None, defects=defects).fit(x)
    variance = features.apply(fitted, x).var(axis=0)
    spread[defects] = variance.max() / variance.min()
  assert spread[True] < 1.5 < 2.0 < spread[False]


def test_whitening_does_not_depend_on_how_rows_are_divided(rng):
  x = 1e3 + rng.normal(size=(50, 4))
  whole, parts = (features.Whitening.fit(batches, 3) for batches in ([x], [x[:7], x[7:8], x[8:]]))
  np.testing.assert_allclose(np.abs(whole(x)), np.abs(parts(x)), rtol=1e-3, atol=1e-3)


def test_there_are_fewer_components_than_records(rng):
  x = rng.normal(size=(5, 10, 10, 1)).astype(np.float32)
  assert features.apply(SMALL.fit(x), x).shape[1] <= 4


@pytest.mark.parametrize("shape", [(40, 12, 10, 3), (40, 30, 2)])
def test_brightness_and_contrast_of_a_record_hardly_count(rng, shape):
  """Contrast normalisation takes an offset away and most of a factor."""
  x = rng.normal(size=shape).astype(np.float32)
  fitted = SMALL.fit(x)
  z = features.apply(fitted, x)
  assert np.abs(features.apply(fitted, x + 7.0) - z).max() < 1e-2
  brighter = np.abs(features.apply(fitted, 3.0 * x) - z).max()
  assert brighter < 0.25 * np.abs(z - z[::-1]).max()


def test_the_same_seed_gives_the_same_map_and_another_another(rng):
  x = striped(rng)
  first, again, other = (features.apply(SMALL.fit(x, seed), x) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 1e-2


def test_a_record_has_the_features_it_has_alone(rng):
  x = striped(rng, n=33)
  fitted = SMALL.fit(x)
  np.testing.assert_array_equal(features.apply(fitted, x)[20:21], features.apply(fitted, x[20:21]))


def test_fitting_and_applying_take_memory_for_a_batch_not_for_all(tmp_path, rng):
  """Codes of 8 times the records, read from a file, take less than 1.5 times the memory."""

  def peak(n: int) -> int:
    path = tmp_path / f"{n}.npy"
    np.save(path, rng.normal(size=(n, 16, 16, 1)).astype(np.float32))
    x = np.load(path, mmap_mode="r")
    settings = dataclasses.replace(SMALL, centroids=64, components=32)
    settings.fit(x[:64])  # compiles
    tracemalloc.start()
    fitted = settings.fit(x)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fitted.whitening.projection.shape == (256, 32)
    return found

  small, large = peak(1024), peak(8192)
  assert large < 1.5 * small


@pytest.mark.parametrize("kind", ["patches", "windows", "rotations", "activations"])
def test_a_folder_gives_the_same_scores(kind, rng, tmp_path):
  x = striped(rng)
  if kind == "windows":
    x = x.reshape(60, 72, 4)
  fitted = {
    "patches": lambda: SMALL.fit(x),
    "windows": lambda: SMALL.fit(x),
    "rotations": lambda: dataclasses.replace(TURNS, epochs=1).fit(x),
    "activations": lambda: features.Activations(*network(x)).fit(x),
  }[kind]()
  detector = behind(fitted, x).calibrate(x[:30], 0.1)
  detector.save(tmp_path / "detector")
  loaded = detector_jax.load(tmp_path / "detector")
  assert loaded.input_shape == x.shape[1:]
  np.testing.assert_allclose(loaded.score(x), detector.score(x), rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(loaded.predict(x), detector.predict(x))


class Network(nn.Module):
  """Two layers that sow nothing."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(3, (3, 3), name="first")(x))
    return nn.Dense(4, name="last")(x.mean(axis=(1, 2)))


def network(x):
  return Network(), Network().init(jax.random.key(0), x[:1])


def test_activations_are_means_over_places(rng):
  x = striped(rng)
  module, variables = network(x)
  fitted = features.Activations(module, variables, layers=("first", "last")).fit(x)
  _, state = module.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
  sown = state["intermediates"]
  means = [sown["first"]["__call__"][0].mean((1, 2)), sown["last"]["__call__"][0]]
  directions = [mean / np.linalg.norm(mean, axis=1, keepdims=True) for mean in means]
  np.testing.assert_allclose(fitted.code(x), np.concatenate(directions, 1), rtol=1e-4, atol=1e-4)
  assert fitted(x).shape[1] <= 7
  with_length = features.Activations(module, variables, layers=("first", "last"), unit=False)
  np.testing.assert_allclose(
    with_length.fit(x).code(x), np.concatenate(means, 1), rtol=1e-4, atol=1e-4
  )


def test_activations_take_the_last_layer_where_none_is_named(rng):
  x = striped(rng)
  fitted = features.Activations(*network(x)).fit(x)
  assert fitted.tapped.layers == ("last",)
  assert fitted.code(x).shape == (60, 4)


def test_a_function_can_be_tapped(rng):
  x = rng.normal(size=(50, 3)).astype(np.float32)
  fitted = features.Activations(lambda x: {"twice": 2.0 * x}, unit=False).fit(x)
  np.testing.assert_allclose(fitted.code(x), 2.0 * x, rtol=1e-6)


def test_turns_by_hand():
  x = jnp.arange(4.0).reshape(1, 2, 2, 1)
  turned = [each[0, :, :, 0].tolist() for each in rotations.turned(x)]
  assert turned == [[[0, 1], [2, 3]], [[1, 3], [0, 2]], [[3, 2], [1, 0]], [[2, 0], [3, 1]]]


def test_an_untrained_network_prefers_no_turn(rng):
  x = striped(rng)
  fitted = dataclasses.replace(TURNS, epochs=1, learning_rate=1e-12).fit(x)
  np.testing.assert_allclose(fitted(x)[:, :4], np.log(0.25), atol=1e-4)


def test_turned_images_score_higher_than_upright_ones(rng, tmp_path):
  x = striped(rng)
  detector = TURNS.fit(x).detector(x.shape[1:])
  upright, lying = detector.score(striped(rng)), detector.score(np.rot90(striped(rng), 1, (1, 2)))
  assert metrics.auroc(np.repeat([0, 1], 60), np.r_[upright, lying]) > 0.99


def test_shifts_repeat_the_edge():
  x = jnp.arange(3.0).reshape(1, 1, 3, 1) + jnp.zeros((1, 3, 1, 1))
  moved = rotations.shifted_by(x, jnp.array([0, 1]), 1)[0, 0, :, 0]
  np.testing.assert_array_equal(moved, [1, 2, 2])
  np.testing.assert_array_equal(rotations.shifted_by(x, jnp.array([0, 0]), 0), x)


@pytest.mark.parametrize(
  ("settings", "shape", "message"),
  [
    (SMALL, (9, 5), r"\[n, height, width, channels\] or \[n, time, channels\], got \[9, 5\]"),
    (SMALL, (9, 2, 8, 1), "A window of 3 does not fit into records of 2 x 8"),
    (dataclasses.replace(SMALL, pool=9), (9, 8, 8, 1), "6 places of a patch"),
    (dataclasses.replace(SMALL, centroids=1), (9, 8, 8, 1), "centroids must be >= 2"),
    (dataclasses.replace(SMALL, window=0), (9, 8, 8, 1), "window must be >= 2"),
    (TURNS, (9, 8, 9, 1), r"square images \[n, side, side, channels\], got \[9, 8, 9, 1\]"),
    (TURNS, (9, 4, 4, 1), "A window of 3 does not fit into records of 1 x 1"),
  ],
)
def test_what_cannot_be_fitted_says_so(settings, shape, message, rng):
  with pytest.raises(ValueError, match=message):
    settings.fit(rng.normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("settings", [SMALL, TURNS])
def test_flat_images_are_refused(settings):
  with pytest.raises(ValueError, match="nothing to learn from"):
    settings.fit(np.ones((20, 12, 12, 1), np.float32))


def test_an_unknown_layer_is_named(rng):
  x = striped(rng)
  with pytest.raises(ValueError, match="no layer 'third'; the network has: first, last"):
    features.Activations(*network(x), layers=("third",)).fit(x)


def test_two_feature_maps_do_not_stack_and_an_offset_is_refused(rng):
  x = striped(rng)
  fitted = SMALL.fit(x)
  detector = behind(fitted, x)
  with pytest.raises(ValueError, match="has a feature map already"):
    detector.behind(fitted, x.shape[1:])
  far = Standardizer.fit(1e9 + rng.normal(size=(50, 6)))
  inner = detector_jax.Detector.create(NORM, {}, far, (6,))
  with pytest.raises(ValueError, match="lose their digits in float32"):
    inner.behind(fitted, x.shape[1:])
