"""Estimators in scikit-learn's hands: pipelines, clones, cross-validation, grid search."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.model_selection import (
  GridSearchCV,
  StratifiedKFold,
  cross_val_predict,
  cross_val_score,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from drocc_jax import DROCC, DROCCLF, DROCCOE, networks
from fingerprint_jax import NeuralFP

CHEAP = {
  "network": networks.MLP((16,)),
  "epochs": 10,
  "batch_size": 16,
  "learning_rate": 0.02,
  "num_steps": 2,
  "scaling": "none",
  "random_state": 0,
}
KINDS = {"drocc": DROCC, "oe": DROCCOE, "lf": DROCCLF}
TUNED = {"drocc": ("radius", [1.0, 3.0]), "oe": ("nu", [0.1, 1.0]), "lf": ("radius", [1.0, 3.0])}


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
  return request.param


@pytest.fixture(scope="module")
def estimator(kind):
  """Unfitted, and cheap to fit."""
  return KINDS[kind](**CHEAP)


@pytest.fixture(scope="module")
def records() -> tuple[np.ndarray, np.ndarray]:
  """Records ``[150, 3]`` in random order and their labels: +1, and -1 for 14 that are far off."""
  rng = np.random.default_rng(0)
  y = rng.permutation(np.repeat([1, -1], [136, 14]))
  x = rng.normal([5.0, 0.0, -5.0], [1.0, 0.2, 3.0], size=(150, 3))
  return x + 6.0 * (y == -1)[:, None] * np.array([1.0, 0.2, -3.0]), y


@pytest.fixture(scope="module")
def folds(kind, records) -> list[tuple[np.ndarray, np.ndarray]]:
  """Two folds; DROCC, which learns from typical records alone, is given no others."""
  return folds_of(*records, typical_only=kind == "drocc")


def folds_of(x, y, *, typical_only: bool) -> list[tuple[np.ndarray, np.ndarray]]:
  parts = StratifiedKFold(2).split(x, y)
  return [(rows[y[rows] == 1] if typical_only else rows, test) for rows, test in parts]


def piped(estimator) -> Pipeline:
  return Pipeline([("scaler", StandardScaler()), ("detector", estimator)])


def by_hand(estimator, x, y, rows, test):
  """The steps of the pipeline one after the other: what it says of the test rows."""
  scaler = StandardScaler().fit(x[rows])
  model = clone(estimator).fit(scaler.transform(x[rows]), y[rows])
  return model, scaler.transform(x[test])


def test_a_clone_has_the_parameters_and_nothing_learned(estimator, records, folds):
  (rows, test), _ = folds
  x, y = records
  model, z = by_hand(estimator, x, y, rows, test)
  copy = clone(model)
  assert not hasattr(copy, "detector_")
  assert copy.get_params().keys() == model.get_params().keys()
  scaled = StandardScaler().fit_transform(x[rows])
  np.testing.assert_array_equal(copy.fit(scaled, y[rows]).score_samples(z), model.score_samples(z))


def test_a_pipeline_is_its_steps_one_after_the_other(estimator, records, folds):
  x, y = records
  (rows, test), _ = folds
  pipeline = clone(piped(estimator)).fit(x[rows], y[rows])
  model, z = by_hand(estimator, x, y, rows, test)
  for method in ("score_samples", "decision_function", "predict"):
    np.testing.assert_array_equal(getattr(pipeline, method)(x[test]), getattr(model, method)(z))
  scores = pipeline.score_samples(x[test])
  assert roc_auc_score(y[test], scores) > 0.9
  np.testing.assert_array_equal(pipeline[:-1].transform(x[test]), z)


def test_cross_validated_predictions_are_those_of_the_other_fold(estimator, records, folds):
  x, y = records
  got = cross_val_predict(piped(estimator), x, y, cv=folds)
  assert got.shape == (150,)
  assert set(got) == {1, -1}
  for rows, test in folds:
    model, z = by_hand(estimator, x, y, rows, test)
    np.testing.assert_array_equal(got[test], model.predict(z))


def test_decisions_are_cross_validated_where_there_are_no_labels(records):
  """With labels scikit-learn asks for a classifier's classes_, of its own detectors too."""
  x, y = records
  folds = folds_of(x, y, typical_only=True)
  estimator = DROCC(**CHEAP)
  got = cross_val_predict(piped(estimator), x, cv=folds, method="decision_function")
  rows, test = folds[1]
  model, z = by_hand(estimator, x, y, rows, test)
  np.testing.assert_array_equal(got[test], model.decision_function(z))


def lowest_typical(pipeline, x, y) -> float:
  """A scorer of our own: how far the anomalies' mean is below the typical mean, in deviations."""
  return separation(pipeline.score_samples(x), y)


def separation(scores, y) -> float:
  return (scores[y == 1].mean() - scores[y == -1].mean()) / scores[y == 1].std()


def test_grid_search_with_a_scorer_finds_what_a_loop_finds(estimator, kind, records, folds):
  x, y = records
  name, values = TUNED[kind]
  search = GridSearchCV(
    piped(estimator),
    {f"detector__{name}": values},
    cv=folds,
    scoring=lowest_typical,
    refit=False,
    error_score="raise",
  )
  search.fit(x, y)
  loop = []
  for value in values:
    models = [
      clone(piped(estimator)).set_params(**{f"detector__{name}": value}).fit(x[rows], y[rows])
      for rows, _ in folds
    ]
    loop.append([lowest_typical(m, x[t], y[t]) for m, (_, t) in zip(models, folds, strict=True)])
  own = np.mean(loop, axis=1)
  np.testing.assert_allclose(search.cv_results_["mean_test_score"], own)
  assert own[0] != own[1]
  assert search.best_params_ == {f"detector__{name}": values[int(np.argmax(own))]}
  assert not hasattr(estimator, "detector_")


def test_scikit_learns_scorers_take_the_decision_as_it_is(estimator, records, folds):
  x, y = records
  scorer = make_scorer(roc_auc_score, response_method="decision_function")
  got = cross_val_score(piped(estimator), x, y, cv=folds, scoring=scorer)
  for value, (rows, test) in zip(got, folds, strict=True):
    model, z = by_hand(estimator, x, y, rows, test)
    assert value == roc_auc_score(y[test], model.decision_function(z))
    assert value > 0.9


def layers(weights, x):
  return {"hidden": jnp.tanh(x @ weights["kernel"])}


def test_a_fingerprint_of_a_network_plugs_in_too(records):
  x, y = records
  kernel = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
  settings = {"epochs": 4, "batch_size": 16, "calibration_size": 0.6, "random_state": 0}
  estimator = NeuralFP(layers, {"kernel": kernel}, 0.1, combine="one_out", **settings)
  folds = folds_of(x, y, typical_only=True)
  got = cross_val_predict(piped(estimator), x, cv=folds, method="decision_function")
  search = GridSearchCV(
    piped(estimator),
    {"detector__epochs": [1, 4]},
    cv=folds[1:],
    scoring=lowest_typical,
    refit=False,
    error_score="raise",
  ).fit(x, y)
  few, many = search.cv_results_["mean_test_score"]
  _, test = folds[1]
  assert many == pytest.approx(separation(got[test], y[test]), rel=1e-6)
  assert few != many
  assert search.best_params_ == {"detector__epochs": 1 if few > many else 4}
  assert clone(estimator).variables["kernel"] is not kernel
