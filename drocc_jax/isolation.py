"""Which training records are so far from all others that they should not count as typical."""

import numpy as np
from scipy.sparse import csgraph, csr_array
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS, FAR, LEAST, REFERENCE = 5, 2.5, 20, 5000
TOGETHER = 0.9  # share of the neighbours of a hill that are its own


def connected_rows(z: np.ndarray, trim: float) -> np.ndarray:
  r"""Numbers of the records that are not isolated.

  With ``k_i`` the mean distance of record ``i`` to its five nearest neighbours among the others, a
  record is isolated where

  .. math:: k_i / m_i > \max(2.5, \; q_{1 - trim}(k / m))

  so that at most a share ``trim`` is. ``m_i`` is the median of ``k``. Where most neighbours of the
  record are in a hill of its own, such as the payments from abroad, it is the median over that
  hill. A hill is at least 20 records with ``k_i`` above 2.5 medians, each of which is reached from
  each by steps from a record to one of its neighbours, and of whose neighbours nine in ten are in
  it, too. The long tail of a column is none: its neighbours are on its inner side as well.

  Round an isolated record the search walks off towards the others, where the network is highest; no
  negative stays near it, and training to the end makes a region of its own for it, in which
  anomalies lie, too. Columns with heavy tails have many of these: 7 % of the ADBench set thyroid.
  Of 2,000 standard normal records 7 % are isolated in two dimensions, 1 % in four, 0.1 % in six; of
  uniform ones next to none.

  Args:
    z: ``[n, d]`` standardised typical records. Of more than 5,000, as many, evenly spread, are the
      neighbours.
    trim: in [0, 0.5). Nothing is isolated where it is less than 20 records: of few records the
      far ones are a kind of their own as often as not.

  Returns:
    int64 ``[m]`` in ascending order.

  Raises:
    ValueError: ``trim`` is out of its range.
  """
  if not 0.0 <= trim < 0.5:
    raise ValueError(f"trim must be in [0, 0.5), got {trim!r}.")
  everything = np.arange(len(z))
  if trim * len(z) < LEAST:
    return everything
  every = -(-len(z) // REFERENCE)
  search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(z[::every])
  distances, found = search.kneighbors(z)
  # A record that is a neighbour of its own has a first distance of 0; of others the sixth is left.
  itself = distances[:, 0] == 0.0
  mean = np.where(itself, distances[:, 1:].mean(axis=1), distances[:, :-1].mean(axis=1))
  neighbours = np.where(itself[:, None], found[:, 1:], found[:, :-1])
  middle = np.median(mean)
  if middle == 0.0:  # more than half are copies of others: there is no distance to compare with
    return everything
  spacing = np.full(len(z), middle)
  for hill in _hills(neighbours[::every], mean[::every] > FAR * middle):
    mostly = hill[neighbours].sum(axis=1) > NEIGHBOURS / 2
    spacing[mostly] = np.median(mean[::every][hill])
  relative = mean / spacing
  return np.flatnonzero(relative <= max(FAR, np.quantile(relative, 1.0 - trim)))


def _hills(neighbours: np.ndarray, far: np.ndarray) -> list[np.ndarray]:
  """Groups of far records that are one another's neighbours, each as bool ``[n]``.

  Args:
    neighbours: int ``[n, k]``, numbers of the neighbours of each record.
    far: bool ``[n]``.
  """
  n = len(far)
  row, column = np.nonzero(far[:, None] & far[neighbours])
  steps = csr_array((np.ones(len(row)), (row, neighbours[row, column])), shape=(n, n))
  _, group = csgraph.connected_components(steps, connection="strong")
  sizes = np.bincount(group)
  groups = [group == number for number in np.flatnonzero(sizes >= LEAST).tolist()]
  return [each for each in groups if each[neighbours[each]].mean() >= TOGETHER]
