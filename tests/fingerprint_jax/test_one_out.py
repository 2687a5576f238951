"""The one-out rule: extremeness by hand, its inverse, and the false-positive rate of the rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import conformal_threshold
from fingerprint_jax import one_out


@pytest.fixture(scope="module")
def ladder() -> one_out.Reference:
  """20 records whose log-errors are 0, 1, ..., 19, and half of that in a second layer."""
  logs = np.arange(20.0)
  order = np.random.default_rng(0).permutation(20)
  return one_out.fit_reference(np.exp(np.stack([logs, logs / 2], axis=1))[order], ("a", "b"))


@pytest.fixture(scope="module", params=[20, 400, 3000])
def drawn(request) -> one_out.Reference:
  """References of three sizes, the last one thinned to knots; the layers' scales differ widely."""
  rng = np.random.default_rng(request.param)
  errors = rng.lognormal([0.0, -9.0, 6.0], [0.3, 1.0, 0.01], size=(request.param, 3))
  return one_out.fit_reference(errors, ("a", "b", "c"))


def one_layer(reference, logs):
  """Extremeness and side of the ladder's first layer."""
  errors = jnp.exp(jnp.asarray(logs, jnp.float32))[:, None] * jnp.ones((1, 2))
  extremes, sides = one_out.extremeness(reference, errors)
  return np.asarray(extremes[:, 0]), np.asarray(sides[:, 0])


def test_extremeness_inside_the_range(ladder):
  got, side = one_layer(ladder, [10.0, 15.0, 19.0, 3.0, 0.0, 10.5])
  # At rank r (from 0) 20 - r of 21 errors are at or above, r + 1 at or below.
  half = (np.log(21 / 10) + np.log(21 / 9)) / 2
  want = [*(np.log(21.0 / np.array([10, 5, 1, 4, 1]))), half]
  np.testing.assert_allclose(got, want, rtol=1e-5)
  np.testing.assert_array_equal(side, [1, 1, 1, -1, -1, 1])


def test_extremeness_beyond_the_range_rises_with_hills_slope(ladder):
  # The ten outermost log-errors lie 0, 1, ..., 9 beyond the tenth: 4.5 in the mean.
  got, side = one_layer(ladder, [19.0 + 4.5, 19.0 + 45.0, -4.5, -45.0])
  np.testing.assert_allclose(got, np.log(21.0) + np.array([1, 10, 1, 10]), rtol=1e-5)
  np.testing.assert_array_equal(side, [1, 1, -1, -1])
  np.testing.assert_allclose(ladder.upper_slope, [1 / 4.5, 1 / 2.25], rtol=1e-6)
  np.testing.assert_allclose(ladder.lower_slope, [1 / 4.5, 1 / 2.25], rtol=1e-6)


def test_layers_are_judged_each_by_its_own_errors(ladder):
  extremes, sides = one_out.extremeness(ladder, jnp.exp(jnp.array([[19.0, 0.0], [9.0, 9.5]])))
  np.testing.assert_allclose(extremes[:, 1], np.log([21.0, 21.0]), rtol=1e-5)
  np.testing.assert_array_equal(sides[:, 1], [-1, 1])
  np.testing.assert_array_equal(one_out.score(extremes), np.asarray(extremes).max(axis=1))


def test_beyond_the_range_records_keep_being_ranked(drawn):
  factors = jnp.geomspace(1.001, 1e6, 400)[:, None]
  above, side = one_out.extremeness(drawn, jnp.exp(drawn.errors[:, -1])[None] * factors)
  assert (np.diff(above, axis=0) > 0).all()
  assert (np.asarray(side) == 1).all()
  below, side = one_out.extremeness(drawn, jnp.exp(drawn.errors[:, 0])[None] / factors)
  assert (np.diff(below, axis=0) > 0).all()
  assert (np.asarray(side) == -1).all()


def test_thresholds_invert_extremeness(drawn):
  most = float(drawn.upper[-1])
  invert, judge = jax.jit(one_out.thresholds), jax.jit(one_out.extremeness)
  for level in (1.0, 2.0, 0.9 * most, most, most + 0.5, most + 20.0):
    low, high = invert(drawn, jnp.float32(level))
    assert (np.asarray(low) < np.asarray(high)).all()
    for errors, sign in ((low, -1), (high, 1)):
      extremes, side = judge(drawn, errors[None])
      # A log-error is known to float32, extremeness to that times its slope.
      np.testing.assert_array_equal(side, sign)
      slopes = np.maximum(drawn.upper_slope, drawn.lower_slope)
      gaps = np.diff(drawn.errors, axis=1).min(axis=1)
      steepest = np.maximum(slopes, np.diff(drawn.upper).max() / np.maximum(gaps, 1e-6))
      slack = 3e-6 * np.maximum(np.abs(np.log(errors)), 1.0) * steepest
      assert (np.abs(extremes[0] - level) <= 1e-5 * level + slack).all()


def test_thresholds_by_hand(ladder):
  low, high = one_out.thresholds(ladder, jnp.float32(np.log(21.0 / 5)))
  np.testing.assert_allclose(np.log(high), [15.0, 7.5], rtol=1e-5)
  np.testing.assert_allclose(np.log(low), [4.0, 2.0], rtol=1e-5)
  low, high = one_out.thresholds(ladder, jnp.float32(np.log(21.0) + 2.0))
  np.testing.assert_allclose(np.log(high), [28.0, 14.0], rtol=1e-5)
  np.testing.assert_allclose(np.log(low), [-9.0, -4.5], rtol=1e-5)


def test_nan_stays_nan_and_infinity_infinite(ladder):
  errors = jnp.array([[np.nan, 1.0], [1.0, 1.0], [np.inf, 1.0], [0.0, 1.0]])
  extremes, _ = one_out.extremeness(ladder, errors)
  score = np.asarray(one_out.score(extremes))
  np.testing.assert_array_equal(np.isnan(extremes), [[True, False]] + [[False, False]] * 3)
  assert np.isnan(score[0])
  assert np.isposinf(score[2])
  assert np.isfinite(score[[1, 3]]).all()


def test_one_side_alone_looks_above_only(ladder):
  errors = jnp.exp(jnp.array([[0.0, 0.0], [19.0, 9.5]]))
  extremes, sides = one_out.extremeness(ladder, errors, two_sided=False)
  np.testing.assert_allclose(extremes, np.log([[21 / 20] * 2, [21.0] * 2]), rtol=1e-5)
  np.testing.assert_array_equal(sides, 1)


DRAWS, LAYERS, REFERENCE, CALIBRATION, FRESH, RATE = 1000, 5, 100, 99, 100, 0.05


@pytest.fixture(scope="module")
def simulation():
  """1,000 draws of reference, calibration and fresh errors; the layers depend on each other."""
  rng = np.random.default_rng(7)
  size = (DRAWS, REFERENCE + CALIBRATION + FRESH)
  common, own = rng.normal(size=(*size, 1)), rng.normal(size=(*size, LAYERS))
  logs = np.array([0.2, 1.0, 0.5, 2.0, 0.1]) * (0.6 * common + 0.8 * own)
  errors = np.exp(logs).astype(np.float32)
  split = np.split(errors, [REFERENCE, REFERENCE + CALIBRATION], axis=1)
  names = tuple("abcde")
  references = [one_out.fit_reference(draw, names) for draw in split[0]]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *references)
  return stacked, split[1], split[2]


def beyond(low, high, errors):
  """Share of records ``[draws, n, layers]`` with some layer beyond its thresholds, per draw."""
  outside = (errors > np.asarray(high)[:, None]) | (errors < np.asarray(low)[:, None])
  return outside.any(axis=2).mean(axis=1)


def test_the_whole_rule_holds_its_rate_where_layers_by_themselves_do_not(simulation):
  references, calibration, fresh = simulation
  extremes = jax.jit(jax.vmap(one_out.extremeness))(references, calibration)[0]
  scores = np.asarray(extremes).max(axis=2)
  levels = np.array([conformal_threshold(draw, RATE) for draw in scores], np.float32)
  low, high = jax.jit(jax.vmap(one_out.thresholds))(references, levels)
  rates = beyond(low, high, fresh)
  error = rates.std() / np.sqrt(DRAWS)
  assert rates.mean() <= RATE + 3 * error
  assert rates.mean() >= RATE - 3 * error  # 5 of 100 ranks are beyond the 95th: it is exact
  # Each layer calibrated by itself, at the stated rate and without bias.
  ordered = np.sort(np.concatenate([calibration, calibration], axis=1), axis=1)
  naive = beyond(ordered[:, 4], ordered[:, -5], fresh)  # ranks 2.5 of 100 on either side
  assert naive.mean() > 2 * RATE


def test_layers_p_values_are_uniform_on_fresh_typical_records(simulation):
  references, _, fresh = simulation

  @jax.jit
  @jax.vmap
  def p_values(reference, errors):
    return one_out.p_value(reference, one_out.extremeness(reference, errors)[0])

  p = np.asarray(p_values(references, fresh))
  assert (p > 0).all()
  assert (p <= 1).all()
  for rank in (1, 5, 20, 40):
    level = 2 * rank / (REFERENCE + 1)
    # Small ranks are coarse: sampling error of 1,000 draws, five layers that share a factor.
    shares = (p <= level + 1e-6).mean(axis=(1, 2))
    assert abs(shares.mean() - level) <= 4 * shares.std() / np.sqrt(DRAWS)


@pytest.mark.parametrize(
  ("errors", "message"),
  [
    (np.ones((19, 2)), "at least 20 held-out records .* got 19"),
    (np.ones((20, 2)), "All reconstruction errors of layer 'a' are 1"),
    (np.where(np.arange(40).reshape(20, 2) == 7, np.nan, np.arange(40).reshape(20, 2)), "'b'.*not"),
  ],
)
def test_references_that_tell_nothing_are_refused(errors, message):
  with pytest.raises(ValueError, match=message):
    one_out.fit_reference(errors, ("a", "b"))


def test_many_records_are_thinned_in_the_middle_only():
  ranks = one_out._knots(3000)
  assert len(ranks) <= one_out.MAX_KNOTS
  np.testing.assert_array_equal(ranks[:128], np.arange(128))
  np.testing.assert_array_equal(ranks[-128:], np.arange(2872, 3000))
  assert (np.diff(ranks) > 0).all()
  np.testing.assert_array_equal(one_out._knots(512), np.arange(512))
