"""GEOM: a network learns which of 72 transformations an image underwent; odd ones confuse it.

A classifier predicts the transformation ``T_i`` of a transformed typical image. Of the softmax
vectors ``y(T_i(x))`` of typical images each transformation fits a Dirichlet distribution
``alpha_i``, and the score is

    -sum_i (alpha_i - 1) . log y(T_i(x))

The transformations are those of the paper: with or without a flip, shifts by -1/4, 0 or 1/4 of the
height and of the width, and turns by 0, 90, 180 or 270 degrees. What a shift leaves open is the
mirrored image. Each visit to an image draws one of them, where the reference lists all 72 of each;
an epoch here is one visit, and 72 of these are one of the reference's.

References:
  Golan and El-Yaniv, Deep Anomaly Detection Using Geometric Transformations, NeurIPS 2018.
  Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special

from benchmarks.baselines import encoders, fitting
from detector_jax import health, training
from detector_jax.batching import Batch, Mean, num_parameters
from drocc_jax import networks, recipe

TRANSFORMATIONS = 72
FITTED = 500
SMALLEST = 1e-6


def transform(x: jax.Array, number: jax.typing.ArrayLike) -> jax.Array:
  """One of the 72 transformations of one image ``[side, side, c]``; number 0 leaves it as it is.

  Args:
    x: a square image.
    number: int in [0, 72): ``flip * 36 + row shift * 12 + column shift * 4 + turn``, where shifts
      0, 1 and 2 are by 0, -1/4 and 1/4.
  """
  number = jnp.asarray(number)
  flip, shift, turn = number // 36, number % 36 // 4, number % 4
  size = x.shape[0] // 4
  offsets = jnp.asarray([0, -size, size])
  x = jnp.where(flip > 0, x[:, ::-1], x)
  padded = jnp.pad(x, ((size, size), (size, size), (0, 0)), mode="reflect")
  start = (size - offsets[shift // 3], size - offsets[shift % 3], 0)
  x = jax.lax.dynamic_slice(padded, start, x.shape)
  return jnp.stack([jnp.rot90(x, turns) for turns in range(4)])[turn]


class Classifier(nn.Module):
  """A body and one dense layer to the logits of the transformations.

  Attributes:
    body: maps ``(x, train, mask)`` to ``[batch, width]``.
  """

  body: nn.Module

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, side, side, c]`` to logits ``[batch, 72]``."""
    return nn.Dense(TRANSFORMATIONS)(self.body(x, train, mask))


class _Activated(nn.Module):
  """Batch normalisation with scale and offset, then ReLU."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
    channels = x.shape[-1:]
    scale = self.param("scale", nn.initializers.ones, channels)
    offset = self.param("offset", nn.initializers.zeros, channels)
    x = networks.MaskedBatchNorm()(x, train, mask)
    return nn.relu(x * scale.reshape(1, 1, 1, -1) + offset.reshape(1, 1, 1, -1))


class WideResNet(nn.Module):
  """Wide residual network without its last layer; the reference has depth 10 and width 4.

  Attributes:
    blocks: residual blocks in each of the three groups; the depth is ``6 blocks + 4``.
    width: factor on the channels 16, 32 and 64.
  """

  blocks: int = 1
  width: int = 4

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    """Maps ``[batch, side, side, c]`` to ``[batch, 64 width]``."""

    def conv(channels: int, stride: int = 1, side: int = 3) -> nn.Conv:
      return nn.Conv(channels, (side, side), (stride, stride), use_bias=False)

    x = conv(16)(x)
    for group, base in enumerate((16, 32, 64)):
      channels = base * self.width
      for block in range(self.blocks):
        stride = 2 if group > 0 and block == 0 else 1
        before = _Activated()(x, train, mask)
        shortcut = conv(channels, stride, 1)(before) if block == 0 else x
        inner = conv(channels, stride)(before)
        x = shortcut + conv(channels)(_Activated()(inner, train, mask))
    return jnp.mean(_Activated()(x, train, mask), axis=(1, 2))


def make_objective(network: nn.Module) -> fitting.Objective:
  """Cross-entropy of the transformation that each image of a batch was drawn."""

  def objective(
    params: Any, stats: Any, constants: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[Any, dict[str, Mean]]]:
    del constants
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(batch.index)
    numbers = jax.vmap(lambda key: jax.random.randint(key, (), 0, TRANSFORMATIONS))(keys)
    logits, stats = network.apply(
      {"params": params, **stats},
      jax.vmap(transform)(batch.inputs, numbers),
      True,
      batch.mask,
      mutable=list(stats),
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, numbers)
    info = {"loss": Mean.from_values(losses, batch.mask)}
    return info["loss"].value, (stats, info)

  return objective


def fit_dirichlet(log_p: np.ndarray, iterations: int = 100) -> np.ndarray:
  """Maximum-likelihood Dirichlet parameters by Minka's fixed point.

      digamma(alpha_k) = digamma(sum_j alpha_j) + mean_i log p_ik

  Args:
    log_p: ``[n, k]`` logarithms of points of the simplex.
    iterations: of the fixed point.

  Returns:
    float64 ``[k]``, all > 0.
  """
  target = log_p.mean(axis=0, dtype=np.float64)
  p = np.exp(log_p.astype(np.float64))
  mean, square = p.mean(axis=0), np.square(p).mean(axis=0)
  largest = int(np.argmax(mean))
  variance = max(square[largest] - mean[largest] ** 2, 1e-12)
  total = max((mean[largest] - square[largest]) / variance, 1.0)
  alpha = np.maximum(mean * total, 1e-3)
  for _ in range(iterations):
    alpha = _inverse_digamma(special.digamma(alpha.sum()) + target)
  return alpha


def _inverse_digamma(y: np.ndarray) -> np.ndarray:
  """Newton's method from Minka's start, to float64 precision."""
  low = -1.0 / (np.minimum(y, -2.22) - special.digamma(1.0))
  x = np.where(y >= -2.22, np.exp(y) + 0.5, low)
  for _ in range(6):
    x = x - (special.digamma(x) - y) / special.polygamma(1, x)
  return x


class _Program(NamedTuple):
  init: Callable[..., Any]
  train_epochs: training.TrainEpochs
  log_p: fitting.RowFunction


@functools.lru_cache(maxsize=8)
def _compiled(network: nn.Module, batch_size: int) -> _Program:
  def log_p(variables: Any, x: jax.Array) -> jax.Array:
    """Log-softmax of one image under all transformations, ``[72, 72]``, for each of a batch."""
    every = jax.vmap(lambda number: jax.vmap(transform, (0, None))(x, number))(
      jnp.arange(TRANSFORMATIONS)
    )
    logits = jax.lax.map(lambda turned: network.apply(variables, turned, False), every)
    logits = jnp.clip(jax.nn.log_softmax(logits), jnp.log(SMALLEST), 0.0)
    return jnp.swapaxes(logits, 0, 1)

  step = fitting.make_train_step(make_objective(network))
  return _Program(
    jax.jit(network.init), training.compile_train_epochs(step, batch_size), jax.jit(log_p)
  )


class Geom(fitting.OneClass):
  """The classifier of transformations and its Dirichlet distributions.

  An epoch of the training visits each image once.

  Attributes:
    alpha: ``[72, 72]`` parameters of each transformation's distribution, or None before ``fit``.
  """

  title, axes = "GEOM", {3: "images"}
  alpha: np.ndarray | None = None

  @classmethod
  def suiting(cls, shape: tuple[int, ...], network: nn.Module | None) -> Classifier:
    """The classifier on the body of a LeNet; None takes the reference's, WRN-10-4.

    Raises:
      ValueError: images that are not square or too small, or another network.
    """
    if shape[0] != shape[1] or shape[0] < 8:
      raise ValueError(f"GEOM takes square images of at least 8 x 8, got records {list(shape)}.")
    if network is None:
      return Classifier(WideResNet())
    if isinstance(network, networks.LeNet):
      return Classifier(encoders.LeNetEncoder(network.channels, network.dense))
    raise ValueError(f"GEOM takes a LeNet or its own network, got {type(network).__name__}.")

  def _fit(self, x: np.ndarray, batch_size: int) -> None:
    program = _compiled(self._network, batch_size)
    init_key, train_key = recipe.keys(self._seed)
    variables = dict(program.init(init_key, jnp.zeros((1, *self._shape))))
    params = variables.pop("params")
    state = fitting.train_typical(
      program.train_epochs, x, train_key, self._settings, params, variables
    )
    variables = jax.tree.map(np.array, {"params": state.params, **state.stats})
    self._log_p = fitting.on_rows(program.log_p, variables, self._shape)
    fitted = self._log_p(x[np.linspace(0, len(x) - 1, min(len(x), FITTED)).astype(int)])
    self.alpha = np.stack([fit_dirichlet(fitted[:, i]) for i in range(TRANSFORMATIONS)])
    self.parameters = num_parameters((variables["params"], self.alpha))
    self._score = lambda x: self._scores(self._log_p(x))
    health.check_scores(self._scores(fitted))

  def _scores(self, log_p: np.ndarray) -> np.ndarray:
    assert self.alpha is not None
    return -np.einsum("nij,ij->n", log_p.astype(np.float64), self.alpha - 1.0)


make = Geom.make
