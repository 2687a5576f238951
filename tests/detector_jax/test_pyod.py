"""The PyOD front, held to what PyOD's own tests ask of a detector."""

import importlib
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from drocc_jax import DROCC, DROCCOE, networks

CHEAP = {
  "network": networks.MLP((16,)),
  "epochs": 20,
  "batch_size": 16,
  "learning_rate": 0.01,
  "num_steps": 2,
  "random_state": 0,
}


@pytest.fixture(scope="module")
def front():
  """The module ``detector_jax.pyod``."""
  pytest.importorskip("pyod", reason="PyOD is not installed: pip install -e '.[pyod]'")
  return importlib.import_module("detector_jax.pyod")


@pytest.fixture(scope="module")
def records(front):
  """PyOD's generated data, a tenth of them anomalous: training and test records and labels."""
  generate_data = importlib.import_module("pyod.utils.data").generate_data
  x_train, x_test, y_train, y_test = generate_data(
    n_train=200, n_test=100, contamination=0.1, random_state=42
  )
  return x_train, x_test, y_train.astype(int), y_test.astype(int)


@pytest.fixture(scope="module")
def fitted(front, records):
  return front.PyODDetector(DROCC(**CHEAP), contamination=0.1).fit(records[0])


def test_training_leaves_scores_labels_and_threshold(fitted, records):
  assert fitted.decision_scores_.shape == (200,)
  np.testing.assert_array_equal(fitted.decision_scores_, fitted.decision_function(records[0]))
  assert fitted.threshold_ == np.percentile(fitted.decision_scores_, 90)
  np.testing.assert_array_equal(fitted.labels_, fitted.decision_scores_ > fitted.threshold_)
  assert fitted.labels_.sum() == 20
  assert fitted._mu == np.mean(fitted.decision_scores_)
  assert fitted._sigma == np.std(fitted.decision_scores_)


def test_higher_is_more_anomalous(fitted, records):
  _, x_test, _, y_test = records
  scores = fitted.decision_function(x_test)
  np.testing.assert_array_equal(scores, -fitted.estimator_.score_samples(x_test))
  assert scores.shape == y_test.shape
  assert roc_auc_score(y_test, scores) > 0.8
  np.testing.assert_array_equal(fitted.predict(x_test), scores > fitted.threshold_)


@pytest.mark.parametrize("method", ["linear", "unify"])
def test_probabilities(fitted, records, method):
  probabilities, confidence = fitted.predict_proba(records[1], method, return_confidence=True)
  assert probabilities.shape == (100, 2)
  np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
  for values in (probabilities, confidence):
    assert values.min() >= 0.0
    assert values.max() <= 1.0
  order = np.argsort(fitted.decision_function(records[1]))
  assert (np.diff(probabilities[order, 1]) >= 0.0).all()


def test_an_unknown_kind_of_probability_is_refused(fitted, records):
  with pytest.raises(ValueError, match="not a valid probability conversion"):
    fitted.predict_proba(records[1], method="something")


def test_confidence_and_rejection(fitted, records):
  labels, confidence = fitted.predict(records[1], return_confidence=True)
  np.testing.assert_array_equal(labels, fitted.predict(records[1]))
  assert ((confidence >= 0.0) & (confidence <= 1.0)).all()
  rejected, stats = fitted.predict_with_rejection(records[1], return_stats=True, c_r=0.1)
  assert set(rejected) <= {-2, 0, 1}
  assert all(value >= 0.0 for value in stats)
  assert max(stats[:2]) <= 1.0


def test_ranks(fitted, records):
  ranks = fitted._predict_rank(records[1])
  assert ranks.min() >= 0
  assert ranks.max() <= 200
  normalised = fitted._predict_rank(records[1], normalized=True)
  assert normalised.min() >= 0.0
  assert normalised.max() <= 1.0


def test_a_clone_fits_alike(fitted, records):
  copy = clone(fitted)
  assert not hasattr(copy, "estimator_")
  assert copy.get_params()["estimator__epochs"] == 20
  assert copy.set_params(contamination=0.2, estimator__random_state=0).contamination == 0.2
  with pytest.warns(FutureWarning, match="fit_predict"):
    labels = copy.fit_predict(records[0])
  np.testing.assert_array_equal(copy.decision_scores_, fitted.decision_scores_)
  assert labels.sum() == 40
  assert not hasattr(copy.estimator, "detector_")


def test_deprecated_scoring_works(fitted, records):
  copy = clone(fitted)
  for scoring in ("roc_auc_score", "prc_n_score"):
    with pytest.warns(FutureWarning, match="fit_predict_score"):
      assert 0.0 <= copy.fit_predict_score(records[1], records[3], scoring=scoring) <= 1.0
  with (
    pytest.warns(FutureWarning, match="fit_predict_score"),
    pytest.raises(NotImplementedError),
  ):
    copy.fit_predict_score(records[1], records[3], scoring="something")


def test_labels_reach_an_estimator_that_learns_from_negatives(front, records):
  x_train, x_test, y_train, _ = records
  model = front.PyODDetector(DROCCOE(**CHEAP)).fit(x_train, y_train)
  alone = DROCCOE(**CHEAP).fit(x_train, np.where(y_train == 1, -1, 1))
  np.testing.assert_array_equal(model.decision_function(x_test), -alone.score_samples(x_test))
  with pytest.raises(ValueError, match=r"Labels must be 0 \(typical\) or 1 \(anomalous\)"):
    front.PyODDetector(DROCCOE(**CHEAP)).fit(x_train, np.where(y_train == 1, -1, 1))
  with pytest.raises(ValueError, match="requires y to be passed"):
    front.PyODDetector(DROCCOE(**CHEAP)).fit(x_train)


@pytest.mark.parametrize("contamination", [0.0, 0.6])
def test_a_contamination_out_of_its_range_is_refused(front, contamination):
  with pytest.raises(ValueError, match=r"contamination must be in \(0, 0\.5\]"):
    front.PyODDetector(DROCC(), contamination)


def test_what_is_no_estimator_of_the_project_is_refused(front, records):
  with pytest.raises(TypeError, match=r"such as DROCC\(\), got 'DROCC'"):
    front.PyODDetector("DROCC").fit(records[0])


@pytest.mark.parametrize("method", ["decision_function", "predict", "predict_proba"])
def test_before_fit_nothing_works(front, records, method):
  with pytest.raises(NotFittedError):
    getattr(front.PyODDetector(DROCC()), method)(records[1])


def test_without_pyod_the_import_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "pyod", None)
  monkeypatch.setitem(sys.modules, "pyod.models", None)
  monkeypatch.setitem(sys.modules, "pyod.models.base", None)
  monkeypatch.delitem(sys.modules, "detector_jax.pyod", raising=False)
  with pytest.raises(ImportError, match=r"detector_jax\.pyod needs PyOD .*drocc-jax\[pyod\]"):
    importlib.import_module("detector_jax.pyod")


def test_columns_are_matched_by_name(front):
  pandas = pytest.importorskip("pandas")
  x = np.random.default_rng(0).normal(size=(80, 3)) * [1, 10, 100]
  frame = pandas.DataFrame(x, columns=["a", "b", "c"])
  model = front.PyODDetector(DROCC(**CHEAP)).fit(frame)
  np.testing.assert_array_equal(
    model.decision_function(frame[["c", "a", "b"]]), model.decision_scores_
  )
