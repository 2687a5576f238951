"""DeepSAD: typical records near a centre, labelled negatives far from it.

    min_W  1/(n+m) sum_i |phi(x_i) - c|^2  +  eta/(n+m) sum_j (|phi(z_j) - c|^2 + eps)^-1
           + lambda/2 |W|^2

over n typical records x and m negatives z. A labelled typical record enters as an unlabelled
one does, which makes no difference with eta = 1. ``phi`` is our network without its last layer and
without biases, pretrained as the encoder of an autoencoder. The score is ``|phi(x) - c|^2``.
Implements ``BaselineWithNegatives``.

Choices, with "reference" the authors' code: pretraining sees typical records and negatives, as
there (all training data), with weights alike. The centre is the mean over typical records alone,
where the reference takes all training data: there few are anomalous, here half may be. Learning
rate and weight decay are the reference's defaults; the batch size (there 128) and the number of
steps are those of our own training, for pretraining and training each.

References:
  Ruff et al., Deep Semi-Supervised Anomaly Detection, ICLR 2020, and its code, Deep-SAD-PyTorch.
"""

from collections.abc import Iterator
import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baselines import encoders, fitting
from detector_jax import HealthError, health, training
from detector_jax.batching import Batch, Mean
from drocc_jax import recipe

EPSILON = 1e-6
SMALLEST_COORDINATE = 0.1
COLLAPSED = 1e-5


@dataclasses.dataclass(frozen=True)
class Settings(fitting.Settings):
  """Settings of DeepSAD.

  Attributes:
    weight_decay: ``lambda``, also of the pretraining.
    eta: >= 0, weight of the labelled negatives.
    pretrain_epochs: of the autoencoder, >= 1; None as for ``epochs``.
    pretrain_learning_rate: of the autoencoder, > 0.
  """

  weight_decay: float = 1e-6
  eta: float = 1.0
  pretrain_epochs: int | None = None
  pretrain_learning_rate: float = 1e-3

  def __post_init__(self) -> None:
    super().__post_init__()
    fitting.require(0 <= self.eta < np.inf, "eta", ">= 0", self.eta)
    if self.pretrain_epochs is not None:
      fitting.require(self.pretrain_epochs >= 1, "pretrain_epochs", ">= 1", self.pretrain_epochs)
    fitting.require(
      0 < self.pretrain_learning_rate < np.inf,
      "pretrain_learning_rate",
      "> 0",
      self.pretrain_learning_rate,
    )


def make_pretrain_objective(autoencoder: nn.Module) -> fitting.Objective:
  """Squared error per coordinate of the reconstruction, mean over the batch."""

  def objective(
    params: Any, stats: Any, constants: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[Any, dict[str, Mean]]]:
    del constants, key
    variables = {"params": params, **stats}
    reconstruction, stats = autoencoder.apply(
      variables, batch.inputs, train=True, mask=batch.mask, mutable=list(stats)
    )
    squares = jnp.square(reconstruction - batch.inputs)
    error = Mean.from_values(jnp.mean(squares, axis=tuple(range(1, squares.ndim))), batch.mask)
    return error.value, (stats, {"reconstruction_error": error})

  return objective


def make_objective(encoder: nn.Module) -> fitting.Objective:
  """DeepSAD's objective on a batch of typical records (label +1) and negatives (label -1).

  ``constants`` are ``{"centre", "eta"}``. Mixed batches of all records have both kinds in the
  proportion of ``n`` and ``m``, as the objective asks.
  """

  def objective(
    params: Any, stats: Any, constants: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[Any, dict[str, Mean]]]:
    del key
    variables = {"params": params, **stats}
    codes, stats = encoder.apply(
      variables, batch.inputs, train=True, mask=batch.mask, mutable=list(stats)
    )
    distance = jnp.sum(jnp.square(codes - constants["centre"][None]), axis=1)
    typical = batch.labels > 0
    loss = jnp.where(typical, distance, constants["eta"] / (distance + EPSILON))
    info = {
      "loss": Mean.from_values(loss, batch.mask),
      "typical_distance": Mean.from_values(distance, batch.mask * typical),
      "negative_distance": Mean.from_values(distance, batch.mask * ~typical),
    }
    return info["loss"].value, (stats, info)

  return objective


class Program(NamedTuple):
  """Compiled functions of one network, record shape and batch size.

  Attributes:
    init: ``key -> variables`` of the autoencoder.
    pretrain_epochs: trains the autoencoder, see ``detector_jax.training``.
    train_epochs: trains the encoder.
    reconstruct: ``(variables of the autoencoder, [batch, ...]) -> [batch, ...]``.
    encode: ``({"params", "stats"} of the encoder, [batch, ...]) -> codes [batch, width]``.
  """

  init: Any
  pretrain_epochs: training.TrainEpochs
  train_epochs: training.TrainEpochs
  reconstruct: fitting.RowFunction
  encode: fitting.RowFunction


@functools.lru_cache(maxsize=16)
def compiled(network: nn.Module, shape: tuple[int, ...], batch_size: int) -> Program:
  """The functions that train DeepSAD with that network, cached."""
  autoencoder = encoders.autoencoder_of(network, shape)
  encoder = autoencoder.encoder

  def encode(variables: Any, x: jax.Array) -> jax.Array:
    codes: Any = encoder.apply({"params": variables["params"], **variables["stats"]}, x)
    return codes

  pretrain_step = fitting.make_train_step(make_pretrain_objective(autoencoder))
  train_step = fitting.make_train_step(make_objective(encoder))
  return Program(
    jax.jit(lambda key: autoencoder.init(key, jnp.zeros((1, *shape)))),
    training.compile_train_epochs(pretrain_step, batch_size),
    training.compile_train_epochs(train_step, batch_size),
    jax.jit(autoencoder.apply),
    jax.jit(encode),
  )


def pretrain(program: Program, x: np.ndarray, settings: Settings, seed: int) -> dict[str, Any]:
  """Trains the autoencoder on standardised records ``[n, ...]``.

  Returns:
    Its variables: "params", and "batch_stats" where it has batch normalisation, each with
    "encoder" and "decoder".

  Raises:
    HealthError: training diverged.
  """
  init_key, train_key = recipe.keys(seed)
  variables = program.init(init_key)
  stats = {name: value for name, value in variables.items() if name != "params"}
  settings = dataclasses.replace(
    settings, epochs=settings.pretrain_epochs, learning_rate=settings.pretrain_learning_rate
  )
  key = jax.random.fold_in(train_key, 0)
  state = fitting.train_typical(
    program.pretrain_epochs, x, key, settings, variables["params"], stats
  )
  return {"params": state.params, **state.stats}


def centre_of(codes: np.ndarray) -> np.ndarray:
  """Mean of codes ``[n, width]``, coordinates nearer to 0 than 0.1 moved to -0.1 or +0.1.

  A coordinate at 0 would be met by weights of 0. An exact 0 goes to +0.1.
  """
  mean = np.mean(codes, axis=0, dtype=np.float64)
  moved = np.where(mean < 0, -SMALLEST_COORDINATE, SMALLEST_COORDINATE)
  return np.where(np.abs(mean) < SMALLEST_COORDINATE, moved, mean).astype(np.float32)


def distance(codes: np.ndarray, centre: np.ndarray) -> np.ndarray:
  """Squared Euclidean distances ``[n]`` of codes ``[n, width]`` from the centre."""
  return np.sum(np.square(codes - centre), axis=1)


def distances(encode: fitting.ScoreFunction, centre: np.ndarray) -> fitting.ScoreFunction:
  """The function of records that encodes them and measures their distance from the centre."""
  return lambda x: distance(encode(x), centre)


def check_not_collapsed(codes: np.ndarray, centre: np.ndarray, name: str = "DeepSAD") -> None:
  """Stops where the codes ``[n, width]`` of different records are all one point.

  Raises:
    HealthError: their variance (all coordinates together) is at most 1e-5 of ``|centre|^2``.
  """
  variance = float(np.sum(np.var(codes, axis=0, dtype=np.float64)))
  if len(codes) > 1 and variance <= COLLAPSED * float(np.sum(np.square(centre, dtype=np.float64))):
    where = float(np.sqrt(np.sum(np.square(np.mean(codes, axis=0) - centre))))
    raise HealthError(
      f"{name} has collapsed: all records, negatives too, are mapped to one point, {where:.2g} "
      "from the centre, and the scores rank nothing. Remove constant features (they act as "
      "biases), or lower learning_rate or weight_decay; with negatives, raise eta."
    )


class OfAnEncoder(fitting.Fitted):
  """A baseline with the encoder of one of our networks; see ``encoders.autoencoder_of``."""

  settings = Settings

  @classmethod
  def suiting(cls, shape: tuple[int, ...], network: nn.Module | None) -> nn.Module:
    """``network``, or the one that DROCC takes for records of that shape.

    Raises:
      ValueError: a network that there is no encoder for, or that does not suit the shape.
    """
    network = super().suiting(shape, network)
    encoders.autoencoder_of(network, shape)
    return network


class DeepSAD(OfAnEncoder, fitting.TrainedBaseline):
  """DeepSAD with the encoder of one of our networks.

  The scoring encoder sees running batch statistics. An epoch is one pass over typical records and
  negatives together. Without negatives it is Deep SVDD, pretrained.
  """

  title = "DeepSAD"
  least_negatives: ClassVar[int] = 0

  def _train(
    self, x: np.ndarray, negatives: np.ndarray, points: int
  ) -> Iterator[tuple[int, Any, fitting.ScoreFunction]]:
    settings, rows = self._settings, len(x) + len(negatives)
    batch_size = min(settings.batch_size, rows)
    program = compiled(self._network, self._shape, batch_size)
    labels = np.repeat([1.0, -1.0], [len(x), len(negatives)])
    z = np.concatenate([x, negatives])
    data = training.to_device(z, labels)
    initial = encoder_variables(pretrain(program, z, settings, self._seed))
    centre = centre_of(fitting.on_rows(program.encode, initial, self._shape)(x))
    start = fitting.start(
      initial["params"],
      initial["stats"],
      settings.learning_rate,
      settings.weight_decay,
      {"centre": jnp.asarray(centre), "eta": jnp.asarray(settings.eta, jnp.float32)},
    )
    key = jax.random.fold_in(recipe.keys(self._seed)[1], 1)
    epochs = fitting.epochs_of(settings.epochs, rows, batch_size)
    some = fitting.examined(x, negatives)
    stops = fitting.train(program.train_epochs, start, data, key, epochs, points)
    for epoch, state in stops:
      variables = jax.tree.map(np.array, {"params": state.params, "stats": state.stats})
      encode = fitting.on_rows(program.encode, variables, self._shape)
      codes = encode(some)
      check_not_collapsed(codes, centre)
      health.check_scores(distance(codes, centre))
      yield epoch, {**variables, "centre": centre}, distances(encode, centre)


def encoder_variables(pretrained: dict[str, Any]) -> dict[str, Any]:
  """``{"params", "stats"}`` of the encoder, from the variables of the autoencoder."""
  found = {name: value["encoder"] for name, value in pretrained.items() if "encoder" in value}
  return {"params": found.pop("params"), "stats": found}


make = DeepSAD.make
