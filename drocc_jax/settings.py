"""What is set of a run beside its algorithm: the same for estimators, launcher and sweeps.

A setting is a field here, and the one place that uses it.
"""

import dataclasses


@dataclasses.dataclass(kw_only=True, eq=False)
class Calibration:
  """How the threshold is set.

  Attributes:
    calibration_size: share of the different training records held out for the threshold, at most
      1,000, and more (up to half) where ``fpr`` needs them. 0 trains on all; the threshold is then
      the network's own boundary, and there are no p-values.
    fpr: false-positive rate of the threshold, in expectation over draws of the held-out records;
      None takes 5 %, or what these can defend.
    confidence: in (0, 1), the share of such draws in which ``fpr`` is to hold, or None.
    contamination: share of the training records that may be anomalies, in (0, 0.5), "auto" where
      the records are to tell, or None where all are typical; see ``drocc_jax.contamination``. On a
      stream of images it bears on the threshold alone.
  """

  calibration_size: float = 0.2
  fpr: float | None = None
  confidence: float | None = None
  contamination: str | None = None


@dataclasses.dataclass(kw_only=True, eq=False)
class Training(Calibration):
  """How a network is trained on records that fit into memory, and what they are scaled by.

  Attributes:
    calibration: "split" holds ``calibration_size`` of the records out; "cross" trains a network
      without each fold of that share, so that all records train and all set the threshold; "auto"
      does so with fewer than 200, where it can. See ``cross``.
    members: networks to train from different seeds, whose mean logit scores; see ``ensemble``.
    epochs: None takes as many as make about 1,500 steps, or as many as the network asks for.
    batch_size: examples per step; smaller data sets are one batch.
    scaling: "standard" (unit variance, by a scale that a few far values do not set), "moments"
      (the plain mean and deviation), "contrast" (images and series by their own contrast first) or
      "none" (raw values); see ``Standardizer.fit``.
    constant: "drop" or "clip", what becomes of features that are constant over the training rows.
    clip: standardised features are clipped there, in standard deviations.
    trim: largest share of isolated training records to leave out of the training (not of the
      statistics), see ``isolation.connected_rows``; None takes 0.1 where
      ``recipe.uses_table_defaults``, else 0.
  """

  calibration: str = "auto"
  members: int = 1
  epochs: int | None = None
  batch_size: int = 64
  scaling: str = "standard"
  constant: str = "drop"
  clip: float = 20.0
  trim: float | None = None
