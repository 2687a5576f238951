"""Tables as they come against the same tables complete and encoded by hand: --table=mixed.

Five sets with columns of few values: numbers of at most ten values become categories, of two "yes"
and "no". "by hand" has these one-hot or 0 and 1, and every cell; "as it comes" is a table of text
and numbers that ``DROCC(columns="auto")`` gets; and once more with 20 % of all cells missing, in
training and test records. Half of the typical records train, the others and all anomalies test.
The sets were named, and the form of their columns, before anything was measured; every setting is a
default.

--table=missing asks what the missing cells themselves cost: gradient boosting that is trained on
labelled records, anomalies among them, on the same numbers with all cells and without 20 % of them,
which it takes as they are. Half of the records train and the other half tests, and in turn.
"""

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure
import numpy as np
import pyarrow as pa
from sklearn import ensemble, model_selection

from benchmarks import protocol
from benchmarks.baselines import nearest_neighbour
from benchmarks.records import TableRecord, by_method
from detector_jax import Standardizer, metrics
from drocc_jax import DROCC
from launch.data import real
from launch.data.splits import half
from launch.reporting import figures

SETS = ("abalone", "arrhythmia", "adbench/breastw", "adbench/cardio", "adbench/fault")
FEW, MISSING = 10, 0.2
FORMS = ("by hand", "as it comes", "20 % of the cells missing")
PEER = "5 neighbours, by hand"
SUPERVISED = ("gradient boosting, labels known", "20 % of the cells missing")


def count(seeds: int) -> int:
  """Number of trainings."""
  return seeds * len(SETS) * (len(FORMS) + 1)


def by_hand(x: np.ndarray, known: np.ndarray) -> np.ndarray:
  """Columns of few values one-hot, those of two as 0 and 1, others as they are.

  Args:
    x: ``[n, d]``.
    known: all records of the set, whose values a column has.
  """
  parts = []
  for column, values in zip(x.T, map(np.unique, known.T), strict=True):
    if 2 < len(values) <= FEW:
      parts += [(column == value).astype(np.float64) for value in values]
    else:
      parts.append((column == values[-1]).astype(np.float64) if len(values) == 2 else column)
  return np.stack(parts, axis=1)


def as_it_comes(x: np.ndarray, known: np.ndarray, missing: float, seed: int) -> pa.Table:
  """The same records as a table of text and numbers, a share of its cells missing at random."""
  rng, columns = np.random.default_rng(seed), {}
  for place, (column, values) in enumerate(zip(x.T, map(np.unique, known.T), strict=True)):
    cells = column.astype(object)
    if len(values) == 2:
      cells = np.where(column == values[-1], "yes", "no").astype(object)
    elif len(values) <= FEW:
      cells = np.array([f"kind {value:g}" for value in column], object)
    cells[rng.random(len(cells)) < missing] = None
    columns[f"c{place}"] = cells.tolist()
  return pa.table(columns)


def table(seeds: int, advance: Callable[..., None]) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC of ``DROCC()`` on the three forms of every set."""
  found: dict[tuple[str, str], list[float]] = {}
  for name in SETS:
    x, y = real.load(name)
    for seed in range(seeds):
      split = half(x, y, seed)
      x_test, labels = split.labelled_test()
      forms = {
        "by hand": [by_hand(part, x) for part in (split.x_train, x_test)],
        "as it comes": [as_it_comes(part, x, 0.0, seed) for part in (split.x_train, x_test)],
        FORMS[2]: [
          as_it_comes(part, x, MISSING, 2 * seed + place)
          for place, part in enumerate((split.x_train, x_test))
        ],
      }
      for form, (train, test) in forms.items():
        model = DROCC(columns=None if form == "by hand" else "auto", random_state=seed).fit(train)
        auroc = metrics.auroc(labels, -model.score_samples(test))
        found.setdefault((name, form), []).append(auroc)
        advance(1, f"{name}, {form}, seed {seed}")
      scale = Standardizer.fit(forms["by hand"][0])
      peer = nearest_neighbour.make(seed, 5).fit(scale.transform(forms["by hand"][0]))
      scores = peer.score(scale.transform(forms["by hand"][1]))
      found.setdefault((name, PEER), []).append(metrics.auroc(labels, scores))
      advance(1, f"{name}, neighbours, seed {seed}")
  records = _with_mean("mixed", found, (*FORMS, PEER))
  return records, {"mixed": _bars(records)}


def count_missing(seeds: int) -> int:
  """Number of sets that are drawn."""
  return seeds * len(SETS)


def table_missing(
  seeds: int, advance: Callable[..., None]
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC of a learner that knows the labels, with and without missing cells, on every set."""
  found: dict[tuple[str, str], list[float]] = {}
  for name in SETS:
    x, y = real.load(name)
    for seed in range(seeds):
      holes = np.random.default_rng(seed).random(x.shape) < MISSING
      for method, cells in zip(SUPERVISED, (x, np.where(holes, np.nan, x)), strict=True):
        found.setdefault((name, method), []).append(supervised(cells, y, seed))
      advance(1, f"{name}, seed {seed}")
  return _with_mean("missing", found, SUPERVISED), {}


def supervised(x: np.ndarray, y: np.ndarray, seed: int) -> float:
  """AUROC of scikit-learn's gradient boosting, trained on one half and tested on the other.

  Args:
    x: ``[n, d]``, NaN where a cell is missing.
    y: ``[n]``, 1 = anomalous; both halves have the same share.
    seed: of the halves.
  """
  halves = model_selection.StratifiedKFold(2, shuffle=True, random_state=seed)
  model = ensemble.HistGradientBoostingClassifier(random_state=seed)
  told = model_selection.cross_val_predict(model, x, y, cv=halves, method="predict_proba")
  return metrics.auroc(y, told[:, 1])


def _with_mean(
  table: str, found: dict[tuple[str, str], list[float]], methods: Sequence[str]
) -> list[TableRecord]:
  """Records of what was found, (set, method) -> AUROC of each seed, and of the mean of the sets."""
  means = {
    ("mean of the sets", method): np.mean([found[name, method] for name in SETS], axis=0).tolist()
    for method in methods
  }
  return [
    record
    for (name, method), values in {**found, **means}.items()
    for record in protocol.summarise(table, name, method, "auroc", {"last": values})
  ]


def _bars(records: list[TableRecord]) -> Figure:
  rows = [name.removeprefix("adbench/") for name in (*SETS, "mean of the sets")]
  return figures.grouped_bars(rows, by_method(records), "AUROC, %", bottom=50.0)
