"""Detectors whose scores are added up: hand values, folders, and what cannot be combined."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from detector_jax.combination import WithStrangest, combine, with_strangest
from detector_jax.features import Patches
from detector_jax.preprocessing import Identity, Standardizer


@dataclasses.dataclass(frozen=True)
class Column:
  """Scores a record by one of its columns."""

  number: int

  def __call__(self, variables, z):
    return z[:, self.number]


def detector(number, preprocessing=Identity(), **facts):
  return detector_jax.Detector.create(
    Column(number), {}, preprocessing, (2,), metadata={"method": f"column {number}"}, **facts
  )


def test_scores_add_up_in_units_of_typical_scores():
  # rows 0, 2, 4, 6 give the units: medians 3 and 30, deviations sqrt(5) and 10 sqrt(5)
  x = np.arange(8.0)[:, None] * np.array([[1.0, 10.0]])
  both = combine([detector(0), detector(1)], x, fpr=0.5)
  got = both.score(np.array([[3.0, 30.0], [4.0, 30.0], [3.0, 50.0]]))
  np.testing.assert_allclose(got, np.array([0.0, 1.0, 2.0]) / np.sqrt(5), atol=1e-6)


class Told:
  """A map whose strangest patch is the last column."""

  def with_strangest(self, x):
    return x, x[:, 1], jnp.zeros((len(x), 2), jnp.int32)


def test_the_louder_of_picture_and_patch_speaks():
  program = WithStrangest(detector(0).program)
  arrays = {**detector(0).arrays, "features": Told(), "calibration": jnp.array([0.0, 1.0, 2.0])}
  arrays["units"] = {"center": jnp.array([1.0, 10.0]), "scale": jnp.array([2.0, 5.0])}
  told = program(arrays, jnp.array([[1.0, 0.0], [3.0, 10.0], [3.0, 20.0], [9.0, 15.0]]))
  np.testing.assert_allclose(told["score"], [0.0, 1.0, 2.0, 4.0])
  np.testing.assert_allclose(told["p_value"], [1.0, 0.75, 0.5, 0.25])
  np.testing.assert_array_equal(told["group"], [0, 0, 1, 0])


def test_units_are_from_every_other_picture_and_the_threshold_from_the_rest(rng):
  x = rng.normal(size=(300, 8, 8, 1)).astype(np.float32)
  fitted = Patches(centroids=4, window=3, pool=1, components=2, patches=500).fit(x[:100])
  inner = detector_jax.Detector.create(Column(0), {}, Identity(), (2,))
  joined = with_strangest(inner.behind(fitted, (8, 8, 1)), x[100:], 0.1)
  strangest = np.asarray(fitted.with_strangest(x[100:])[1])[::2]
  units = joined.arrays["units"]
  np.testing.assert_allclose(units["center"][1], np.quantile(strangest, 0.99), rtol=1e-4)
  np.testing.assert_allclose(units["scale"][1], strangest.std(), rtol=1e-4)
  np.testing.assert_array_equal(joined.calibration.scores, np.sort(joined.score(x[101::2])))
  fresh = rng.normal(size=(3000, 8, 8, 1)).astype(np.float32)
  assert abs(joined.predict(fresh).mean() - 0.1) < 0.06


def test_the_threshold_is_from_the_other_rows(rng):
  x = rng.normal(size=(400, 2))
  both = combine([detector(0), detector(1)], x, fpr=0.1)
  assert both.fpr == 0.1
  assert len(both.calibration.scores) == 200
  np.testing.assert_array_equal(both.calibration.scores, np.sort(both.score(x[1::2])))
  assert abs(both.predict(rng.normal(size=(4000, 2))).mean() - 0.1) < 0.05


def test_what_one_part_misses_the_other_sees(rng):
  x = rng.normal(size=(200, 2))
  both = combine([detector(0), detector(1)], x)
  odd = np.array([[9.0, 0.0], [0.0, 9.0]])
  np.testing.assert_array_equal(both.predict(odd), [1, 1])
  np.testing.assert_array_equal(detector(0).calibrate(x, 0.05).predict(odd), [1, 0])


def test_a_folder_gives_the_same_scores(rng, tmp_path):
  x = rng.normal(5.0, 2.0, size=(100, 2))
  parts = [detector(0, Standardizer.fit(x)).calibrate(x[:50], 0.1), detector(1)]
  parts[0].save(tmp_path / "part")
  for place, first in enumerate((parts[0], detector_jax.load(tmp_path / "part"))):
    both = combine([first, parts[1]], x)
    both.save(tmp_path / f"both {place}")
    loaded = detector_jax.load(tmp_path / f"both {place}")
    np.testing.assert_allclose(loaded.score(x), both.score(x), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(loaded.predict(x), both.predict(x))
    assert loaded.metadata["method"] == "column 0 + column 1"


def test_the_range_is_what_all_parts_were_trained_on(rng):
  parts = [detector(0, input_range=(0.0, 1.0)), detector(1, input_range=(-1.0, 0.5)), detector(1)]
  assert combine(parts, rng.uniform(size=(40, 2))).input_range == (0.0, 0.5)


def test_what_cannot_be_combined_says_so(rng):
  x = rng.normal(size=(40, 2))
  with pytest.raises(ValueError, match="two detectors or more to combine, got 1"):
    combine([detector(0)], x)
  other = dataclasses.replace(detector(1), input_shape=(3,))
  with pytest.raises(ValueError, match=r"input_shape is \[\(2,\), \(3,\)\]"):
    combine([detector(0), other], x)
  with pytest.raises(ValueError, match="four different typical records or more, got 1"):
    combine([detector(0), detector(1)], np.ones((9, 2)))
  with pytest.raises(detector_jax.HealthError):
    combine([detector(0), detector(1)], x * np.array([[1.0, 0.0]]))


def test_an_offset_is_that_of_all_parts(rng):
  x = rng.normal(1e9, 1.0, size=(60, 2))
  parts = [detector(number, Standardizer.fit(x)) for number in (0, 1)]
  both = combine(parts, x)
  assert both.input_offset == parts[0].input_offset is not None
  want = sum(
    (part.score(x) - np.median(part.score(x[::2]))) / part.score(x[::2]).std() for part in parts
  )
  np.testing.assert_allclose(both.score(x), want, rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match="input_offset"):
    combine([parts[0], detector(1)], x)
  assert jnp.isfinite(both.score(x)).all()
