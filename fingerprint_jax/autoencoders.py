"""One autoencoder per tap: the fingerprint of a layer.

An autoencoder sees the tap's view (see ``views``): pooled to a small grid and standardised. Groups
of evidence rest on ``PrincipalAutoencoder``s, the paper's rule on the ones of
``default_autoencoder``, which are trained. Any Linen module that maps ``[batch, ...]`` to the same
shape may take their place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

PENALTY = "penalty"
NOISE = "noise"


class DenseAutoencoder(nn.Module):
  """Autoencoder of vectors: two dense layers down to a code, two up again.

  Attributes:
    hidden: width of the hidden layers.
    code: width of the bottleneck.
  """

  hidden: int
  code: int

  @nn.compact
  def __call__(self, a: jax.Array) -> jax.Array:
    """Reconstructs ``a`` ``[batch, width]``."""
    hidden = nn.relu(nn.Dense(self.hidden, name="encode")(a))
    code = nn.Dense(self.code, name="code")(hidden)
    hidden = nn.relu(nn.Dense(self.hidden, name="decode")(code))
    return nn.Dense(a.shape[-1], name="reconstruct")(hidden)


class ConvAutoencoder(nn.Module):
  """Autoencoder of maps: convolution, one code for the whole map, and back.

  The code sees every place of the map at once, so that it learns which patterns belong together;
  the convolutions before and after it share their weights over places and keep it small.

  Attributes:
    features: channels between convolution and code.
    code: width of the bottleneck.
    kernel: size of the convolutions along each spatial axis; 1 mixes channels only.
  """

  features: int = 16
  code: int = 28
  kernel: int = 1

  @nn.compact
  def __call__(self, a: jax.Array) -> jax.Array:
    """Reconstructs ``a`` ``[batch, ..., channels]``."""
    kernel = (self.kernel,) * (a.ndim - 2)
    hidden = nn.relu(nn.Conv(self.features, kernel, name="encode")(a))
    code = nn.Dense(self.code, name="code")(hidden.reshape(a.shape[0], -1))
    wide = int(np.prod(hidden.shape[1:]))
    hidden = nn.relu(nn.Dense(wide, name="decode")(code)).reshape(hidden.shape)
    return nn.Conv(a.shape[-1], kernel, name="reconstruct")(hidden)


class VariationalAutoencoder(nn.Module):
  r"""Variational autoencoder of vectors or maps, another of the paper's "generative models".

  The posterior :math:`N(m, s^2)` of the code is drawn from where the rng "noise" is given
  (training) and its mean is taken otherwise, so that scores are deterministic. The divergence
  from a standard normal, :math:`\frac{1}{2} \sum (m^2 + s^2 - 1 - \log s^2)`, divided by the number
  of coordinates and times ``beta``, is sown into "penalty".

  Attributes:
    hidden: width of the hidden layers.
    code: width of the bottleneck.
    beta: weight of the divergence, >= 0.

  References:
    Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014.
  """

  hidden: int
  code: int
  beta: float = 0.1

  @nn.compact
  def __call__(self, a: jax.Array) -> jax.Array:
    """Reconstructs ``a`` ``[batch, ...]``."""
    flat = a.reshape(a.shape[0], -1)
    hidden = nn.relu(nn.Dense(self.hidden, name="encode")(flat))
    mean = nn.Dense(self.code, name="mean")(hidden)
    log_var = jnp.clip(nn.Dense(self.code, name="log_variance")(hidden), -10.0, 10.0)
    divergence = 0.5 * jnp.sum(mean**2 + jnp.exp(log_var) - 1.0 - log_var, axis=1)
    self.sow(PENALTY, "divergence", self.beta * divergence / flat.shape[1])
    code = mean
    if self.has_rng(NOISE):
      code += jnp.exp(0.5 * log_var) * jax.random.normal(self.make_rng(NOISE), mean.shape)
    hidden = nn.relu(nn.Dense(self.hidden, name="decode")(code))
    return nn.Dense(flat.shape[1], name="reconstruct")(hidden).reshape(a.shape)


class PrincipalAutoencoder(nn.Module):
  r"""Principal components of vectors or maps: the best linear autoencoder of its width.

  .. math:: \hat a = m + A A^T (a - m)

  Its arrays come from ``principal.fit`` in closed form, and no gradient reaches them.

  Attributes:
    code: number of components; 0 gives the mean for every record.
    channels: of maps, the number of mixtures of channels that are looked at; 0 takes the channels
      as they are.
  """

  code: int
  channels: int = 0

  @nn.compact
  def __call__(self, a: jax.Array) -> jax.Array:
    """Reconstructs ``a`` ``[batch, ...]``."""
    init, mixed, mix = nn.initializers.lecun_normal(), a, None
    if self.channels:
      mix = jax.lax.stop_gradient(self.param("mix", init, (a.shape[-1], self.channels)))
      mixed = a @ mix
    flat = mixed.reshape(a.shape[0], -1)
    centre = self.param("centre", nn.initializers.zeros, flat.shape[1:])
    back = jnp.broadcast_to(jax.lax.stop_gradient(centre)[None], flat.shape)
    if self.code:
      axes = jax.lax.stop_gradient(self.param("axes", init, (flat.shape[1], self.code)))
      back += (flat - back) @ axes @ axes.T
    back = back.reshape(mixed.shape)
    return back if mix is None else back @ mix.T


def default_autoencoder(shape: Sequence[int]) -> nn.Module:
  """The autoencoder for a view of one shape.

  ``[width]``: dense, code of an eighth of the width (2 to 32). ``[..., channels]``: convolutional,
  16 features and a code of 28.
  """
  if len(shape) == 1:
    width = shape[0]
    return DenseAutoencoder(int(np.clip(width // 2, 8, 128)), int(np.clip(width // 8, 2, 32)))
  return ConvAutoencoder()


def autoencoder_of(shape: Sequence[int], params: Mapping[str, Any]) -> nn.Module:
  """The principal or default autoencoder for a view of one shape that has these parameters."""
  if "centre" not in params:
    return default_autoencoder(shape)
  code, channels = (params[n].shape[1] if n in params else 0 for n in ("axes", "mix"))
  return PrincipalAutoencoder(code, channels)
