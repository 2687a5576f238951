"""The NeuralFP paper's tables, and shifts that it does not look at.

Each model is trained by its config through the launcher, in a folder of its own below ``--models``,
which is taken up again where it is there. No threshold, layer or epoch is chosen with
out-of-distribution data; every number is of the last epoch.
"""

from collections.abc import Callable, Iterable
import dataclasses
import pathlib
from typing import Any, NamedTuple

from absl import flags
import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np

from benchmarks import attacks, protocol
from benchmarks.baselines.networks import EPSILONS, NETWORK_BASELINES, Forward
from benchmarks.records import TableRecord
from configs import neuralfp_fashion_mnist, neuralfp_mnist
import detector_jax
from detector_jax import metrics, taps
from fingerprint_jax import one_out, roles
from launch import evaluation, run
from launch.data import corruptions
from launch.methods import neuralfp
from launch.reporting import figures
from launch.reporting.layers import reported

CONFIGS = {
  "mnist": neuralfp_mnist.get_config,
  "fashion_mnist": neuralfp_fashion_mnist.get_config,
}
SETS = {
  "mnist": ("fashion_mnist", "cifar10", "svhn_cropped"),
  "fashion_mnist": ("mnist", "cifar10", "svhn_cropped"),
}
TYPICAL = {"mnist": "mnist", "fashion_mnist": "fashion_mnist"}
NAMES = {
  "mnist": "MNIST",
  "fashion_mnist": "Fashion-MNIST",
  "cifar10": "CIFAR-10, grey",
  "svhn_cropped": "SVHN, grey subset",
}
UNSEEN = {"mnist": (4, 9)}
PEERS = ("max softmax", "ODIN", "Mahalanobis", "deep nearest neighbour")
PEER_RECORDS = 2000
SHIFT_RECORDS = 1000
ATTACK_SIZES = (0.05, 0.1, 0.2)

# AUROC from the paper's tables, by model; out-of-distribution sets as in SETS.
PAPER = {"mnist": (0.9826, 0.9921, 0.9921), "fashion_mnist": (0.9498, 0.9442, 0.9809)}
PAPER_LAYERS = {
  "mnist": (
    (0.7298, 0.8817, 0.8821),
    (0.8260, 0.8848, 0.8850),
    (0.6893, 0.8394, 0.8634),
    (0.4190, 0.5340, 0.7661),
    (0.4298, 0.4821, 0.6927),
    (0.8678, 0.8902, 0.8899),
    (0.8741, 0.8955, 0.8944),
  ),
  "fashion_mnist": (
    (0.5280, 0.6983, 0.7499),
    (0.5995, 0.7178, 0.7606),
    (0.6013, 0.7146, 0.7546),
    (0.8163, 0.7851, 0.7801),
    (0.8236, 0.8062, 0.8447),
    (0.7980, 0.7868, 0.8217),
    (0.8009, 0.7523, 0.8064),
    (0.6668, 0.3737, 0.3797),
    (0.6446, 0.2530, 0.2418),
    (0.1961, 0.5216, 0.5369),
    (0.3826, 0.5893, 0.4637),
  ),
}
PAPER_PEERS = {
  ("ODIN", "mnist"): (
    (0.9289, 0.9650, 0.9858),
    (0.9286, 0.9649, 0.9858),
    (0.9285, 0.9650, 0.9859),
    (0.9284, 0.9650, 0.9860),
    (0.9276, 0.9657, 0.9870),
    (0.9270, 0.9677, 0.9891),
  ),
  ("ODIN", "fashion_mnist"): (
    (0.6193, 0.5945, 0.5195),
    (0.6193, 0.5878, 0.5150),
    (0.6193, 0.5830, 0.5128),
    (0.6190, 0.5767, 0.5114),
    (0.6147, 0.5575, 0.5251),
    (0.6019, 0.5538, 0.5830),
  ),
  ("Mahalanobis", "mnist"): (
    (0.4566, 0.6472, 0.5088),
    (0.5046, 0.9145, 0.9621),
    (0.5139, 0.9846, 0.9788),
    (0.5048, 0.9740, 0.9684),
    (0.4659, 0.9295, 0.9304),
    (0.4437, 0.9165, 0.9006),
  ),
  ("Mahalanobis", "fashion_mnist"): (
    (0.5179, 0.7791, 0.6841),
    (0.5205, 0.4409, 0.7222),
    (0.5209, 0.7617, 0.9147),
    (0.5212, 0.9608, 0.9908),
    (0.5214, 0.9485, 0.9734),
    (0.5215, 0.9177, 0.9377),
  ),
}

_MODELS = flags.DEFINE_string("models", "runs/neuralfp", "Folder of the models of neuralfp*.")

Advance = Callable[..., None]
Values = dict[tuple[str, str, str], list[float]]
Result = tuple[list[TableRecord], dict[str, Figure]]


class Model(NamedTuple):
  """One trained model.

  Attributes:
    detector: its fingerprints.
    forward: ``x -> (logits, penultimate features)``.
    x_train: ``[n, ...]`` records that classifier and fingerprints saw.
    y_train: ``[n]`` their classes.
    x_test: ``[m, ...]``.
    class_test: ``[m]``, -1 where a record is out-of-distribution.
    sources: ``[m]`` where each test record comes from.
  """

  detector: detector_jax.Detector
  forward: Forward
  x_train: np.ndarray
  y_train: np.ndarray
  x_test: np.ndarray
  class_test: np.ndarray
  sources: np.ndarray

  def of(self, scores: np.ndarray, source: str) -> np.ndarray:
    """The scores ``[m]`` of the test records of one source."""
    return scores[self.sources == source]


@dataclasses.dataclass(frozen=True, eq=False)
class TappedForward:
  """Logits and features of a classifier, and its layers; hashable by identity."""

  network: Any
  params: Any

  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits and penultimate features of inputs ``[n, ...]``."""
    found: Any = self.network.apply({"params": self.params}, x, method="with_features")
    return found

  def layers(self, x: jax.Array) -> dict[str, jax.Array]:
    """Activations by layer."""
    _, state = self.network.apply({"params": self.params}, x, mutable=[taps.SOWN])
    return {name: values[0] for name, values in state[taps.SOWN].items()}


def model(name: str, seed: int, unseen: tuple[int, ...] = ()) -> Model:
  """Trains a model, or takes it from its folder."""
  config: neuralfp.Config = CONFIGS[name]()
  source: Any = config.data
  chosen = dataclasses.replace(source, unseen=unseen, ood=()) if unseen else source
  config = dataclasses.replace(config, seed=seed, data=chosen)
  folder = f"{name}_{seed}" + "".join(f"_without_{each}" for each in unseen)
  workdir = pathlib.Path(_MODELS.value) / folder
  run.train(config, workdir)
  network, params = neuralfp.classifier_of(config, workdir)
  splits = config.data.load()
  rows = roles.split_rows(splits.x_train, config.held_out, config.fpr, seed).train
  assert splits.y_train is not None
  assert splits.x_test is not None
  assert splits.class_test is not None
  assert splits.sources is not None
  return Model(
    evaluation.load_detector(workdir),
    TappedForward(network, params),
    splits.x_train[rows],
    splits.y_train[rows],
    splits.x_test,
    splits.class_test,
    splits.sources,
  )


def models(seeds: int, advance: Advance) -> Iterable[tuple[str, int, Model]]:
  """Every model of the paper with every seed."""
  for seed in range(seeds):
    for name in CONFIGS:
      yield name, seed, model(name, seed)
      advance(1, f"{NAMES[name]} model, seed {seed}")


def count(seeds: int) -> int:
  """Number of models."""
  return seeds * len(CONFIGS)


def table(seeds: int, advance: Advance) -> Result:
  """The paper's main table, with the false-positive rates that users meet."""
  values: Values = {}
  curves: dict[str, list[Any]] = {}
  for name, _, trained in models(seeds, advance):
    scores = trained.detector.score(trained.x_test)
    typical = trained.of(scores, TYPICAL[name])
    flagged = float(np.mean(typical > np.float32(trained.detector.threshold)))
    _add(values, f"{NAMES[name]} model", "NeuralFP", "realised_fpr_at_stated_1%", flagged)
    accuracy = trained.detector.metadata["classifier_test_accuracy"]
    _add(values, f"{NAMES[name]} model", "classifier", "test_accuracy", accuracy)
    for source in SETS[name]:
      other = trained.of(scores, source)
      row = f"{NAMES[name]} model, {NAMES[source]}"
      _add_rates(values, row, "NeuralFP, one-out", typical, other)
      found = float(np.mean(other > np.float32(trained.detector.threshold)))
      _add(values, row, "NeuralFP, one-out", "recall_at_stated_1%_fpr", found)
      curves.setdefault(row, []).append(protocol.labelled(typical, other))
  paper = {
    (f"{NAMES[name]} model, {NAMES[source]}", "NeuralFP, one-out", "auroc"): value
    for name, row in PAPER.items()
    for source, value in zip(SETS[name], row, strict=True)
  }
  records = _records("neuralfp", values, paper)
  return records, {"neuralfp_roc": figures.roc_curves(curves, near=0.2)}


def table_layers(seeds: int, advance: Advance) -> Result:
  """AUROC of every layer alone and of the rule, asking on one side or on both."""
  values: Values = {}
  paper: dict[tuple[str, str, str], float] = {}
  drawn = {}
  for name, seed, trained in models(seeds, advance):
    layers = trained.detector.metadata["layers"]
    errors = reported(trained.detector, trained.x_test, "layer_error")
    error = jnp.asarray(errors["layer_error"])
    reference = reference_of(trained.detector)
    for sides in ("one-sided", "two-sided"):
      extremes = np.asarray(one_out.extremeness(reference, error, sides == "two-sided")[0])
      by_method = {f"{layer}, {sides}": extremes[:, i] for i, layer in enumerate(layers)}
      by_method[f"one-out, {sides}"] = extremes.max(axis=1)
      for source in SETS[name]:
        row = f"{NAMES[name]} model, {NAMES[source]}"
        for method, scores in by_method.items():
          auroc = protocol.auroc(trained.of(scores, TYPICAL[name]), trained.of(scores, source))
          _add(values, row, method, "auroc", auroc)
    for place, source in enumerate(SETS[name]):
      row = f"{NAMES[name]} model, {NAMES[source]}"
      for layer, published in zip(layers, PAPER_LAYERS[name], strict=True):
        paper[row, f"{layer}, one-sided", "auroc"] = published[place]
      paper[row, "one-out, two-sided", "auroc"] = PAPER[name][place]
    if seed == 0:
      drawn[f"neuralfp_errors_{name}"] = _histograms(name, trained, np.asarray(error))
  return _records("neuralfp-layers", values, paper), drawn


def table_steps(seeds: int, advance: Advance) -> Result:
  """The paper's peers over its input steps, on the same 2,000 test records of each set."""
  values: Values = {}
  for name, seed, trained in models(seeds, advance):
    order = np.random.default_rng(seed).permutation(len(trained.x_test))
    tests = {
      source: trained.x_test[order[trained.sources[order] == source][:PEER_RECORDS]]
      for source in (TYPICAL[name], *SETS[name])
    }
    for method, scores in _all_scores(trained, list(tests.values()), tuple(EPSILONS)).items():
      for source, other in zip(SETS[name], scores[1:], strict=True):
        _add_rates(values, f"{NAMES[name]} model, {NAMES[source]}", method, scores[0], other)
  paper = {
    (f"{NAMES[name]} model, {NAMES[source]}", f"{method}, e = {epsilon:g}", "auroc"): value
    for (method, name), by_epsilon in PAPER_PEERS.items()
    for epsilon, row in zip(EPSILONS, by_epsilon, strict=True)
    for source, value in zip(SETS[name], row, strict=True)
  }
  return _records("neuralfp-steps", values, paper), {}


def table_shifts(seeds: int, advance: Advance) -> Result:
  """Beyond the paper: unseen classes, corruptions and adversarial records."""
  values: Values = {}
  for name, seed, trained in models(seeds, advance):
    typical = np.random.default_rng(seed).permutation(
      np.flatnonzero(trained.sources == TYPICAL[name])
    )
    clean, moved = np.split(typical[: 2 * SHIFT_RECORDS], 2)
    shifted = dict(_shifts(trained, trained.x_test[moved], trained.class_test[moved], seed))
    for method, scores in _all_scores(trained, [trained.x_test[clean], *shifted.values()]).items():
      for shift, score in zip(shifted, scores[1:], strict=True):
        _add_rates(values, f"{NAMES[name]} model, {shift}", method, scores[0], score)
  for name, unseen in UNSEEN.items():
    for seed in range(seeds):
      near = model(name, seed, unseen)
      tests = [near.x_test[near.class_test >= 0], near.x_test[near.class_test < 0]]
      row = f"{NAMES[name]} model of the other digits, unseen {' and '.join(map(str, unseen))}"
      for method, scores in _all_scores(near, tests).items():
        _add_rates(values, row, method, scores[0], scores[1])
      advance(1, f"{NAMES[name]} without {unseen}, seed {seed}")
  return _records("neuralfp-shifts", values, {}), {}


def count_shifts(seeds: int) -> int:
  """Number of models in ``table_shifts``."""
  return count(seeds) + seeds * len(UNSEEN)


def reference_of(detector: detector_jax.Detector) -> one_out.Reference:
  """The reference distribution in a detector that was loaded from its folder."""
  names = [field.name for field in dataclasses.fields(one_out.Reference)]
  return one_out.Reference(*(detector.arrays[f"variables/reference/{name}"] for name in names))


def _shifts(
  trained: Model, x: np.ndarray, classes: np.ndarray, seed: int
) -> Iterable[tuple[str, np.ndarray]]:
  for name, corrupt in corruptions.CORRUPTIONS.items():
    for strength in (1, 2, 3):
      yield f"{name.replace('_', ' ')} {strength}", corrupt(x, strength, seed)
  for size in ATTACK_SIZES:
    yield f"FGSM {size:g}", attacks.fgsm(trained.forward, x, classes, size)
    key = jax.random.key(seed)
    yield f"PGD {size:g}", attacks.pgd(trained.forward, x, classes, size, key=key)


def _all_scores(
  trained: Model, tests: list[np.ndarray], epsilons: tuple[float, ...] = (0.0014,)
) -> dict[str, list[np.ndarray]]:
  """Scores of each test set by NeuralFP and every peer, fitted to the classifier's records."""
  result = {"NeuralFP, one-out": [trained.detector.score(test) for test in tests]}
  for name in PEERS:
    peer: Any = NETWORK_BASELINES[name](trained.forward).fit(trained.x_train, trained.y_train)
    if not hasattr(peer, "epsilon"):
      result[name] = [peer.score(test) for test in tests]
      continue
    for epsilon in epsilons:
      peer.epsilon = epsilon
      result[f"{name}, e = {epsilon:g}"] = [peer.score(test) for test in tests]
  return result


def _add(values: Values, row: str, method: str, metric: str, value: float) -> None:
  values.setdefault((row, method, metric), []).append(value)


def _add_rates(
  values: Values, row: str, method: str, typical: np.ndarray, other: np.ndarray
) -> None:
  labels, scores = protocol.labelled(typical, other)
  _add(values, row, method, "auroc", metrics.auroc(labels, scores))
  rate = metrics.fpr_at_tpr(labels, scores, 0.95, "anomaly")
  _add(values, row, method, "fpr_at_95tpr_anomaly_positive", rate)


def _records(
  name: str, values: Values, paper: dict[tuple[str, str, str], float]
) -> list[TableRecord]:
  records: list[TableRecord] = []
  for (row, method, metric), measured in values.items():
    published = paper.get((row, method, metric))
    percent = None if published is None else round(100 * published, 2)
    records += protocol.summarise(name, row, method, metric, {"last": measured}, percent)
  return records


def _histograms(name: str, trained: Model, error: np.ndarray) -> Figure:
  detector = trained.detector
  bounds = detector.report(trained.x_test[:1])
  return figures.layer_histograms(
    detector.metadata["layers"],
    trained.of(error, TYPICAL[name]),
    {NAMES[source]: trained.of(error, source) for source in SETS[name]},
    list(zip(bounds["layer_low"][0], bounds["layer_high"][0], strict=True)),
  )
