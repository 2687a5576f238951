r"""Groups of evidence on a record, and one score of them all.

The errors of the layers are one thing that a network tells of a record; its class, the sizes of its
activations and its neighbours are others. Each group is one statistic :math:`s_g`, higher = more
anomalous, none of them learnt from anomalies:

==========  ========================================================================================
profile     log of the Mahalanobis distance, in the predicted class, of what all layers show: the
            log of each channel's energy, the mean of one that takes both signs, the log-errors
class       that distance squared, less the one to all records whatever their class (Ren et al.,
            2021): large where a record is no better a member of its class than of none
texture     that distance of two numbers of each layer: the log of its energy, and the log of its
            roughness, the mean squared step between neighbouring places over the energy
layers      the largest error of a layer, in deviations of the predicted class's log-errors
softmax     :math:`\log(1 - \max_k p_k)`
neighbours  log of the distance to the nearest of 2,000 training records, of the directions of the
            last hidden layer's activations (Sun et al., 2022)
ordinary    "profile" with the other sign: energies and errors that are all small lie in the middle
            of the training records, nearer to the mean than any of these
==========  ========================================================================================

"class" and "softmax" are there where the network classifies. A group's p-value :math:`p_g` is that
among held-out records, with an exponential tail beyond the largest. The score is Fisher's with
weights (Good, 1955), :math:`\sum_g w_g (-\log p_g)`; the four that look at
all layers together count twice.
Groups depend on one another: other held-out records calibrate it, so that the stated rate holds.

References: Good, On the weighted combination of significance tests, 1955; Ren et al., A simple fix
to Mahalanobis distance for improving near-OOD detection, 2021; Sun et al., Out-of-distribution
detection with deep nearest neighbors, 2022; for the covariance, Ledoit and Wolf, A well-conditioned
estimator for large-dimensional covariance matrices, 2004.

``evidence_fitting`` has how they are fitted.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fingerprint_jax import one_out

WEIGHTS = {
  "profile": 2.0,
  "class": 2.0,
  "texture": 2.0,
  "layers": 1.0,
  "softmax": 1.0,
  "neighbours": 1.0,
  "ordinary": 2.0,
}
RELEASED = tuple(WEIGHTS)[:-1]  # the groups of folders that do not name theirs
OF_CLASSES = ("class", "softmax")
WIDEST = 1024
QUIET = 0.01
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
    texture: ``[batch, layers + spatial layers]`` energies of whole layers, and roughness of those
      that have places.
    log_errors: ``[batch, layers]`` logarithms of the reconstruction errors.
    logits: ``[batch, classes]``; ``[batch, 1]`` zeros where the network has none.
    direction: ``[batch, width]`` of length 1 (or 0), the last hidden layer's.
  """

  energies: jax.Array
  means: jax.Array
  texture: jax.Array
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
    texture: what "texture" rests on, by name: ``usual`` ``[t]``, the mean of each number;
      ``origin`` ``[t]``, ``within`` ``[t, t]`` and ``class_means`` ``[classes, t]`` as of profiles.
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
  texture: dict[str, jax.Array]
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
    groups: names of the groups.
  """

  layers: tuple[str, ...]
  signed: tuple[str, ...]
  logits: str | None
  hidden: str
  width: int
  sizes: tuple[int, ...]
  groups: tuple[str, ...]

  def observe(self, activations: Mapping[str, jax.Array], errors: jax.Array) -> Observed:
    """Sums up activations ``{layer: [batch, ...]}`` and errors ``[batch, layers]``."""
    channels = {
      n: activations[n].reshape(errors.shape[0], -1, activations[n].shape[-1]) for n in self.layers
    }
    energies = {n: jnp.mean(channels[n] ** 2, axis=1) for n in self.layers}
    means = [_pooled(jnp.mean(channels[n], axis=1), self.width) for n in self.signed]
    whole = {n: jnp.mean(each, axis=1) for n, each in energies.items()}
    rough = [
      _steps(activations[n]) / jnp.maximum(whole[n], one_out.TINY)
      for n in self.layers
      if activations[n].ndim > 2
    ]
    hidden = jnp.mean(channels[self.hidden], axis=1)
    # By the largest entry first: squares of tiny activations would underflow.
    largest = jnp.max(jnp.abs(hidden), axis=1, keepdims=True)
    hidden = hidden / jnp.maximum(largest, one_out.TINY)
    length = jnp.sqrt(jnp.sum(hidden**2, axis=1, keepdims=True))
    none = jnp.zeros((errors.shape[0], 1))
    return Observed(
      jnp.concatenate([_pooled(energies[n], self.width) for n in self.layers], axis=1),
      jnp.concatenate(means, axis=1) if means else none[:, :0],
      jnp.stack([*whole.values(), *rough], axis=1),
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
    known = fitted.texture
    form = exact(texture(observed, known["usual"]) - known["origin"][None], known["within"].T)
    form = jnp.sum((form - exact(of_class, known["class_means"])) ** 2, axis=1)
    found = {
      "texture": jnp.log(jnp.maximum(form, one_out.TINY)),
      "profile": jnp.log(jnp.maximum(own, one_out.TINY)),
      "layers": jnp.max(deviations(fitted, observed), axis=1),
      "neighbours": _to_nearest(exact(observed.direction, fitted.bank.T)),
    }
    found["ordinary"] = -found["profile"]
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


def texture(observed: Observed, usual: jax.Array) -> jax.Array:
  """Logarithms of the texture's numbers, ``[batch, t]``, each relative to its mean."""
  return jnp.log(observed.texture / usual[None] + QUIET)


def _steps(activation: jax.Array) -> jax.Array:
  """Mean squared steps between neighbouring places, ``[batch, ..., c] -> [batch]``, over all axes.

  One reduction for all axes: with one for each XLA copies every map four times on a CPU.
  """
  none = jnp.zeros_like(activation, shape=activation.shape[:1])
  axes = [axis for axis in range(1, activation.ndim - 1) if activation.shape[axis] > 1]
  if not axes:
    return none
  totals = jax.lax.reduce(
    [(activation - _next(activation, axis)) ** 2 for axis in axes],
    [jnp.zeros(())] * len(axes),
    lambda these, those: [this + that for this, that in zip(these, those, strict=True)],
    range(2, activation.ndim),
  )
  means = []
  for axis, total in zip(axes, totals, strict=True):
    places = activation.shape[axis]
    means.append(jnp.sum(total, axis=1) / (activation[0].size / places * (places - 1)))
  return sum(means, none)


def _next(activation: jax.Array, axis: int) -> jax.Array:
  """What the next place along an axis has; the last one, itself."""
  places = activation.shape[axis]
  rest = jax.lax.slice_in_dim(activation, 1, places, axis=axis)
  return jnp.concatenate(
    [rest, jax.lax.slice_in_dim(activation, places - 1, places, axis=axis)], axis=axis
  )


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
  sizes = tuple(_sizes(shapes, width).values())
  groups = tuple(name for name in WEIGHTS if logits is not None or name not in OF_CLASSES)
  return Evidence(names, signed, logits, hidden, width, sizes, groups)


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


def from_json(values: Mapping[str, Any]) -> Evidence:
  """The plan of which a detector's metadata hold ``dataclasses.asdict``."""
  known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
  if "groups" not in known:
    classifies = known["logits"] is not None
    known["groups"] = tuple(n for n in RELEASED if classifies or n not in OF_CLASSES)
  return Evidence(**known)
