"""DROCC, DROCC-OE and DROCC-LF: one stage, from records to a calibrated Detector."""

from collections.abc import Callable
import dataclasses
import functools
import logging
import pathlib
import time
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import Detector, Standardizer, training
from detector_jax.combination import WithStrangest
from detector_jax.features import apply
from detector_jax.program import Program, nested
from detector_jax.typical import with_typical
from drocc_jax import contamination, cross, drocc, ensemble, fit, networks, on_features, recipe
from drocc_jax.algorithm import Algorithm
from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.registry import NetworkConfig
from drocc_jax.settings import Training
from launch import costs, data, devices, failures, stages, workdirs
from launch.data import Digits, Source
from launch.methods import in_turn
from launch.methods.feature_settings import FeaturesConfig

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Config(Training):
  """One experiment with DROCC or a relative; what else is set of the training is in ``Training``.

  Attributes:
    data: what to train and test on.
    network: the network.
    features: what stands in front of it.
    drocc: the algorithm: which one goes by the class of the settings.
    warmup_epochs: first epochs without negatives; above 0 it sets ``drocc.warmup_steps``, and a
      ``trim`` of None is 0 then.
    precision: of the search; "bf16" and "float32" set ``drocc.precision``, None leaves it.
    seed: of weights, data order, noise and the held-out rows.
    checkpoints: how many checkpoints a run writes, evenly spread over its epochs.
  """

  former: ClassVar[dict[str, str]] = {"calibration": "split"}

  data: Source = dataclasses.field(default_factory=Digits)
  network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
  drocc: DroccConfig = dataclasses.field(default_factory=DroccConfig.automatic)
  features: FeaturesConfig = dataclasses.field(default_factory=FeaturesConfig)
  warmup_epochs: int = 0
  precision: str | None = None
  seed: int = 0
  checkpoints: int = 10

  @property
  def title(self) -> str:
    """The algorithm's name for people, e.g. "DROCC-OE"."""
    return recipe.algorithm_of(self.drocc).name

  @property
  def method(self) -> str:
    """Its name in ``launch.methods``, e.g. "drocc_oe"."""
    return method_of(recipe.algorithm_of(self.drocc))


def method_of(algorithm: Algorithm) -> str:
  """The name of an algorithm in ``launch.methods``."""
  return algorithm.name.lower().replace("-", "_")


KINDS: dict[str, Any] = {
  each.name.rpartition("-")[2].lower(): each.config for each in recipe.ALGORITHMS
}


def settings_of(name: str) -> Any:
  """The class of an algorithm's settings, by "drocc", "oe" or "lf".

  Raises:
    ValueError: another name.
  """
  if name not in KINDS:
    raise ValueError(f"After the colon goes one of {', '.join(KINDS)}; got {name!r}.")
  return KINDS[name]


def usual(name: str) -> Any:
  """The settings of ``DROCC()``, ``DROCCOE()`` or ``DROCCLF()``; see ``settings_of``."""
  settings = settings_of(name)
  return settings.automatic() if settings is DroccConfig else settings()


def train(config: Config, workdir: pathlib.Path) -> pathlib.Path:
  """Trains, or resumes, and writes ``workdir/detector``; see ``launch.run.train``."""
  stages.check_checkpoints(config.checkpoints)
  splits = config.data.load()
  if splits.stretches is not None:
    detector = in_turn.detector(config, splits, functools.partial(_trained, splits, workdir))
  else:
    roles = cross.divide(
      splits.x_train,
      config,
      config.seed,
      plain=config.features.name in ("auto", "none") and cross.starts_blank(config.network.make()),
      fpr=config.fpr,
      groups=splits.groups,
      parts=on_features.held_out_parts(config.features),
    )
    detector = _trained(splits, workdir, config, roles)
  if devices.primary():
    detector.save(workdir / "detector")
  return workdir / "detector"


def _trained(
  splits: data.Splits,
  workdir: pathlib.Path,
  config: Config,
  roles: contamination.Roles,
  name: str = "training",
  claimed: Config | None = None,
  constants: dict[str, Any] | None = None,
) -> Detector:
  """Trains on some of the records, in a stage of that name, and calibrates on others.

  Args:
    splits: the records.
    workdir: the run's folder.
    config: of the training.
    roles: which records do what.
    name: of the stage.
    claimed: the configuration of the run, where it is not that of the training.
    constants: of the network, in the place of its own, see ``in_turn.with_constants``.
  """
  began, rows, held_out = time.monotonic(), roles.rows, roles.held_out
  x, raw = data.taken(splits.x_train, rows), data.taken(splits.x_train, held_out)
  negatives = negatives_for(config, splits)
  features = config.features.fit(config, x, negatives)
  if features is None:
    x, x_held_out = np.asarray(x), np.asarray(raw)
    prepared = prepare(config, x, negatives, splits.feature_names, without=roles.without(rows))
  else:
    x = apply(features, x)
    x_held_out = apply(features, raw) if len(raw) else x[:0]
    negatives = None if negatives is None else apply(features, negatives)
    prepared = prepare(config, x, negatives, features=features)
  workdirs.claim(workdir, claimed or config, splits)
  init_key, train_key = recipe.keys(config.seed)
  unseen = x_held_out if roles.folds is None else x_held_out[:0]
  stage = _stage(prepared, unseen, train_key, rows, name)
  if splits.stretches is not None and name == in_turn.WHOLE:
    followed = len(in_turn.numbers(splits.stretches))
    stage = dataclasses.replace(stage, followed=followed, began=began)
  state = in_turn.with_constants(prepared.init(init_key), constants)
  state = stages.run(stage, state, workdir, config.checkpoints)
  metadata = {
    "method": config.title,
    "summary": _summary(config, prepared, len(x_held_out), roles),
    "config": dataclasses.asdict(config),
    "data": splits.description,
    "radius": prepared.config.radius,
    "epochs": prepared.epochs,
    "training_records": len(prepared.rows),
    "calibration_records": len(x_held_out),
    "folds": roles.number,
    "negatives": 0 if negatives is None else len(negatives),
    "feature_names": splits.feature_names if features is None else None,
    "schema": None if splits.schema is None else splits.schema.to_json(),
  }
  detector = recipe.build_detector(
    prepared.network,
    state,
    prepared.preprocessing,
    x,
    x_held_out,
    config.fpr,
    metadata,
    prepared.program.examine,
    config.confidence,
    roles.share,
    roles.without(held_out),
  )
  if features is not None:
    detector = on_features.behind(detector, features, raw, config.fpr, config.confidence)
    detector = detector.with_metadata(feature_names=splits.feature_names)
    detector = with_typical(detector, data.taken(splits.x_train, rows))
  return detector


def rebuild(
  config: Config, workdir: pathlib.Path, loaded: Detector
) -> tuple[Program, dict[str, Any]]:
  """Program and arrays of a finished run; see ``launch.methods.Method``."""
  del workdir
  center, scale = (loaded.arrays[f"preprocessing/{name}"] for name in ("center", "scale"))
  kept = loaded.arrays.get("preprocessing/kept")
  shape = loaded.input_shape if kept is None else kept.shape
  fitted, member = nested(loaded.arrays, "features"), config.network.make()
  features = config.features.rebuilt(fitted, loaded.batch_size) if fitted else None
  if features is not None:
    config = on_features.run_settings(config, features)
    _, member = on_features.settled(config.drocc, member, len(center), features)
  records = loaded.metadata["training_records"]
  member = networks.for_records(member or recipe.network_of(config.drocc, shape, records), records)
  network = ensemble.of_members(member, loaded.metadata.get("folds") or config.members)
  variables = {"stats": {}, **nested(loaded.arrays, "variables")}
  clip = np.inf if config.scaling == "none" else config.clip
  contrast = config.scaling == "contrast"
  preprocessing = Standardizer(center, scale, kept, clip, contrast, loaded.input_offset)
  arrays: dict[str, Any] = {"variables": variables, "preprocessing": preprocessing}
  if features is not None:
    arrays["features"] = features
  program: Any = Program(recipe.NegativeLogit(network))
  if units := nested(loaded.arrays, "units"):
    arrays["units"], program = units, WithStrangest(program)
  return program, arrays


def negatives_for(config: Config, splits: data.Splits) -> np.ndarray | None:
  """The labelled negatives ``[k, ...]`` of DROCC-OE and DROCC-LF; None for DROCC.

  Raises:
    ValueError: the method needs some and the data have none.
  """
  if not recipe.algorithm_of(config.drocc).needs_negatives:
    if splits.negatives is not None:
      logger.warning(
        "%d training records labelled 1 (anomalous) are left aside: DROCC learns from typical "
        "records alone; DROCC-OE and DROCC-LF learn from both.",
        len(splits.negatives),
      )
    return None
  if splits.negatives is None or not len(splits.negatives):
    raise ValueError(
      f"{config.title} needs labelled negatives, and {splits.description!r} has none: give files "
      "whose label column holds 1 for some training records, set data.negatives to classes of an "
      "image set, or train DROCC."
    )
  return splits.negatives


def prepare(
  config: Config,
  x: np.ndarray,
  negatives: np.ndarray | None = None,
  names: tuple[str, ...] | None = None,
  features: Any = None,
  without: np.ndarray | None = None,
) -> recipe.Prepared:
  """Settles everything that follows from the settings and the training records ``[n, ...]``.

  Args:
    config: of the run.
    x: records, or what a feature map makes of them.
    negatives: likewise, or None.
    names: of the columns, or None.
    features: the map that made them, or None.
    without: see ``recipe.build_training``.
  """
  chosen, trim, network = config.drocc, config.trim, config.network.make()
  if features is not None:
    config = on_features.run_settings(config, features)
    chosen, network = on_features.settled(chosen, network, x.shape[1], features)
  if config.warmup_epochs:
    trim = 0.0 if trim is None else trim
    sizes = [len(x)] if without is None else np.sum(~without, axis=1).tolist()
    per_epoch = training.steps_per_epoch(min(sizes), min(config.batch_size, max(sizes)))
    chosen = dataclasses.replace(chosen, warmup_steps=config.warmup_epochs * per_epoch)
  if config.precision is not None:
    chosen = dataclasses.replace(chosen, precision=config.precision)
  prepared = recipe.build_training(
    x,
    chosen,
    dataclasses.replace(config, trim=trim),
    negatives=negatives,
    network=network,
    names=names,
    without=without,
  )
  if devices.selected():
    train_epochs = _spread(
      prepared.network,
      prepared.config.static(),
      prepared.batch_size,
      recipe.algorithm_of(prepared.config),
      (devices.selected(), devices.spreading()),
    )
    prepared.program = prepared.program._replace(train_epochs=train_epochs)
  return prepared


@functools.lru_cache(maxsize=8)
def _spread(
  network: ensemble.Network,
  static: drocc.Static,
  batch_size: int,
  algorithm: Any,
  placement: tuple[Any, ...],
) -> training.TrainEpochs:
  """As ``fit.compile_program``, for the chosen devices, which are part of the cache's key."""
  del placement
  return devices.spread_epochs(
    fit.make_train_epochs(network, static, batch_size, algorithm, devices.AXIS)
  )


def validation_of(
  prepared: recipe.Prepared, x_held_out: np.ndarray, key: jax.Array
) -> Callable[[drocc.State], dict[str, float]]:
  """The objective on at most 256 held-out rows, which no label enters; see ``validation``.

  Of an ensemble it is the mean over its members.

  Returns:
    ``state -> {"validation_objective": value}``, or ``{}`` where no row is held out.
  """
  if not len(x_held_out):
    return lambda state: {}
  z = jnp.asarray(prepared.preprocessing.transform(x_held_out[:256]))
  mask = jnp.ones(len(z))

  def validate(state: drocc.State) -> dict[str, float]:
    objective = prepared.program.validate(state, z, mask, key).value
    return {"validation_objective": float(np.mean(objective))}

  return validate


def _stage(
  prepared: recipe.Prepared, held_out: np.ndarray, key: jax.Array, rows: np.ndarray, name: str
) -> stages.Stage:
  validate = validation_of(prepared, held_out, jax.random.fold_in(key, 1))

  def advance(state: drocc.State, first: int, last: int) -> tuple[drocc.State, dict[str, float]]:
    state, info = prepared.program.train_epochs(state, prepared.data, key, first, last)
    return state, {**drocc.means(info), **validate(state)}

  steps = failures.drocc_steps(prepared, key, rows)
  network, train_epochs = prepared.network, prepared.program.train_epochs
  members = f"{network.members} x " if isinstance(network, ensemble.Ensemble) else ""
  named = members + type(ensemble.member_of(network)).__name__
  task = costs.of_data(named, train_epochs, prepared.data, key, prepared.batch_size)
  return stages.Stage(name, prepared.epochs, advance, steps, task)


def _summary(
  config: Config, prepared: recipe.Prepared, held_out: int, roles: contamination.Roles
) -> str:
  share = roles.share
  threshold = (
    f"{held_out:,} more were held out for the threshold"
    if held_out
    else "none was held out, so the threshold is the network's own boundary"
  )
  if roles.folds is not None:
    threshold = (
      f"{roles.number} networks, each trained without one fold of them, whose scores of it set the "
      "threshold"
    )
  given = prepared.data.negatives
  others = "" if given is None else f" and {int(np.max(given.num_rows)):,} given negatives"
  doubted = (
    ""
    if not share
    else (
      f" Of the records given as typical {100 * share:.3g} % may be anomalies: the most extreme do "
      "not train, and half of that share of the held-out records does not count."
    )
  )
  return (
    f"{config.title} with radius {prepared.config.radius:.3g}, trained for {prepared.epochs} "
    f"epochs on {len(prepared.rows):,} typical records{others}; {threshold}.{doubted}"
  )
