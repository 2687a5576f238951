"""Features from the activations of a trained network, which stays as it is."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from detector_jax import taps
from detector_jax.features.base import in_turn, rows_for
from detector_jax.features.whitening import Whitening


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["variables", "whitening"],
  meta_fields=["tapped", "rows", "unit"],
)
@dataclasses.dataclass(frozen=True)
class ActivationMap:
  """``x [batch, ...] -> [batch, features]``, as ``Activations`` fits it.

  Attributes:
    variables: of the network.
    whitening: of the layers' means over places, put end to end.
    tapped: see ``taps.Taps``.
    rows: see ``FeatureMap``.
    unit: see ``Activations``.
  """

  variables: Any
  whitening: Whitening | None
  tapped: taps.Taps
  rows: int
  unit: bool = True

  def __call__(self, x: jax.Array) -> jax.Array:
    """Features ``[batch, features]`` of raw records ``[batch, ...]``."""
    code = self.code(x)
    return code if self.whitening is None else self.whitening(code)

  def code(self, x: jax.Array) -> jax.Array:
    """Activations averaged over places, ``[batch, sum of channels]``, before they are whitened."""
    found = self.tapped(self.variables, x)
    means = [_averaged(found[name]) for name in self.tapped.layers]
    if self.unit:
      means = [mean / optax.safe_norm(mean, 1e-12, axis=1, keepdims=True) for mean in means]
    return jnp.concatenate(means, axis=1)


def _averaged(activation: jax.Array) -> jax.Array:
  """Means ``[batch, channels]`` over all axes between the first and the last."""
  return jnp.mean(activation, axis=tuple(range(1, activation.ndim - 1)))


_code = jax.jit(ActivationMap.code)


@dataclasses.dataclass(frozen=True, eq=False)
class Activations:
  """A trained network and the layers to look at; ``fit`` learns how to whiten them.

  Attributes:
    network: a Linen module, or a function ``(variables, x) -> {name: array}``, see ``taps.find``.
    variables: the trained variables, None for a function of x alone.
    layers: names of the layers to tap; None takes the last.
    components: features that are left after whitening, >= 1; the length of what they leave out is
      one more. A network that was trained on other data has activations for what no typical record
      shows, and an anomaly may lie there alone.
    noise: see ``Whitening.fit``.
    unit: whether each layer's means are divided by their length, so that Euclidean distances are
      of angles: how strong activations are says more of contrast than of contents.
    apply_kwargs: arguments of the module beside x, hashable.
  """

  network: Any
  variables: Any = None
  layers: Sequence[str] | None = None
  components: int = 512
  noise: float = 1.0
  unit: bool = True
  apply_kwargs: Mapping[str, Any] | None = None

  def fit(self, x: Any, seed: int = 0) -> ActivationMap:
    """Learns the whitening from typical records ``[n, ...]``, raw, a batch at a time.

    Args:
      x: anything with a length and slices.
      seed: not used; nothing is drawn.

    Raises:
      ValueError: network, variables and records do not match, or there is no such layer.
    """
    del seed
    variables = taps.as_variables(self.variables)
    shape = tuple(x.shape[1:])
    tapped = taps.find(
      self.network, variables, shape, layers=self.layers, apply_kwargs=self.apply_kwargs
    )
    if self.layers is None:
      tapped = dataclasses.replace(tapped, layers=tapped.layers[-1:], shapes=tapped.shapes[-1:])
    largest = max(math.prod(shape), *map(math.prod, tapped.shapes))
    raw = ActivationMap(
      jax.tree.map(jnp.asarray, variables), None, tapped, max(8, rows_for(largest)), self.unit
    )
    codes = in_turn(lambda batch: _code(raw, batch), x, raw.rows)
    return dataclasses.replace(raw, whitening=self.whitened(codes))

  def whitened(self, codes: Iterable[np.ndarray]) -> Whitening:
    """The whitening of batches of codes, see ``ActivationMap.code``, that are there already."""
    return Whitening.fit(codes, self.components, self.noise, residual=True)
