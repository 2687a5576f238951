"""DCN: an autoencoder whose codes gather round the centres of k-means, trained together.

    sum_i |g(f(x_i)) - x_i|^2 + lambda/2 |f(x_i) - M s_i|^2

``f`` is our network without its last layer, ``g`` its mirror (``encoders``), ``M`` the centres and
``s_i`` the nearest one. The autoencoder is pretrained and k-means of its codes starts ``M``; then
each step moves the network with ``M`` and ``s`` fixed, and every centre by ``1 / count`` towards
each code that it is nearest to. The score is the squared distance of a code from the nearest
centre, which is how DAGMM's authors use DCN as a one-class baseline; the reconstruction is unused.

The DROCC paper cites Caron et al., 2018 (DeepCluster) for the row "DCN" of its Table 2. Its figures
for Thyroid and Arrhythmia are those of DAGMM's paper, whose DCN is that of Yang et al. Neither says
how many centres there are or what lambda is; 2 and 0.1 are ours. Implements ``Baseline``, of
records of any shape.

References:
  Yang et al., Towards K-means-friendly Spaces, ICML 2017, algorithm 1.
  Zong et al., Deep Autoencoding Gaussian Mixture Model, ICLR 2018, section 4.2.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import KMeans

from benchmarks.baselines import deep_sad, encoders, fitting
from detector_jax import health, training
from detector_jax.batching import Batch, Mean, num_parameters
from drocc_jax import recipe

FIRST_COUNT = 100.0  # of every centre, so that the first records do not throw it about


@dataclasses.dataclass(frozen=True)
class Settings(deep_sad.Settings):
  """Settings of DCN; ``eta`` is unused.

  Attributes:
    clusters: >= 1, at most as many as there are records.
    cluster_weight: ``lambda`` >= 0.
  """

  clusters: int = 2
  cluster_weight: float = 0.1

  def __post_init__(self) -> None:
    super().__post_init__()
    fitting.require(self.clusters >= 1, "clusters", ">= 1", self.clusters)
    fitting.require(
      0 <= self.cluster_weight < np.inf, "cluster_weight", ">= 0", self.cluster_weight
    )


class Clusters(NamedTuple):
  """The centres of k-means, learned online.

  Attributes:
    centres: ``M``, ``[K, width]``.
    counts: ``[K]`` codes that each centre is the mean of.
  """

  centres: jax.Array
  counts: jax.Array


def distances(codes: jax.Array, centres: jax.Array) -> jax.Array:
  """Squared Euclidean distances ``[batch, K]`` of codes ``[batch, width]`` from centres."""
  return jnp.sum(jnp.square(codes[:, None] - centres[None]), axis=-1)


def moved(clusters: Clusters, codes: jax.Array, mask: jax.Array) -> Clusters:
  """The centres after codes ``[batch, width]``: each the running mean of the codes nearest to it.

  The same as one step of ``1 / count`` for one code after the other, nearest by the old centres.
  """
  nearest = jnp.argmin(distances(codes, clusters.centres), axis=1)
  member = jax.nn.one_hot(nearest, len(clusters.counts)) * mask[:, None]
  counts = clusters.counts + jnp.sum(member, axis=0)
  total = clusters.centres * clusters.counts[:, None] + member.T @ codes
  return Clusters(total / counts[:, None], counts)


def _both(module: Any, x: jax.Array, train: bool, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
  codes = module.encoder(x, train, mask)
  return codes, module.decoder(codes, train, mask)


def make_objective(autoencoder: nn.Module) -> fitting.Objective:
  """The objective on a batch; ``constants`` are ``{"weight"}``, ``stats`` hold the clusters."""

  def objective(
    params: Any, stats: Any, constants: Any, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, tuple[Any, dict[str, Mean]]]:
    del key
    clusters, network = stats["clusters"], stats["network"]
    (codes, back), network = autoencoder.apply(
      {"params": params, **network},
      batch.inputs,
      True,
      batch.mask,
      mutable=list(network),
      method=_both,
    )
    squares = jnp.square(back - batch.inputs)
    apart = jnp.min(distances(codes, clusters.centres), axis=1)
    info = {
      "reconstruction_error": Mean.from_values(
        jnp.sum(squares, axis=tuple(range(1, squares.ndim))), batch.mask
      ),
      "cluster_distance": Mean.from_values(apart, batch.mask),
    }
    loss = info["reconstruction_error"].value
    loss += 0.5 * constants["weight"] * info["cluster_distance"].value
    clusters = moved(clusters, jax.lax.stop_gradient(codes), batch.mask)
    return loss, ({"clusters": clusters, "network": network}, info)

  return objective


@functools.lru_cache(maxsize=8)
def _train_epochs(
  network: nn.Module, shape: tuple[int, ...], batch_size: int
) -> training.TrainEpochs:
  step = fitting.make_train_step(make_objective(encoders.autoencoder_of(network, shape)))
  return training.compile_train_epochs(step, batch_size)


class DCN(deep_sad.OfAnEncoder, fitting.OneClass):
  """DCN with the encoder of one of our networks.

  Attributes:
    centres: float32 ``[K, width]``, or None before ``fit``.
  """

  title, settings = "DCN", Settings
  centres: np.ndarray | None = None

  def _fit(self, x: np.ndarray, batch_size: int) -> None:
    settings = self._settings
    program = deep_sad.compiled(self._network, self._shape, batch_size)
    pretrained = deep_sad.pretrain(program, x, settings, self._seed)
    encoder = deep_sad.encoder_variables(pretrained)
    codes = fitting.on_rows(program.encode, encoder, self._shape)(x)
    found = KMeans(min(settings.clusters, len(x)), n_init=10, random_state=self._seed).fit(codes)
    centres = jnp.asarray(found.cluster_centers_, jnp.float32)
    network = {name: value for name, value in pretrained.items() if name != "params"}
    state = fitting.train_typical(
      _train_epochs(self._network, self._shape, batch_size),
      x,
      jax.random.fold_in(recipe.keys(self._seed)[1], 1),
      settings,
      pretrained["params"],
      {"clusters": Clusters(centres, jnp.full(len(centres), FIRST_COUNT)), "network": network},
      {"weight": jnp.asarray(settings.cluster_weight, jnp.float32)},
    )
    variables = {"params": state.params, **state.stats["network"]}
    encoder = jax.tree.map(np.array, deep_sad.encoder_variables(variables))
    self.centres = np.array(state.stats["clusters"].centres)
    self._score = _nearest(fitting.on_rows(program.encode, encoder, self._shape), self.centres)
    self.parameters = num_parameters(encoder["params"]) + self.centres.size
    health.check_scores(self.score(fitting.examined(x)))


def _nearest(encode: fitting.ScoreFunction, centres: np.ndarray) -> fitting.ScoreFunction:
  return lambda x: np.square(encode(x)[:, None] - centres[None]).sum(axis=-1).min(axis=1)


make = DCN.make
