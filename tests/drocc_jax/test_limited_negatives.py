"""DROCCOE and DROCCLF: what they learn from labels, what they refuse, and scikit-learn's face."""

import dataclasses
import logging
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import detector_jax
from detector_jax import metrics
from drocc_jax import DROCC, DROCCLF, DROCCOE, drocc, drocc_lf, drocc_oe, networks, recipe
from drocc_jax.settings import Training

EACH = pytest.mark.parametrize("cls", [DROCCOE, DROCCLF])


def make(cls, **settings) -> DROCCOE:
  """An estimator that is cheap to train."""
  cheap = {"epochs": 20, "batch_size": 32, "learning_rate": 0.02, "num_steps": 4}
  average = {"average_decay": 0.9, "network": networks.MLP((16,))}
  return cls(**{"radius": 1.0, "random_state": 0, **cheap, **average, **settings})


def records(count: int, centre: float, seed: int) -> np.ndarray:
  """Records whose first feature is close to ``centre``, among two that say nothing."""
  x = np.random.default_rng(seed).normal(size=(count, 3))
  x[:, 0] = 0.3 * x[:, 0] + centre
  return x


X = np.concatenate([records(120, 0.0, 0), records(30, 4.0, 1)])
Y = np.repeat([1, -1], [120, 30])


@pytest.fixture(scope="module", params=[DROCCOE, DROCCLF])
def fitted(request) -> DROCCOE:
  return make(request.param).fit(X, Y)


def auroc(model, centre: float) -> float:
  """Of fresh records round ``centre`` against fresh typical ones."""
  x = np.concatenate([records(200, 0.0, 2), records(200, centre, 3)])
  return metrics.auroc(np.repeat([0, 1], 200), -model.score_samples(x))


def test_it_finds_given_negatives_and_unseen_ones_closer_and_on_the_other_side(fitted):
  assert auroc(fitted, 4.0) > 0.99
  assert auroc(fitted, 2.0) > 0.95
  assert auroc(fitted, -2.0) > 0.95
  assert (fitted.predict(records(200, 0.0, 4)) == 1).mean() > 0.8
  assert (fitted.predict(records(200, 4.0, 5)) == -1).mean() > 0.95


@EACH
def test_without_searched_negatives_it_is_a_classifier_that_misses_the_other_side(cls):
  model = make(cls, mu=0.0, calibration="split").fit(X, Y)
  assert auroc(model, 4.0) > 0.99
  assert auroc(model, -2.0) < 0.1


def test_fitting_leaves_its_facts(fitted):
  facts = fitted.detector_.metadata
  assert facts["method"] == {DROCCOE: "DROCC-OE", DROCCLF: "DROCC-LF"}[type(fitted)]
  assert (facts["training_records"], facts["negatives"], facts["calibration_records"]) == (
    *(120, 30, 120),
  )
  algorithm = {DROCCOE: drocc_oe, DROCCLF: drocc_lf}[type(fitted)]
  assert fitted.info_.keys() == {field.name for field in dataclasses.fields(algorithm.Info)}
  assert np.isfinite(list(fitted.info_.values())).all()
  assert (fitted.radius_, fitted.n_iter_, fitted.n_features_in_) == (1.0, 20, 3)


@EACH
def test_only_typical_records_are_held_out_for_the_threshold(cls):
  fitted = make(cls, calibration="split").fit(X, Y)
  scores = fitted.detector_.calibration.scores
  assert scores.size == 24
  typical = -fitted.score_samples(X[:120])
  assert np.isin(np.float32(scores), np.float32(typical)).all()
  assert fitted.detector_.fpr == 0.05


@EACH
def test_the_same_random_state_gives_the_same_bits(cls):
  one, two, other = (make(cls, random_state=seed).fit(X, Y).score_samples(X) for seed in (0, 0, 1))
  np.testing.assert_array_equal(one, two)
  assert (one != other).any()


def test_labels_may_be_of_any_number_type(fitted):
  want = fitted.score_samples(X)
  for labels in (Y.astype(float), Y.astype(object), Y.tolist()):
    np.testing.assert_array_equal(clone(fitted).fit(X, labels).score_samples(X), want)


def test_negatives_may_come_first(fitted):
  got = clone(fitted).fit(np.roll(X, 30, axis=0), np.roll(Y, 30)).score_samples(X)
  np.testing.assert_array_equal(got, fitted.score_samples(X))


@EACH
def test_fit_predict_uses_the_labels(cls):
  want = make(cls).fit(X, Y).predict(X)
  np.testing.assert_array_equal(make(cls).fit_predict(X, Y), want)
  assert (want[Y == -1] == -1).mean() > 0.95
  with pytest.raises(ValueError, match="requires y to be passed"):
    make(cls).fit_predict(X)


# What is refused.

LABELS = "y must be +1 for typical records and -1 for negatives, but holds "
REFUSED = {
  "none": (
    None,
    "{name} requires y to be passed, but the target y is None: +1 for typical records, -1 for "
    "negatives; without negatives use DROCC.",
  ),
  "zero": (np.repeat([1, 0], [120, 30]), LABELS + "0."),
  "two": (np.where(Y == 1, 2, -1), LABELS + "2."),
  "fraction": (np.where(Y == 1, 1.0, -0.5), LABELS + "-0.5."),
  "nan": (np.where(Y == 1, 1.0, np.nan), LABELS + "nan."),
  "text": (np.where(Y == 1, "1", "-1"), LABELS + "'1'."),
  "nothing": (np.where(Y == 1, 1, None), LABELS + "None."),
  "bool": (Y == 1, LABELS + "False."),
  "short": (Y[:149], "There are 150 records, but y has shape [149]."),
  "column": (Y[:, None], "There are 150 records, but y has shape [150, 1]."),
  "no negatives": (
    np.ones(150),
    "{name} needs negatives (y = -1), at least 1, got 0; without negatives use DROCC.",
  ),
  "no typical": (-np.ones(150), "{name} needs typical records (y = +1), at least 2, got 0."),
  "one typical": (
    np.where(np.arange(150) < 1, 1, -1),
    "{name} needs typical records (y = +1), at least 2, got 1.",
  ),
}


@EACH
@pytest.mark.parametrize(("y", "sentence"), REFUSED.values(), ids=REFUSED)
def test_labels_that_say_nothing_are_refused(cls, y, sentence):
  with pytest.raises(ValueError) as caught:  # noqa: PT011
    make(cls).fit(X, y)
  assert str(caught.value) == sentence.format(name=cls.__name__)


@EACH
def test_negatives_that_are_typical_records_are_refused(cls):
  x = np.concatenate([X[:120], X[40:70]])
  sentence = r"^All 30 negatives are equal to typical records: check how y was made\.$"
  with pytest.raises(ValueError, match=sentence):
    make(cls).fit(x, Y)


@EACH
def test_some_negatives_that_are_typical_records_are_warned_of(cls, caplog):
  x = X.copy()
  x[[125, 131]] = X[[3, 7]]
  with caplog.at_level(logging.WARNING):
    make(cls).fit(x, Y)
  told = [r.getMessage() for r in caplog.records if r.name == "drocc_jax.limited_negatives"]
  assert told == ["2 of 30 negatives are equal to typical records; the first is negative number 5."]
  caplog.clear()
  make(cls).fit(X, Y)
  assert not [r for r in caplog.records if r.name == "drocc_jax.limited_negatives"]


@pytest.mark.parametrize(
  ("cls", "settings", "message"),
  [
    (DROCCOE, {"nu": -1.0}, r"^nu must be >= 0, got -1\.0"),
    (DROCCLF, {"nu": float("nan")}, "^nu must be >= 0, got nan"),
    (DROCCOE, {"radius": 0.0}, r"^radius must be > 0, got 0\.0"),
    (DROCCLF, {"solver": "newton"}, "^solver must be one of .*, got 'newton'"),
    (DROCCLF, {"sigma_from": "weights"}, "^sigma_from must be one of .*, got 'weights'"),
    (DROCCLF, {"sigma_every": "step"}, "^sigma_every must be one of batch, epoch; got 'step'"),
    (DROCCLF, {"noise_scale": "long"}, "^noise_scale must be \"auto\" or no string, got 'long'"),
  ],
)
def test_a_setting_out_of_its_range_is_named(cls, settings, message):
  with pytest.raises(ValueError, match=message):
    make(cls, **settings).fit(X, Y)


@pytest.mark.parametrize(
  ("config", "negatives"),
  [
    (drocc_oe.Config(), None),
    (drocc_lf.Config(), None),
    (drocc_lf.Config(), X[:0]),
    (drocc.Config(), X[120:]),
  ],
)
def test_the_recipe_gives_negatives_to_whom_needs_them(config, negatives):
  with pytest.raises(ValueError, match="DROCC-OE and DROCC-LF need negatives; DROCC takes none"):
    recipe.build_training(X[:120], config, Training(), negatives=negatives)


# Settings and what becomes of them.


def test_negatives_enter_the_statistics_of_the_features():
  """A feature that is constant over the typical records tells the negatives apart."""
  x = np.concatenate([X, np.where(Y == 1, 7.0, 9.0)[:, None]], axis=1)
  prepared = recipe.build_training(
    x[Y == 1], drocc_oe.Config(), Training(epochs=2), negatives=x[Y == -1]
  )
  assert prepared.data.inputs.shape[1] == prepared.data.negatives.inputs.shape[1] == 4
  assert int(prepared.data.negatives.num_rows) == 30
  both = np.concatenate([prepared.data.inputs[:120], prepared.data.negatives.inputs[:30]])
  np.testing.assert_allclose(both.mean(axis=0), np.zeros(4), atol=1e-5)
  np.testing.assert_allclose(both.std(axis=0), np.ones(4), rtol=1e-5)


def test_sigma_every_epoch_is_sigma_every_so_many_steps():
  config = make(DROCCLF, sigma_every="epoch")._config()
  prepared = recipe.build_training(
    X[:96], config, Training(batch_size=32, epochs=2), negatives=X[120:]
  )
  assert prepared.config.sigma_steps == 3
  assert recipe.algorithm_of(prepared.config) is drocc_lf.ALGORITHM
  assert make(DROCCLF)._config().sigma_steps == 1
  by_batch, by_epoch = (
    make(DROCCLF, sigma_every=every).fit(X, Y).score_samples(X) for every in ("batch", "epoch")
  )
  assert (by_batch != by_epoch).any()


def test_estimators_pass_their_settings_to_the_algorithm():
  config = make(DROCCLF, nu=2.0, solver="grid", sigma_from="loss", gamma=3.0)._config()
  assert (config.nu, config.solver, config.sigma_from, config.gamma) == (2.0, "grid", "loss", 3.0)
  assert make(DROCCLF, noise_scale="auto")._config().noise_scale is None
  assert type(make(DROCCOE, nu=0.5)._config()) is drocc_oe.Config


@EACH
def test_parameters_can_be_read_set_and_cloned(cls):
  model = make(cls, nu=0.5)
  params = model.get_params()
  assert params.keys() >= DROCC().get_params().keys() | {"nu"}
  assert params["nu"] == 0.5
  copy = clone(model).set_params(nu=4.0, radius=2.0)
  assert (copy.nu, copy.radius, model.nu) == (4.0, 2.0, 0.5)
  assert not hasattr(copy, "detector_")
  defaults = cls()
  assert {name: getattr(defaults, name) for name in DROCC().get_params()} == DROCC().get_params()


# After training.


def test_save_and_load(fitted, tmp_path):
  fitted.save(tmp_path / "model")
  detector = detector_jax.load(tmp_path / "model")
  np.testing.assert_array_equal(detector.score(X), fitted.detector_.score(X))
  np.testing.assert_array_equal(detector.p_value(X), fitted.p_value(X))
  assert detector.metadata["negatives"] == 30
  again = type(fitted).load(tmp_path / "model")
  np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
  assert again.get_params() == fitted.set_params(network=fitted.network).get_params() | {
    "network": "auto"
  }
  other = {DROCCOE: DROCCLF, DROCCLF: DROCCOE}[type(fitted)]
  with pytest.raises(ValueError, match=f"was saved by {type(fitted).__name__}, not by"):
    other.load(tmp_path / "model")


def test_pickling_keeps_the_bits(fitted):
  again = pickle.loads(pickle.dumps(fitted))
  np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))


def test_a_pipeline_passes_the_labels(fitted):
  model = make_pipeline(StandardScaler(), clone(fitted)).fit(X, Y)
  assert auroc(model, 4.0) > 0.99
  scaled = StandardScaler().fit_transform(X)
  want = clone(fitted).fit(scaled, Y)
  np.testing.assert_array_equal(model.predict(X), want.predict(scaled))
  np.testing.assert_array_equal(
    make_pipeline(StandardScaler(), clone(fitted)).fit_predict(X, Y), want.predict(scaled)
  )


# scikit-learn's checks give labels from 0 on or, to outlier detectors, none. These estimators
# refuse both (above), so they fail every check that has to fit them; what needs no fit they pass.
# DROCC, which shares all code but that for the labels, passes them all in test_estimator.
MUST_FIT = (
  "check_fit_score_takes_y",
  "check_estimators_overwrite_params",
  "check_dont_overwrite_parameters",
  "check_estimators_fit_returns_self",
  "check_readonly_memmap_input",
  "check_n_features_in_after_fitting",
  "check_positive_only_tag_during_fit",
  "check_estimators_dtypes",
  "check_dtype_object",
  "check_pipeline_consistency",
  "check_estimators_nan_inf",
  "check_estimators_pickle",
  "check_f_contiguous_array_estimator",
  "check_outliers_fit_predict",
  "check_outliers_train",
  "check_classifier_data_not_an_array",
  "check_methods_sample_order_invariance",
  "check_methods_subset_invariance",
  "check_fit2d_1feature",
  "check_dict_unchanged",
  "check_fit_idempotent",
  "check_fit_check_is_fitted",
  "check_n_features_in",
  "check_fit2d_predict1d",
)


@EACH
def test_scikit_learn_conformance_of_what_needs_no_fit(cls):
  expected = dict.fromkeys(MUST_FIT, "its labels are not +1 and -1")
  results = check_estimator(make(cls), expected_failed_checks=expected, on_skip=None)
  passed = {result["check_name"] for result in results if result["status"] == "passed"}
  assert passed >= {
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimators_empty_data_messages",
    "check_estimators_unfitted",
    "check_fit1d",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_requires_y_none",
  }
  for result in results:
    if result["status"] == "xfail":
      error = result["exception"]
      message = f"{error} {error.__context__}"
      assert "requires y to be passed" in message or LABELS in message, result
