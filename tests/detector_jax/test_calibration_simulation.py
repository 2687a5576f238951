"""What calibration promises, by simulation with trained detectors: rates, and uniform p-values.

Each of 2,000 draws takes calibration and fresh records without replacement from one pool of typical
records that training never saw, so that both are exchangeable exactly as the theory has it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from detector_jax.calibration import Calibration
from drocc_jax import DROCC
from fingerprint_jax import NeuralFP, one_out

DRAWS, POOL, FRESH = 2000, 8000, 100
LEVEL = 1e-3  # of the uniformity test; the seeds are fixed
# Records, stated rate, and the expected rate (n + 1 - k) / (n + 1) of the k-th smallest of n.
CASES = [(19, 0.05, 1 / 20), (100, 0.05, 5 / 101), (99, 0.01, 1 / 100), (250, 0.1, 25 / 251)]


def typical(n: int, seed: int) -> np.ndarray:
  """``[n, 6]`` records of two dimensions."""
  surface = np.random.default_rng(0).normal(size=(2, 6)) / 2
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(n, 2)) @ surface + 0.1 * rng.normal(size=(n, 6))).astype(np.float32)


def layers(weights, x):
  hidden = jnp.tanh(x @ weights["first"])
  return {"hidden": hidden, "out": hidden @ weights["second"]}


@pytest.fixture(scope="module")
def drocc() -> DROCC:
  settings = {"epochs": 10, "batch_size": 16, "num_steps": 2, "learning_rate": 0.01}
  return DROCC(random_state=0, **settings).fit(typical(200, 1))


@pytest.fixture(scope="module")
def neuralfp() -> NeuralFP:
  rng = np.random.default_rng(2)
  shapes = {"first": (6, 8), "second": (8, 5)}
  weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
  settings = {"epochs": 4, "batch_size": 64, "random_state": 0}
  return NeuralFP(layers, weights, 0.1, combine="one_out", **settings).fit(typical(400, 3))


@pytest.fixture(scope="module")
def pool() -> np.ndarray:
  return typical(POOL, 4)


@pytest.fixture(scope="module", params=["drocc", "neuralfp"])
def scores(request, pool) -> np.ndarray:
  """Scores of the pool, next to none of them tied."""
  got = request.getfixturevalue(request.param).detector_.score(pool)
  assert len(np.unique(got)) > 0.99 * POOL
  return got


def drawn(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Rows of the pool: ``[draws, number]`` to calibrate with and ``[draws, FRESH]`` fresh ones."""
  rng = np.random.default_rng(seed)
  rows = np.stack([rng.choice(POOL, number + FRESH, replace=False) for _ in range(DRAWS)])
  return rows[:, :number], rows[:, number:]


def rates_of(scores: np.ndarray, number: int, fpr: float) -> np.ndarray:
  """Realised false-positive rate of each draw."""
  calibration, fresh = drawn(number, number)
  thresholds = [Calibration.from_scores(draw, fpr).threshold for draw in scores[calibration]]
  return np.mean(scores[fresh] > np.float32(thresholds)[:, None], axis=1)


def smoothed(calibration: np.ndarray, fresh: np.ndarray, seed: int) -> np.ndarray:
  """A p-value per draw, with the step of the discrete one filled in at random.

  ``(#{c > s} + U (1 + #{c = s})) / (n + 1)`` with U uniform on [0, 1] is uniform itself, ties or
  not; it lies at or below the conformal p-value, by less than a step where there are no ties.
  """
  uniform = np.random.default_rng(seed).uniform(size=len(fresh))
  p = np.array(
    [
      Calibration.from_scores(draw, 0.5).p_value(score[None])[0]
      for draw, score in zip(calibration, fresh, strict=True)
    ]
  )
  ties = np.sum(calibration == fresh[:, None], axis=1)
  return p - (1.0 - uniform) * (1 + ties) / (calibration.shape[1] + 1)


@pytest.mark.parametrize(("number", "fpr", "expected"), CASES)
def test_the_mean_realised_rate_meets_the_bound(scores, number, fpr, expected):
  rates = rates_of(scores, number, fpr)
  error = rates.std() / np.sqrt(DRAWS)
  assert error < 0.05 * fpr + 0.001
  assert rates.mean() <= fpr + 3 * error
  assert abs(rates.mean() - expected) <= 4 * error


def test_with_ties_the_mean_realised_rate_is_below_the_bound(scores):
  coarse = np.digitize(scores, np.quantile(scores, np.linspace(0, 1, 12)[1:-1])).astype(np.float32)
  for number, fpr, expected in CASES:
    rates = rates_of(coarse, number, fpr)
    assert rates.mean() <= expected + 3 * rates.std() / np.sqrt(DRAWS)


def test_the_any_layer_rule_meets_the_bound(neuralfp, pool):
  errors = neuralfp.detector_.report(pool)["layer_error"]
  scores = neuralfp.detector_.score(pool)
  reference = neuralfp.detector_.arrays["variables"]["reference"]
  for number, fpr, expected in CASES:
    calibration, fresh = drawn(number, number)
    levels = np.float32(
      [Calibration.from_scores(draw, fpr).threshold for draw in scores[calibration]]
    )
    low, high = jax.vmap(lambda level: one_out.thresholds(reference, level))(levels)
    beyond = (errors[fresh] < np.asarray(low)[:, None]) | (
      errors[fresh] > np.asarray(high)[:, None]
    )
    rates = beyond.any(axis=2).mean(axis=1)
    error = rates.std() / np.sqrt(DRAWS)
    assert rates.mean() <= fpr + 3 * error
    assert abs(rates.mean() - expected) <= 4 * error
    # Each of the layers by itself is beyond its own thresholds less often than the rule.
    assert (beyond.mean(axis=(0, 1)) < 0.98 * rates.mean()).all()


@pytest.mark.parametrize("number", [19, 99])
def test_p_values_of_fresh_typical_records_are_uniform(scores, number):
  calibration, fresh = drawn(number, 7)
  p = smoothed(scores[calibration], scores[fresh[:, 0]], 8)
  assert stats.kstest(p, "uniform").pvalue > LEVEL
  coarse = np.round(scores / scores.std())
  assert len(np.unique(coarse)) < 100
  p = smoothed(coarse[calibration], coarse[fresh[:, 0]], 8)
  assert stats.kstest(p, "uniform").pvalue > LEVEL


@pytest.mark.parametrize("name", ["drocc", "neuralfp"])
def test_p_values_of_noisier_records_are_not_uniform(request, pool, name):
  """The uniformity test has the power to see what it is there to see."""
  detector = request.getfixturevalue(name).detector_
  moved = pool[:DRAWS] + np.random.default_rng(9).normal(size=(DRAWS, 6)).astype(np.float32) * 0.3
  calibration, _ = drawn(99, 7)
  p = smoothed(detector.score(pool)[calibration], detector.score(moved), 8)
  assert stats.kstest(p, "uniform").pvalue < LEVEL


@pytest.mark.parametrize("name", ["drocc", "neuralfp"])
def test_a_rate_that_the_records_cannot_defend_is_refused_with_the_number(request, pool, name):
  model = request.getfixturevalue(name)
  before = model.offset_
  with pytest.raises(ValueError, match=r"0\.01 needs at least 99 different .* got 98"):
    model.calibrate(pool[:98], 0.01)
  assert model.offset_ == before
