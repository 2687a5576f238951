r"""The one-out rule: reconstruction errors -> two-sided extremeness per layer -> one score.

The paper calls a record out-of-distribution if there is a layer :math:`l` with :math:`e_l > \tau_l`
or :math:`e_l < \mu_l`. All thresholds move together with one level :math:`t`: the record is flagged
if the largest extremeness over layers is above :math:`t`. That largest extremeness is the score; a
threshold calibrated on it holds for the whole rule, where 1 % on each side of 5 independent layers
would fire on 9.6 % of typical records.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

TAIL = 0.05
TAIL_RECORDS = 10
MAX_KNOTS = 512
TINY = 1e-30


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["errors", "upper", "lower", "upper_slope", "lower_slope"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Reference:
  """How held-out typical records' errors are distributed, layer by layer.

  Attributes:
    errors: ``[layers, knots]`` ascending logarithms of reference errors.
    upper: ``[knots]`` minus the logarithm of the share of errors at or above each knot.
    lower: ``[knots]`` minus the logarithm of the share at or below each knot.
    upper_slope: ``[layers]`` by which extremeness rises per unit of log-error above all of them.
    lower_slope: ``[layers]`` the same below all of them.
  """

  errors: jax.Array
  upper: jax.Array
  lower: jax.Array
  upper_slope: jax.Array
  lower_slope: jax.Array


def fit_reference(errors: np.ndarray, layers: tuple[str, ...]) -> Reference:
  """Summarises the errors of held-out typical records.

  Beyond the largest and the smallest error the tails go on as power laws whose exponents are
  estimated from the outer 5 % on each side (Hill, 1975), so that records far outside keep being
  ranked by their distance.

  Args:
    errors: ``[n, layers]`` reconstruction errors > 0, n >= 20.
    layers: names, for messages.

  Raises:
    ValueError: too few records, an error that is not finite, or a layer whose errors are all alike.
  """
  errors = np.asarray(errors, np.float64)
  n = len(errors)
  if n < 2 * TAIL_RECORDS:
    raise ValueError(
      f"The fingerprints need at least {2 * TAIL_RECORDS} held-out records to learn how errors are "
      f"distributed, got {n}; give more records or a larger calibration_size."
    )
  for name, column in zip(layers, errors.T, strict=True):
    if not np.isfinite(column).all():
      raise ValueError(f"Layer {name!r} has reconstruction errors that are not finite.")
    if np.ptp(column) == 0.0:
      raise ValueError(
        f"All reconstruction errors of layer {name!r} are {column[0]:.3g}: it is constant and says "
        "nothing of a record. Leave it out with layers=."
      )
  return fit_logs(np.log(np.maximum(errors, TINY)), layers)


def fit_logs(values: np.ndarray, names: tuple[str, ...]) -> Reference:
  """As ``fit_reference``, of any statistics ``[n, names]`` in the place of log-errors.

  Raises:
    ValueError: a statistic that is not finite.
  """
  n = len(values)
  for name, column in zip(names, values.T, strict=True):
    if not np.isfinite(column).all():
      raise ValueError(f"{name} is not finite on held-out records; look at the network.")
  logs = np.sort(values, axis=0).T
  ranks = _knots(n)
  m = max(TAIL_RECORDS, round(TAIL * n))
  upper_scale = np.mean(logs[:, -m:] - logs[:, -m, None], axis=1)
  lower_scale = np.mean(logs[:, m - 1, None] - logs[:, :m], axis=1)
  smallest = 1e-3 * np.maximum(np.ptp(logs, axis=1), 1e-6)
  as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
  return Reference(
    errors=as_float32(logs[:, ranks]),
    upper=as_float32(-np.log((n - ranks) / (n + 1.0))),
    lower=as_float32(-np.log((ranks + 1.0) / (n + 1.0))),
    upper_slope=as_float32(1.0 / np.maximum(upper_scale, smallest)),
    lower_slope=as_float32(1.0 / np.maximum(lower_scale, smallest)),
  )


def _knots(n: int) -> np.ndarray:
  """Ranks that are kept: all of the tails, evenly spaced ones between."""
  if n <= MAX_KNOTS:
    return np.arange(n)
  tail = MAX_KNOTS // 4
  middle = np.linspace(tail, n - tail - 1, MAX_KNOTS - 2 * tail).round().astype(int)
  return np.unique(np.concatenate([np.arange(tail), middle, np.arange(n - tail, n)]))


def extremeness(
  reference: Reference, errors: jax.Array, two_sided: bool = True
) -> tuple[jax.Array, jax.Array]:
  """How unusual each layer's error is, on either side.

  Args:
    reference: of held-out records.
    errors: ``[batch, layers]``, > 0.
    two_sided: False asks above only.

  Returns:
    ``[batch, layers]`` minus the logarithm of the one-sided p-value, of the side where it is
    smaller, and ``[batch, layers]`` that side, +1 above and -1 below.
  """
  return extremeness_of_logs(reference, jnp.log(jnp.maximum(errors, TINY)), two_sided)


def extremeness_of_logs(
  reference: Reference, logs: jax.Array, two_sided: bool = True
) -> tuple[jax.Array, jax.Array]:
  """As ``extremeness``, of log-errors or other statistics ``[batch, layers]``."""
  upper, lower = jax.vmap(_two_tails, in_axes=(None, 0, 0, 0, 1), out_axes=1)(
    reference,
    reference.errors,
    reference.upper_slope,
    reference.lower_slope,
    logs,
  )
  above = upper >= lower if two_sided else jnp.ones_like(upper, bool)
  # NaN must not turn into a side: it stays NaN in the extremeness.
  return jnp.where(above, upper, lower), jnp.where(above, 1.0, -1.0)


def _two_tails(
  reference: Reference, knots: jax.Array, up: jax.Array, down: jax.Array, logs: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Upper and lower extremeness of one layer's log-errors ``[batch]``, linear between knots."""
  place = jnp.searchsorted(knots, logs, method="compare_all")
  place = jnp.clip(place, 1, knots.shape[0] - 1)
  left, right = knots[place - 1], knots[place]
  width = right - left
  share = jnp.where(width > 0.0, (logs - left) / jnp.where(width > 0.0, width, 1.0), 1.0)
  share = jnp.where(jnp.isnan(logs), logs, jnp.clip(share, 0.0, 1.0))

  def between(values: jax.Array) -> jax.Array:
    return values[place - 1] + share * (values[place] - values[place - 1])

  upper = between(reference.upper) + jnp.maximum(logs - knots[-1], 0.0) * up
  lower = between(reference.lower) + jnp.maximum(knots[0] - logs, 0.0) * down
  return upper, lower


def score(extremes: jax.Array) -> jax.Array:
  """The one-out score, the largest extremeness: ``[batch, layers] -> [batch]``."""
  return jnp.max(extremes, axis=1)


def p_value(reference: Reference, extremes: jax.Array, two_sided: bool = True) -> jax.Array:
  """p-values per layer, ``[batch, layers]``, no smaller than the reference can tell."""
  smallest = jnp.exp(-reference.upper[-1])
  sides = 2.0 if two_sided else 1.0
  return jnp.minimum(sides * jnp.maximum(jnp.exp(-extremes), smallest), 1.0)


def thresholds(reference: Reference, level: jax.Array) -> tuple[jax.Array, jax.Array]:
  r"""The errors :math:`\mu_l < \tau_l` at which each layer's extremeness reaches ``level``.

  Args:
    reference: of held-out records.
    level: the threshold of the one-out score.

  Returns:
    ``mu`` and ``tau``, ``[layers]`` each, in units of the reconstruction error.
  """
  low, high = log_thresholds(reference, level)
  return jnp.exp(low), jnp.exp(high)


def log_thresholds(reference: Reference, level: jax.Array) -> tuple[jax.Array, jax.Array]:
  """As ``thresholds``, of log-errors or whatever else the reference is of."""

  def crossing(knots: jax.Array, up: jax.Array, down: jax.Array) -> tuple[jax.Array, jax.Array]:
    beyond = jnp.maximum(level - reference.upper[-1], 0.0) / up
    tau = jnp.interp(level, reference.upper, knots) + beyond
    beyond = jnp.maximum(level - reference.lower[0], 0.0) / down
    mu = jnp.interp(level, reference.lower[::-1], knots[::-1]) - beyond
    return mu, tau

  return jax.vmap(crossing)(reference.errors, reference.upper_slope, reference.lower_slope)
