"""What ranks the members of a sweep: labelled validation records, or made-up anomalies."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn import neighbors

from detector_jax import batching
from detector_jax import splits as row_splits
from drocc_jax import recipe
from launch import data

NEAREST, FARTHEST = 0.5, 4.0  # distances of synthetic anomalies, in nearest-neighbour distances
NUMBER = 1000
SAMPLED = 2000


class Ranking(NamedTuple):
  """Records whose AUROC ranks members, the same for all of them.

  Attributes:
    z: ``[m, ...]`` standardised.
    labels: int64 ``[m]``, 1 = anomalous.
    x_objective: ``[k, ...]`` raw typical records that the objective is computed on, which ranks
      nothing.
    description: what ranks, for people.
  """

  z: np.ndarray
  labels: np.ndarray
  x_objective: np.ndarray
  description: str


def both_classes(labels: np.ndarray | None) -> bool:
  """Whether there are labels, and both 0 and 1 among them."""
  return labels is not None and set(np.unique(labels)) == {0, 1}


def labelled(splits: data.Splits) -> bool:
  """Whether the data set has labelled validation records of both classes."""
  return splits.validation is not None and both_classes(splits.validation.y)


def halves(
  held_out: np.ndarray, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Held-out row numbers as two halves at random: one ranks, the other calibrates the best.

  A threshold from rows that helped to choose the model would promise too low a false-alarm rate.

  Args:
    held_out: ``[n]`` row numbers of records of which no two are equal.
    seed: of the draw.
    groups: ``[n]`` labels of records that must not be divided, or None.

  Raises:
    ValueError: fewer than 4 rows.
  """
  if len(held_out) < 4:
    raise ValueError(
      f"Without a labelled validation set held-out typical records rank the models, and there are "
      f"{len(held_out)}, too few: raise calibration_size."
    )
  ids = row_splits.group_rows(np.arange(len(held_out)), groups)
  first, rest = row_splits.divide(ids, [len(held_out) // 2], [seed, 1])
  return held_out[np.sort(first)], held_out[np.sort(rest)]


def make(
  splits: data.Splits, prepared: recipe.Prepared, x_typical: np.ndarray, seed: int
) -> Ranking:
  """The ranking of a data set: labelled validation records where it has them.

  Args:
    splits: the records; those of the test set are not looked at.
    prepared: gives the standardiser and the training records.
    x_typical: ``[k, ...]`` raw held-out typical records.
    seed: of the synthetic anomalies.
  """
  if splits.validation is not None and labelled(splits):
    z = prepared.preprocessing.transform(splits.validation.x)
    labels = np.asarray(splits.validation.y, np.int64)
    return Ranking(z, labels, x_typical, f"AUROC of {len(labels):,} labelled validation records")
  z = prepared.preprocessing.transform(x_typical)
  z_train = np.asarray(prepared.data.inputs[: int(prepared.data.num_rows)])
  displaced = synthetic_anomalies(z_train, z, seed)
  labels = np.repeat([0, 1], [len(z), len(displaced)])
  description = f"AUROC of {len(z):,} held-out typical records against synthetic displaced ones"
  return Ranking(np.concatenate([z, displaced]), labels, x_typical, description)


def synthetic_anomalies(z_train: np.ndarray, z_typical: np.ndarray, seed: int) -> np.ndarray:
  """Typical records moved away in random directions, to stand in for anomalies nobody has.

  The distances are between 0.5 and 4 times the median distance of a training record from its
  nearest neighbour, their logarithm uniform. They depend on the data and the seed alone, not on a
  model's radius, so that models of different radii are asked the same question. It is a narrow
  one: how tightly a model follows the data at that scale, in every direction alike. Real anomalies
  may lie farther off, or where few directions lead, and a model that finds them need not be the one
  that ranks first here; docs/sweeps.md has how far the two agree on real sets.

  Args:
    z_train: ``[n, ...]`` standardised training records, n >= 2; at most 2,000 at random are asked
      for their neighbour.
    z_typical: ``[k, ...]`` standardised held-out typical records, each moved equally often.
    seed: of directions and distances, >= 0.

  Returns:
    float32 ``[j, ...]`` with j about 1,000, a multiple of k; at most k of large records.
  """
  rng = np.random.default_rng([seed, 2])
  copies = -(-NUMBER // len(z_typical)) if z_typical[0].size <= 2**12 else 1
  z = np.repeat(z_typical, copies, axis=0)
  direction = rng.normal(size=z.shape)
  norm = np.sqrt(np.sum(direction**2, axis=tuple(range(1, z.ndim)), keepdims=True))
  factors = np.exp(rng.uniform(np.log(NEAREST), np.log(FARTHEST), len(z)))
  lengths = (neighbour_distance(z_train, rng) * factors).reshape(-1, *[1] * (z.ndim - 1))
  return (z + lengths * direction / norm).astype(np.float32)


def neighbour_distance(z: np.ndarray, rng: np.random.Generator) -> float:
  """Median distance of records ``[n, ...]`` from their nearest other, of the distances above 0.

  Repeated records have 0, and where all have, the distance is 1, a standard deviation.
  """
  rows = z.reshape(len(z), -1)
  asked = rows[rng.permutation(len(rows))[:SAMPLED]]
  search = neighbors.NearestNeighbors(n_neighbors=min(2, len(rows))).fit(rows)
  distances = search.kneighbors(asked)[0][:, -1]
  distances = distances[distances > 0.0]
  return float(np.median(distances)) if len(distances) else 1.0


def make_score(prepared: recipe.Prepared) -> Callable[[Any, np.ndarray], np.ndarray]:
  """``(variables, z [n, ...]) -> [n]`` scores of standardised records, compiled once."""
  score_fn = recipe.NegativeLogit(prepared.network)
  size = int(np.prod(prepared.data.inputs.shape[1:]))
  rows_at_once = int(np.clip(2**21 // size, 16, 1024))

  def score(variables: Any, z: np.ndarray) -> np.ndarray:
    return batching.in_batches(lambda rows: _score(score_fn, variables, rows), z, rows_at_once)

  return score


_score = jax.jit(lambda score_fn, variables, z: score_fn(variables, z), static_argnums=0)
