"""How a trained network and its training records become a Detector.

The estimator and the launcher share these steps; each is a pure function of arrays and a seed.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from detector_jax import batching, blocks, calibration, health, joined, splits, taps, training
from detector_jax.detector import Detector
from detector_jax.preprocessing import Identity
from fingerprint_jax import autoencoders, evidence, evidence_fitting, fingerprint, one_out, train
from fingerprint_jax.fingerprint import Fingerprint
from fingerprint_jax.principal import fit_layers

HELD_OUT_CAP = 6000
BATCH_SIZE = 256
COMBINATIONS = ("fingerprint", "one_out")
SAMPLED = 2000
LOOKED_AT = 10_000
RECONSTRUCTS = 0.5


@dataclasses.dataclass(frozen=True)
class Rows:
  """Which records do what; row numbers, disjoint.

  Attributes:
    train: fit the autoencoders.
    reference: tell how errors of typical records are distributed.
    calibration: set the threshold.
  """

  train: np.ndarray
  reference: np.ndarray
  calibration: np.ndarray


def split_rows(
  x: np.ndarray,
  size: float,
  fpr: float,
  seed: int,
  *,
  confidence: float | None = None,
  groups: np.ndarray | None = None,
) -> Rows:
  """Splits the records at random; half of those held out are the reference.

  Equal records, and those of one group, have one role; of equal ones one is held out, and the
  others do nothing.

  Args:
    x: ``[n, ...]`` records.
    size: share of the different records held out, in (0, 1), at most 6,000; more, up to half of
      them, where ``fpr`` needs more.
    fpr: false-positive rate that the calibration records must be able to defend.
    seed: of the split.
    confidence: see ``calibration.conformal_threshold``.
    groups: ``[n]`` labels of records that must not be divided, or None.

  Raises:
    ValueError: a setting out of its range, or too few records for ``fpr``; says how many it takes.
  """
  if not 0.0 < size < 1.0:
    raise ValueError(f"calibration_size must be in (0, 1), got {size!r}.")
  calibration.check_rate(fpr, confidence)
  ids, first = splits.group_rows(x, groups), splits.distinct(x)
  needed = max(calibration.records_needed(fpr, confidence), 2 * one_out.TAIL_RECORDS)
  held_out = min(int(np.ceil(size * len(first))), HELD_OUT_CAP)
  if held_out < 2 * needed <= len(first) // 2:
    held_out = 2 * needed
  if held_out >= len(first):
    raise ValueError(
      f"calibration_size={size:g} of {len(first)} different records leaves none to train on; hold "
      "out fewer."
    )
  middle = held_out // 2
  parts = splits.divide(ids[first], [middle, held_out - middle], seed)
  reference, calibrating = (np.sort(first[part]) for part in parts[:2])
  if min(len(reference), len(calibrating)) < needed:
    raise ValueError(
      f"A false-positive rate of {fpr:g} needs {2 * needed} held-out records (half tell how errors "
      f"are distributed, half set the threshold), no two of them equal, but "
      f"calibration_size={size:g} of {len(first)} different records, at most {HELD_OUT_CAP:,}, is "
      f"{len(reference) + len(calibrating)}: give more records, or ask for a larger fpr."
    )
  held = np.concatenate([reference, calibrating])
  training = np.flatnonzero(~np.isin(ids, ids[held]))
  return Rows(training, reference, calibrating)


def given_rows(
  x: np.ndarray, fresh: np.ndarray, fpr: float, seed: int, *, confidence: float | None = None
) -> Rows:
  """Rows of ``x`` followed by ``fresh``: all of the first train, the rest are held out in halves.

  Of ``fresh``, records that are equal to another or to one of ``x`` do nothing.

  Args:
    x: ``[n, ...]`` training records.
    fresh: ``[m, ...]`` records that the network was not trained on.
    fpr: see ``split_rows``.
    seed: of the halves.
    confidence: see ``split_rows``.

  Raises:
    ValueError: records of another shape, or too few for ``fpr``.
  """
  if fresh.shape[1:] != x.shape[1:]:
    raise ValueError(
      f"X_calibration has records of shape {list(fresh.shape[1:])}, X of {list(x.shape[1:])}."
    )
  calibration.check_rate(fpr, confidence)
  different = splits.distinct(np.concatenate([x, fresh]))
  held = np.random.default_rng(seed).permutation(different[different >= len(x)])
  needed = max(calibration.records_needed(fpr, confidence), 2 * one_out.TAIL_RECORDS)
  if len(held) < 2 * needed:
    raise ValueError(
      f"A false-positive rate of {fpr:g} needs {2 * needed} records in X_calibration (half tell "
      "how errors are distributed, half set the threshold) that differ from one another and from "
      f"X, got {len(held)}: give more, or ask for a larger fpr."
    )
  middle = len(held) // 2
  return Rows(np.arange(len(x)), np.sort(held[:middle]), np.sort(held[middle:]))


@dataclasses.dataclass
class Prepared:
  """A fit about to start.

  Attributes:
    fingerprint: taps and autoencoders.
    state: initial state; its frozen part holds copies of the network's variables.
    data: training records on the device.
    config: settings.
    train_epochs: see ``detector_jax.training``; donates the state.
  """

  fingerprint: Fingerprint
  state: train.State
  data: training.Data
  config: train.Config
  train_epochs: training.TrainEpochs

  @property
  def epochs(self) -> int:
    """Epochs to train for: none where all autoencoders are in closed form."""
    modules = self.fingerprint.autoencoders
    closed = all(isinstance(each, autoencoders.PrincipalAutoencoder) for each in modules)
    return 0 if closed else self.config.epochs

  def advance(
    self, state: train.State, key: jax.Array, first: int, last: int
  ) -> tuple[train.State, dict[str, float]]:
    """Trains epochs ``first .. last - 1``, if any; returns the losses by layer of the last one."""
    if first == last:
      return state, {}
    state, info = self.train_epochs(state, self.data, key, first, last)
    return state, losses(info)


def check_combine(combine: str) -> None:
  """Raises a ValueError for a combination that there is not."""
  if combine not in COMBINATIONS:
    raise ValueError(f"combine must be one of {', '.join(COMBINATIONS)}, got {combine!r}.")


def losses(info: train.Info) -> dict[str, float]:
  """``{layer: mean squared residual}``, in variances of the layer's activations."""
  return {name: float(mean.value) for name, mean in info.losses.items()}


def build_training(
  network: nn.Module | Callable[..., Any],
  variables: Any,
  x: np.ndarray,
  config: train.Config,
  key: jax.Array,
  *,
  layers: Sequence[str] | None = None,
  select: Callable[[nn.Module, str], bool] | None = None,
  apply_kwargs: Mapping[str, Any] | None = None,
  chosen: Mapping[str, nn.Module] | None = None,
  two_sided: bool = True,
  combine: str = "fingerprint",
  logits: str | None = "auto",
  make_train_epochs: Callable[..., training.TrainEpochs] = training.on_one_device,
) -> Prepared:
  """Finds the taps, measures their activations and makes the autoencoders.

  Args:
    network: see ``taps.find``.
    variables: its trained variables.
    x: ``[n, ...]`` training records.
    config: settings.
    key: of the autoencoders' weights.
    layers: names to tap, None for all.
    select: see ``taps.find``.
    apply_kwargs: see ``taps.find``.
    chosen: autoencoders by layer; the others get the default of their shape.
    two_sided: see ``Fingerprint``.
    combine: "fingerprint" joins groups of evidence, see ``evidence``; "one_out" is the paper's rule
      over the layers' errors.
    logits: see ``evidence.plan``.
    make_train_epochs: ``(make_train_step, batch_size) -> train_epochs``, where
      ``make_train_step(axis_name=...)`` makes the step; compiles for one device unless told
      otherwise.

  Raises:
    ValueError: another ``combine``, or what ``taps.find``, ``evidence.plan``,
      ``train.measure_views`` and ``train.init`` refuse.
  """
  config.validate()
  check_combine(combine)
  network, variables = taps.with_state(network, variables)
  tapped = taps.find(
    network,
    variables,
    x.shape[1:],
    layers=layers,
    select=select,
    apply_kwargs=apply_kwargs,
    integers=bool((x == np.rint(x)).all()),
  )
  variables = blocks.numbers_of(variables)
  batch_size = min(config.batch_size, len(x))
  sample = _vectors(tapped, variables, x, batch_size)
  if layers is None and not _reconstructs(sample.pop(taps.RESIDUAL, None), x):
    tapped = tapped.without(taps.RESIDUAL)
  chosen = dict(chosen or {})
  unknown = [name for name in chosen if name not in tapped.layers]
  if unknown:
    raise ValueError(
      f"There is an autoencoder for {unknown[0]!r}, which is no tapped layer; these are: "
      f"{', '.join(tapped.layers)}."
    )
  shapes = fingerprint.shapes_of_targets(tapped)
  taps_alone = Fingerprint(tapped, ())
  copied = jax.tree.map(jnp.array, variables)  # the state is donated, the user's arrays are not
  frozen = {"network": copied, "views": train.measure_views(taps_alone, copied, x, batch_size)}
  plan, solved = None, {}
  if combine == "fingerprint":
    plan = evidence.plan(dict(zip(tapped.layers, tapped.shapes, strict=True)), sample, logits)
    fits = fit_layers(taps_alone, frozen, x, batch_size)
    solved = {n: arrays for n, (_, arrays) in fits.items() if n not in chosen}
    chosen = {n: module for n, (module, _) in fits.items()} | chosen
  modules = (chosen.get(n) or autoencoders.default_autoencoder(shapes[n]) for n in tapped.layers)
  prints = Fingerprint(tapped, tuple(modules), two_sided, plan)
  total = config.epochs * training.steps_per_epoch(len(x), batch_size)
  optimizer: optax.GradientTransformation = train.make_optimizer(config, total)
  state = train.init(prints, frozen, optimizer, key, solved)
  make_step = functools.partial(train.make_train_step, prints, optimizer)
  return Prepared(
    prints, state, training.to_device(x), config, make_train_epochs(make_step, batch_size)
  )


def build_detector(
  prepared: Prepared,
  state: train.State,
  x: np.ndarray,
  x_reference: np.ndarray,
  x_calibration: np.ndarray,
  fpr: float,
  metadata: Mapping[str, Any],
  confidence: float | None = None,
  findings: Sequence[health.Finding] = (),
) -> Detector:
  """Weights, reference distribution and threshold: the Detector.

  Args:
    prepared: the fit.
    state: trained.
    x: ``[n, ...]`` training records.
    x_reference: ``[r, ...]`` held-out records that tell how errors are distributed.
    x_calibration: ``[m, ...]`` held-out records that set the threshold.
    fpr: false-positive rate of the whole rule.
    metadata: facts that travel with the detector.
    confidence: see ``calibration.conformal_threshold``.
    findings: of health, beside those of the autoencoders.

  Raises:
    ValueError: too few records for ``fpr``, or a layer whose errors are all alike.
    HealthError: losses or scores that are not finite.
  """
  prints, batch_size = prepared.fingerprint, min(prepared.config.batch_size, len(x))
  mean_squares = train.measure_residuals(prints, state.frozen, state.params, x, batch_size)
  last_losses = {name: float(np.mean(squares)) for name, squares in mean_squares.items()}
  health.check_loss({f"loss of layer {n}": v for n, v in last_losses.items()}, int(state.step))
  variables = {
    **state.frozen,
    "params": state.params,
    "weights": fingerprint.error_weights(mean_squares),
  }
  held_out, told = np.asarray(x_reference, np.float32), {}
  compute = jax.jit(lambda variables, rows: prints.errors(prints.unexplained(variables, rows)))
  errors = batching.in_batches(lambda rows: compute(variables, rows), held_out, batch_size)
  variables["reference"] = one_out.fit_reference(errors, prints.layers)
  if prints.evidence is not None:
    variables |= fit_evidence(prints, variables, x, held_out, batch_size)
    told = {
      "groups": list(prints.evidence.groups),
      "evidence": dataclasses.asdict(prints.evidence),
    }
  sample, given = x[:: max(1, len(x) // 10_000)], isinstance(prints.taps.network, joined.Joined)
  detector = Detector.create(
    prints,
    variables,
    Identity(),
    x.shape[1:],
    metadata={
      "method": "NeuralFP",
      "layers": list(prints.layers),
      "report_names": {"layer_error": list(prints.layers)},
      "layer_shapes": [list(shape) for shape in prints.taps.shapes],
      "layer_losses": [float(last_losses[name]) for name in prints.layers],
      **told,
      **metadata,
    },
    report_fn=fingerprint.Report(prints),
    input_range=None if given else (float(sample.min()), float(sample.max())),
    batch_size=BATCH_SIZE,
  )
  detector = detector.with_health([*train.findings(prints, last_losses), *findings])
  return detector.calibrate(x_calibration, fpr, confidence)


def fit_evidence(
  prints: Fingerprint,
  variables: Mapping[str, Any],
  x: np.ndarray,
  x_reference: np.ndarray,
  batch_size: int,
) -> dict[str, Any]:
  """``{"evidence", "reference"}`` of a fingerprint with groups of evidence.

  Args:
    prints: the fingerprint.
    variables: all but these two.
    x: ``[n, ...]`` training records, of which at most 10,000 are looked at.
    x_reference: ``[r, ...]`` held-out records.
    batch_size: records per pass.

  Raises:
    ValueError: a statistic that is not finite on held-out records.
  """
  plan = prints.evidence
  assert plan is not None
  observe = jax.jit(prints.observe)

  def observed(rows: np.ndarray) -> evidence.Observed:
    return batching.in_batches(lambda part: observe(variables, part), rows, batch_size)

  rows = np.linspace(0, len(x) - 1, min(LOOKED_AT, len(x))).round().astype(int)
  fitted = evidence_fitting.fit(plan, observed(np.asarray(x[rows], np.float32)))
  held_out = evidence.Observed(*map(jnp.asarray, observed(x_reference)))
  fitted = evidence_fitting.with_reference(
    plan, fitted, np.asarray(plan.statistics(fitted, held_out))
  )
  deviations = np.asarray(evidence.deviations(fitted, held_out), np.float64)
  return {"evidence": fitted, "reference": one_out.fit_logs(deviations, prints.layers)}


def _vectors(
  tapped: taps.Taps, variables: Any, x: np.ndarray, batch_size: int
) -> dict[str, np.ndarray]:
  """Activations of the layers that are vectors, and the residual, of at most 2,000 records."""
  chosen = [
    name
    for name, shape in zip(tapped.layers, tapped.shapes, strict=True)
    if len(shape) == 1 or name == taps.RESIDUAL
  ]

  @jax.jit
  def compute(variables: Any, rows: jax.Array) -> dict[str, jax.Array]:
    found = tapped(variables, rows)
    return {name: found[name] for name in chosen}

  rows = x[:: max(1, len(x) // SAMPLED)]
  return batching.in_batches(
    lambda part: compute(variables, part), np.asarray(rows, np.float32), batch_size
  )


def _reconstructs(residual: np.ndarray | None, x: np.ndarray) -> bool:
  """Whether an output of the records' shape explains half of their variance: an autoencoder's."""
  if residual is None:
    return False
  rows = np.asarray(x[:: max(1, len(x) // SAMPLED)], np.float64)
  total = np.mean((rows - rows.mean(axis=0)) ** 2)
  return bool(np.mean(np.asarray(residual, np.float64) ** 2) < RECONSTRUCTS * total)
