"""What DROCC does unless told otherwise, and how a trained network becomes a Detector.

The estimator and the launcher share these; the train steps know nothing of them.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import numpy as np
from scipy import stats

from detector_jax import batching, splits, training
from detector_jax.detector import Detector
from detector_jax.preprocessing import Standardizer, extreme_values
from detector_jax.typical import with_typical
from drocc_jax import (
  contamination,
  cross,
  drocc,
  drocc_lf,
  drocc_oe,
  ensemble,
  fit,
  health,
  isolation,
  networks,
  prototypes,
)
from drocc_jax.algorithm import Algorithm
from drocc_jax.settings import Training

TRAIN_STEPS = 1500
ALGORITHMS = (drocc.ALGORITHM, drocc_oe.ALGORITHM, drocc_lf.ALGORITHM)
DENSE_MU, VECTOR_RADIUS, TRIM = 10.0, 0.8, 0.1
# What resolve puts where the settings have None; the step size is a share of the radius.
USUAL = {"mu": 1.0, "num_steps": 10, "learning_rate": 1e-3, "schedule": "constant"}
DENSE = {**USUAL, "mu": DENSE_MU}
TABLES = {"mu": 1.0, "num_steps": 5, "learning_rate": 3e-3, "schedule": "cosine"}
DENSE_PIXELS = 64 * 64


def auto_radius(x: np.ndarray) -> float:
  """The radius that all others are taken from: the 80 % quantile of a chi distribution.

  For ``d`` standardised coordinates it is the norm that four in five standard normal vectors stay
  below: ``1.79`` for d = 2, ``2.93`` for 6 and ``16.0`` for 244. It tends to ``sqrt(d)``, the usual
  distance of a record from the mean, as d grows, and is larger where norms scatter more. The paper
  advises ``sqrt(d) / 2``. DROCC on ``[n, features]`` takes 0.8 of it where no radius is given, see
  ``uses_dense_defaults``; everything else takes it whole. The rule was chosen on ADBench sets that
  are in none of the paper's tables; no anomaly is needed to apply it.

  Args:
    x: ``[n, ...]`` standardised typical records of ``d`` coordinates each.
  """
  return float(stats.chi.ppf(0.8, np.prod(x.shape[1:])))


def uses_dense_defaults(config: Any, shape: tuple[int, ...]) -> bool:
  """Whether this is DROCC on ``[features]`` or on small grey images, which has its own defaults.

  They are ``network_of`` and ``DENSE``, and on ``[features]`` 0.8 times ``auto_radius``; see
  ``uses_table_defaults`` for what else. With given negatives (DROCC-OE, DROCC-LF), on series and on
  other images the defaults are ``USUAL``.

  Args:
    config: settings of one of the algorithms.
    shape: of a record.
  """
  if algorithm_of(config).needs_negatives:
    return False
  return len(shape) == 1 or (
    len(shape) == 3 and shape[2] == 1 and shape[0] * shape[1] <= DENSE_PIXELS
  )


def uses_table_defaults(config: Any, shape: tuple[int, ...]) -> bool:
  """Whether this is DROCC on ``[features]`` as ``DROCC()`` trains it.

  Then mu, ascent steps and learning rate are those of ``TABLES``, the network of ``network_of`` has
  no kinks, and a tenth of the records may be left out as isolated (``isolation``): a training whose
  end is the good place, since its rate falls to 0 and there is nothing to learn by heart. Chosen on
  ``benchmarks.adbench_sets``. The settings belong together: where ascent steps, learning
  rate and schedule are all given, as in configurations from before, it is False, and what is None
  is as it was then.

  Args:
    config: settings of one of the algorithms, as given, not resolved.
    shape: of a record.
  """
  return len(shape) == 1 and is_automatic(config) and uses_dense_defaults(config, shape)


def is_automatic(config: Any) -> bool:
  """Whether ascent steps, learning rate or schedule are left to ``resolve``; not in runs of 0.1."""
  return None in (config.num_steps, config.learning_rate, config.schedule)


def resolve(config: Any, x: np.ndarray, total_steps: int, epoch_steps: int) -> Any:
  """Fills in what is None, by the shape of a record, and the length of schedule and sigma.

  Args:
    config: settings of one of the algorithms.
    x: ``[n, ...]`` standardised typical training records.
    total_steps: number of steps of training.
    epoch_steps: number of steps of an epoch.
  """
  dense = uses_dense_defaults(config, x.shape[1:])
  usual = DENSE if dense else USUAL
  if uses_table_defaults(config, x.shape[1:]):
    usual = TABLES
  radius = config.radius
  if radius is None:
    radius = auto_radius(x) * (VECTOR_RADIUS if dense and x.ndim == 2 else 1.0)
  step_size = config.step_size
  if step_size is None:
    step_size = radius / (10.0 if config.num_steps is not None else usual["num_steps"])
  noise_scale = config.noise_scale
  if noise_scale is None:
    noise_scale = radius / (10.0 * float(np.sqrt(np.prod(x.shape[1:]))))
  config = dataclasses.replace(
    config,
    radius=radius,
    step_size=step_size,
    noise_scale=noise_scale,
    **{name: value for name, value in usual.items() if getattr(config, name) is None},
  )
  if config.schedule != "constant" and not config.total_steps:
    config = dataclasses.replace(config, total_steps=total_steps)
  return algorithm_of(config).settle(config, epoch_steps)


def algorithm_of(config: drocc.Config) -> Algorithm:
  """The algorithm whose settings these are."""
  return next(each for each in ALGORITHMS if type(config) is each.config)


def default_network(shape: tuple[int, ...]) -> nn.Module:
  """The network for records of one shape.

  ``[features]``: below 8 features the paper's MLP, one hidden layer of 128; from 8 on two of 256
  with the kinks of the first spread over the data (see ``networks.MLP``), which was better on wide
  and worse on narrow ADBench sets. ``[time, channels]``: LSTM of 128. ``[height, width,
  channels]``: the MNIST LeNet for grey images, the CIFAR LeNet for others.

  Raises:
    ValueError: no network is known for that many axes, or an image is below 8 x 8.
  """
  if len(shape) == 1:
    wide = networks.MLP((256, 256), input_gain=2.0, bias_range=2.0)
    return networks.MLP() if shape[0] < 8 else wide
  if len(shape) == 2:
    return networks.LSTM()
  if len(shape) == 3:
    if min(shape[:2]) < 8:
      raise ValueError(
        f"Images of {shape[0]} x {shape[1]} are too small for a LeNet; flatten them, or pass a "
        "network."
      )
    return networks.mnist_lenet() if shape[2] == 1 else networks.cifar_lenet()
  raise ValueError(
    f"No default network for records of shape {list(shape)}: pass network=, any flax.linen "
    "Module with one logit."
  )


def network_of(config: Any, shape: tuple[int, ...], records: int = cross.FEW) -> nn.Module:
  """The network for records of one shape under one algorithm, where none is given.

  DROCC on small grey images takes an MLP of two layers of 256, and on ``[features]``, see
  ``uses_table_defaults``, of 128 without kinks; both see squares, too (see ``networks.MLP``), but
  the latter not with fewer than ``cross.FEW`` records to train on, where they lost AUROC.
  DROCC on series, where ``resolve`` has a say, takes ``prototypes.Prototypes``: the LSTM is below
  the nearest neighbours on epilepsy and takes many times as long. Everything else takes
  ``default_network``. The settings are those given, not resolved.
  """
  if len(shape) == 2 and is_automatic(config) and not algorithm_of(config).needs_negatives:
    return prototypes.Prototypes()
  if not uses_dense_defaults(config, shape):
    return default_network(shape)
  dense = networks.MLP((256, 256), input_gain=2.0, bias_range=2.0, squares=True)
  if uses_table_defaults(config, shape):
    squares = records >= cross.FEW
    return dense.clone(hidden=(128, 128), activation="silu", squares=squares)
  return dense


@dataclasses.dataclass(frozen=True)
class NegativeLogit:
  """Score of a one-logit network: ``-f(x)``, higher = more anomalous.

  Attributes:
    network: the Linen module, or an ensemble, which scores by its mean logit; two of these with
      equal networks share their compilation.
  """

  network: ensemble.Network

  def __call__(self, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    """Maps standardised ``[batch, ...]`` to scores ``[batch]``."""
    params, stats = variables["params"], variables["stats"]
    return -ensemble.logits(self.network, params, stats, x)


def build_detector(
  network: ensemble.Network,
  state: Any,
  preprocessing: Standardizer,
  x: np.ndarray,
  x_calibration: np.ndarray,
  fpr: float | None,
  metadata: dict[str, Any],
  examine: Callable[..., Any] | None = None,
  confidence: float | None = None,
  share: float | None = None,
  without: np.ndarray | None = None,
) -> Detector:
  """Makes the Detector of a trained state, checks its health and calibrates it.

  Args:
    network: the network that was trained.
    state: its training state.
    preprocessing: the standardiser it was trained behind.
    x: ``[n, ...]`` raw training records.
    x_calibration: ``[m, ...]`` raw held-out typical records; with none the threshold is the
      network's own boundary, logit 0.
    fpr: false-positive rate of the threshold, see ``Detector.calibrate``.
    metadata: facts that travel with the detector, "feature_names" among them where there are any;
      what its checks came to joins them as "health", columns dropped as constant as "constants".
    examine: of ``fit.Program``; with it the searches of ``state`` are looked at, too, and rows of
      columns for a detached tail, see ``contamination``.
    confidence: see ``calibration.conformal_threshold``.
    share: of the held-out records that may be anomalies, see ``contamination.clean_scores``; None
      where nothing is stated.
    without: bool ``[members, m]``, the held-out records that each member was trained without,
      where these differ; see ``cross``.

  Raises:
    HealthError: scores are not finite, all the same, or upside down.
    ValueError: too few calibration records for ``fpr``.
  """
  if preprocessing.kept is not None:
    dropped = np.setdiff1d(np.arange(x.shape[1]), np.asarray(preprocessing.kept))
    metadata = {**metadata, "constants": [_constant(x, i) for i in dropped.tolist()]}
  detector = Detector.create(
    NegativeLogit(network), state.average, preprocessing, x.shape[1:], metadata=metadata
  )
  typical = x_calibration if len(x_calibration) >= 20 else x
  findings = [extreme_values(x, metadata.get("feature_names"))]
  findings += health.check_health(detector, detector.score(typical[:1000], warn=False), typical)
  if examine is not None and x.ndim == 2 and share is None:
    findings.append(contamination.tail_finding(x))
  if examine is not None:
    blank = cross.starts_blank(ensemble.member_of(network))
    findings += health.examined(examine, state, preprocessing.transform(typical), blank)
  detector = with_typical(detector.with_health(findings), x)
  if share is not None:
    detector = detector.with_metadata(contamination=share)
  if len(x_calibration):
    different = splits.distinct(x_calibration)
    if without is None:
      held_out = detector.score(x_calibration[different])
    else:
      z = preprocessing.transform(x_calibration[different])
      held_out = cross.held_out_scores(network, state.average, z, without[:, different])
    kept = contamination.clean_scores(held_out, share)
    found = detector.calibrate_scores(kept, fpr, confidence)
    return found if without is None else found.with_metadata(cross_conformal=True)
  if fpr is not None:
    raise ValueError(f"fpr={fpr:g} needs held-out records: set calibration_size above 0.")
  return detector


def _constant(x: np.ndarray, column: int) -> list[float]:
  """Number of a column that was dropped, its value, and how far training records are from it."""
  values = x[:, column].astype(np.float64)
  spread = float(np.abs(values - values[0]).max())
  if x.dtype == np.float32:
    spread += 2.0 * float(np.finfo(np.float32).eps) * abs(float(values[0]))
  return [column, float(values[0]), spread]


@dataclasses.dataclass
class Prepared:
  """A training about to start: everything that follows from data and settings.

  Attributes:
    network: the network to train, or an ensemble of such.
    config: settings, radius and step size filled in.
    preprocessing: statistics of the training rows.
    data: training rows on the device.
    rows: ``[n]`` numbers of these among the records that were given.
    parts: the numbers among ``rows`` that each member trains on, where these differ, or None.
    batch_size: examples per step, at most the number of rows.
    epochs: number of epochs.
    program: compiled functions.
  """

  network: ensemble.Network
  config: Any
  preprocessing: Standardizer
  data: training.Data
  rows: np.ndarray
  parts: Sequence[np.ndarray] | None
  batch_size: int
  epochs: int
  program: fit.Program

  def init(self, key: jax.Array) -> Any:
    """Initial state."""
    return self.program.init(self.config.hyper(), self.sample, key)

  @property
  def sample(self) -> jax.Array:
    """What the network is initialised with, see ``networks.sample_for``; no padding is in it."""
    data = ensemble.data_of(self.data, 0)
    member = ensemble.member_of(self.network)
    return networks.sample_for(member, data.inputs, int(data.num_rows))


def build_training(
  x: np.ndarray,
  config: Any,
  settings: Training,
  *,
  negatives: np.ndarray | None = None,
  network: nn.Module | None = None,
  names: Sequence[str] | None = None,
  without: np.ndarray | None = None,
) -> Prepared:
  """Standardises the training rows and settles what is not set.

  Args:
    x: ``[n, ...]`` raw typical training records.
    config: settings of one of the algorithms.
    settings: of the run.
    negatives: ``[k, ...]`` raw given negatives, for DROCC-OE and DROCC-LF. They enter the
      statistics: what is constant over the typical records may be what tells negatives apart.
    network: None takes ``network_of``.
    names: of the features, for messages.
    without: bool ``[members, n]``, the records that each member is trained without, or None; see
      ``cross``.

  Raises:
    ValueError: a setting is out of its range, the data cannot be standardised, or negatives are
      there (or not) where the algorithm has no use (or need) for them.
  """
  config.validate()
  algorithm = algorithm_of(config)
  empty = negatives is not None and not len(negatives)
  if empty or (negatives is None) == algorithm.needs_negatives:
    raise ValueError("DROCC-OE and DROCC-LF need negatives; DROCC takes none.")
  batch_size = batching.whole("batch_size", settings.batch_size)
  epochs = settings.epochs
  epochs = None if epochs is None else batching.whole("epochs", epochs)
  known = x if negatives is None else np.concatenate([x, negatives])
  preprocessing = Standardizer.fit(
    known, scaling=settings.scaling, constant=settings.constant, clip=settings.clip, names=names
  )
  z = preprocessing.transform(x)
  trim = settings.trim
  if trim is None:
    trim = TRIM if uses_table_defaults(config, z.shape[1:]) else 0.0
  kept = isolation.connected_rows(z, trim)
  z = z[kept]
  given = None if negatives is None else preprocessing.transform(negatives)
  parts = None if without is None else cross.parts_of(without[:, kept])
  if parts is None:
    rows, sizes = training.to_device(z, negatives=given), [len(z)]
  else:
    rows = ensemble.divided([training.to_device(z[part], negatives=given) for part in parts])
    sizes = [len(part) for part in parts]
  batch_size = min(batch_size, max(sizes))
  per_epoch = training.steps_per_epoch(min(sizes), batch_size)
  member = network_of(config, z.shape[1:], len(z)) if network is None else network
  member = networks.for_records(member, len(z))
  steps = getattr(member, "train_steps", TRAIN_STEPS)
  epochs = max(1, round(steps / per_epoch)) if epochs is None else epochs
  config = resolve(config, z, epochs * per_epoch, per_epoch)
  trained = ensemble.of_members(member, settings.members if parts is None else len(parts))
  program = fit.compile_program(trained, config.static(), batch_size, algorithm)
  return Prepared(trained, config, preprocessing, rows, kept, parts, batch_size, epochs, program)


def keys(seed: int) -> tuple[jax.Array, jax.Array]:
  """Keys of the initial weights and of training, from one seed."""
  init_key, train_key = jax.random.split(jax.random.key(seed))
  return init_key, train_key
