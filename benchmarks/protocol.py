"""How every table is measured: one training per seed, three labelled ways to choose the epoch.

last       the fixed last epoch
selected   the epoch of the lowest objective on held-out typical records; no test label enters
oracle     the best epoch on the test set, as the released code chooses; only to compare
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

from absl import flags
import jax
import numpy as np

from benchmarks.baselines import BASELINES, autoencoder, dagmm, deep_svdd, fitting, goad
from benchmarks.records import TableRecord
from detector_jax import Standardizer, batching, health, metrics
from detector_jax.splits import calibration_rows
from drocc_jax import drocc, recipe
from launch.methods.drocc import Config, prepare, validation_of

SCORED = 1000
DEEP: dict[str, Callable[..., Any]] = {
  "autoencoder": autoencoder.make,
  "Deep SVDD": deep_svdd.make,
  "Deep SVDD, soft boundary": functools.partial(deep_svdd.make, objective="soft-boundary"),
}
FOR_TABLES: dict[str, Callable[..., Any]] = {"GOAD": goad.make, "DAGMM": dagmm.make}
COLUMNS = ("last", "selected", "oracle")
_METHODS = flags.DEFINE_enum(
  "methods",
  "simple",
  ("simple", "peers", "all"),
  "Baselines of tables 1, 2, 3, mnist and adbench: those that train no network; in adbench with "
  "those of PyOD and DTE beside them; or all.",
)

Metric = Callable[[np.ndarray], float]


@dataclasses.dataclass(frozen=True)
class Trajectory:
  """Scores of the test set over the epochs of one training.

  Attributes:
    epochs: ``[points]`` after how many epochs.
    objective: ``[points]`` objective on held-out typical records.
    scores: ``[points, m]``.
    score: score function of the last epoch, ``[n, ...] -> [n]`` on raw records.
  """

  epochs: np.ndarray
  objective: np.ndarray
  scores: np.ndarray
  score: Callable[[np.ndarray], np.ndarray]

  def columns(self, metric: Metric) -> dict[str, float]:
    """A metric of scores ``[m]`` (higher = better) at the epoch of each column."""
    values = np.array([metric(scores) for scores in self.scores])
    chosen = int(np.argmin(self.objective))
    return {"last": values[-1], "selected": values[chosen], "oracle": values.max()}


def train(
  config: Config,
  x_train: np.ndarray,
  x_test: np.ndarray,
  points: int | Sequence[int] = 50,
  negatives: np.ndarray | None = None,
) -> Trajectory:
  """Trains DROCC, DROCC-OE or DROCC-LF and scores the test set along the way.

  ``config.calibration_size`` of the rows is held out for the objective that ``selected`` goes by;
  with none of them there is no such column.

  Args:
    config: the experiment; its ``data`` is not read.
    x_train: ``[n, ...]`` raw typical records.
    x_test: ``[m, ...]`` raw records to score.
    points: at how many epochs, evenly spread, to score them, or after which.
    negatives: ``[k, ...]`` raw given negatives, for DROCC-OE and DROCC-LF.

  Raises:
    HealthError: training diverged.
  """
  rows, held_out = calibration_rows(x_train, config.calibration_size, config.seed)
  prepared = prepare(config, x_train[rows], negatives)
  init_key, train_key = recipe.keys(config.seed)
  state = prepared.init(init_key)
  validate = validation_of(prepared, x_train[held_out], jax.random.fold_in(train_key, 1))
  score_fn, z_test = recipe.NegativeLogit(prepared.network), _standardised(prepared, x_test)
  ends = np.unique(
    np.linspace(prepared.epochs, 1, min(points, prepared.epochs)).round().astype(int)
    if isinstance(points, int)
    else points
  )
  objective, scores, epoch = [], [], 0
  for end in ends:
    state, info = prepared.program.train_epochs(state, prepared.data, train_key, epoch, int(end))
    health.check_loss(drocc.means(info), int(np.max(state.step)))
    objective.append(validate(state).get("validation_objective", np.nan))
    scores.append(_score(score_fn, state, z_test))
    epoch = int(end)
  return Trajectory(
    ends,
    np.array(objective),
    np.array(scores),
    lambda x: _score(score_fn, state, _standardised(prepared, x)),
  )


def _standardised(prepared: recipe.Prepared, x: np.ndarray) -> np.ndarray:
  return prepared.preprocessing.transform(x)


def _score(score_fn: recipe.NegativeLogit, state: drocc.State, z: np.ndarray) -> np.ndarray:
  return batching.in_batches(lambda rows: _score_jit(score_fn, state.average, rows), z, SCORED)


_score_jit = jax.jit(lambda score_fn, variables, z: score_fn(variables, z), static_argnums=0)


def baseline_scores(
  x_train: np.ndarray, x_tests: Sequence[np.ndarray], seed: int, scaling: str = "standard"
) -> dict[str, list[np.ndarray]]:
  """Scores of every baseline on each test set, all rows training, inputs standardised as ours."""
  preprocessing = Standardizer.fit(x_train, scaling=scaling)
  z_train = preprocessing.transform(x_train)
  z_tests = [preprocessing.transform(x) for x in x_tests]
  fitted = {name: make(seed).fit(z_train) for name, make in BASELINES.items()}
  return {name: [model.score(z) for z in z_tests] for name, model in fitted.items()}


def deep_baseline_scores(
  config: Config, x_train: np.ndarray, x_tests: Sequence[np.ndarray]
) -> dict[str, list[np.ndarray]]:
  """Scores of the baselines that train a network: ours, with our inputs, epochs and batches.

  All rows train, where our own training holds some out. Deep SVDD pretrains for as many epochs.
  GOAD and DAGMM, of tables alone, have networks and settings of their own.

  Args:
    config: of our training.
    x_train: ``[n, ...]`` raw typical records.
    x_tests: raw records ``[m, ...]``.
  """
  preprocessing = Standardizer.fit(
    x_train, scaling=config.scaling, constant=config.constant, clip=config.clip
  )
  z_train = preprocessing.transform(x_train)
  z_tests = [preprocessing.transform(x) for x in x_tests]
  network = config.network.make()
  scores = {}
  for name, make in DEEP.items():
    settings = {"epochs": config.epochs, "batch_size": config.batch_size}
    if name != "autoencoder":
      settings["pretrain_epochs"] = config.epochs
    model = make(config.seed, z_train.shape[1:], network=network, **settings)
    scores[name] = fitting.scores_or_guesses(name, model, z_train, z_tests)
  for name, make in FOR_TABLES.items() if z_train.ndim == 2 else ():
    model = make(config.seed, z_train.shape[1:])
    scores[name] = fitting.scores_or_guesses(name, model, z_train, z_tests)
  return scores


def peers() -> bool:
  """Whether the flag asks for the peers of the table adbench."""
  return flags.FLAGS.is_parsed() and _METHODS.value != "simple"


def all_methods() -> bool:
  """Whether the flag asks for the baselines that train a network, too."""
  return flags.FLAGS.is_parsed() and _METHODS.value == "all"


def labelled(typical: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Labels 0 and 1 of the scores of typical and of other records, and the scores."""
  return np.repeat([0, 1], [len(typical), len(other)]), np.concatenate([typical, other])


def auroc(typical: np.ndarray, other: np.ndarray) -> float:
  """AUROC of the scores of other records against those of typical ones."""
  return metrics.auroc(*labelled(typical, other))


def means_over_classes(
  values: dict[tuple[str, str, str], list[float]], name: str
) -> dict[tuple[str, str, str], list[float]]:
  """Mean over the ten classes of each seed; nothing for a set of which some are missing.

  Args:
    values: ``(row, method, metric) -> values of the seeds``, rows "set, class".
    name: that stands in the place of the class.
  """
  found: dict[tuple[str, str, str], list[list[float]]] = {}
  for (row, method, metric), each in values.items():
    found.setdefault((f"{row.split(', ')[0]}, {name}", method, metric), []).append(each)
  return {key: np.mean(each, axis=0).tolist() for key, each in found.items() if len(each) == 10}


def summarise(
  table: str,
  row: str,
  method: str,
  metric: str,
  by_column: dict[str, list[float]],
  paper: float | None = None,
) -> list[TableRecord]:
  """One record per column, in percent, from the values of each seed."""
  return [
    TableRecord.from_values(
      table, row, method, metric, values, column=column, factor=100.0, paper=paper
    )
    for column, values in by_column.items()
  ]
