"""Missing numbers from those beside them: the conditional mean of a factor model.

A median in the place of a missing cell makes records look more typical than they are, and unlike
the others where columns go together. A factor model says what the other cells of the record lead
one to expect, holds a few numbers for each column, and keeps no record.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

MOST_FACTORS, ITERATIONS, MOST_ROWS, CLIP, FLOOR = 10, 30, 5000, 5.0, 0.01
CHUNK = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class FactorModel:
  r"""``z = W u + e`` of standardised coordinates, ``u ~ N(0, I)``, ``e ~ N(0, diag(noise))``.

  Attributes:
    center: ``[d]`` medians.
    scale: ``[d]`` > 0.
    loadings: ``[d, k]``, ``W``.
    noise: ``[d]`` > 0, variances.
  """

  center: np.ndarray
  scale: np.ndarray
  loadings: np.ndarray
  noise: np.ndarray

  def fill(self, x: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    r"""Records with the conditional mean in their gaps.

    .. math:: E[z_m | z_o] = W_m (I + W_o^T \Psi_o^{-1} W_o)^{-1} W_o^T \Psi_o^{-1} z_o

    Args:
      x: float64 ``[n, d]``; what stands in the gaps is not looked at. Any other value that is not
        finite counts as a gap, too, and stays.
      gaps: bool ``[n, d]``.
    """
    result = np.array(x)
    for start in range(0, len(x), CHUNK):
      rows = np.flatnonzero(gaps[start : start + CHUNK].any(axis=1)) + start
      if len(rows):
        known = np.isfinite(x[rows]) & ~gaps[rows]
        z = _standardised(x[rows], known, self.center, self.scale)
        mean, _ = _factors(z, known, self.loadings, self.noise)
        expected = self.center + self.scale * (mean @ self.loadings.T)
        result[rows] = np.where(gaps[rows], expected, x[rows])
    return result

  def to_json(self) -> dict[str, Any]:
    """The model as JSON has it."""
    return {name: value.tolist() for name, value in vars(self).items()}

  @classmethod
  def from_json(cls, values: Any, dim: int) -> "FactorModel":
    """The model that ``to_json`` wrote, of ``dim`` coordinates.

    Raises:
      ValueError: it is none.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    try:
      if not isinstance(values, Mapping) or set(values) != set(names):
        raise ValueError(f"it has not the entries {', '.join(names)}")
      model = cls(**{name: np.array(values[name], np.float64) for name in names})
    except (TypeError, ValueError) as error:
      raise ValueError(f"the schema's imputation cannot be read: {error}") from error
    vectors = (model.center, model.scale, model.noise)
    fits = all(each.shape == (dim,) for each in vectors) and model.loadings.shape[:1] == (dim,)
    finite = fits and all(np.isfinite(each).all() for each in (*vectors, model.loadings))
    if not finite or model.loadings.ndim != 2 or min(model.scale.min(), model.noise.min()) <= 0:
      raise ValueError(f"the schema's imputation is not one of {dim} coordinates")
    return model


def fit(x: np.ndarray, gaps: np.ndarray) -> FactorModel:
  """Fits a factor model by expectation maximisation over the cells that are there.

  Of ``d`` coordinates it has ``min(10, d // 2)`` factors, at least one. Numbers are kept to six
  digits, so that a model that was saved fills with the same bits.

  Args:
    x: float64 ``[n, d]``; of more than 5,000 records as many, evenly spread, are looked at.
    gaps: bool ``[n, d]``, where ``x`` is not known.

  References:
    Rubin and Thayer, EM algorithms for ML factor analysis (1982).
  """
  every = -(-len(x) // MOST_ROWS)
  x, known = x[::every], ~gaps[::every]
  held = np.where(known, x, np.nan)
  center = np.nanmedian(held, axis=0)
  spread = np.subtract(*np.nanquantile(held, [0.75, 0.25], axis=0)) / 1.349
  deviation = np.nanstd(held, axis=0)
  scale = np.where(spread > 0.0, spread, np.where(deviation > 0.0, deviation, 1.0))
  z = _standardised(x, known, center, scale)
  n, d = z.shape
  weights = known.astype(np.float64)
  counts = np.maximum(weights.sum(axis=0), 1.0)
  _, singular, directions = np.linalg.svd(z, full_matrices=False)
  k = min(MOST_FACTORS, max(1, d // 2), len(singular))
  loadings = directions[:k].T * (singular[:k] / np.sqrt(n))
  noise = np.maximum((z**2).sum(axis=0) / counts, FLOOR)
  for _ in range(ITERATIONS):
    mean, covariance = _factors(z, known, loadings, noise)
    second = (covariance + mean[:, :, None] * mean[:, None, :]).reshape(n, k * k)
    moments = (weights.T @ second).reshape(d, k, k)
    ridge = 1e-5 * n * np.eye(k)
    loadings = np.linalg.solve(moments + ridge, (z.T @ mean)[:, :, None])[:, :, 0]
    explained = 2.0 * (z * (mean @ loadings.T)).sum(axis=0)
    explained -= np.einsum("dk,dkl,dl->d", loadings, moments, loadings)
    noise = np.maximum(((z**2).sum(axis=0) - explained) / counts, FLOOR)
  return FactorModel(*(_six_digits(each) for each in (center, scale, loadings, noise)))


def _standardised(
  x: np.ndarray, known: np.ndarray, center: np.ndarray, scale: np.ndarray
) -> np.ndarray:
  """``[n, d]``, 0 where nothing is known; far values count as ``CLIP``."""
  z = (np.where(known, x, center) - center) / scale
  return np.clip(z, -CLIP, CLIP)


def _factors(
  z: np.ndarray, known: np.ndarray, loadings: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Mean ``[n, k]`` and covariance ``[n, k, k]`` of the factors, given what is known of ``z``."""
  (n, d), k = z.shape, loadings.shape[1]
  outer = (loadings[:, :, None] * loadings[:, None, :]).reshape(d, k * k)
  precision = np.eye(k) + ((known / noise) @ outer).reshape(n, k, k)
  covariance = np.linalg.inv(precision)
  return np.einsum("nkl,nl->nk", covariance, (z / noise) @ loadings), covariance


def _six_digits(values: np.ndarray) -> np.ndarray:
  """Values as they are written with six significant digits."""
  return np.array([float(f"{value:.6g}") for value in values.ravel()]).reshape(values.shape)
