"""NeuralFP: three stages, classifier, fingerprints, calibration."""

import dataclasses
import logging
import pathlib
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import Detector, taps
from detector_jax.batching import num_parameters
from detector_jax.preprocessing import Identity
from detector_jax.program import Program, nested
from fingerprint_jax import autoencoders, evidence, fingerprint, one_out, recipe, roles, views
from fingerprint_jax import train as fingerprint_train
from fingerprint_jax.classifiers import Config as TrainingConfig
from fingerprint_jax.train import Config as FingerprintConfig
from launch import costs, devices, failures, stages, workdirs
from launch.data import ShiftedDigits, Source
from launch.methods import classifier as classifier_method

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class ClassifierConfig:
  """The network to fingerprint.

  Attributes:
    workdir: of a classifier run to take it from; "" trains one.
    network: as in ``launch.methods.classifier``.
    training: its settings, where one is trained.
  """

  workdir: str = ""
  network: str = "auto"
  training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


@dataclasses.dataclass
class Config:
  """One experiment with NeuralFP.

  Attributes:
    data: records with classes to train on, out-of-distribution records to test on.
    classifier: the network.
    fingerprint: settings of the autoencoders' training.
    combine: "fingerprint" joins groups of evidence; "one_out" is the paper's rule.
    layers: names of the layers to use; () takes all.
    two_sided: of the rule "one_out": whether errors that are too small count too, as the paper has
      it.
    held_out: share of the training records, at most 6,000, that neither classifier nor
      fingerprints see: half tell how errors are distributed, half set the threshold.
    fpr: false-positive rate of the whole rule.
    confidence: in (0, 1), the share of draws of these records in which ``fpr`` is to hold, or None.
    seed: of weights, data order and the held-out records.
    checkpoints: how many checkpoints each stage writes, evenly spread over its epochs.
  """

  method: ClassVar[str] = "neuralfp"
  former: ClassVar[dict[str, str]] = {"combine": "one_out"}

  data: Source = dataclasses.field(default_factory=ShiftedDigits)
  classifier: ClassifierConfig = dataclasses.field(default_factory=ClassifierConfig)
  fingerprint: FingerprintConfig = dataclasses.field(default_factory=FingerprintConfig)
  combine: str = "fingerprint"
  layers: tuple[str, ...] = ()
  two_sided: bool = True
  held_out: float = 0.1
  fpr: float = 0.01
  confidence: float | None = None
  seed: int = 0
  checkpoints: int = 5


def train(config: Config, workdir: pathlib.Path) -> pathlib.Path:
  """Trains, or resumes, and writes ``workdir/detector``; see ``launch.run.train``."""
  stages.check_checkpoints(config.checkpoints)
  recipe.check_combine(config.combine)
  config.fingerprint.validate()
  config.classifier.training.validate()
  splits = config.data.load()
  rows = roles.split_rows(
    splits.x_train,
    config.held_out,
    config.fpr,
    config.seed,
    confidence=config.confidence,
    groups=splits.groups,
  )
  x, classes = classifier_method.classified(splits, rows.train)
  network, params = _given(config) if config.classifier.workdir else (_named(config), None)
  _tell_taps(config, network, x.shape[1:])
  workdirs.claim(workdir, config, splits)
  if params is None:
    params = classifier_method.fit(
      network,
      config.classifier.training,
      x,
      classes,
      config.seed,
      workdir,
      config.checkpoints,
      rows.train,
    )
  init_key, train_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1))
  prepared = recipe.build_training(
    network,
    {"params": params},
    x,
    config.fingerprint,
    init_key,
    layers=config.layers or None,
    two_sided=config.two_sided,
    combine=config.combine,
    make_train_epochs=devices.make_train_epochs,
  )
  stage = _stage(prepared, train_key, rows.train)
  state = stages.run(stage, prepared.state, workdir, config.checkpoints)
  reference, calibration = splits.x_train[rows.reference], splits.x_train[rows.calibration]
  accuracy = classifier_method.accuracy(network, params, splits)
  detector = recipe.build_detector(
    prepared,
    state,
    x,
    reference,
    calibration,
    config.fpr,
    {
      "summary": _summary(prepared, accuracy, len(x), len(reference), len(calibration)),
      "config": dataclasses.asdict(config),
      "data": splits.description,
      "classifier_test_accuracy": accuracy,
      "fingerprint_parameters": num_parameters(prepared.state.params),
      "training_records": len(x),
      "calibration_records": len(calibration),
      "feature_names": splits.feature_names,
    },
    config.confidence,
  )
  if devices.primary():
    detector.save(workdir / "detector")
  return workdir / "detector"


def rebuild(
  config: Config, workdir: pathlib.Path, loaded: Detector
) -> tuple[Program, dict[str, Any]]:
  """Program and arrays of a finished run; see ``launch.methods.Method``."""
  network, params = classifier_of(config, workdir)
  tapped = taps.find(
    network, {"params": params}, loaded.input_shape, layers=loaded.metadata["layers"]
  )
  shapes = fingerprint.shapes_of_targets(tapped)
  arrays = loaded.arrays
  learnt = {n: nested(arrays, f"variables/params/{n}") for n in tapped.layers}
  modules = tuple(autoencoders.autoencoder_of(shapes[n], learnt[n]) for n in tapped.layers)
  plan = loaded.metadata.get("evidence")
  plan = None if plan is None else evidence.from_json(plan)
  prints = fingerprint.Fingerprint(tapped, modules, config.two_sided, plan)
  variables = {
    "network": nested(arrays, "variables/network"),
    "views": {n: views.View(**nested(arrays, f"variables/views/{n}")) for n in tapped.layers},
    "params": learnt,
    "weights": {n: arrays[f"variables/weights/{n}"] for n in tapped.layers},
    "reference": one_out.Reference(**nested(arrays, "variables/reference")),
  }
  if plan is not None:
    fitted = nested(arrays, "variables/evidence")
    fitted["reference"] = one_out.Reference(**fitted["reference"])
    variables["evidence"] = evidence.Fitted(**fitted)
  program = Program(prints, fingerprint.Report(prints))
  return program, {"variables": variables, "preprocessing": Identity()}


def _tell_taps(config: Config, network: Any, shape: tuple[int, ...]) -> None:
  """Prints the layers before anything is trained; a ValueError names one that there is not."""
  sample = jnp.zeros((1, *shape), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), sample)
  found = taps.find(network, {"params": variables["params"]}, shape, layers=config.layers or None)
  if devices.primary():
    print(f"taps: {taps.listed(found)}", flush=True)


def classifier_of(config: Config, workdir: pathlib.Path) -> tuple[Any, Any]:
  """Network and parameters of the classifier in a finished run.

  Raises:
    ValueError: the run is not finished.
  """
  if config.classifier.workdir:
    return _given(config)
  network = _named(config)
  training, name = config.classifier.training, config.data.name
  return network, classifier_method.restore(network, training, name, workdir)


def _named(config: Config) -> Any:
  return classifier_method.make(config.classifier.network, config.data.name)


def _given(config: Config) -> tuple[Any, Any]:
  """Network and parameters of the classifier run that the configuration names."""
  theirs, network, params = classifier_method.load(pathlib.Path(config.classifier.workdir))
  alike = (theirs.held_out, theirs.seed, theirs.data.name, theirs.data.limit)
  if alike != (config.held_out, config.seed, config.data.name, config.data.limit):
    logger.warning(
      "The classifier of %s may have seen the records that set the threshold, since it was trained "
      "with another held_out, seed or data; the false-positive rate may then be above fpr.",
      config.classifier.workdir,
    )
  return network, params


def _stage(prepared: recipe.Prepared, key: jax.Array, rows: np.ndarray) -> stages.Stage:
  def advance(
    state: fingerprint_train.State, first: int, last: int
  ) -> tuple[fingerprint_train.State, dict[str, float]]:
    state, losses = prepared.advance(state, key, first, last)
    return state, {f"{name}_loss": value for name, value in losses.items()}

  steps = failures.fingerprint_steps(prepared, key, rows)
  batch_size = min(prepared.config.batch_size, len(rows))
  named = f"autoencoders of {len(prepared.fingerprint.layers)} layers"
  task = costs.of_data(named, prepared.train_epochs, prepared.data, key, batch_size)
  return stages.Stage("fingerprints", prepared.epochs, advance, steps, task)


def _summary(prepared: recipe.Prepared, accuracy: float | None, *counts: int) -> str:
  trained, reference, calibration = counts
  right = "" if accuracy is None else f" (test accuracy {100 * accuracy:.2f} %)"
  how = f"trained for {prepared.epochs} epochs on" if prepared.epochs else "in closed form from"
  return (
    f"NeuralFP of a network{right}: fingerprints of {len(prepared.fingerprint.layers)} layers, "
    f"{num_parameters(prepared.state.params):,} parameters, {how} {trained:,} records; "
    f"{reference:,} held-out records tell how errors are distributed and {calibration:,} set the "
    "threshold."
  )
