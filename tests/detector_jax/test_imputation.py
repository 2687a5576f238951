"""Missing numbers are what the other cells of a record lead one to expect."""

import json

import numpy as np
import pytest

from detector_jax import imputation, schema


def test_the_conditional_mean_of_a_known_model():
  # z1 = 2 u + e, z2 = u + e, variances of e 1 and 0.5: E[z1 | z2] = 2 * 1 / (1 + 0.5) z2
  model = imputation.FactorModel(
    np.array([10.0, 5.0]), np.array([2.0, 3.0]), np.array([[2.0], [1.0]]), np.array([1.0, 0.5])
  )
  x = np.array([[np.nan, 8.0], [0.0, np.nan], [1.0, 2.0], [np.nan, np.nan]])
  gaps = np.array([[True, False], [False, True], [False, False], [True, True]])
  filled = model.fill(x, gaps)
  wanted = [[10.0 + 2.0 * (4.0 / 3.0), 8.0], [0.0, 5.0 + 3.0 * (-5.0 * 2.0 / 5.0)]]
  np.testing.assert_allclose(filled, [*wanted, [1.0, 2.0], [10.0, 5.0]], atol=1e-12)


def together(rng, n=600, d=6):
  x = rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 0.1 * rng.normal(size=(n, d))
  return np.exp(0.3 * x) * 10.0 ** np.arange(d), rng.random((n, d)) < 0.2


def test_columns_that_go_together_fill_each_other(rng):
  x, gaps = together(rng)
  held = np.where(gaps, np.nan, x)
  columns = {f"c{place}": column for place, column in enumerate(held.T)}
  learned = schema.learn(columns)
  filled = learned.encode(columns)
  np.testing.assert_array_equal(filled[~gaps], x[~gaps])
  scale = x.std(axis=0)
  error = np.sqrt(np.mean(((filled - x) / scale)[gaps] ** 2))
  by_median = np.sqrt(np.mean(((np.nanmedian(held, axis=0) - x) / scale)[gaps] ** 2))
  assert error < 0.5 * by_median
  back = schema.Schema.from_json(json.loads(json.dumps(learned.to_json())))
  np.testing.assert_array_equal(back.encode(columns), filled)
  single = {name: column[:1] for name, column in columns.items()}
  np.testing.assert_allclose(back.encode(single), filled[:1], rtol=1e-12)


def test_a_gap_in_a_column_that_had_none_stays(rng):
  x, gaps = together(rng)
  gaps[:, 0] = False
  columns = {f"c{place}": column for place, column in enumerate(np.where(gaps, np.nan, x).T)}
  learned = schema.learn(columns)
  columns["c0"] = np.where(np.arange(len(x)) == 3, np.nan, columns["c0"])
  assert np.argwhere(np.isnan(learned.encode(columns))).tolist() == [[3, 0]]


@pytest.mark.parametrize(
  "change",
  [{"noise": [0.0, 1.0]}, {"center": [1.0]}, {"loadings": [[1.0]]}, {"scale": "x"}, {"more": 1}],
)
def test_damaged_models_are_refused(change):
  model = imputation.FactorModel(np.zeros(2), np.ones(2), np.ones((2, 1)), np.ones(2))
  values = model.to_json()
  assert imputation.FactorModel.from_json(values, 2).to_json() == values
  with pytest.raises(ValueError, match="imputation"):
    imputation.FactorModel.from_json(values | change, 2)
