"""The scikit-learn front on a toy estimator: signs, checks, saving."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from detector_jax import ArtifactError, Detector, Standardizer, load
from detector_jax.sklearn import DetectorEstimator


def norm(variables, x):
  return (x**2).sum(axis=1) * variables["weight"]


class Toy(DetectorEstimator):
  """Distance from the mean."""

  def __init__(self, weight=1.0, other=None):
    self.weight = weight
    self.other = other

  def fit(self, X, y=None):
    X = self._validated(X, reset=True)
    self._set_detector(
      Detector.create(
        norm,
        {"weight": np.float32(self.weight)},
        Standardizer.fit(X),
        X.shape[1:],
        metadata={"estimator": self._facts()},
      ).calibrate(X, 0.1)
    )
    return self


class Other(Toy):
  """Another class with the same parameters."""


@pytest.fixture(scope="module")
def x() -> np.ndarray:
  return np.random.default_rng(3).normal(size=(60, 3))


@pytest.fixture(scope="module")
def fitted(x) -> Toy:
  return Toy(weight=2.0, other=norm).fit(x)


def test_signs_are_scikit_learns(fitted, x):
  far = x + 50.0
  assert fitted.score_samples(far).max() < fitted.score_samples(x).min()
  np.testing.assert_array_equal(fitted.score_samples(x), -fitted.detector_.score(x).astype(float))
  assert (fitted.predict(far) == -1).all()
  np.testing.assert_array_equal(fitted.predict(x) == -1, fitted.detector_.predict(x) == 1)
  assert (fitted.predict(x) == -1).sum() == 60 - 55  # k = ceil(61 * 0.9) = 55
  np.testing.assert_array_equal(fitted.p_value(x), fitted.detector_.p_value(x))


def test_decision_is_score_minus_offset(fitted, x):
  np.testing.assert_array_equal(
    fitted.decision_function(x), fitted.score_samples(x) - fitted.offset_
  )
  assert fitted.decision_function(x).dtype == np.float64
  # One calibration record lies on the threshold, and passes.
  on = fitted.decision_function(x) == 0.0
  assert on.sum() == 1
  assert (fitted.predict(x)[on] == 1).all()


def test_calibrate_moves_the_offset(x):
  toy = Toy().fit(x)
  before = toy.offset_
  assert toy.calibrate(x + 1.0, 0.05) is toy
  assert toy.offset_ < before
  assert toy.detector_.fpr == 0.05


@pytest.mark.parametrize(
  "method", ["predict", "score_samples", "decision_function", "p_value", "save"]
)
def test_before_fit_nothing_works(x, method):
  with pytest.raises(NotFittedError):
    getattr(Toy(), method)(x)


def test_another_number_of_features_is_refused_in_scikit_learns_words(fitted, x):
  with pytest.raises(ValueError, match="X has 2 features, but Toy is expecting 3 features"):
    fitted.predict(x[:, :2])
  with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
    fitted.predict(x[0])


def test_a_bad_value_is_named_by_row_and_column(fitted, x):
  bad = x.copy()
  bad[5, 2] = np.nan
  for method in (fitted.fit, fitted.predict):
    with pytest.raises(ValueError, match="Input contains NaN at row 5, column 2"):
      method(bad)


def test_save_and_load(fitted, x, tmp_path):
  fitted.save(tmp_path / "toy")
  loaded = Toy.load(tmp_path / "toy")
  assert loaded.weight == 2.0
  assert loaded.other is None  # a function cannot be saved
  assert loaded.n_features_in_ == 3
  np.testing.assert_array_equal(loaded.decision_function(x), fitted.decision_function(x))
  np.testing.assert_array_equal(load(tmp_path / "toy").score(x), -fitted.score_samples(x))


def test_another_class_or_none_is_refused(fitted, x, tmp_path):
  fitted.save(tmp_path / "toy")
  with pytest.raises(ArtifactError, match="was saved by Toy, not by Other"):
    Other.load(tmp_path / "toy")
  detector = Detector.create(norm, {"weight": np.float32(1)}, Standardizer.fit(x), (3,))
  detector.save(tmp_path / "bare")
  with pytest.raises(ArtifactError, match="was saved by no estimator"):
    Toy.load(tmp_path / "bare")
