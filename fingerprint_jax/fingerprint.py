"""Fingerprints of all layers, and the score that they give a record."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from detector_jax.taps import Taps
from fingerprint_jax import evidence, one_out, views
from fingerprint_jax.evidence import Evidence, Observed

FLOOR = 0.1


@dataclasses.dataclass(frozen=True)
class Fingerprint:
  """``(variables, x [batch, ...]) -> score [batch]``; pure and hashable.

  ``variables`` is ``{"network", "views", "params", "weights", "reference"}``: the frozen network's
  own, then by layer a ``View``, the autoencoder's parameters and the weights of the error, and a
  ``one_out.Reference``; with ``evidence`` that is one of ``evidence.deviations`` and not of
  log-errors, and "evidence" has an ``evidence.Fitted``.

  Attributes:
    taps: which activations.
    autoencoders: one Linen module per tap, in the order of ``taps.layers``.
    two_sided: whether errors that are too small count too, as the paper has it.
    evidence: what else is looked at, see ``evidence``; None is the paper's one-out rule.
  """

  taps: Taps
  autoencoders: tuple[nn.Module, ...]
  two_sided: bool = True
  evidence: Evidence | None = None

  @property
  def layers(self) -> tuple[str, ...]:
    """Names of the layers."""
    return self.taps.layers

  def targets(self, variables: Mapping[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    """What the autoencoders have to reconstruct, by layer, from one pass of the network."""
    return self.views(variables, self.activations(variables, x))

  def activations(self, variables: Mapping[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    """Activations ``[batch, ...]`` by layer, of which no gradient is taken."""
    return jax.lax.stop_gradient(self.taps(variables["network"], x))

  def views(
    self, variables: Mapping[str, Any], activations: Mapping[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """What the autoencoders see of activations, by layer."""
    return {name: variables["views"][name](a) for name, a in activations.items()}

  def residuals(
    self, params: Mapping[str, Any], targets: Mapping[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """``target - reconstruction`` by layer, ``[batch, ...]`` each."""
    result = {}
    for name, autoencoder in zip(self.layers, self.autoencoders, strict=True):
      reconstruction: Any = autoencoder.apply({"params": params[name]}, targets[name])
      result[name] = targets[name] - reconstruction
    return result

  def unexplained(self, variables: Mapping[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    r"""Share of each layer's energy that its autoencoder does not explain, by coordinate.

    .. math:: w_j (t_j - \hat t_j)^2 / \mathrm{mean}_k(w_k t_k^2 + 0.1 w_k)

    with t the view of the activation, whose variance is 1, and w from ``error_weights``. The mean
    over coordinates is the error. The paper leaves the loss open; relative to the energy, an error
    says how strange a pattern is and not how strong.

    Returns:
      ``{layer: [batch, ...]}``.
    """
    return self.shares(variables, self.activations(variables, x))

  def shares(
    self, variables: Mapping[str, Any], activations: Mapping[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """As ``unexplained``, of the activations of a pass."""
    targets = self.views(variables, activations)
    residuals = self.residuals(variables["params"], targets)
    result = {}
    for name, target in targets.items():
      weights, axes = variables["weights"][name][None], tuple(range(1, target.ndim))
      energy = jnp.mean(weights * (target**2 + FLOOR), axis=axes, keepdims=True)
      result[name] = weights * residuals[name] ** 2 / energy
    return result

  def errors(self, unexplained: Mapping[str, jax.Array]) -> jax.Array:
    """Reconstruction errors ``e_l``, ``[batch, layers]``: means of ``unexplained``."""
    return jnp.stack(
      [jnp.mean(unexplained[n], axis=tuple(range(1, unexplained[n].ndim))) for n in self.layers],
      axis=1,
    )

  def observe(self, variables: Mapping[str, Any], x: jax.Array) -> Observed:
    """What the groups of evidence look at; needs neither reference nor "evidence"."""
    assert self.evidence is not None
    activations = self.activations(variables, x)
    errors = self.errors(self.shares(variables, activations))
    return self.evidence.observe(activations, errors)

  def __call__(self, variables: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Score ``[batch]`` of the rule; higher = more anomalous."""
    if self.evidence is not None:
      fitted = variables["evidence"]
      statistics = self.evidence.statistics(fitted, self.observe(variables, x))
      return evidence.score(fitted, self.evidence.extremeness(fitted, statistics))
    errors = self.errors(self.unexplained(variables, x))
    extremes, _ = one_out.extremeness(variables["reference"], errors, self.two_sided)
    return one_out.score(extremes)

  def report(
    self, variables: Mapping[str, Any], x: jax.Array, threshold: jax.Array
  ) -> dict[str, jax.Array]:
    """What is behind the scores of ``x`` ``[batch, ...]``.

    Args:
      variables: see the class.
      x: records.
      threshold: of the score.

    Returns:
      ``layer_error``, ``layer_extremeness``, ``layer_p_value``, ``layer_side`` (+1 above the
      typical errors' middle, -1 below), ``layer_low`` and ``layer_high`` (the thresholds mu and
      tau), ``[batch, layers]`` each; ``layer`` ``[batch]`` int32, the layer of the largest
      extremeness, and ``side`` ``[batch]``, its side; for each layer that is a map,
      ``map/LAYER`` ``[batch, ...]``, its error by place (their mean is ``layer_error``). With
      ``evidence`` also ``group_extremeness`` and ``group_p_value`` ``[batch, groups]`` and
      ``group`` ``[batch]`` int32, the one that adds most to the score; the layers' thresholds are
      then those of the predicted class, for a layer that is asked alone at the rate of the whole.
    """
    activations = self.activations(variables, x)
    unexplained = self.shares(variables, activations)
    errors, told = self.errors(unexplained), {}
    reference, two_sided = variables["reference"], self.two_sided or self.evidence is not None
    logs = jnp.log(jnp.maximum(errors, one_out.TINY))
    centre, spread = jnp.zeros_like(logs), jnp.ones_like(logs)
    if self.evidence is not None:
      fitted = variables["evidence"]
      observed = self.evidence.observe(activations, errors)
      centre, spread = evidence.typical(fitted, observed)
      told = self.evidence.report(fitted, observed)
      threshold = evidence.level(fitted, threshold)
    extremes, sides = one_out.extremeness_of_logs(reference, (logs - centre) / spread, two_sided)
    low, high = one_out.log_thresholds(reference, threshold)
    low = jnp.exp(low[None] * spread + centre) if two_sided else jnp.zeros_like(low[None])
    layer = jnp.argmax(extremes, axis=1).astype(jnp.int32)
    maps = {
      f"map/{name}": jnp.mean(share, axis=-1)
      for name, share in unexplained.items()
      if share.ndim > 2
    }
    return {
      "layer_error": errors,
      "layer_extremeness": extremes,
      "layer_p_value": one_out.p_value(reference, extremes, two_sided),
      "layer_side": sides,
      "layer_low": jnp.broadcast_to(low, errors.shape),
      "layer_high": jnp.broadcast_to(jnp.exp(high[None] * spread + centre), errors.shape),
      "layer": layer,
      "side": jnp.take_along_axis(sides, layer[:, None], axis=1)[:, 0],
      **told,
      **maps,
    }


@dataclasses.dataclass(frozen=True)
class Report:
  """``prints.report`` as a function that equals that of an equal fingerprint.

  Attributes:
    prints: the fingerprint.
  """

  prints: Fingerprint

  def __call__(
    self, variables: Mapping[str, Any], x: jax.Array, threshold: jax.Array
  ) -> dict[str, jax.Array]:
    """See ``Fingerprint.report``."""
    return self.prints.report(variables, x, threshold)


def error_weights(mean_squares: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
  r"""Weights of the coordinates of a layer, :math:`1 / (s_j^2 + 0.1 \bar{s^2})`, of mean 1.

  :math:`s_j^2` is the mean squared residual of coordinate j over training records. A coordinate
  that is always reconstructed well (a border that is always empty) then counts by what is usual
  for it.

  Args:
    mean_squares: by layer, mean squared residuals of one record's shape.
  """
  result = {}
  for name, squares in mean_squares.items():
    weights = 1.0 / np.maximum(squares + FLOOR * np.mean(squares), one_out.TINY)
    result[name] = jnp.asarray(weights / np.mean(weights), jnp.float32)
  return result


def shapes_of_targets(taps: Taps) -> dict[str, tuple[int, ...]]:
  """Shape of what each layer's autoencoder sees, of one record."""
  return {
    name: views.pooled_shape(shape) for name, shape in zip(taps.layers, taps.shapes, strict=True)
  }
