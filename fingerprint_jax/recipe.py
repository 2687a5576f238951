"""How a trained network and its training records become a Detector.

The estimator and the launcher share these steps; each is a pure function of arrays and a seed.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import logging
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from detector_jax import batching, calibration, health, splits, taps, training
from detector_jax.detector import Detector
from detector_jax.preprocessing import Identity
from fingerprint_jax import autoencoders, fingerprint, one_out, train
from fingerprint_jax.fingerprint import Fingerprint

logger = logging.getLogger(__name__)

HELD_OUT_CAP = 6000
BATCH_SIZE = 256


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

  def advance(
    self, state: train.State, key: jax.Array, first: int, last: int
  ) -> tuple[train.State, dict[str, float]]:
    """Trains epochs ``first .. last - 1``; returns the losses by layer of the last one."""
    state, info = self.train_epochs(state, self.data, key, first, last)
    return state, losses(info)


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
    make_train_epochs: ``(make_train_step, batch_size) -> train_epochs``, where
      ``make_train_step(axis_name=...)`` makes the step; compiles for one device unless told
      otherwise.

  Raises:
    ValueError: what ``taps.find``, ``train.measure_views`` and ``train.init`` refuse.
  """
  config.validate()
  tapped = taps.find(
    network, variables, x.shape[1:], layers=layers, select=select, apply_kwargs=apply_kwargs
  )
  chosen = dict(chosen or {})
  unknown = [name for name in chosen if name not in tapped.layers]
  if unknown:
    raise ValueError(
      f"There is an autoencoder for {unknown[0]!r}, which is no tapped layer; these are: "
      f"{', '.join(tapped.layers)}."
    )
  shapes = fingerprint.shapes_of_targets(tapped)
  modules = (chosen.get(n) or autoencoders.default_autoencoder(shapes[n]) for n in tapped.layers)
  prints = Fingerprint(tapped, tuple(modules), two_sided)
  copied = jax.tree.map(jnp.array, variables)  # the state is donated, the user's arrays are not
  frozen = {"network": copied, "views": train.measure_views(prints, copied, x)}
  batch_size = min(config.batch_size, len(x))
  total = config.epochs * training.steps_per_epoch(len(x), batch_size)
  optimizer: optax.GradientTransformation = train.make_optimizer(config, total)
  state = train.init(prints, frozen, optimizer, key)
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

  Raises:
    ValueError: too few records for ``fpr``, or a layer whose errors are all alike.
    HealthError: losses or scores that are not finite.
  """
  prints = prepared.fingerprint
  mean_squares = train.measure_residuals(prints, state.frozen, state.params, x)
  last_losses = {name: float(np.mean(squares)) for name, squares in mean_squares.items()}
  health.check_loss({f"loss of layer {n}": v for n, v in last_losses.items()}, int(state.step))
  for name in train.unlearned(last_losses):
    logger.warning(
      "The autoencoder of layer %r did not learn: its loss is %.2f of the activations' variance. "
      "Train longer, give it a larger code, or leave the layer out with layers=.",
      name,
      last_losses[name],
    )
  variables = {
    **state.frozen,
    "params": state.params,
    "weights": fingerprint.error_weights(mean_squares),
  }
  compute = jax.jit(lambda variables, rows: prints.errors(prints.unexplained(variables, rows)))
  errors = batching.in_batches(
    lambda rows: compute(variables, rows), np.asarray(x_reference, np.float32), BATCH_SIZE
  )
  variables["reference"] = one_out.fit_reference(errors, prints.layers)
  sample = x[:: max(1, len(x) // 10_000)]
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
      **metadata,
    },
    report_fn=fingerprint.Report(prints),
    input_range=(float(sample.min()), float(sample.max())),
    batch_size=BATCH_SIZE,
  )
  return detector.calibrate(x_calibration, fpr, confidence)
