"""The scikit-learn front that every estimator of the project inherits.

Signs are scikit-learn's: ``score_samples`` and ``decision_function`` are higher for more typical
records, ``predict`` gives +1 for typical and -1 for anomalous ones. The ``Detector`` behind it
(``detector_``) has the project's own: higher = more anomalous.
"""

import json
import os
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from detector_jax import artifact, processes, schema, table
from detector_jax import detector as detector_lib


class DetectorEstimator(OutlierMixin, BaseEstimator):
  """What every estimator can do once ``fit`` has set ``detector_``.

  Attributes:
    detector_: the trained ``Detector``.
    offset_: ``decision_function = score_samples - offset_``.
    n_features_in_: number of features of ``[n, features]``; length of the first axis of a record
      with more axes.
    schema_: how columns of a table become numbers, where ``columns`` asks for one.
    feature_names_in_: names of the columns, where ``fit`` saw some. Records with names are then
      matched by name, in any order, after ``load`` too.
  """

  detector_: detector_lib.Detector
  schema_: schema.Schema | None = None
  _former: ClassVar[dict[str, Any]] = {}  # parameters that a folder of an earlier release lacks

  def score_samples(self, X: Any) -> np.ndarray:
    """Typicality of records ``[n, ...]``; higher = more typical; float64 ``[n]``.

    Raises:
      ValueError: records of another shape, or with values that are not finite.
      NotFittedError: before ``fit``.
    """
    check_is_fitted(self, "detector_")
    return -self.detector_.score(self._validated(X, reset=False)).astype(np.float64)

  def decision_function(self, X: Any) -> np.ndarray:
    """``score_samples - offset_``, float64 ``[n]``; negative = anomalous."""
    return self.score_samples(X) - self.offset_

  def predict(self, X: Any) -> np.ndarray:
    """int64 ``[n]``: +1 typical, -1 anomalous."""
    return np.where(self.decision_function(X) >= 0.0, 1, -1)

  def p_value(self, X: Any) -> np.ndarray:
    """Conformal p-values, float64 ``[n]`` in (0, 1]; small = anomalous."""
    check_is_fitted(self, "detector_")
    return self.detector_.p_value(self._validated(X, reset=False))

  def explain(self, X: Any) -> Any:
    """Why records are flagged; ``describe()`` says it in words, one text a record.

    Returns:
      A ``detector_jax.explain.Explanation`` of columns; of images and series a
      ``detector_jax.explain_map.MapExplanation``; of NeuralFP that of its layers.

    Raises:
      ValueError: as ``score_samples``; or the detector keeps no typical values.
      NotFittedError: before ``fit``.
    """
    check_is_fitted(self, "detector_")
    return self.detector_.explain(self._validated(X, reset=False))

  def calibrate(self, X: Any, fpr: float, confidence: float | None = None) -> Self:
    """Sets the threshold at a stated false-positive rate, from held-out typical records.

    Args:
      X: ``[n, ...]`` typical records that ``fit`` did not see; equal ones count once.
      fpr: in (0, 1); holds in expectation over draws of these records.
      confidence: in (0, 1): the share of such draws in which ``fpr`` is to hold, or None.

    Raises:
      ValueError: too few records for that rate.
    """
    check_is_fitted(self, "detector_")
    self.detector_ = self.detector_.calibrate(self._validated(X, reset=False), fpr, confidence)
    return self

  @property
  def offset_(self) -> float:
    """The threshold, with scikit-learn's sign."""
    check_is_fitted(self, "detector_")
    return -float(np.float32(self.detector_.threshold))

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes the detector as one folder, which ``detector_jax.load`` reads without this class."""
    check_is_fitted(self, "detector_")
    self.detector_.save(folder)

  @classmethod
  def load(cls, folder: str | os.PathLike[str]) -> Self:
    """Reads an estimator back from a folder that ``save`` wrote; it scores to the same numbers.

    Parameters that are no JSON (a ``network``, say) are not in the folder: they come back as their
    defaults.

    Raises:
      ArtifactError: not a detector, or one that another class saved.
    """
    detector = detector_lib.load(folder)
    facts = detector.metadata.get("estimator", {})
    if facts.get("class") != cls.__name__:
      raise artifact.ArtifactError(
        f"{folder} was saved by {facts.get('class', 'no estimator')}, not by {cls.__name__}; "
        "detector_jax.load reads any detector."
      )
    estimator = cls(**{**cls._former, **facts["params"]})
    estimator._set_detector(detector)
    return estimator

  def _set_detector(self, detector: detector_lib.Detector) -> None:
    self.detector_ = detector
    self.n_features_in_ = detector.input_shape[0]
    self.schema_, names = detector.schema, detector.feature_names
    if self.schema_ is not None:
      names = self.schema_.wanted
      self.n_features_in_ = len(names)
    if names is not None:
      self.feature_names_in_ = np.asarray(names, object)

  def _facts(self) -> dict[str, Any]:
    """Class and parameters, for the detector's metadata; scalars of NumPy as Python's."""
    params = {name: plain(value) for name, value in self.get_params(deep=False).items()}
    known = {name: value for name, value in params.items() if _is_json(value)}
    return {"class": type(self).__name__, "params": known}

  def _names(self) -> tuple[str, ...] | None:
    """Names of the training columns, encoded ones of a schema, None where they had none."""
    if self.schema_ is not None:
      return self.schema_.features
    names = getattr(self, "feature_names_in_", None)
    return None if names is None else tuple(names.tolist())

  def _validated(self, X: Any, *, reset: bool) -> np.ndarray:
    """Checks records, with the column of a bad value named; float64 or float32 ``[n, ...]``."""
    processes.claim()
    if reset:
      kinds = getattr(self, "columns", None)
      self.schema_ = None if kinds is None else schema.learn(X, schema.checked_kinds(kinds))
    if self.schema_ is not None:
      x = self.schema_.encode(X)
      table.check_finite(x, self.schema_.owners)
      return x
    least = 2 if reset else 1
    names = table.names_of(X)
    if names is None or (not reset and self._names() is None):
      if isinstance(X, np.ma.MaskedArray) or (names is not None and not hasattr(X, "columns")):
        X = table.records(X)  # scikit-learn knows neither masks nor dicts
      X = validate_data(
        self,
        X,
        reset=reset,
        allow_nd=True,
        ensure_all_finite=False,
        dtype=[np.float64, np.float32],
        ensure_min_samples=least,
      )
      table.check_finite(X, self._names())
      return X
    x = check_array(
      table.records(X, None if reset else self._names()),
      ensure_all_finite=False,
      dtype=[np.float64, np.float32],
      ensure_min_samples=least,
      estimator=self,
    )
    if reset:
      self.feature_names_in_ = np.asarray(names, object)
      self.n_features_in_ = len(names)
    table.check_finite(x, self._names())
    return x

  def __sklearn_tags__(self) -> Any:
    tags = super().__sklearn_tags__()
    tags.input_tags.three_d_array = True
    return tags


def plain(value: Any) -> Any:
  """A scalar of NumPy as Python's; anything else as it is."""
  scalar = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
  return value.item() if scalar else value


def _is_json(value: Any) -> bool:
  try:
    json.dumps(value)
  except TypeError:
    return False
  return True
