"""Images that face both ways alike: their mirror images count as the same."""

import dataclasses

import numpy as np
import pytest

import detector_jax
from detector_jax import features
from detector_jax.program import nested
from tests.detector_jax.test_features import SMALL, behind


def facing(rng, n, both):
  """Images of a ramp, brighter towards one side or, in a half of them, the other."""
  ramp = np.linspace(0.0, 3.0, 12) ** 2 + 0.5 * np.sin(2.1 * np.arange(12))
  x = ramp[None, None, :, None] + 0.3 * rng.normal(size=(n, 12, 12, 1))
  if both:
    x[::2] = x[::2, :, ::-1]
  return x.astype(np.float32)


def test_mirror_images_count_as_the_same_where_training_images_face_both_ways(rng):
  x = facing(rng, 80, both=True)
  fitted = SMALL.fit(x)
  assert float(fitted.mirror) == 0.5
  mean = 0.5 * (fitted.one_sided(x) + fitted.one_sided(x[:, :, ::-1]))
  np.testing.assert_allclose(fitted.code(x), mean, rtol=1e-5)
  np.testing.assert_allclose(fitted.code(x[:, :, ::-1]), mean, rtol=1e-5)
  assert dataclasses.replace(SMALL, mirrored=False).fit(x).mirror is None
  assert dataclasses.replace(SMALL, defects=True).fit(x).mirror is None
  one_way = facing(rng, 80, both=False)
  assert SMALL.fit(one_way).mirror is None
  assert dataclasses.replace(SMALL, mirrored=True).fit(one_way).mirror is not None


def test_a_map_of_mirror_images_is_saved_with_its_detector(rng, tmp_path):
  x = facing(rng, 60, both=True)
  detector = behind(SMALL.fit(x), x)
  detector.save(tmp_path / "detector")
  loaded = detector_jax.load(tmp_path / "detector")
  np.testing.assert_allclose(loaded.score(x), loaded.score(x[:, :, ::-1]), rtol=1e-4)
  assert np.ptp(loaded.score(x)) > 0.1
  fitted = SMALL.rebuilt(nested(loaded.arrays, "features"), 8)
  np.testing.assert_allclose(features.apply(fitted, x[:3]), SMALL.fit(x)(x[:3]), atol=1e-4)


def test_mirrored_is_of_images(rng):
  with pytest.raises(ValueError, match="a series that runs backwards"):
    dataclasses.replace(SMALL, mirrored=True).fit(rng.normal(size=(9, 12, 2)))
  with pytest.raises(ValueError, match="True, False or None, got 'auto'"):
    dataclasses.replace(SMALL, mirrored="auto").fit(rng.normal(size=(9, 12, 12, 1)))
