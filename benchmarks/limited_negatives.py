"""One-class classification with limited negatives: Figures 1c, 1d, 3 and 9, and MNIST 0 against 1.

Figure 1 is measured as Table 7 is. Wherever a recall at a false-positive rate is reported, that
rate is over far and close negatives together, and the columns are

last       the fixed last epoch, threshold from the validation negatives
selected   the epoch of the highest recall on the validation records, threshold likewise
released   the last epoch, threshold from the test negatives themselves, as the released code has it
oracle     the best test epoch, threshold likewise; only to compare with the paper

Validation records are the paper's (Appendix E.5): they hold close negatives of their own. All
methods train for as many epochs; those of DeepSAD pass over typical records and negatives together,
so that it takes more steps, and a pretraining beside.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import Any

from absl import flags
from matplotlib.figure import Figure
import numpy as np

from benchmarks import protocol
from benchmarks.baselines import binary_cross_entropy, deep_sad
from benchmarks.records import TableRecord, by_method
from configs import negatives_mnist, negatives_sine, negatives_speech
from detector_jax import Standardizer, metrics
from detector_jax.splits import calibration_rows
from launch import data
from launch.data.splits import Labelled
from launch.methods.drocc import Config
from launch.reporting import figures

OURS = {"DROCC": "drocc", "DROCC-OE": "oe", "DROCC-LF": "lf"}
BASELINES: dict[str, Any] = {
  "binary cross-entropy": binary_cross_entropy.make,
  "DeepSAD": deep_sad.make,
}
RATES = (0.03, 0.05)
# Recall in percent at 3 % false positives, section 5.2.2.
PAPER_MNIST = {
  "binary cross-entropy": 54.0,
  "DeepSAD": 90.91,
  "DROCC-OE": 98.16,
  "DROCC-LF": 99.4,
}
MASKED = (0.4, 0.5)
DISPLACEMENTS = (0.2, 0.4, 0.6, 0.8, 1.0, 2.0)
POINTS = 10

_KEYWORDS = flags.DEFINE_list(
  "keywords", list(negatives_speech.KEYWORDS), "Wake words that the table ocln-speech measures."
)

Score = Callable[[np.ndarray], np.ndarray]


def count_methods(seeds: int) -> int:
  """Number of trainings of figure1 and ocln-mnist."""
  return seeds * (len(OURS) + len(BASELINES))


def count_speech(seeds: int) -> int:
  """Number of trainings of ocln-speech."""
  return len(_KEYWORDS.value) * count_methods(seeds)


def trained(
  get_config: Callable[[str], Config], change: Mapping[str, Any], splits: data.Splits, seed: int
) -> Iterator[tuple[str, Callable[[np.ndarray], list[np.ndarray]]]]:
  """Trains every method on the same records, for the same number of epochs.

  Args:
    get_config: of a file in configs, by "drocc", "oe" or "lf".
    change: settings of the configuration to change, e.g. of a short test.
    splits: with ``negatives``.
    seed: of everything random in training.

  Yields:
    Name, and a function from raw records ``[m, ...]`` to their scores ``[m]`` at each of at most
    ``POINTS`` evenly spread epochs.
  """
  for name, short in OURS.items():
    config = dataclasses.replace(get_config(short), seed=seed, **change)
    given = None if short == "drocc" else splits.negatives
    yield name, _ours(config, splits.x_train, given)
  config = dataclasses.replace(get_config("oe"), seed=seed, **change)
  for name, make in BASELINES.items():
    yield name, _baseline(make, config, splits)


def _ours(
  config: Config, x_train: np.ndarray, given: np.ndarray | None
) -> Callable[[np.ndarray], list[np.ndarray]]:
  def scores(x: np.ndarray) -> list[np.ndarray]:
    return list(protocol.train(config, x_train, x, POINTS, given).scores)

  return scores


def _baseline(
  make: Callable[..., Any], config: Config, splits: data.Splits
) -> Callable[[np.ndarray], list[np.ndarray]]:
  """A baseline on the rows that ours trains on, with the network, epochs and batches of ours."""
  rows, _ = calibration_rows(splits.x_train, config.calibration_size, config.seed)
  x, negatives = splits.x_train[rows], splits.negatives
  assert negatives is not None
  preprocessing = Standardizer.fit(
    np.concatenate([x, negatives]),
    scaling=config.scaling,
    constant=config.constant,
    clip=config.clip,
  )
  z, z_negatives = (preprocessing.transform(each) for each in (x, negatives))
  settings = {"epochs": config.epochs, "batch_size": config.batch_size}
  model = make(config.seed, z.shape[1:], network=config.network.make(), **settings)

  def scores(x_test: np.ndarray) -> list[np.ndarray]:
    z_test = preprocessing.transform(x_test)
    return [score(z_test) for _, score in model.trajectory(z, z_negatives, POINTS)]

  return scores


# Figure 1.


def figure1(
  seeds: int, advance: Callable[..., None], **change: Any
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """AUROC by displacement, and what DROCC and DROCC-LF take for typical, in the first two axes."""
  found: dict[tuple[float, str], list[float]] = {}
  panels, grid = {}, _grid()
  points = np.zeros((0, 2))
  for seed in range(seeds):
    config: Any = negatives_sine.get_config().data
    splits = [
      dataclasses.replace(config, displacement=value, seed=seed).load() for value in DISPLACEMENTS
    ]
    tests = [split.labelled_test() for split in splits]
    wide = np.zeros((len(grid), splits[0].x_train.shape[1]))
    wide[:, :2] = grid
    parts = [*(x for x, _ in tests), splits[0].x_train, wide]
    ends = np.cumsum([len(x) for x in parts])[:-1]
    for name, scores in trained(negatives_sine.get_config, change, splits[0], seed):
      last = scores(np.concatenate(parts))[-1]
      *tested, train, plane = np.split(last, ends)
      for value, (_, labels), each in zip(DISPLACEMENTS, tests, tested, strict=True):
        found.setdefault((value, name), []).append(metrics.auroc(labels, each))
      if seed == 0:
        panels[name] = plane, float(np.quantile(train, 0.95))
        points = splits[0].x_train[:, :2]
      advance(1, f"{name}, seed {seed}")
  records = [
    record
    for (value, name), values in found.items()
    for record in protocol.summarise(
      "figure1", f"displacement {value:g}", name, "auroc", {"last": values}
    )
  ]
  series = {method: (DISPLACEMENTS, *found) for method, found in by_method(records).items()}
  lines = figures.lines_with_spread(
    series, "vertical displacement of the anomalies", "AUROC, %, last epoch"
  )
  boundary = figures.decision_boundary(
    {name: (_looked_up(grid, plane), threshold) for name, (plane, threshold) in panels.items()},
    points,
    LIMITS,
  )
  return records, {"figure1-auroc": lines, "figure1": boundary}


LIMITS = (-7.5, 7.5, -3.0, 3.0)


def _grid() -> np.ndarray:
  """The points ``[n, 2]`` that ``figures.decision_boundary`` draws, in its order."""
  xs, ys = np.linspace(*LIMITS[:2], 320), np.linspace(*LIMITS[2:], 200)
  return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def _looked_up(grid: np.ndarray, scores: np.ndarray) -> Score:
  def score(points: np.ndarray) -> np.ndarray:
    np.testing.assert_array_equal(points, grid)
    return scores

  return score


# Recall at a false-positive rate.


def columns(
  validation: Labelled, tested: Labelled, stops: Sequence[np.ndarray], rate: float
) -> dict[str, float]:
  """Recall of typical test records in each column, and the rate that ``last`` realises.

  Args:
    validation: labelled validation records, ``v`` of them.
    tested: labelled test records, ``t``.
    stops: scores ``[v + t]`` of both at each stop; the last is the last epoch.
    rate: stated false-positive rate.
  """
  held_out = [scores[: len(validation.y)] for scores in stops]
  ours = [scores[len(validation.y) :] for scores in stops]

  def at_validation(place: int) -> tuple[float, float]:
    negatives = np.sort(held_out[place][validation.y == 1])
    threshold = negatives[int(np.floor(rate * len(negatives) + 1e-9))]
    passed = ours[place] < threshold
    return float(passed[tested.y == 0].mean()), float(passed[tested.y == 1].mean())

  def recall(scores: np.ndarray, labels: np.ndarray) -> float:
    return metrics.recall_at_fpr(scores[labels == 0], scores[labels == 1], rate)

  chosen = int(np.argmax([recall(scores, validation.y) for scores in held_out]))
  last, realised = at_validation(len(stops) - 1)
  return {
    "last": last,
    "selected": at_validation(chosen)[0],
    "released": recall(ours[-1], tested.y),
    "oracle": max(recall(scores, tested.y) for scores in ours),
    "realised": realised,
  }


def _recalls(
  table: str,
  cases: Mapping[str, data.Splits],
  get_config: Callable[[str], Config],
  seed: int,
  found: dict[tuple[str, str, float], dict[str, list[float]]],
  advance: Callable[..., None],
  change: Mapping[str, Any],
) -> None:
  """Trains every method once on what the cases have in common, and measures it on each."""
  first = next(iter(cases.values()))
  measured = {row: (_validation(splits), _tested(splits)) for row, splits in cases.items()}
  parts = [part.x for pair in measured.values() for part in pair]
  ends = np.cumsum([len(x) for x in parts])[:-1]
  for name, scores in trained(get_config, change, first, seed):
    stops = [np.split(each, ends) for each in scores(np.concatenate(parts))]
    for place, (row, (validation, tested)) in enumerate(measured.items()):
      pairs = [np.concatenate(each[2 * place : 2 * place + 2]) for each in stops]
      for rate in RATES:
        for column, value in columns(validation, tested, pairs, rate).items():
          found.setdefault((row, name, rate), {}).setdefault(column, []).append(value)
    advance(1, f"{table}: {name}, seed {seed}")


def _validation(splits: data.Splits) -> Labelled:
  assert splits.validation is not None
  return splits.validation


def _tested(splits: data.Splits) -> Labelled:
  x, y = splits.labelled_test()
  assert splits.sources is not None
  return Labelled(x, y, splits.sources)


def _summarised(
  table: str,
  found: Mapping[tuple[str, str, float], dict[str, list[float]]],
  published: Callable[[str, str, float], float | None],
) -> list[TableRecord]:
  records = []
  for (row, name, rate), by_column in found.items():
    realised = {"last": by_column.pop("realised")}
    metric = f"recall_at_{100 * rate:g}fpr"
    paper = published(row, name, rate)
    records += protocol.summarise(table, row, name, metric, by_column, paper)
    records += protocol.summarise(table, row, name, f"realised_at_{100 * rate:g}fpr", realised)
  return records


def table_mnist(
  seeds: int, advance: Callable[..., None], **change: Any
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """MNIST 0 against 1 with masked zeros: each method is trained once, both maskings measured."""
  found: dict[tuple[str, str, float], dict[str, list[float]]] = {}
  for seed in range(seeds):
    config: Any = negatives_mnist.get_config().data
    cases = {
      f"{share:.0%} masked": dataclasses.replace(config, masked=share, seed=seed).load()
      for share in MASKED
    }
    _recalls("ocln-mnist", cases, negatives_mnist.get_config, seed, found, advance, change)

  def published(row: str, name: str, rate: float) -> float | None:
    return PAPER_MNIST.get(name) if (row, rate) == ("50% masked", 0.03) else None

  records = _summarised("ocln-mnist", found, published)
  return records, {"ocln-mnist": _bars(records, "last")}


def table_speech(
  seeds: int, advance: Callable[..., None], **change: Any
) -> tuple[list[TableRecord], dict[str, Figure]]:
  """Wake words against other and close words: Figures 3 and 9, and stand-in keywords."""
  found: dict[tuple[str, str, float], dict[str, list[float]]] = {}
  for keyword in _KEYWORDS.value:
    for seed in range(seeds):
      config = negatives_speech.get_config("lf", keyword).data
      splits = dataclasses.replace(config, seed=seed).load()
      _recalls(
        keyword,
        {keyword: splits},
        functools.partial(negatives_speech.get_config, keyword=keyword),
        seed,
        found,
        advance,
        change,
      )
  records = _summarised("ocln-speech", found, lambda *_: None)
  return records, {"figure3": _bars(records, "last")}


def _bars(records: Sequence[TableRecord], column: str) -> Figure:
  """Recall of every method, grouped by row and rate, as the paper's Figure 3 has it."""
  chosen = [
    record
    for record in records
    if record.column == column and record.metric.startswith("recall_at_")
  ]
  groups = list(dict.fromkeys((record.row, record.metric) for record in chosen))
  names = [f"{row}\n{metric.split('_')[2].removesuffix('fpr')} % FPR" for row, metric in groups]
  return figures.grouped_bars(names, by_method(chosen), "recall, %, last epoch", bottom=0.0)
