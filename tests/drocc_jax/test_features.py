"""DROCC on features: what it takes by itself, what it saves, and maps that were fitted before."""

import dataclasses
import sys

import jax
import numpy as np
import pytest
from sklearn.base import clone

import detector_jax
from detector_jax import features, metrics
from detector_jax.combination import combine
from drocc_jax import DROCC, DROCCOE, networks, on_features
from launch import onnx_model

SMALL = features.Patches(centroids=8, window=4, components=8, patches=500)
QUICK = {"epochs": 40, "batch_size": 64, "random_state": 0}


def checked(rng, n, size=16):
  """Chequered images with a random phase, and noise."""
  grid = np.add.outer(np.arange(size), np.arange(size)) // 2 % 2
  images = np.stack([np.roll(grid, rng.integers(4), axis=0) for _ in range(n)])[..., None]
  return (images + 0.3 * rng.normal(size=images.shape)).astype(np.float32)


def plain(rng, n, size=16):
  return (0.5 + 0.6 * rng.normal(size=(n, size, size, 1))).astype(np.float32)


def dotted(x, rng):
  """The same images, each with a bright spot of three by three pixels."""
  x = x.copy()
  for image in x:
    row, column = rng.integers(x.shape[1] - 3, size=2)
    image[row : row + 3, column : column + 3] += 2.0
  return x


@pytest.fixture(scope="module")
def joined():
  rng = np.random.default_rng(0)
  settings = dataclasses.replace(SMALL, defects=True)
  return DROCC(features=settings, **QUICK).fit(checked(rng, 200))


@pytest.fixture(scope="module")
def trained():
  rng = np.random.default_rng(0)
  x = checked(rng, 200)
  return DROCC(features=SMALL, **QUICK).fit(x), x, checked(rng, 50), plain(rng, 50)


def test_it_tells_textures_apart(trained):
  model, _, same, other = trained
  scores = np.r_[model.detector_.score(same), model.detector_.score(other)]
  assert metrics.auroc(np.repeat([0, 1], 50), scores) > 0.95
  assert model.predict(other).mean() < -0.8


def test_a_small_spot_shows_once_the_strangest_patch_joins(joined):
  rng = np.random.default_rng(5)
  x = np.r_[checked(rng, 100), dotted(checked(rng, 100), rng)]
  told = joined.detector_.report(x)
  labels = np.repeat([0, 1], 100)
  pooled, patch = told["group_deviation"].T
  assert metrics.auroc(labels, pooled) < 0.9 < 0.95 < metrics.auroc(labels, told["score"])
  np.testing.assert_array_equal(told["score"], np.maximum(pooled, patch))
  assert told["group"][100:].mean() > 0.8
  assert len(joined.detector_.calibration.scores) == 20


def test_the_map_is_fitted_on_training_rows_and_stands_in_the_detector(trained):
  model = trained[0]
  arrays = model.detector_.arrays
  assert isinstance(arrays["features"], features.PatchMap)
  assert arrays["preprocessing"].center.shape == (8,)
  assert model.detector_.input_shape == (16, 16, 1)
  assert model.radius_ == pytest.approx(on_features.RADIUS * np.sqrt(8))
  assert arrays["variables"]["params"]["centres"].shape[1] == 8
  assert np.isinf(arrays["preprocessing"].clip)  # features of one scale keep it


def test_a_folder_gives_the_same_scores(trained, tmp_path):
  model, x, same, other = trained
  model.save(tmp_path / "detector")
  for loaded in (DROCC.load(tmp_path / "detector"), detector_jax.load(tmp_path / "detector")):
    scorer = loaded.detector_ if isinstance(loaded, DROCC) else loaded
    for part in (x, same, other):
      np.testing.assert_allclose(
        scorer.score(part), model.detector_.score(part), rtol=1e-5, atol=1e-5
      )
  arrays = np.load(tmp_path / "detector" / "arrays.npz")
  assert "features/centroids" in arrays.files


@pytest.mark.parametrize("kind", ["patches", "joined", "combined", "kernels"])
def test_onnxruntime_scores_the_same(kind, trained, joined, tmp_path):
  for name in ("jax2onnx", "onnxruntime"):
    pytest.importorskip(name, reason="the extra onnx is not installed")
  model, x, same, other = trained
  detector = (joined if kind == "joined" else model).detector_
  if kind == "combined":
    turns = features.Rotations(channels=(4, 4), layers=((5, 2), (3, 2)), hidden=8, epochs=1)
    detector = combine((detector, turns.fit(x).detector(x.shape[1:])), same)
  if kind == "kernels":
    x, other = x[..., 0], other[..., 0]  # 16 steps of 16 channels
    settings = features.RandomKernels(shares=84 * 3, components=8)
    detector = DROCC(features=settings, epochs=1, random_state=0).fit(x).detector_
  onnx_model.write(detector, str(tmp_path / "detector.onnx"))
  session = sys.modules["onnxruntime"].InferenceSession(tmp_path / "detector.onnx")
  (got,) = session.run(["score"], {"x": other})
  want = detector.score(other)
  assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


def test_held_out_rows_have_their_stated_rate(trained):
  model = trained[0]
  fresh = checked(np.random.default_rng(7), 600)
  assert abs((model.predict(fresh) < 0).mean() - model.detector_.fpr) < 0.08


def test_a_fitted_map_is_taken_as_it_is():
  rng = np.random.default_rng(1)
  x = checked(rng, 120)
  fitted = SMALL.fit(x, seed=5)
  model = DROCC(features=fitted, epochs=1, random_state=0).fit(x)
  jax.tree.map(np.testing.assert_array_equal, model.detector_.arrays["features"], fitted)


def test_a_clone_keeps_the_settings():
  model = clone(DROCC(features=SMALL))
  assert model.features == SMALL
  assert clone(DROCC(features=None)).features is None


@pytest.mark.parametrize(
  ("shape", "settings", "wanted"),
  [
    ((150, 16, 16, 1), {}, True),
    ((150, 15, 16, 1), {}, False),
    ((20, 16, 16, 1), {}, True),
    ((19, 16, 16, 1), {}, False),
    ((10, 12, 2), {}, True),
    ((9, 12, 2), {}, False),
    ((10, 8, 2), {}, False),
    ((10, 12, 2), {"network": "lstm"}, False),
    ((150, 5), {}, False),
    ((150, 16, 16, 1), {"features": None}, False),
    ((150, 16, 16, 1), {"network": networks.MLP((4,))}, False),
  ],
)
def test_auto_takes_patches_for_images_and_kernels_for_series(shape, settings, wanted, monkeypatch):
  monkeypatch.setattr(on_features, "Patches", lambda: SMALL)
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  fitted = DROCC(**settings)._features(x, None, 0)
  assert (fitted is not None) == wanted
  assert not wanted or isinstance(fitted, features.PatchMap) == (len(shape) == 4)


def test_thirty_small_grey_pictures_take_features(monkeypatch):
  monkeypatch.setattr(on_features, "Patches", lambda: SMALL)
  rng = np.random.default_rng(0)
  model = DROCC(epochs=3, random_state=0).fit(checked(rng, 30))
  assert isinstance(model.detector_.arrays["features"], features.PatchMap)
  scores = model.detector_.score(np.r_[checked(rng, 30), plain(rng, 30)])
  assert metrics.auroc(np.repeat([0, 1], 30), scores) > 0.95


def test_given_negatives_go_through_the_map_too():
  rng = np.random.default_rng(2)
  x, y = np.r_[checked(rng, 120), plain(rng, 20)], np.repeat([1, -1], [120, 20])
  assert DROCCOE()._features(x[:120], x[120:], 0) is None
  model = DROCCOE(features=SMALL, **QUICK).fit(x, y)
  assert isinstance(model.detector_.arrays["features"], features.PatchMap)
  scores = model.detector_.score(np.r_[checked(rng, 50), plain(rng, 50)])
  assert metrics.auroc(np.repeat([0, 1], 50), scores) > 0.95


def test_columns_keep_their_names(tmp_path):
  pandas = pytest.importorskip("pandas")
  rng = np.random.default_rng(3)
  frame = pandas.DataFrame(rng.normal(size=(120, 3)), columns=["a", "b", "c"])
  doubled = features.Activations(lambda x: {"twice": 2.0 * x}, components=2)
  model = DROCC(features=doubled, epochs=1, random_state=0).fit(frame)
  model.save(tmp_path / "detector")
  loaded = detector_jax.load(tmp_path / "detector")
  assert loaded.feature_names == ("a", "b", "c")
  np.testing.assert_array_equal(loaded.score(frame[["c", "a", "b"]]), loaded.score(frame))


def test_what_is_no_feature_map_is_refused():
  with pytest.raises(ValueError, match="features must be \"auto\" or no string, got 'patches'"):
    DROCC(features="patches").fit(np.zeros((9, 4)) + np.arange(4) * np.arange(9)[:, None])


def test_values_and_shares_of_series_are_parts_of_the_network():
  x = checked(np.random.default_rng(1), 40)[..., 0]
  settings = features.RandomKernels(shares=84 * 3, components=8)
  model = DROCC(features=settings, epochs=1, calibration_size=0.0, random_state=0).fit(x)
  variables = model.detector_.arrays["variables"]
  assert variables["params"]["weights"].shape == (40, 2)
  assert variables["params"]["centres"].shape == (40, 18)
  assert variables["stats"]["constants"]["scale"].shape == (2, 2)
