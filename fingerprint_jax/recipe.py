"""How a trained network and its training records become a Detector.

The estimator and the launcher share these steps; each is a pure function of arrays and a seed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from detector_jax import batching, blocks, health, joined, taps, training
from detector_jax.batching import Records
from detector_jax.detector import Detector
from detector_jax.preprocessing import Identity
from fingerprint_jax import autoencoders, evidence, evidence_fitting, fingerprint, one_out, train
from fingerprint_jax.fingerprint import Fingerprint
from fingerprint_jax.principal import fit_layers

BATCH_SIZE = 256
COMBINATIONS = ("fingerprint", "one_out")
SAMPLED = 2000
LOOKED_AT = 10_000
RECONSTRUCTS = 0.5


@dataclasses.dataclass
class Prepared:
  """A fit about to start.

  Attributes:
    fingerprint: taps and autoencoders.
    state: initial state; its frozen part holds copies of the network's variables.
    records: ``[n, ...]`` to train on.
    config: settings.
    train_epochs: see ``detector_jax.training``; donates the state.
  """

  fingerprint: Fingerprint
  state: train.State
  records: Records
  config: train.Config
  train_epochs: training.TrainEpochs

  @functools.cached_property
  def data(self) -> training.Data:
    """The records on the device, which only a training needs."""
    return training.to_device(np.asarray(self.records))

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
  x: Records,
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
    integers=_whole_numbers(x, config.batch_size),
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
  return Prepared(prints, state, x, config, make_train_epochs(make_step, batch_size))


def build_detector(
  prepared: Prepared,
  state: train.State,
  x: Records,
  x_reference: Records,
  x_calibration: Records,
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
  given = isinstance(prints.taps.network, joined.Joined)
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
    input_range=None if given else _range(x[:: max(1, len(x) // 10_000)], batch_size),
    batch_size=BATCH_SIZE,
  )
  detector = detector.with_health([*train.findings(prints, last_losses), *findings])
  return detector.calibrate(np.asarray(x_calibration), fpr, confidence)


def fit_evidence(
  prints: Fingerprint,
  variables: Mapping[str, Any],
  x: Records,
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

  def observed(rows: Records) -> evidence.Observed:
    return batching.in_batches(lambda part: observe(variables, part), rows, batch_size)

  rows = np.linspace(0, len(x) - 1, min(LOOKED_AT, len(x))).round().astype(int)
  fitted = evidence_fitting.fit(plan, observed(x[rows]))
  held_out = evidence.Observed(*map(jnp.asarray, observed(x_reference)))
  fitted = evidence_fitting.with_reference(
    plan, fitted, np.asarray(plan.statistics(fitted, held_out))
  )
  deviations = np.asarray(evidence.deviations(fitted, held_out), np.float64)
  return {"evidence": fitted, "reference": one_out.fit_logs(deviations, prints.layers)}


def _vectors(
  tapped: taps.Taps, variables: Any, x: Records, batch_size: int
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
  return batching.in_batches(lambda part: compute(variables, part), rows, batch_size)


def _parts(x: Records, batch_size: int) -> Iterator[np.ndarray]:
  return (np.asarray(x[i : i + batch_size]) for i in range(0, len(x), batch_size))


def _whole_numbers(x: Records, batch_size: int) -> bool:
  return all(bool((part == np.rint(part)).all()) for part in _parts(x, batch_size))


def _range(x: Records, batch_size: int) -> tuple[float, float]:
  ends = [(float(part.min()), float(part.max())) for part in _parts(x, batch_size)]
  return min(low for low, _ in ends), max(high for _, high in ends)


def _reconstructs(residual: np.ndarray | None, x: Records) -> bool:
  """Whether an output of the records' shape explains half of their variance: an autoencoder's."""
  if residual is None:
    return False
  rows = np.asarray(x[:: max(1, len(x) // SAMPLED)], np.float64)
  total = np.mean((rows - rows.mean(axis=0)) ** 2)
  return bool(np.mean(np.asarray(residual, np.float64) ** 2) < RECONSTRUCTS * total)
