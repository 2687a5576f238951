"""A PyOD front: any estimator of the project as a PyOD detector. Needs the extra ``[pyod]``.

PyOD's signs are the project's: a higher score is more anomalous, label 1 is anomalous.
"""

from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from detector_jax.sklearn import DetectorEstimator

try:
  from pyod.models.base import BaseDetector
except ImportError as error:
  raise ImportError(
    f"detector_jax.pyod needs PyOD ({error}): pip install 'drocc-jax[pyod]'."
  ) from error


class PyODDetector(BaseDetector):
  """An estimator of the project behind PyOD's interface.

  The threshold is PyOD's own: so high that a share ``contamination`` of the training records is
  labelled anomalous. It states no false-alarm rate; the p-values and the calibrated threshold of
  the estimator itself, in ``estimator_``, do.

  Args:
    estimator: a ``DetectorEstimator``, e.g. ``drocc_jax.DROCC()``; it is cloned, never fitted.
    contamination: share of the training records to label anomalous, in (0, 0.5], or an object of
      PyThresh.

  Attributes:
    estimator_: the fitted clone.
    decision_scores_: float64 ``[n]`` scores of the training records; higher = more anomalous.
    threshold_: a record is labelled anomalous when its score is strictly above.
    labels_: ``[n]`` of the training records, 1 = anomalous.

  Raises:
    ValueError: ``contamination`` is out of its range.

  References:
    Zhao, Nasrullah and Li, PyOD: A Python Toolbox for Scalable Outlier Detection, JMLR 2019.
  """

  estimator_: DetectorEstimator

  def __init__(self, estimator: DetectorEstimator, contamination: float = 0.1):
    super().__init__(contamination=contamination)
    self.estimator = estimator

  def fit(self, X: Any, y: Any = None) -> Self:
    """Fits the estimator and sets the threshold.

    Args:
      X: ``[n, ...]`` records as the estimator takes them.
      y: ``[n]``, 1 = anomalous and 0 = typical, for an estimator that learns from given negatives
        (DROCCOE, DROCCLF); others ignore it.

    Raises:
      TypeError: ``estimator`` is none of the project.
      ValueError: labels other than 0 and 1, or as the estimator's ``fit``.
    """
    if not isinstance(self.estimator, DetectorEstimator):
      raise TypeError(
        f"estimator must be one of this project, such as DROCC(), got {self.estimator!r}."
      )
    signed = None
    if y is not None and get_tags(self.estimator).target_tags.required:
      labels = np.asarray(y)
      if not np.isin(labels, (0, 1)).all():
        raise ValueError("Labels must be 0 (typical) or 1 (anomalous), as PyOD has them.")
      signed = np.where(labels == 1, -1, 1)
    self._set_n_classes(None)
    self.estimator_ = clone(self.estimator).fit(X, signed)
    self.decision_scores_ = self.decision_function(X)
    self._process_decision_scores()
    return self

  def decision_function(self, X: Any) -> np.ndarray:
    """Scores of records ``[n, ...]``; higher = more anomalous; float64 ``[n]``.

    Raises:
      NotFittedError: before ``fit``.
      ValueError: records of another shape, or with values that are not finite.
    """
    check_is_fitted(self, "estimator_")
    return -self.estimator_.score_samples(X)
