r"""Groups of evidence on a record, and one score of them all.

The errors of the layers are one thing that a network tells of a record; its class, the sizes of its
activations and its neighbours are others. Each group is one statistic :math:`s_g`, higher = more
anomalous, none of them learnt from anomalies:

==========  ========================================================================================
profile     log of the Mahalanobis distance, in the predicted class, of what all layers show: the
            log of each channel's energy, the mean of one that takes both signs, the log-errors
class       that distance squared, less the one to all records whatever their class (Ren et al.,
            2021): large where a record is no better a member of its class than of none
layers      the largest error of a layer, in deviations of the predicted class's log-errors
softmax     :math:`\log(1 - \max_k p_k)`
neighbours  log of the distance to the nearest of 2,000 training records, of the directions of the
            last hidden layer's activations (Sun et al., 2022)
==========  ========================================================================================

"class" and "softmax" are there where the network classifies. A group's p-value :math:`p_g` is that
among held-out records, with an exponential tail beyond the largest. The score is Fisher's with
weights (Good, 1955), :math:`\sum_g w_g (-\log p_g)`; the two that look at every layer count twice.
Groups depend on one another: other held-out records calibrate it, so that the stated rate holds.

References: Good, On the weighted combination of significance tests, 1955; Ren et al., A simple fix
to Mahalanobis distance for improving near-OOD detection, 2021; Sun et al., Out-of-distribution
detection with deep nearest neighbors, 2022; for the covariance, Ledoit and Wolf, A well-conditioned
estimator for large-dimensional covariance matrices, 2004.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from fingerprint_jax import one_out

WEIGHTS = {"profile": 2.0, "class": 2.0, "layers": 1.0, "softmax": 1.0, "neighbours": 1.0}
OF_CLASSES = ("class", "softmax")
WIDEST = 1024
BANK = 2000
QUIET = 0.01
DEAD = 0.03
PRIOR = 20
NEAREST = 1e-3
LEAST_WIDTH = 8
LEAST_OF_CLASS = 0.01
CONFIDENT = 0.5
LARGE = 1e30


class Observed(NamedTuple):
  """What a pass of the network shows of records.

  Attributes:
    energies: ``[batch, channels]`` mean squares over places, of all layers, pooled.
    means: ``[batch, signed channels]`` means over places of the layers that take both signs.
    log_errors: ``[batch, layers]`` logarithms of the reconstruction errors.
    logits: ``[batch, classes]``; ``[batch, 1]`` zeros where the network has none.
    direction: ``[batch, width]`` of length 1 (or 0), the last hidden layer's.
  """

  energies: jax.Array
  means: jax.Array
  log_errors: jax.Array
  logits: jax.Array
  direction: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fitted:
  """What the training and the reference records left.

  Attributes:
    energy: ``[channels]`` mean energy of the layer that a channel belongs to.
    centre: ``[classes, layers]`` means of the log-errors.
    spread: ``[classes, layers]`` their deviations.
    origin: ``[d]`` mean of the profiles.
    within: ``[d, d]`` whitening of profiles about the means of their classes.
    class_means: ``[classes, d]`` of the whitened profiles.
    overall: ``[d, d]`` whitening of profiles about ``origin``; ``[0, 0]`` without classes.
    bank: ``[records, width]`` directions of training records.
    weights: ``[groups]`` of the groups in the score, 0 for one that says nothing.
    reference: of held-out records, over the groups' statistics and, as its last row, the score.
  """

  energy: jax.Array
  centre: jax.Array
  spread: jax.Array
  origin: jax.Array
  within: jax.Array
  class_means: jax.Array
  overall: jax.Array
  bank: jax.Array
  weights: jax.Array
  reference: one_out.Reference


@dataclasses.dataclass(frozen=True)
class Evidence:
  """Which layers give which evidence; hashable.

  Attributes:
    layers: names, in order.
    signed: those whose channels' means are in the profile.
    logits: the one whose largest entry is the predicted class, or None.
    hidden: the one that gives directions to the neighbours.
    width: largest number of channels of a layer; more are averaged, neighbour by neighbour.
    sizes: how many each layer then has.
  """

  layers: tuple[str, ...]
  signed: tuple[str, ...]
  logits: str | None
  hidden: str
  width: int
  sizes: tuple[int, ...]

  @property
  def groups(self) -> tuple[str, ...]:
    """Names of the groups."""
    return tuple(name for name in WEIGHTS if self.logits is not None or name not in OF_CLASSES)

  def observe(self, activations: Mapping[str, jax.Array], errors: jax.Array) -> Observed:
    """Sums up activations ``{layer: [batch, ...]}`` and errors ``[batch, layers]``."""
    channels = {
      n: activations[n].reshape(errors.shape[0], -1, activations[n].shape[-1]) for n in self.layers
    }
    energies = [_pooled(jnp.mean(channels[n] ** 2, axis=1), self.width) for n in self.layers]
    means = [_pooled(jnp.mean(channels[n], axis=1), self.width) for n in self.signed]
    hidden = jnp.mean(channels[self.hidden], axis=1)
    # By the largest entry first: squares of tiny activations would underflow.
    largest = jnp.max(jnp.abs(hidden), axis=1, keepdims=True)
    hidden = hidden / jnp.maximum(largest, one_out.TINY)
    length = jnp.sqrt(jnp.sum(hidden**2, axis=1, keepdims=True))
    none = jnp.zeros((errors.shape[0], 1))
    return Observed(
      jnp.concatenate(energies, axis=1),
      jnp.concatenate(means, axis=1) if means else none[:, :0],
      jnp.log(jnp.maximum(errors, one_out.TINY)),
      none if self.logits is None else as_logits(activations[self.logits]),
      hidden / jnp.maximum(length, one_out.TINY),
    )

  def statistics(self, fitted: Fitted, observed: Observed) -> jax.Array:
    """The statistics of the groups, ``[batch, groups]``."""
    exact = functools.partial(jnp.matmul, precision="highest")
    of_class = predicted(observed.logits)
    about = profile(observed, fitted.energy) - fitted.origin[None]
    own = jnp.sum(
      (exact(about, fitted.within.T) - exact(of_class, fitted.class_means)) ** 2, axis=1
    )
    found = {
      "profile": jnp.log(jnp.maximum(own, one_out.TINY)),
      "layers": jnp.max(deviations(fitted, observed), axis=1),
      "neighbours": _to_nearest(exact(observed.direction, fitted.bank.T)),
    }
    if self.logits is not None:
      found["class"] = own - jnp.sum(exact(about, fitted.overall.T) ** 2, axis=1)
      found["softmax"] = _log_rest(observed.logits)
    return jnp.stack([found[name] for name in self.groups], axis=1)

  def extremeness(self, fitted: Fitted, statistics: jax.Array) -> jax.Array:
    """Minus the logarithm of each group's p-value, ``[batch, groups]``."""
    named, whole = len(self.groups), fitted.reference
    groups = dataclasses.replace(
      whole,
      errors=whole.errors[:named],
      upper_slope=whole.upper_slope[:named],
      lower_slope=whole.lower_slope[:named],
    )
    return one_out.extremeness_of_logs(groups, statistics, two_sided=False)[0]

  def report(self, fitted: Fitted, observed: Observed) -> dict[str, jax.Array]:
    """``group_extremeness``, ``group_p_value`` and ``group``; see ``Fingerprint.report``."""
    extremes = self.extremeness(fitted, self.statistics(fitted, observed))
    return {
      "group_extremeness": extremes,
      "group_p_value": one_out.p_value(fitted.reference, extremes, two_sided=False),
      "group": jnp.argmax(extremes * fitted.weights[None], axis=1).astype(jnp.int32),
    }


def score(fitted: Fitted, extremes: jax.Array) -> jax.Array:
  """Fisher's statistic with weights, ``[batch, groups] -> [batch]``."""
  return jnp.sum(extremes * fitted.weights[None], axis=1)


def level(fitted: Fitted, threshold: jax.Array) -> jax.Array:
  """Minus the logarithm of the share of held-out records whose score is above a threshold."""
  upper, knots = fitted.reference.upper, fitted.reference.errors[-1]
  beyond = jnp.maximum(threshold - knots[-1], 0.0) * fitted.reference.upper_slope[-1]
  return jnp.interp(threshold, knots, upper) + beyond


def typical(fitted: Fitted, observed: Observed) -> tuple[jax.Array, jax.Array]:
  """Mean and deviation of the log-errors of the predicted class, ``[batch, layers]`` each."""
  of_class = predicted(observed.logits)
  centre = jnp.matmul(of_class, fitted.centre, precision="highest")
  return centre, jnp.matmul(of_class, fitted.spread, precision="highest")


def deviations(fitted: Fitted, observed: Observed) -> jax.Array:
  """Log-errors in deviations of those of the predicted class, ``[batch, layers]``."""
  centre, spread = typical(fitted, observed)
  return (observed.log_errors - centre) / spread


def profile(observed: Observed, energy: jax.Array) -> jax.Array:
  """What all layers show at once, ``[batch, d]``; energies relative to those of the layer."""
  logs = jnp.log(observed.energies / energy[None] + QUIET)
  means = [observed.means] if observed.means.shape[1] else []
  return jnp.concatenate([logs, *means, observed.log_errors], axis=1)


def predicted(logits: jax.Array) -> jax.Array:
  """The predicted class as a row of zeros and a one, ``[batch, classes]``."""
  return jax.nn.one_hot(jnp.argmax(logits, axis=1), logits.shape[1])


def as_logits(activation: jax.Array) -> jax.Array:
  """A layer as logits ``[batch, classes]``; of one unit, two classes."""
  flat = activation.reshape(activation.shape[0], -1)
  return flat if flat.shape[1] > 1 else jnp.concatenate([jnp.zeros_like(flat), flat], axis=1)


def _pooled(channels: jax.Array, width: int) -> jax.Array:
  """Means of neighbouring channels ``[batch, channels]``, at most ``width`` of them."""
  size = channels.shape[1]
  window = -(-size // width)
  if window == 1:
    return channels
  whole = size // window * window
  parts = [channels[:, :whole].reshape(channels.shape[0], -1, window).mean(axis=2)]
  if whole < size:
    parts.append(channels[:, whole:].mean(axis=1, keepdims=True))
  return jnp.concatenate(parts, axis=1)


def _to_nearest(likeness: jax.Array) -> jax.Array:
  """Log of the distance to the most alike, from cosines ``[batch, records]``."""
  squared = 2.0 - 2.0 * jnp.max(likeness, axis=1)
  return 0.5 * jnp.log(jnp.maximum(squared, NEAREST**2))


def _log_rest(logits: jax.Array) -> jax.Array:
  """``log(1 - max softmax)``, without the rounding of ``1 - 1``; ``[batch]``."""
  others = jnp.where(predicted(logits) > 0.0, -LARGE, logits)
  rest = jax.nn.logsumexp(others, axis=1) - jnp.max(logits, axis=1)
  return rest - jnp.logaddexp(rest, 0.0)


def plan(
  shapes: Mapping[str, tuple[int, ...]], sample: Mapping[str, np.ndarray], logits: str | None
) -> Evidence:
  """Chooses what the evidence looks at, from activations of some training records.

  Args:
    shapes: of one record's activation by layer, in the order of the network.
    sample: ``{layer: [n, width]}`` activations of those layers that are vectors.
    logits: a layer, None for none, or "auto": the last one where it looks like a classifier's, with
      two classes or more that take 1 % of the records and a largest softmax of 0.5 in the mean.

  Raises:
    ValueError: logits that are no tapped layer.
  """
  names = tuple(shapes)
  if logits == "auto":
    logits = names[-1] if _classifies(sample.get(names[-1])) else None
  if logits is not None and logits not in names:
    raise ValueError(
      f"logits names {logits!r}, which is no tapped layer; these are: {', '.join(names)}."
    )
  signed = tuple(n for n in names if n not in sample or np.min(sample[n]) < 0.0)
  before = names[: names.index(logits) if logits else None]
  wide = [n for n in before if shapes[n][-1] >= LEAST_WIDTH]
  hidden = (wide or before or names)[-1]
  width = WIDEST
  while width > 1 and _entries(_sizes(shapes, width), signed) > WIDEST:
    width //= 2
  return Evidence(names, signed, logits, hidden, width, tuple(_sizes(shapes, width).values()))


def _sizes(shapes: Mapping[str, tuple[int, ...]], width: int) -> dict[str, int]:
  """Channels by layer, once they are pooled."""
  return {name: -(-shape[-1] // -(-shape[-1] // width)) for name, shape in shapes.items()}


def _entries(sizes: Mapping[str, int], signed: tuple[str, ...]) -> int:
  """Entries of a profile."""
  return sum(sizes.values()) + sum(sizes[name] for name in signed) + len(sizes)


def _classifies(activation: np.ndarray | None) -> bool:
  """Whether a layer ``[n, width]`` looks like the logits of a classifier."""
  if activation is None or activation.shape[1] < 2:
    return False
  shares = np.bincount(np.argmax(activation, axis=1)) / len(activation)
  apart = np.exp(activation - np.max(activation, axis=1, keepdims=True), dtype=np.float64)
  largest = np.mean(1.0 / apart.sum(axis=1))
  return bool(np.sum(shares >= LEAST_OF_CLASS) >= 2 and largest >= CONFIDENT)


def fit(plan: Evidence, observed: Observed) -> Fitted:
  """Everything but the reference, from ``n`` training records."""
  classes = observed.logits.shape[1]
  of_class = np.argmax(observed.logits, axis=1)
  centre, spread = _moments(np.asarray(observed.log_errors, np.float64), of_class, classes)
  energy = _energy(plan, np.asarray(observed.energies, np.float64))
  shown = np.asarray(profile(observed, jnp.asarray(energy)), np.float64)
  origin = shown.mean(axis=0)
  means = _moments(shown, of_class, classes)[0] - origin
  about = shown - origin
  rest = about - means[of_class]
  shrinkage = _shrinkage(rest)
  within = _whitening(rest, shrinkage)
  overall = _whitening(about, shrinkage) if plan.logits is not None else np.zeros((0, 0))
  rows = np.linspace(0, len(shown) - 1, min(BANK, len(shown))).round().astype(int)
  as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
  return Fitted(
    energy=as_float32(energy),
    centre=as_float32(centre),
    spread=as_float32(spread),
    origin=as_float32(origin),
    within=as_float32(within),
    class_means=as_float32(means @ within.T),
    overall=as_float32(overall),
    bank=as_float32(observed.direction[rows]),
    weights=as_float32([WEIGHTS[name] for name in plan.groups]),
    reference=one_out.fit_logs(np.arange(2.0 * one_out.TAIL_RECORDS)[:, None], ("",)),
  )


def with_reference(plan: Evidence, fitted: Fitted, statistics: np.ndarray) -> Fitted:
  """Adds how held-out records' statistics ``[n, groups]`` are distributed.

  A group that says the same of all of them gets the weight 0.

  Raises:
    ValueError: too few records, or a statistic that is not finite.
  """
  values = np.array(statistics, np.float64)
  same = np.ptp(values, axis=0) == 0.0
  values[:, same] += 1e-6 * np.arange(len(values))[:, None]
  weights = np.where(same, 0.0, np.asarray(fitted.weights))
  fitted = dataclasses.replace(fitted, weights=jnp.asarray(weights, jnp.float32))
  names = tuple(f"evidence {name}" for name in plan.groups)
  fitted = dataclasses.replace(fitted, reference=one_out.fit_logs(values, names))
  extremes = plan.extremeness(fitted, jnp.asarray(values, jnp.float32))
  joint = np.asarray(score(fitted, extremes), np.float64)
  told = one_out.fit_logs(np.c_[values, joint], (*names, "score"))
  return dataclasses.replace(fitted, reference=told)


def _moments(values: np.ndarray, of_class: np.ndarray, classes: int) -> tuple[np.ndarray, ...]:
  """Means and deviations by class, ``[classes, d]``; of few records, drawn to those of all."""
  mean, deviation = values.mean(axis=0), values.std(axis=0)
  means, deviations = np.tile(mean, (classes, 1)), np.tile(deviation, (classes, 1))
  for each in np.unique(of_class):
    rows = values[of_class == each]
    weight = len(rows) / (len(rows) + PRIOR)
    means[each] += weight * (rows.mean(axis=0) - mean)
    deviations[each] += weight * (rows.std(axis=0) - deviation)
  return means, np.maximum(deviations, np.maximum(1e-3 * deviation, 1e-6))


def _scale(about: np.ndarray) -> np.ndarray:
  """Deviations ``[d]``; one that (nearly) never varies counts as a share of the usual one."""
  deviation = np.sqrt(np.mean(about**2, axis=0))
  return np.maximum(deviation, max(DEAD * float(np.median(deviation)), 1e-12))


def _shrinkage(about: np.ndarray) -> float:
  """Ledoit and Wolf's weight of the diagonal."""
  return float(np.clip(ledoit_wolf_shrinkage(about / _scale(about), assume_centered=True), 0, 1))


def _whitening(about: np.ndarray, shrinkage: float) -> np.ndarray:
  """Inverse of the Cholesky factor of the shrunken covariance of rows ``[n, d]``."""
  scaled = about / (scale := _scale(about))
  correlation = (1.0 - shrinkage) * (scaled.T @ scaled) / len(scaled)
  correlation += max(shrinkage, 1e-4) * np.eye(len(scale))
  return np.linalg.inv(np.linalg.cholesky(correlation)) / scale[None]


def _energy(plan: Evidence, energies: np.ndarray) -> np.ndarray:
  """Mean energy of the layer of each channel, ``[channels]``, from ``[n, channels]``."""
  of_layer = np.repeat(np.arange(len(plan.sizes)), plan.sizes)
  totals = np.bincount(of_layer, energies.mean(axis=0)) / np.asarray(plan.sizes)
  return np.maximum(totals, one_out.TINY)[of_layer].astype(np.float32)


def from_json(values: Mapping[str, Any]) -> Evidence:
  """The plan of which a detector's metadata hold ``dataclasses.asdict``."""
  known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
  return Evidence(**known)
