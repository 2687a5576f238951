"""Sweeps: every combination of some settings trained on the same records, ranked, the best kept.

A sweep's workdir is that of a run (``workdirs``), and has

members/        config.json (the axes), and NNN/ for each finished member: its averaged variables
                and what was measured of it
sweep.json      all members in their order of rank, and what ranked them; sweep.csv, sweep.png
detector/       the best member, calibrated

in place of checkpoints and scalars.
"""

import dataclasses
import itertools
import json
import logging
import pathlib
from typing import Any, ClassVar
import zipfile

import jax
import numpy as np

from detector_jax import atomic, calibration, health, metrics, training
from drocc_jax import contamination, cross, drocc, recipe
from launch import data, run, sweep_ranking, sweep_training, workdirs
from launch.methods import drocc as method
from launch.reporting import progress, sweeps
from launch.sweep_flags import Axes, names
from launch.sweep_training import Member, Trained

logger = logging.getLogger(__name__)

MOST_MEMBERS = 10_000


@dataclasses.dataclass
class Sweep:
  """What ``members/config.json`` holds.

  Attributes:
    axes: the values of each setting that is swept, by name.
  """

  method: ClassVar[str] = "sweep"

  axes: dict[str, tuple[float, ...]]


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """What all members of a sweep share.

  Attributes:
    config: the experiment that they vary.
    splits: its records.
    prepared: its training.
    x: ``[n, ...]`` raw training records.
    x_calibration: ``[m, ...]`` raw typical records for the threshold, which rank nothing.
    ranking: what ranks members.
    share: of the records that may be anomalies, None where nothing is stated.
  """

  config: method.Config
  splits: data.Splits
  prepared: recipe.Prepared
  x: np.ndarray
  x_calibration: np.ndarray
  ranking: sweep_ranking.Ranking
  share: float | None


def sweep(config: Any, axes: Axes, workdir: pathlib.Path, group_size: int = 0) -> dict[str, Any]:
  """Trains what is missing of a sweep, ranks it and exports the best member.

  Args:
    config: configuration of DROCC, DROCC-OE or DROCC-LF.
    axes: setting -> its values; see ``sweep_flags``.
    workdir: the sweep's folder.
    group_size: models trained at a time; 0 takes 1 on a CPU and up to 32 elsewhere.

  Returns:
    What ``sweep.json`` holds: ``axes``, ``ranked_by`` and ``members``, the best first.

  Raises:
    ValueError: another method, data or a setting that cannot be used, a workdir of another run or
      one in which another process trains, or all members failed.
    OSError: the workdir cannot be written.
  """
  if group_size < 0:
    raise ValueError(f"group_size must be >= 0, got {group_size}.")
  with workdirs.held(workdir):
    return _sweep(config, axes, workdir, group_size)


def _sweep(config: Any, axes: Axes, workdir: pathlib.Path, group_size: int) -> dict[str, Any]:
  _check(config, axes, workdir)
  experiment = _experiment(config)
  members = members_of(config, experiment.prepared, axes)
  workdirs.claim(workdir / "members", Sweep(axes))
  workdirs.claim(workdir, config, experiment.splits)
  _train(experiment, members, workdir, group_size or sweep_training.auto_group_size())
  records = ranked([read_member(_folder(workdir, member)) for member in members])
  result = {"axes": axes, "ranked_by": experiment.ranking.description, "members": records}
  _write(workdir, result)
  if records[0]["failed"]:
    raise ValueError(f"All {len(records)} members failed; the first: {records[0]['failed']}")
  _export(experiment, members[records[0]["member"]], records, workdir)
  return result


def _check(config: Any, axes: Axes, workdir: pathlib.Path) -> None:
  """Raises a ValueError where these axes of this configuration cannot be swept in that folder."""
  run.method_of(config)
  if not isinstance(config, method.Config):
    raise ValueError(
      f"A sweep trains DROCC, DROCC-OE or DROCC-LF, and this configuration is of the method "
      f"{config.method!r}: give its launch.train command once for each setting."
    )
  known = names(config.drocc.hyper_class)
  for name in axes:
    if name not in known:
      raise ValueError(
        f"{name} is no setting of {config.title} that can be swept; valid: {', '.join(known)}."
      )
  if "warmup_steps" in axes and config.warmup_epochs:
    raise ValueError("warmup_epochs sets warmup_steps: leave it 0 to sweep warmup_steps.")
  if config.calibration == cross.CROSS:
    raise ValueError(
      f"A sweep ranks its members by records held out from all: leave calibration at {cross.AUTO}."
    )
  if config.features.name not in ("auto", "none"):
    raise ValueError(
      f"A sweep trains networks on the records themselves, not on {config.features.name}: set "
      "features.name to none, or give the launch.train command once for each setting."
    )
  workdirs.check(workdir, config)
  if (workdir / "config.json").exists() and not (workdir / "members" / "config.json").exists():
    raise ValueError(f"{workdir} holds a run of launch.train: choose another --workdir.")
  workdirs.check(workdir / "members", Sweep(axes))


def _experiment(config: method.Config) -> Experiment:
  """Loads the records and settles what members share."""
  splits = config.data.load()
  if splits.stretches is not None:
    raise ValueError("A sweep ranks by records that are held out: set data.folds=0.")
  labelled = sweep_ranking.labelled(splits)
  rows, held_out, share, _ = contamination.divide(
    splits.x_train,
    config,
    config.seed,
    fpr=config.fpr if labelled else None,
    groups=splits.groups,
  )
  given = method.negatives_for(config, splits)
  x = splits.x_train[rows]
  if (name := config.features.chosen(config, x, given)) != "none":
    logger.warning(
      "A sweep trains networks on the records themselves, where launch.train would put %s in front "
      "of one: its best is to be compared with that.",
      name,
    )
  prepared = method.prepare(config, x, given, splits.feature_names)
  rows_of = (held_out, held_out)
  if not labelled:
    groups = None if splits.groups is None else splits.groups[held_out]
    rows_of = sweep_ranking.halves(held_out, config.seed, groups)
  ranking_rows, threshold_rows = rows_of
  if config.fpr is not None:
    counted = len(contamination.clean_scores(threshold_rows, share))
    calibration.check_records(counted, config.fpr, config.confidence)
  ranking = sweep_ranking.make(splits, prepared, splits.x_train[ranking_rows], config.seed)
  return Experiment(config, splits, prepared, x, splits.x_train[threshold_rows], ranking, share)


def members_of(config: method.Config, prepared: recipe.Prepared, axes: Axes) -> list[Member]:
  """Every combination of the axes' values, the last axis varying fastest.

  What is not set follows from a member's own settings: where the radius is swept and ``step_size``
  is None, the step is a tenth of the member's radius.

  Args:
    config: the experiment.
    prepared: its training, whose number of steps all members share.
    axes: setting -> its values.

  Raises:
    ValueError: a value is out of its range or would compile another program, or too many members.
  """
  number = int(np.prod([len(values) for values in axes.values()], dtype=object))
  if number > MOST_MEMBERS:
    raise ValueError(f"{number:,} combinations are more than the {MOST_MEMBERS:,} of one sweep.")
  base = dataclasses.replace(
    config.drocc,
    warmup_steps=prepared.config.warmup_steps,
    precision=prepared.config.precision,
  )
  per_epoch = training.steps_per_epoch(int(prepared.data.num_rows), prepared.batch_size)
  total = prepared.epochs * per_epoch
  shaped = np.zeros((1, *prepared.data.inputs.shape[1:]))  # of a record is all that is asked for
  members: list[Member] = []
  for values in itertools.product(*axes.values()):
    settings = dict(zip(axes, values, strict=True))
    seed = int(settings.get("seed", config.seed))
    if not 0 <= seed < 2**31:
      raise ValueError(f"seed must be in [0, 2^31), got {seed}.")
    changes: dict[str, Any] = {name: value for name, value in settings.items() if name != "seed"}
    own = dataclasses.replace(base, **changes)
    own.validate()
    own = recipe.resolve(own, shaped, total, per_epoch)
    if own.static() != prepared.config.static():
      raise ValueError(
        f"With the schedule {own.schedule!r} the warm-up is compiled into the program, so "
        "warmup_steps cannot be swept in one; run it as separate sweeps."
      )
    members.append(Member(len(members), settings, own, seed))
  return members


def _train(
  experiment: Experiment, members: list[Member], workdir: pathlib.Path, group_size: int
) -> None:
  """Trains and keeps every member that has no folder yet."""
  kept = {member.number for member in members if _folder(workdir, member).exists()}
  trainer = sweep_training.Trainer(experiment.prepared)
  measure = _make_measure(experiment)
  with progress.bar("sweep", len(members), len(kept)) as advance:
    for group in sweep_training.groups(members, group_size, trainer.train, kept):
      for trained in group:
        keep_member(_folder(workdir, trained.member), trained.state.average, measure(trained))
      advance(len(group), f"{group[-1].seconds:.1f} s a model")


def _make_measure(experiment: Experiment) -> Any:
  """``trained -> record``, what is known of a trained member."""
  prepared, ranking, splits = experiment.prepared, experiment.ranking, experiment.splits
  score = sweep_ranking.make_score(prepared)
  key = jax.random.fold_in(recipe.keys(experiment.config.seed)[1], 1)
  validate = method.validation_of(prepared, ranking.x_objective, key)
  tested = splits.x_test is not None and sweep_ranking.both_classes(splits.y_test)
  if tested:
    x_test, y_test = splits.labelled_test()
    z_test = prepared.preprocessing.transform(x_test)

  def measure(trained: Trained) -> dict[str, Any]:
    member, state = trained.member, trained.state
    values, objective = drocc.means(trained.info), validate(state)
    record: dict[str, Any] = {
      "member": member.number,
      "settings": member.settings,
      "resolved": {name: getattr(member.config, name) for name in method_settings(member.config)},
      "criterion": None,
      "objective": _finite(objective.get("validation_objective")),
      "oracle": None,
      "seconds": trained.seconds,
      "compile_seconds": trained.compile_seconds,
      "training": {name: _finite(value) for name, value in values.items()},
      "failed": None,
    }
    try:
      health.check_loss(values, int(np.max(state.step)))
      _finish(experiment, state, {})
    except health.HealthError as error:
      return {**record, "failed": str(error)}
    record["criterion"] = metrics.auroc(ranking.labels, score(state.average, ranking.z))
    if tested:
      record["oracle"] = metrics.auroc(y_test, score(state.average, z_test))
    return record

  return measure


def method_settings(config: Any) -> tuple[str, ...]:
  """Names of the traced settings of an algorithm."""
  return names(config.hyper_class)[:-1]


def _finite(value: float | None) -> float | None:
  return value if value is not None and np.isfinite(value) else None


def _finish(experiment: Experiment, state: Any, metadata: dict[str, Any]) -> Any:
  prepared = experiment.prepared
  return recipe.build_detector(
    prepared.network,
    state,
    prepared.preprocessing,
    experiment.x,
    experiment.x_calibration,
    experiment.config.fpr,
    metadata,
    confidence=experiment.config.confidence,
    share=experiment.share,
  )


def ranked(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Records of members in order of rank: by criterion, then by number; failed ones come last."""
  return sorted(records, key=lambda r: (bool(r["failed"]), -(r["criterion"] or 0.0), r["member"]))


def _folder(workdir: pathlib.Path, member: Member) -> pathlib.Path:
  return workdir / "members" / f"{member.number:03d}"


def keep_member(folder: pathlib.Path, variables: Any, record: dict[str, Any]) -> None:
  """Writes a member's folder, whole or not at all.

  Args:
    folder: which does not exist.
    variables: pytree of arrays that it scores with.
    record: JSON-serialisable facts.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
  arrays = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
  with atomic.written_beside(folder, folder=True) as temporary:
    np.savez(temporary / "variables.npz", **arrays)
    (temporary / "member.json").write_text(json.dumps(record, indent=2) + "\n")


def read_member(folder: pathlib.Path) -> dict[str, Any]:
  """The record of a member that ``keep_member`` wrote.

  Raises:
    ValueError: it cannot be read.
  """
  try:
    return dict(json.loads((folder / "member.json").read_text()))
  except (OSError, ValueError) as error:
    raise ValueError(f"{folder} cannot be read ({error}): remove it to train it again.") from error


def read_variables(folder: pathlib.Path, like: Any) -> Any:
  """The variables of a member, in the structure of ``like``.

  Raises:
    ValueError: they cannot be read, or are others.
  """
  try:
    with (folder / "variables.npz").open("rb") as file, np.load(file) as archive:
      arrays = dict(archive)
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    found = [arrays[jax.tree_util.keystr(path, simple=True, separator="/")] for path, _ in leaves]
  except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(f"{folder} cannot be read ({error}): remove it to train it again.") from error
  return jax.tree.unflatten(structure, found)


def _write(workdir: pathlib.Path, result: dict[str, Any]) -> None:
  """Writes ``sweep.json``, ``sweep.csv`` and ``sweep.png``, each whole."""
  texts = {"sweep.json": json.dumps(result, indent=2) + "\n", "sweep.csv": sweeps.csv_of(result)}
  for name, text in texts.items():
    atomic.write_text(workdir / name, text)
  with atomic.written_beside(workdir / "sweep.png") as temporary:
    sweeps.figure(result).savefig(temporary, dpi=144, format="png")


def _export(
  experiment: Experiment, best: Member, records: list[dict[str, Any]], workdir: pathlib.Path
) -> None:
  """Saves the Detector of the best member."""
  config, prepared = experiment.config, experiment.prepared
  state = jax.eval_shape(prepared.init, recipe.keys(best.seed)[0])
  variables = read_variables(_folder(workdir, best), state.average)
  chosen = dataclasses.replace(config, drocc=best.config)
  swept = " and ".join(best.settings)
  values = ", ".join(f"{name} {value:g}" for name, value in best.settings.items())
  metadata = {
    "method": config.title,
    "summary": (
      f"{config.title} with {values}, the best of {len(records)} in a sweep of {swept} by "
      f"{experiment.ranking.description}; trained for {prepared.epochs} epochs on "
      f"{len(experiment.x):,} typical records, {len(experiment.x_calibration):,} more were held "
      "out for the threshold."
    ),
    "config": dataclasses.asdict(chosen),
    "data": experiment.splits.description,
    "radius": best.config.radius,
    "epochs": prepared.epochs,
    "training_records": len(experiment.x),
    "calibration_records": len(experiment.x_calibration),
    "negatives": 0 if prepared.data.negatives is None else int(prepared.data.negatives.num_rows),
    "feature_names": experiment.splits.feature_names,
    "schema": None if experiment.splits.schema is None else experiment.splits.schema.to_json(),
    "sweep": {
      "member": best.number,
      "members": len(records),
      "settings": best.settings,
      "criterion": records[0]["criterion"],
    },
  }
  finished = dataclasses.replace(state, average=jax.device_put(variables))
  _finish(experiment, finished, metadata).save(workdir / "detector")
