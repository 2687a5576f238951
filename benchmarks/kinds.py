"""Seen and unseen kinds of anomalies: what a few labelled negatives are worth.

The anomalies of a real set are divided into two kinds by k-means. Half of the larger kind, at most
100 records, are given as negatives; its other half are seen anomalies, the smaller kind unseen
ones. Half of the typical records train and half test, at most 2,000 of each. Every method has its
default settings; nothing is chosen by a test label.
"""

from collections.abc import Callable
import functools
from typing import Any

from matplotlib.figure import Figure
import numpy as np
from sklearn.cluster import KMeans

from benchmarks import protocol
from benchmarks.baselines import binary_cross_entropy, deep_sad, nearest_neighbour
from benchmarks.records import TableRecord, by_method
from detector_jax import Standardizer
from drocc_jax import DROCC, DROCCLF, DROCCOE
from launch.data import real
from launch.reporting import figures

SETS = ("cardio", "fault", "ionosphere", "letter", "optdigits", "pima", "satellite", "vowels")
OURS: dict[str, Callable[..., Any]] = {"DROCC": DROCC, "DROCC-OE": DROCCOE, "DROCC-LF": DROCCLF}
BASELINES: dict[str, Callable[..., Any]] = {
  "binary cross-entropy": binary_cross_entropy.make,
  "DeepSAD": deep_sad.make,
}
METHODS = (*OURS, *BASELINES, "nearest neighbour")
MOST_TYPICAL, MOST_GIVEN, CLIP = 2000, 100, 20.0

Parts = dict[str, np.ndarray]


def count(seeds: int) -> int:
  """Number of trainings."""
  return seeds * len(SETS) * len(METHODS)


def parts_of(x: np.ndarray, y: np.ndarray, seed: int) -> Parts:
  """Divides labelled records ``[n, d]`` into "train", "given", "typical", "seen" and "unseen".

  Args:
    x: records.
    y: ``[n]``, 1 = anomalous.
    seed: of the draws and of k-means.
  """
  rng = np.random.default_rng(seed)
  typical = rng.permutation(x[y == 0])
  half = len(typical) // 2
  scale = Standardizer.fit(typical[:half], clip=CLIP)
  anomalous = rng.permutation(x[y == 1])
  kind = KMeans(2, n_init=10, random_state=seed).fit_predict(scale.transform(anomalous))
  larger = int(np.sum(kind == 1) > np.sum(kind == 0))
  known, unseen = anomalous[kind == larger], anomalous[kind != larger]
  given = min(len(known) // 2, MOST_GIVEN)
  return {
    "train": typical[:half][:MOST_TYPICAL],
    "given": known[:given],
    "typical": typical[half:][:MOST_TYPICAL],
    "seen": known[given:],
    "unseen": unseen,
  }


def fitted(method: str, parts: Parts, seed: int) -> Callable[[np.ndarray], np.ndarray]:
  """Trains one method with its defaults; returns its score, ``[m, d] -> [m]``."""
  train, given = parts["train"], parts["given"]
  if method in OURS:
    model = OURS[method](random_state=seed)
    if method == "DROCC":
      model.fit(train)
    else:
      labels = np.repeat([1, -1], [len(train), len(given)])
      model.fit(np.concatenate([train, given]), labels)
    return lambda x: -model.score_samples(x)
  known = train if method == "nearest neighbour" else np.concatenate([train, given])
  scale = Standardizer.fit(known, clip=CLIP)
  z, negatives = (scale.transform(x) for x in (train, given))
  if method == "nearest neighbour":
    peer = nearest_neighbour.make(seed).fit(z)
  else:
    peer = BASELINES[method](seed, z.shape[1:]).fit(z, negatives)
  return lambda x: peer.score(scale.transform(x))


def table(seeds: int, advance: Callable[..., None]) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC on seen and on unseen anomalies of every set, and their means over the sets."""
  found: dict[tuple[str, str, str], list[float]] = {}
  for name in SETS:
    x, y = real.load(f"adbench/{name}")
    for seed in range(seeds):
      parts = parts_of(x, y, seed)
      for method in METHODS:
        score = fitted(method, parts, seed)
        auroc = functools.partial(protocol.auroc, score(parts["typical"]))
        for kind in ("seen", "unseen"):
          value = auroc(score(parts[kind]))
          found.setdefault((name, kind, method), []).append(value)
        advance(1, f"{name}, {method}, seed {seed}")
  for kind in ("seen", "unseen"):
    for method in METHODS:
      values = [found[name, kind, method] for name in SETS]
      found["mean of the sets", kind, method] = np.mean(values, axis=0).tolist()
  records = [
    record
    for (name, kind, method), values in found.items()
    for record in protocol.summarise("kinds", f"{name}, {kind}", method, "auroc", {"last": values})
  ]
  return records, {"kinds": _bars(records)}


def _bars(records: list[TableRecord]) -> Figure:
  chosen = [record for record in records if record.row.startswith("mean")]
  groups = [f"{kind} kind of anomaly" for kind in ("seen", "unseen")]
  return figures.grouped_bars(groups, by_method(chosen), "AUROC, %, mean of 8 sets", bottom=50.0)
