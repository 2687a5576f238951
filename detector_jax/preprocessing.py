"""Preprocessing with the statistics of the training data."""

from collections.abc import Sequence
import dataclasses
import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import batching, health

logger = logging.getLogger(__name__)

SCALING_CHOICES = ("standard", "moments", "contrast", "none")
CONSTANT_CHOICES = ("drop", "clip")
LARGEST, SMALLEST = 1e18, 1e-30
CONSTANT = 64.0 * np.finfo(np.float64).eps  # spread of a constant column, over its largest value
FAR = 1e3  # a center so many deviations from 0 is subtracted before the cast to float32
TRIMMED, FENCE = 0.01, 2.0  # see ``robust_range``
QUANTILE_ROWS = 100_000
EXTREME, MANY = 20.0, 20  # see ``extreme_values``


def contrast_normalised(x: Any) -> Any:
  """Records less their own mean, over their own mean absolute value, whatever their brightness.

  Args:
    x: ``[batch, ...]``, NumPy or JAX. A record without contrast (less than a 10,000th of its
      largest value) becomes next to zero.

  Examples:
    >>> x = np.array([[0.0, 2.0], [100.0, 104.0]])  # a dark record and a bright one
    >>> contrast_normalised(x).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]

  References:
    Deep SVDD (Ruff et al., 2018), section 4.1: global contrast normalisation with the L1 norm.
  """
  axes = tuple(range(1, x.ndim))
  centred = x - x.mean(axis=axes, keepdims=True)
  contrast = abs(centred).mean(axis=axes, keepdims=True)
  floor = 1e-4 * abs(x).max(axis=axes, keepdims=True) + SMALLEST
  maximum = jnp.maximum if isinstance(x, jax.Array) else np.maximum
  return centred / maximum(contrast, floor)


def robust_range(x: np.ndarray, trimmed: float = TRIMMED) -> tuple[np.ndarray, np.ndarray]:
  """Where the values of each column lie, but for the few that are farthest out.

  Of ``n`` values the ``k`` smallest and the ``k`` largest are left out, ``k`` a share ``trimmed``
  of them, and of few values three (one in ten at most).

  Args:
    x: ``[n, columns]`` float64; of more than 100,000 rows as many, evenly spread, are looked at.
    trimmed: in [0, 0.5).

  Returns:
    Smallest and largest of the others, each ``[columns]``.

  Examples:
    >>> low, high = robust_range(np.append(np.arange(99.0), 1e6)[:, None])
    >>> float(low[0]), float(high[0])
    (3.0, 96.0)
  """
  x = x[:: max(1, -(-len(x) // QUANTILE_ROWS))]
  n = len(x)
  k = max(int(np.ceil(trimmed * n)), min(3, n // 10)) if n >= 10 else 0
  ordered = np.partition(x, sorted({k, n - 1 - k}), axis=0)
  return ordered[k], ordered[n - 1 - k]


def _moments(x: np.ndarray, robust: bool) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation of each column of ``x`` ``[n, columns]``, in float64.

  With ``robust`` values beyond twice the span of ``robust_range`` on either side count as lying
  there (11.6 deviations from the mean of a normal column), so that a few glitches do not set the
  scale. A column that is constant but for those few has no other scale, and keeps them.
  """
  if robust:
    low, high = robust_range(x)
    span = np.where(high > low, high - low, np.inf)
    low, high = low - FENCE * span, high + FENCE * span
    if (x.min(axis=0) < low).any() or (x.max(axis=0) > high).any():
      x = np.clip(x, low, high)
  return x.mean(axis=0), x.std(axis=0)


def _warn_of_lost_digits(x: np.ndarray, scaling: str, names: Sequence[str] | None) -> None:
  """Warns of columns whose values float32 cannot tell apart where nothing is subtracted."""
  spread = x.astype(np.float64).std(axis=0)
  lost = (spread > 0) & (np.abs(x).max(axis=0) * np.finfo(np.float32).eps > 0.01 * spread)
  if lost.any():
    logger.warning(
      "Columns %s lie so far from 0 that float32 loses what tells their values apart, and "
      "scaling=%r subtracts nothing: take 'standard', or subtract an offset.",
      listed(np.flatnonzero(lost), names),
      scaling,
    )


def listed(columns: np.ndarray, names: Sequence[str] | None, most: int = 10) -> str:
  """Columns for a message, by name where they have one and by number where not."""
  shown = [repr(names[i]) if names is not None else str(i) for i in columns[:most].tolist()]
  return ", ".join(shown) + (f", ... ({len(columns)} in all)" if len(columns) > most else "")


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["center", "scale", "kept"],
  meta_fields=["clip", "contrast", "offset"],
)
@dataclasses.dataclass(frozen=True)
class Standardizer:
  """``clip((x - offset - center) / scale)``, per feature or per channel.

  A feature that is constant in the training data has no scale, and any change in it would become
  huge (values of 1e4 on Arrhythmia): it is dropped, or kept in its own units and clipped.

  Attributes:
    center: mean less the offset, ``[kept features]``, or ``[channels]`` for inputs with more axes.
    scale: standard deviation, same shape; 1 for a constant feature that is kept.
    kept: int32 numbers of the features that are kept, or None for all.
    clip: results are clipped to [-clip, clip], in standard deviations.
    contrast: whether each record is normalised by ``contrast_normalised`` before.
    offset: of each raw feature or channel, which ``shifted`` subtracts in float64 before float32
      loses the digits that differ (Unix seconds, pascals); None where there is none to subtract.
  """

  center: jax.Array
  scale: jax.Array
  kept: jax.Array | None
  clip: float = 20.0
  contrast: bool = False
  offset: tuple[float, ...] | None = None

  @classmethod
  def fit(
    cls,
    x: np.ndarray,
    *,
    scaling: str = "standard",
    constant: str = "drop",
    clip: float = 20.0,
    names: Sequence[str] | None = None,
  ) -> "Standardizer":
    """Statistics of ``x``, computed in float64.

    Args:
      x: ``[n, features]``: per feature; ``[n, ..., channels]``: per channel.
      scaling: "standard" (zero mean, unit variance, where a few values far from all others do not
        set the scale, see ``robust_range``), "moments" (the plain mean and deviation, as the paper
        has them), "contrast" (each image or series by its own mean and contrast first, see
        ``contrast_normalised``) or "none" (raw values, for inputs whose distances mean something
        already).
      constant: "drop" or "clip", what becomes of features that have one value, or a standard
        deviation below 1.4e-14 of their largest value (5e-7 where ``x`` is float32; or below 1e-30,
        where float32 ends). Channels of images and series are never dropped.
      clip: in standard deviations, > 0; raw values are not clipped.
      names: of the features, for messages.

    Raises:
      ValueError: no feature varies, an unknown ``scaling`` or ``constant``, ``clip <= 0``, a
        value beyond 1e18, which float32 arithmetic would overflow on, or "contrast" for a table.
    """
    if scaling not in SCALING_CHOICES:
      raise ValueError(f"scaling must be one of {SCALING_CHOICES}, got {scaling!r}.")
    if constant not in CONSTANT_CHOICES:
      raise ValueError(f"constant must be one of {CONSTANT_CHOICES}, got {constant!r}.")
    if not clip > 0:
      raise ValueError(f"clip must be > 0, got {clip!r}.")
    if scaling == "contrast" and np.ndim(x) < 3:
      raise ValueError(
        "scaling 'contrast' is for images and series, whose values have one unit; these records "
        "are rows of features: take 'standard'."
      )
    x = np.asarray(x)
    tolerance = max(CONSTANT, 4.0 * np.finfo(x.dtype).eps) if x.dtype.kind == "f" else CONSTANT
    rows, flat = x.ndim == 2, x.astype(np.float64, copy=False).reshape(-1, x.shape[-1])
    largest = np.abs(flat).max(axis=0)
    if scaling == "contrast":
      flat = contrast_normalised(x.astype(np.float64, copy=False)).reshape(flat.shape)
    center, scale = _moments(flat, robust=scaling == "standard")
    centred = scaling in ("standard", "moments")
    reach = np.abs(flat - center).max(axis=0) if centred else largest
    if reach.max(initial=0.0) > LARGEST:
      column = int(reach.argmax())
      raise ValueError(
        f"Column {listed(np.array([column]), names)} holds {largest[column]:.3g}; values beyond "
        f"{LARGEST:g} overflow float32. Rescale or remove it."
      )
    if not centred:
      _warn_of_lost_digits(x.reshape(-1, x.shape[-1]), scaling, names)
    if scaling == "contrast":
      largest = np.abs(flat).max(axis=0)
    varies = (np.ptp(flat, axis=0) > 0) & (scale > np.maximum(tolerance * largest, SMALLEST))
    if not varies.any():
      raise ValueError(
        "Every feature is constant over the training rows; there is nothing to learn from."
      )
    offset = None
    if centred:
      far = varies & (np.abs(center) > FAR * scale)
      if far.any():
        shift = np.where(far, center, 0.0)
        offset, center = tuple(shift.tolist()), center - shift
    kept = None
    if not varies.all():
      columns = np.flatnonzero(~varies)
      text = f"{len(columns)} constant features: {listed(columns, names)}"
      if constant == "drop" and rows:
        logger.warning("Dropped %s.", text)
        kept = jnp.asarray(np.flatnonzero(varies), jnp.int32)
        center, scale = center[varies], scale[varies]
      else:
        logger.warning("Clipped %s.", text)
        scale = np.where(varies, scale, 1.0)
    if scaling == "none":
      center, scale, clip = np.zeros_like(center), np.ones_like(scale), np.inf
    as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
    contrast = scaling == "contrast"
    return cls(as_float32(center), as_float32(scale), kept, float(clip), contrast, offset)

  def shifted(self, x: np.ndarray) -> np.ndarray:
    """Raw records ``[n, ...]`` less the offset, as float32: what ``__call__`` takes."""
    return shifted(x, self.offset)

  def transform(self, x: np.ndarray) -> np.ndarray:
    """Preprocesses raw records ``[n, ...]`` batch by batch, to NumPy float32 ``[n, ...]``."""
    x = self.shifted(x)
    rows_at_once = int(np.clip(2**21 // x[0].size, 16, 1024))
    return batching.in_batches(lambda rows: _apply(self, rows), x, rows_at_once)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Standardises records.

    Args:
      x: ``[batch, ...]``: a NumPy array of raw records, or what ``shifted`` made of them as an
        array of JAX.

    Returns:
      float32 ``[batch, ...]``.
    """
    x = jnp.asarray(self.shifted(x) if isinstance(x, np.ndarray) else x, jnp.float32)
    if self.kept is not None:
      x = jnp.take(x, self.kept, axis=-1)
    if self.contrast:
      x = contrast_normalised(x)
    per_feature = (1,) * (x.ndim - 1) + (-1,)
    center, scale = self.center.reshape(per_feature), self.scale.reshape(per_feature)
    return jnp.clip((x - center) / scale, -self.clip, self.clip)


def shifted(x: np.ndarray, offset: Sequence[float] | None) -> np.ndarray:
  """Raw records ``[n, ..., columns]`` less their offset, subtracted in float64; float32."""
  if offset is None:
    return np.asarray(x, np.float32)
  return (np.asarray(x, np.float64) - np.asarray(offset, np.float64)).astype(np.float32)


def extreme_values(x: np.ndarray, names: Sequence[str] | None = None) -> health.Finding:
  """Whether a column holds values so far from all others that they must be errors or sentinels.

  Args:
    x: ``[n, ...]`` raw training records; the last axis is that of columns or channels.
    names: of the columns.

  Returns:
    The number of columns with a value beyond 40 times the span that four in five values have (20
    times that of ``robust_range``, where four in five are equal). Where nearly all are equal: with
    one beyond 1,000 times the usual value; or, where that is 0, one that up to three records alone
    have and that is no 1. Twenty such values or more, none of which has a tenth of them nor lies as
    far from the others of them, are a second kind of record: a code is one value, an error a few.
  """
  flat = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
  low, high = robust_range(flat)
  inner_low, inner_high = robust_range(flat, 0.1)
  spread = inner_high > inner_low  # else four in five are equal
  low, high = np.where(spread, inner_low, low), np.where(spread, inner_high, high)
  usual = 0.5 * (low + high)
  distance = np.maximum(flat.max(axis=0) - high, low - flat.min(axis=0))
  limit = np.where(spread, 2.0, 1.0) * EXTREME * (high - low)
  for i in np.flatnonzero((high == low) & (distance > 0)).tolist():
    others = flat[flat[:, i] != usual[i], i]
    if usual[i]:
      limit[i] = 1000.0 * abs(usual[i])
    else:
      limit[i] = 1.0 if len(others) <= 3 else 1000.0 * float(np.abs(others).min())
  found = np.array(
    [
      i
      for i in np.flatnonzero(distance > limit)
      if not _is_hill(flat[:, i], low[i], high[i], limit[i])
    ],
    np.int64,
  )
  told = []
  for i in found[:5].tolist():
    worst = float(flat[np.abs(flat[:, i] - usual[i]).argmax(), i])
    name = listed(np.array([i]), names)
    others = "four in five of the" if spread[i] else "nearly all"
    told.append(f"{name} holds {worst:g}, {others} others lie in [{low[i]:g}, {high[i]:g}]")
  more = f"; and {len(found) - 5} more columns" if len(found) > 5 else ""
  return health.Finding.from_check(
    "columns with values far from all others",
    len(found),
    not len(found),
    f"Column {'; column '.join(told)}{more}. Is it an error, or a code for a missing value? Remove "
    "such records, or write what is meant.",
  )


def _is_hill(values: np.ndarray, low: float, high: float, limit: float) -> bool:
  """Whether those values of a column that are beyond the limit are a second kind of record."""
  far = values[np.maximum(values - high, low - values) > limit]
  _, counts = np.unique(far, return_counts=True)
  return len(far) >= MANY and 10 * counts.max() <= len(far) and extreme_values(far[:, None]).passed


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Identity:
  """Preprocessing for records that are ready for their network."""

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns ``x`` ``[batch, ...]``."""
    return x


@jax.jit
def _apply(preprocessing: Standardizer, x: jax.Array) -> jax.Array:
  return preprocessing(x)
