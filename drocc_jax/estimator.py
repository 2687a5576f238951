"""DROCC with scikit-learn's face."""

import dataclasses
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import check_random_state

from detector_jax import health
from detector_jax.features import apply
from detector_jax.sklearn import DetectorEstimator, plain
from detector_jax.typical import with_typical
from drocc_jax import cross, drocc, on_features, recipe
from drocc_jax.algorithm import Algorithm
from drocc_jax.registry import as_network
from drocc_jax.settings import Training


@dataclasses.dataclass(eq=False, repr=False)
class DROCC(DetectorEstimator, Training):
  """Deep robust one-class classification: learns a boundary round typical data.

  Trains a network to tell typical records from negatives that are found, by gradient ascent on the
  network itself, at a distance of ``radius`` to ``gamma * radius`` from each record.

  Args:
    radius: distance of the negatives, in standard deviations of the features (the square root of
      the sum over coordinates), > 0; "auto": about 0.9 sqrt(d) for ``[n, features]``, sqrt(d) for
      others, see ``recipe.auto_radius``.
    gamma: >= 1.
    mu: weight of the negatives, >= 0; "auto": 10 for grey images of at most 64 x 64, 1 for others,
      see ``recipe.uses_dense_defaults``.
    step_size: of the ascent, > 0; "auto": a tenth of the radius, a fifth for ``[n, features]``.
    num_steps: ascent steps, >= 0; 0 is DROCC-Rand. "auto": 5 for ``[n, features]``, 10 for others.
    project_every: project after every so many ascent steps.
    noise_scale: standard deviation of the start of the search, > 0; "auto": a start of a tenth of
      the radius.
    network: a flax.linen Module with one logit, a name of ``registry.NETWORKS``, a pair
      ``(init, apply)`` or the class of an NNX module, see ``registry.as_network``; "auto": an
      MLP for ``[n, features]`` and for grey images of at most 64 x 64, prototypes for
      ``[n, time, channels]`` and on features, a LeNet for others ``[n, height, width, channels]``.
    columns: "auto" learns a schema of a table with columns of text, dates, booleans or missing
      cells, see ``detector_jax.schema``; ``{"zip": "category", "id": "drop"}`` does so and sets the
      kinds of some. None takes numbers alone.
    features: settings of a feature map, e.g. ``detector_jax.features.Patches()``, which is fitted
      on the training rows, or a fitted map; the network then learns on these features, see
      ``on_features.settled``. None: on the records themselves. "auto": ``Patches()`` for images
      (20 or more to train on, of 16 pixels a side) and ``RandomKernels()`` for series where neither
      a network nor negatives are given, see ``on_features.automatic``; None for others.
    members: networks to train from different seeds; with more than one the mean of their logits
      scores. See ``ensemble``.
    epochs: "auto": as many as make about 1,500 steps, or as many as the network asks for.
    batch_size: examples per step.
    optimizer: "adam" or "sgd".
    learning_rate: > 0; "auto": 0.003 for ``[n, features]``, 0.001 for others.
    momentum: of SGD, in [0, 1).
    schedule: "constant", "cosine", "released", "released_images" or "released_series"; see
      ``drocc.Config``. "auto": "cosine" for ``[n, features]``, "constant" for others.
    weight_decay: the lambda term of the objective, >= 0.
    average_decay: in [0, 1), of the moving average of the network that scores; 0 scores with the
      trained one.
    precision: "float32", or "bf16" in the search; see ``drocc.Config``.
    scaling: "standard" (unit variance, by a scale that a few far values do not set), "moments"
      (the plain mean and deviation), "contrast" (images and series by their own contrast first) or
      "none" (raw values).
    constant: "drop" or "clip", what becomes of features that are constant over the training rows.
    clip: standardised features are clipped there, in standard deviations.
    trim: in [0, 0.5), largest share of the training rows that may be left out because they are far
      from all others, see ``isolation.connected_rows``; "auto": 0.1 for ``[n, features]``, 0 for
      others. They are not shown as typical, nor held out where a share of the records is.
    contamination: share of the records that may be anomalies, in (0, 0.5): of the training rows the
      most extreme are left out, and of the held-out scores the highest; "auto": the records are to
      tell. None: all are typical. See ``drocc_jax.contamination``.
    fpr: false-positive rate of the threshold, from held-out rows, in expectation over draws of
      these; "auto": 5 %, or the smallest that the held-out rows can defend. A rate that cannot be
      defended is refused before training.
    confidence: in (0, 1), the share of draws of held-out rows in which ``fpr`` is to hold; None
      states it in expectation.
    calibration: "split" holds rows out for that; "cross" trains a network without each of a few
      folds, so that all rows train and all set the threshold; "auto" does so with fewer than 200
      different rows ``[n, features]``. See ``drocc_jax.cross``.
    calibration_size: share of the different rows held out for that, at most 1,000 rows, and more
      (up to half) where ``fpr`` needs them; of a fold with "cross". 0 trains on all rows; the
      threshold is then the network's own boundary, and there are no p-values.
    random_state: seed, RandomState or None. The same seed gives the same bits.

  Attributes:
    detector_: the trained ``Detector``.
    offset_: ``decision_function = score_samples - offset_``.
    radius_: the radius that was used.
    n_iter_: number of epochs.
    trimmed_: int64, numbers of the typical rows that were left out, see ``trim``; not after
      ``load``.
    info_: means over the last epoch: losses, gain and travel of the search, distance of the
      negatives.

  References:
    Goyal et al., DROCC: Deep Robust One-Class Classification, ICML 2020, Algorithm 1.
  """

  _algorithm: ClassVar[Algorithm] = drocc.ALGORITHM

  radius: float | str = "auto"
  gamma: float = drocc.Config.gamma
  mu: float | str = "auto"
  _: dataclasses.KW_ONLY
  step_size: float | str = "auto"
  num_steps: int | str = "auto"
  project_every: int = drocc.Config.project_every
  noise_scale: float | str = 1.0
  network: Any = "auto"
  columns: Any = None
  features: Any = "auto"
  epochs: Any = "auto"
  optimizer: str = drocc.Config.optimizer
  learning_rate: float | str = "auto"
  momentum: float = drocc.Config.momentum
  schedule: str = "auto"
  weight_decay: float = drocc.Config.weight_decay
  average_decay: float = drocc.Config.average_decay
  precision: str = drocc.Config.precision
  trim: Any = "auto"
  contamination: Any = None
  fpr: Any = "auto"
  random_state: Any = None

  def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> Self:
    """Trains on typical records.

    Args:
      X: ``[n, features]``, ``[n, time, channels]`` or ``[n, height, width, channels]``, n >= 2.
        Columns may have names, see ``feature_names_in_``.
      y: ignored.
      groups: ``[n]`` labels of what records belong to (patients, machines, recordings): records of
        one group are never both trained on and held out for the threshold. Equal records never are.

    Raises:
      ValueError: data or a setting that cannot be used; the message names it.
      HealthError: training diverged, or its scores are constant or upside down.
    """
    del y
    return self._train(self._validated(X, reset=True), None, groups)

  def _train(self, x: np.ndarray, negatives: np.ndarray | None, groups: Any) -> Self:
    """Trains on typical records ``[n, ...]`` and, where there are any, given negatives."""
    config = self._config()
    fpr, names = self._or_none("fpr"), self._names()
    seed = int(check_random_state(plain(self.random_state)).randint(2**31 - 1))
    settings, parts = self._settings(), on_features.held_out_parts(self.features)
    network = None if self.network == "auto" else as_network(self.network)
    plain_records = self._or_none("features") is None and cross.starts_blank(network)
    roles = cross.divide(
      x, settings, seed, plain=plain_records, fpr=fpr, groups=groups, parts=parts
    )
    rows, held_out = roles.rows, roles.held_out
    raw = x[held_out]
    features = self._features(x[rows], negatives, seed)
    records = x[rows]
    if features is not None:
      settings = on_features.run_settings(settings, features)
      x = apply(features, x)
      negatives = None if negatives is None else apply(features, negatives)
      config, network = on_features.settled(config, network, x.shape[1], features)
    prepared = recipe.build_training(
      x[rows],
      config,
      settings,
      negatives=negatives,
      network=network,
      names=names if features is None else None,
      without=roles.without(rows),
    )
    init_key, train_key = recipe.keys(seed)
    state, info = prepared.program.train_epochs(
      prepared.init(init_key), prepared.data, train_key, 0, prepared.epochs
    )
    self.info_ = drocc.means(info)
    health.check_loss(self.info_, int(np.max(state.step)))
    self.radius_ = prepared.config.radius
    self.n_iter_ = prepared.epochs
    self.trimmed_ = np.delete(rows, prepared.rows)
    metadata = {
      "method": self._algorithm.name,
      "estimator": self._facts(),
      "radius": self.radius_,
      "training_records": len(prepared.rows),
      "trimmed_records": len(self.trimmed_),
      "negatives": 0 if negatives is None else len(negatives),
      "calibration_records": len(held_out),
      "folds": roles.number,
      "feature_names": names if features is None else None,
      "schema": None if self.schema_ is None else self.schema_.to_json(),
    }
    detector = recipe.build_detector(
      prepared.network,
      state,
      prepared.preprocessing,
      x[rows],
      x[held_out],
      fpr,
      metadata,
      prepared.program.examine,
      settings.confidence,
      roles.share,
      roles.without(held_out),
    )
    if features is not None:
      detector = on_features.behind(detector, features, raw, fpr, plain(self.confidence))
      detector = detector.with_metadata(feature_names=names)
      detector = with_typical(detector, records)
    self._set_detector(detector)
    return self

  def _features(self, x: np.ndarray, negatives: np.ndarray | None, seed: int) -> Any:
    """The feature map that stands before the network, fitted on records ``[n, ...]``, or None."""
    settings = self.features
    if isinstance(settings, str):
      free = self._or_none("features") is None and self.network == "auto" and negatives is None
      settings = on_features.automatic(x) if free else None
    return settings.fit(x, seed) if hasattr(settings, "fit") else settings

  def _config(self) -> Any:
    """The settings of the algorithm: of each of its fields that is a parameter here."""
    fields = {field.name for field in dataclasses.fields(self._algorithm.config)}
    named = fields & self.get_params(deep=False).keys()
    return self._algorithm.config(
      **{
        name: self._or_none(name) if name in drocc.AUTOMATIC else plain(getattr(self, name))
        for name in named
      }
    )

  def _settings(self) -> Training:
    """The settings of the run."""
    names = [field.name for field in dataclasses.fields(Training)]
    values = {name: plain(getattr(self, name)) for name in names}
    return Training(**values | {name: self._or_none(name) for name in ("epochs", "fpr", "trim")})

  def _or_none(self, name: str) -> Any:
    """The parameter called ``name``, None where it is "auto"."""
    value = getattr(self, name)
    if isinstance(value, str) and name == "schedule":
      return None if value == "auto" else value
    if isinstance(value, str):
      if value != "auto":
        raise ValueError(f'{name} must be "auto" or no string, got {value!r}.')
      return None
    return plain(value)
