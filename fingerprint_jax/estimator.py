"""NeuralFP with scikit-learn's face."""

from collections.abc import Callable, Mapping, Sequence
import logging
from typing import Any, ClassVar, Self

from flax import linen as nn
import jax
import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from detector_jax import batching, health, joined, taps, training
from detector_jax.sklearn import DetectorEstimator, plain
from fingerprint_jax import recipe, roles, train
from fingerprint_jax.explanation import Explanation, explain

logger = logging.getLogger(__name__)

TRAIN_STEPS = 1500


class NeuralFP(DetectorEstimator):
  """Fingerprints of a trained network: says of a record whether it is out-of-distribution.

  An autoencoder per layer learns the activations of the training records. Their errors on a record,
  the sizes of its activations, its class and its neighbours are joined to one score, see
  ``evidence``; with ``combine="one_out"`` a record is out-of-distribution if its error is too large
  or too small at any layer, the paper's rule.

  Args:
    network: a trained module of flax.linen or NNX, tapped where it sows intermediates or else at
      the outputs of its blocks, see ``taps_for``; or a function ``x -> {name: activation}``
      (``(variables, x) -> ...`` where there are variables), which JAX traces. Records of whole
      numbers reach a network that takes no others as integers.
    variables: its trained variables, ``{"params": ...}`` and the like, or the parameters alone;
      None of an NNX module.
    fpr: false-positive rate of the whole rule, in (0, 1), in expectation over draws of the
      held-out records.
    activations: in the place of ``network``, a function ``records -> {layer: array [n, ...]}`` that
      runs in any framework, on ``batch_size`` records at a time; maps have their channels last. The
      folder that ``save`` writes takes what ``fingerprint_jax.joined`` makes of them, not records.
    combine: "fingerprint" joins groups of evidence; "one_out" is the paper's rule.
    layers: names of the layers to use; None takes all.
    select: ``(module, method name) -> bool``, which outputs of a Linen module to capture.
    apply_kwargs: arguments of the module beside x, e.g. ``{"train": False}``.
    autoencoders: ``{layer: Linen module}`` in the place of the default ones.
    two_sided: of the rule "one_out": whether an error that is too small objects too, as the paper
      has it; without, the same false-positive rate finds more of what makes errors large.
    logits: the layer whose largest entry is the network's class, None where there is none; "auto"
      takes the last one where it looks like a classifier's, see ``evidence.plan``.
    epochs: of autoencoders that are trained: given ones, and those of "one_out". "auto": as many as
      make about 1,500 steps. The others are principal components, in closed form.
    batch_size: records per step.
    learning_rate: of Adam at the start, > 0.
    confidence: in (0, 1), the share of such draws in which ``fpr`` is to hold, or None.
    calibration_size: share of the different records held out, at most 6,000: half tell how errors
      are distributed, half set the threshold.
    random_state: seed, RandomState or None. The same seed gives the same numbers.

  Attributes:
    detector_: the trained ``Detector``.
    layers_: names of the layers.
    losses_: ``{layer: mean squared residual in variances}`` after training.
    offset_: ``decision_function = score_samples - offset_``.

  References:
    Lee et al., NeuralFP: Out-of-distribution Detection using Fingerprints of Neural Networks.
  """

  _former: ClassVar[dict[str, Any]] = {"combine": "one_out"}
  _shapes: dict[str, tuple[int, ...]]

  def __init__(
    self,
    network: nn.Module | Callable[..., Any] | None = None,
    variables: Any = None,
    fpr: float = 0.01,
    *,
    activations: Callable[[Any], Mapping[str, Any]] | None = None,
    combine: str = "fingerprint",
    layers: Sequence[str] | None = None,
    select: Callable[[nn.Module, str], bool] | None = None,
    apply_kwargs: Mapping[str, Any] | None = None,
    autoencoders: Mapping[str, nn.Module] | None = None,
    two_sided: bool = True,
    logits: str | None = "auto",
    epochs: int | str = "auto",
    batch_size: int = 256,
    learning_rate: float = 5e-3,
    confidence: float | None = None,
    calibration_size: float = 0.2,
    random_state: Any = None,
  ):
    self.network = network
    self.variables = variables
    self.fpr = fpr
    self.activations = activations
    self.combine = combine
    self.layers = layers
    self.select = select
    self.apply_kwargs = apply_kwargs
    self.autoencoders = autoencoders
    self.two_sided = two_sided
    self.logits = logits
    self.epochs = epochs
    self.batch_size = batch_size
    self.learning_rate = learning_rate
    self.confidence = confidence
    self.calibration_size = calibration_size
    self.random_state = random_state

  def fit(self, X: Any, y: Any = None, *, X_calibration: Any = None, groups: Any = None) -> Self:
    """Learns the fingerprints from the network's own training records.

    Args:
      X: ``[n, ...]`` records as the network takes them. A memory map of float32 is read a batch at
        a time, and so are records of which ``activations`` are computed.
      y: ignored.
      X_calibration: ``[m, ...]`` typical records that the network was not trained on: half tell how
        evidence is distributed, half set the threshold; those equal to one of ``X`` are left out.
        Without, ``calibration_size`` of ``X`` is held out. The network knows these records, and
        ``fpr`` is the rate on records that it knows: on fresh ones it may be higher, which a
        warning says.
      groups: ``[n]`` labels of what records belong to: records of one group have one role. Equal
        records have, too.

    Raises:
      ValueError: network, variables, records or a setting that cannot be used; the message names
        it.
      HealthError: training diverged.
    """
    del y
    if (self.network is None) == (self.activations is None):
      raise ValueError(
        "NeuralFP needs a trained network, NeuralFP(network, variables), or what gives its "
        "activations, NeuralFP(activations=function), and not both."
      )
    x = self._records(X, reset=True)
    if getattr(X, "dtype", None) == np.uint8 and self.activations is None:
      logger.warning(
        "Records are bytes from 0 to 255; divide them by 255 if the network was trained on [0, 1]."
      )
    if isinstance(self.layers, str):
      raise ValueError(f"layers must be a sequence of names, got {self.layers!r}; give a tuple.")
    seed = int(check_random_state(plain(self.random_state)).randint(2**31 - 1))
    fpr, confidence = plain(self.fpr), plain(self.confidence)
    held_out, first = x, 0
    if X_calibration is None:
      rows = roles.split_rows(
        x, self.calibration_size, fpr, seed, confidence=confidence, groups=groups
      )
    else:
      held_out, first = self._records(X_calibration, reset=False), len(x)
      rows = roles.given_rows(x, held_out, fpr, seed, confidence=confidence)
    config = train.Config(
      self._epochs(len(rows.train)), plain(self.batch_size), plain(self.learning_rate)
    )
    init_key, train_key = jax.random.split(jax.random.key(seed))
    network: Any = self.network
    layers = self.layers
    if self.activations is not None:
      network, layers = joined.Joined(tuple(self._shapes), tuple(self._shapes.values())), None
    prepared = recipe.build_training(
      network,
      self.variables,
      x[rows.train],
      config,
      init_key,
      layers=layers,
      select=self.select,
      apply_kwargs=self.apply_kwargs,
      chosen=self.autoencoders,
      two_sided=self.two_sided,
      combine=self.combine,
      logits=self.logits,
    )
    state, _ = prepared.advance(prepared.state, train_key, 0, prepared.epochs)
    detector = recipe.build_detector(
      prepared,
      state,
      x[rows.train],
      held_out[rows.reference - first],
      held_out[rows.calibration - first],
      fpr,
      {
        "estimator": self._facts(),
        "training_records": len(rows.train),
        "feature_names": self._names(),
      },
      confidence,
      [_known_to_network(X_calibration is None, fpr)],
    )
    self._set_detector(detector)
    return self

  @staticmethod
  def taps_for(
    network: Any,
    variables: Any,
    shape: Sequence[int],
    *,
    layers: Sequence[str] | None = None,
    select: Callable[[nn.Module, str], bool] | None = None,
    apply_kwargs: Mapping[str, Any] | None = None,
  ) -> dict[str, tuple[int, ...]]:
    """The layers that ``fit`` would tap, with the shapes of one record's activations.

    Nothing runs. "residual", what an output of the records' shape leaves of them, is dropped by
    ``fit`` where the network turns out to be no autoencoder.

    Args:
      network: see the class.
      variables: see the class.
      shape: of one record.
      layers: see the class.
      select: see the class.
      apply_kwargs: see the class.

    Raises:
      ValueError: as ``fit``, of a network that cannot be tapped.
    """
    found = taps.find(
      network,
      variables,
      shape,
      layers=layers,
      select=select,
      apply_kwargs=apply_kwargs,
      integers=True,
    )
    return dict(zip(found.layers, found.shapes, strict=True))

  def _validated(self, X: Any, *, reset: bool) -> np.ndarray:
    """Records, or with ``activations`` what they give of them, ``[n, all their numbers]``."""
    if self.activations is None:
      return super()._validated(X, reset=reset)
    return super()._validated(self._computed(X, reset=reset)[:], reset=reset)

  def _records(self, X: Any, *, reset: bool) -> batching.Selection:
    """As ``_validated``, all of them, to be read or computed a batch at a time."""
    if self.activations is None:
      x: Any = self._validated(X, reset=reset)
    else:
      x = self._computed(X, reset=reset)
    return batching.Selection(x, np.arange(len(x)))

  def _computed(self, X: Any, *, reset: bool) -> joined.Computed:
    """Activations of records, where the user's function computes them."""
    assert self.activations is not None
    batch_size = batching.whole("batch_size", plain(self.batch_size))
    X = X if hasattr(X, "shape") else np.asarray(X)
    if not len(X):
      raise ValueError("X has no records.")
    if reset:
      first = self.activations(X[:batch_size])
      self._shapes = joined.shapes_of(first, self.layers)
    elif not hasattr(self, "_shapes"):
      facts = self.detector_.metadata
      self._shapes = dict(zip(facts["layers"], map(tuple, facts["layer_shapes"]), strict=True))
    return joined.Computed(self.activations, X, self._shapes, batch_size)

  def explain(self, X: Any) -> Explanation:
    """Says of records ``[n, ...]`` which layer objects, on which side, and how sure it is.

    Raises:
      ValueError: records of another shape or range.
      NotFittedError: before ``fit``.
    """
    check_is_fitted(self, "detector_")
    return explain(self.detector_, self._validated(X, reset=False))

  @property
  def layers_(self) -> tuple[str, ...]:
    """Names of the layers, in the order of the network."""
    check_is_fitted(self, "detector_")
    return tuple(self.detector_.metadata["layers"])

  @property
  def losses_(self) -> dict[str, float]:
    """Mean squared residual of each layer after training, in variances of its activations."""
    check_is_fitted(self, "detector_")
    facts = self.detector_.metadata
    return dict(zip(facts["layers"], facts["layer_losses"], strict=True))

  def _epochs(self, num_rows: int) -> int:
    if self.epochs != "auto":
      return plain(self.epochs)
    per_epoch = training.steps_per_epoch(num_rows, max(1, min(self.batch_size, num_rows)))
    return max(1, round(TRAIN_STEPS / per_epoch))

  def _facts(self) -> dict[str, Any]:
    facts = super()._facts()
    for name in ("network", "variables", "activations", "select", "autoencoders"):
      facts["params"].pop(name, None)
    return facts


def _known_to_network(known: bool, fpr: float) -> health.Finding:
  """What ``fpr`` means where the network was trained on the records that set the threshold."""
  return health.Finding.from_check(
    "whether the network was trained on the records that set the threshold",
    known,
    not known,
    f"The threshold was set by records out of those that the network was trained on: it flags "
    f"{100 * fpr:.3g} % of records that the network knows, and may flag more of fresh ones. Give "
    "typical records that it has not seen: fit(X, X_calibration=...).",
  )
