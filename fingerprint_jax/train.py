"""Fits the autoencoders of all layers: one pass of the network feeds them all in one step."""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from detector_jax import batching, health, training
from detector_jax.batching import Batch, Mean, Records
from detector_jax.table import reason_of
from detector_jax.taps import RESIDUAL
from fingerprint_jax import autoencoders as autoencoders_lib
from fingerprint_jax import fingerprint, views
from fingerprint_jax.fingerprint import Fingerprint

MEASURED = 20_000


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the fingerprints.

  Attributes:
    epochs: over the training records, >= 1; none where no autoencoder is trained, see
      ``autoencoders``.
    batch_size: records per step.
    learning_rate: of Adam at the start, > 0; falls to 0 along a cosine.
  """

  epochs: int = 5
  batch_size: int = 256
  learning_rate: float = 5e-3

  def validate(self) -> None:
    """Raises a ValueError that names a setting out of its range."""
    batching.whole("epochs", self.epochs)
    batching.whole("batch_size", self.batch_size)
    if not 0.0 < self.learning_rate < np.inf:
      raise ValueError(f"learning_rate must be > 0, got {self.learning_rate!r}.")


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["step", "params", "opt_state", "frozen"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class State:
  """What training carries on.

  Attributes:
    step: int32, number of steps done.
    params: ``{layer: parameters of its autoencoder}``.
    opt_state: of Adam.
    frozen: ``{"network", "views"}``, never changed; here so that nothing is baked into programs.
  """

  step: jax.Array
  params: dict[str, Any]
  opt_state: Any
  frozen: dict[str, Any]


class Info(NamedTuple):
  """What one may look at.

  Attributes:
    losses: ``{layer: mean squared residual}``; 1 is what predicting the mean gives.
    penalty: mean of what autoencoders sow into "penalty" (the variational one's divergence).
  """

  losses: dict[str, Mean]
  penalty: Mean


def make_optimizer(config: Config, total_steps: int) -> optax.GradientTransformation:
  """Adam with a cosine schedule over ``total_steps``."""
  return optax.adam(optax.cosine_decay_schedule(config.learning_rate, total_steps))


def make_train_step(
  prints: Fingerprint, optimizer: optax.GradientTransformation, *, axis_name: str | None = None
) -> Any:
  """Makes the pure train step ``(state, batch, key) -> (state, info)`` of all layers.

  With ``axis_name`` gradient and losses are reduced over that mapped axis of devices. Noise that an
  autoencoder draws (the variational one does) is then another one on each of them, so that its
  training is not the same on another number of devices.
  """

  def loss(
    params: Mapping[str, Any], targets: Mapping[str, jax.Array], mask: jax.Array, key: jax.Array
  ) -> tuple[jax.Array, Info]:
    count = jnp.maximum(training.psum_if(jnp.sum(mask), axis_name), 1.0)
    losses, penalties = {}, []
    pairs = zip(prints.layers, prints.autoencoders, strict=True)
    for number, (name, autoencoder) in enumerate(pairs):
      reconstruction, sown = autoencoder.apply(
        {"params": params[name]},
        targets[name],
        rngs={autoencoders_lib.NOISE: jax.random.fold_in(key, number)},
        mutable=[autoencoders_lib.PENALTY],
      )
      squares = (targets[name] - reconstruction) ** 2
      losses[name] = Mean.from_values(jnp.mean(squares, axis=tuple(range(1, squares.ndim))), mask)
      penalties += jax.tree.leaves(sown)
    penalty = Mean.from_values(sum(penalties, jnp.zeros_like(mask)), mask)
    total = sum((mean.total / count for mean in losses.values()), penalty.total / count)
    return total, Info(losses, penalty)

  def step(state: State, batch: Batch, key: jax.Array) -> tuple[State, Info]:
    # Padding is zeros, of which a network may make NaN; the gradient would not survive that.
    targets = {
      name: masked(target, batch.mask)
      for name, target in prints.targets(state.frozen, batch.inputs).items()
    }
    if axis_name is not None:
      key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
    found = jax.grad(loss, has_aux=True)(state.params, targets, batch.mask, key)
    gradients, info = training.psum_if(found, axis_name)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(state.step + 1, params, opt_state, state.frozen), info

  return step


def masked(values: jax.Array, mask: jax.Array) -> jax.Array:
  """``values`` ``[batch, ...]``, 0 where ``mask`` ``[batch]`` is 0."""
  return jnp.where(mask.reshape(-1, *(1,) * (values.ndim - 1)) > 0, values, 0.0)


def init(
  prints: Fingerprint,
  frozen: dict[str, Any],
  optimizer: optax.GradientTransformation,
  key: jax.Array,
  solved: Mapping[str, Any] | None = None,
) -> State:
  """Initial state.

  Args:
    prints: the fingerprint.
    frozen: see ``State``.
    optimizer: of ``make_optimizer``.
    key: of the autoencoders' weights.
    solved: ``{layer: parameters}`` that are known already.

  Raises:
    ValueError: an autoencoder that does not map its layer's view to the same shape.
  """
  shapes = fingerprint.shapes_of_targets(prints.taps)
  samples = {name: jax.ShapeDtypeStruct((2, *shape), jnp.float32) for name, shape in shapes.items()}
  for name, autoencoder in zip(prints.layers, prints.autoencoders, strict=True):
    _check(autoencoder, name, samples[name])

  params = dict(solved or {})
  for number, (name, autoencoder) in enumerate(
    zip(prints.layers, prints.autoencoders, strict=True)
  ):
    if name not in params:
      key_of_layer = jax.random.fold_in(key, number)
      params[name] = _parameters(autoencoder, samples[name].shape, key_of_layer)
  return State(jnp.zeros((), jnp.int32), params, optimizer.init(params), frozen)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _parameters(autoencoder: nn.Module, shape: tuple[int, ...], key: jax.Array) -> Any:
  return autoencoder.init(key, jnp.zeros(shape))["params"]


def _check(autoencoder: nn.Module, name: str, sample: jax.ShapeDtypeStruct) -> None:
  """Raises a ValueError where an autoencoder does not suit its layer."""
  shape = list(sample.shape)
  try:
    result, variables = jax.eval_shape(autoencoder.init_with_output, jax.random.key(0), sample)
  except (TypeError, ValueError) as error:
    reason = reason_of(error)
    raise ValueError(f"The autoencoder of layer {name!r} cannot take {shape}: {reason}.") from error
  if getattr(result, "shape", None) != sample.shape:
    raise ValueError(
      f"The autoencoder of layer {name!r} maps {shape} to {list(getattr(result, 'shape', ()))}; it "
      "must give back the same shape."
    )
  if set(variables) - {"params", autoencoders_lib.PENALTY}:
    raise ValueError(
      f"The autoencoder of layer {name!r} has state beside its parameters "
      f"({', '.join(sorted(set(variables) - {'params'}))}), which is not supported."
    )


def measure_views(
  prints: Fingerprint, network: Any, x: Records, batch_size: int = Config.batch_size
) -> dict[str, views.View]:
  """Mean and deviation of every layer's channels over at most 20,000 records ``[n, ...]``.

  Raises:
    ValueError: activations that are not finite, or a layer that is constant; it is named.
  """

  @jax.jit
  def sums(network: Any, rows: jax.Array, mask: jax.Array, about: Any) -> dict[str, Any]:
    found = prints.taps(network, rows)
    return {n: views.moments(a, mask, about[n]) for n, a in found.items()}

  x = x[:MEASURED]
  count, some = len(x), x[:batch_size]
  zero = {
    name: np.zeros(shape[-1:], np.float32)
    for name, shape in zip(prints.layers, prints.taps.shapes, strict=True)
  }
  first = sum_over(lambda rows, mask: sums(network, rows, mask, zero), some, batch_size)
  about = {name: np.float32(total / len(some)) for name, (total, _) in first.items()}
  total = sum_over(lambda rows, mask: sums(network, rows, mask, about), x, batch_size)
  result = {}
  for name in prints.layers:
    moved, mean_square = (leaf / count for leaf in total[name])
    mean, variance = about[name] + moved, np.maximum(mean_square - moved**2, 0.0)
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
      raise ValueError(
        f"Layer {name!r} has activations that are NaN or infinite on the training records: the "
        "network has diverged, or was trained on inputs of another range."
      )
    result[name] = views.standardised(mean, variance)
    spread = np.sqrt(variance).max()
    if spread <= 1e-6 * np.abs(mean).max() or spread == 0.0:
      raise ValueError(
        f"Layer {name!r} is constant over the training records and says nothing of them; leave it "
        "out with layers=."
      )
  return result


def measure_residuals(
  prints: Fingerprint,
  frozen: Mapping[str, Any],
  params: Mapping[str, Any],
  x: Records,
  batch_size: int = Config.batch_size,
) -> dict[str, np.ndarray]:
  """Mean squared residuals by layer and coordinate, over at most 20,000 records ``[n, ...]``."""

  @jax.jit
  def sums(arguments: Any, rows: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    frozen, params = arguments
    residuals = prints.residuals(params, prints.targets(frozen, rows))
    return {name: jnp.sum(masked(r**2, mask), axis=0) for name, r in residuals.items()}

  x = x[:MEASURED]
  total = sum_over(lambda rows, mask: sums((frozen, params), rows, mask), x, batch_size)
  return {name: leaf / len(x) for name, leaf in total.items()}


def sum_over(function: Any, x: Records, batch_size: int) -> Any:
  """Sums ``function(rows, mask)`` over batches of ``x``, in float64."""
  total: Any = None
  for start in range(0, len(x), batch_size):
    rows = np.asarray(x[start : start + batch_size], np.float32)
    mask = (np.arange(batch_size) < len(rows)).astype(np.float32)
    part = function(batching.pad_rows(rows, batch_size), mask)
    part = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), part)
    total = part if total is None else jax.tree.map(np.add, total, part)
  return total


def findings(
  prints: Fingerprint, losses: Mapping[str, float], most: float = 0.95
) -> list[health.Finding]:
  """Share of each layer's variance that its autoencoder leaves, and whether it learnt at all.

  Args:
    prints: has the autoencoders; one without a code has nothing to learn.
    losses: mean squared residual by layer, in variances of its activations.
    most: share above which an autoencoder is hardly better than predicting the mean.
  """
  modules = dict(zip(prints.layers, prints.autoencoders, strict=True))
  return [
    health.Finding.from_check(
      f"share of the variance of layer {name!r} that its autoencoder leaves",
      value,
      value <= most,
      f"The autoencoder of layer {name!r} did not learn: its loss is {value:.2f} of the "
      "activations' variance. Train longer, give it a larger code, or leave the layer out with "
      "layers=.",
    )
    for name, value in losses.items()
    if name != RESIDUAL  # what an autoencoder leaves is noise
    and getattr(modules[name], "code", None) != 0
  ]
