"""Cross-conformal calibration: all records train, and each is scored by a network without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import Detector, splits
from drocc_jax import DROCC, DROCCOE, cross, drocc, ensemble, networks, prototypes, recipe
from drocc_jax.settings import Training

NETWORK = networks.MLP((4,))
TINY = {"network": NETWORK, "epochs": 3, "random_state": 0, "scaling": "none", "trim": 0.0}
X = np.random.default_rng(0).normal(size=(23, 3))


@pytest.fixture(scope="module")
def fitted():
  return DROCC(**TINY).fit(X)


def roles_of(x, settings=Training(), plain=True, **given):
  return cross.divide(x, settings, 0, plain=plain, **given)


def test_few_records_all_train_and_all_set_the_threshold(fitted):
  facts = fitted.detector_.metadata
  assert (facts["training_records"], facts["calibration_records"], facts["folds"]) == (23, 23, 5)
  assert fitted.detector_.calibration.scores.size == 23
  assert fitted.detector_.arrays["variables"]["params"]["Dense_0"]["kernel"].shape == (5, 3, 4)


def test_a_record_moves_all_networks_but_the_one_without_it(fitted):
  drawn = np.random.RandomState(0).randint(2**31 - 1)
  fold = splits.folds(X, 5, drawn)[7]
  moved = X.copy()
  moved[7] += 0.5
  again = DROCC(**TINY).fit(moved)
  first, second = (
    np.asarray(model.detector_.arrays["variables"]["params"]["Dense_0"]["kernel"])
    for model in (fitted, again)
  )
  assert (first != second).any(axis=(1, 2)).tolist() == [k != fold for k in range(5)]


def test_each_record_is_scored_by_the_network_without_it(fitted):
  detector = fitted.detector_
  folds = splits.folds(X, 5, np.random.RandomState(0).randint(2**31 - 1))
  variables = detector.arrays["variables"]
  scores = []
  for row, fold in zip(X.astype(np.float32), folds, strict=True):
    params = jax.tree.map(lambda leaf, k=fold: leaf[k], variables["params"])
    scores.append(-float(NETWORK.apply({"params": params}, row[None])[0]))
  np.testing.assert_allclose(detector.calibration.scores, np.sort(scores), rtol=1e-5, atol=1e-5)


def test_the_mean_of_the_networks_scores_new_records(fitted):
  variables = fitted.detector_.arrays["variables"]
  each = ensemble.each_logit(
    ensemble.Ensemble(NETWORK, 5), variables["params"], variables["stats"], jnp.asarray(X)
  )
  assert each.shape == (5, 23)
  np.testing.assert_allclose(fitted.score_samples(X), np.mean(each, axis=0), rtol=1e-5, atol=1e-5)


def test_the_folder_scores_as_it_does(fitted, tmp_path):
  fitted.save(tmp_path / "detector")
  loaded = Detector.load(tmp_path / "detector")
  np.testing.assert_array_equal(loaded.score(X), fitted.detector_.score(X))
  np.testing.assert_array_equal(loaded.p_value(X), fitted.p_value(X))


def test_given_negatives_are_given_to_each_network():
  model = DROCCOE(network=NETWORK, epochs=2, random_state=0).fit(
    np.r_[X, X[:4] + 6.0], np.r_[np.ones(23), -np.ones(4)]
  )
  assert model.detector_.metadata["folds"] == 5
  assert model.detector_.metadata["negatives"] == 4


def test_records_of_unequal_folds_train_for_the_same_steps():
  without = np.arange(2)[:, None] == np.repeat([0, 1], [3, 7])[None]
  prepared = recipe.build_training(
    np.random.default_rng(1).normal(size=(10, 3)),
    drocc.Config(schedule="cosine"),
    Training(batch_size=4, epochs=2),
    network=NETWORK,
    without=without,
  )
  assert prepared.data.num_rows.tolist() == [7, 3]
  assert prepared.config.total_steps == 2  # of the member with fewest; more go on at a rate of 0
  state, _ = prepared.program.train_epochs(
    prepared.init(jax.random.key(0)), prepared.data, jax.random.key(1), 0, 2
  )
  assert state.step.tolist() == [4, 2]


def test_all_records_defend_a_rate_that_a_fifth_cannot():
  x = np.arange(99.0)[:, None]
  assert len(roles_of(x, fpr=0.01).held_out) == 99
  with pytest.raises(ValueError, match="at most half"):
    roles_of(x, Training(calibration="split"), fpr=0.01)
  with pytest.raises(ValueError, match="needs at least 99 different calibration records, got 98"):
    roles_of(x[:98], fpr=0.01)


def test_the_share_of_a_fold_gives_their_number():
  assert roles_of(X, Training(calibration_size=0.1)).number == 10
  assert roles_of(X, Training(calibration_size=0.9)).number == 2


@pytest.mark.parametrize(
  ("settings", "given"),
  [
    ({"members": 2}, {}),
    ({"confidence": 0.9}, {}),
    ({"calibration_size": 0.0}, {}),
    ({}, {"plain": False}),
    ({}, {"x": np.arange(400.0).reshape(20, 4, 5)}),
    ({}, {"x": np.arange(200.0)[:, None]}),
    ({"calibration": "split"}, {}),
  ],
)
def test_records_are_held_out_where_folds_cannot_be(settings, given):
  roles = roles_of(**{"x": X, "settings": Training(**settings), **given})
  assert roles.folds is None
  assert not set(roles.rows) & set(roles.held_out)


@pytest.mark.parametrize(
  ("settings", "given", "message"),
  [
    ({"members": 2}, {}, "needs members=1"),
    ({"confidence": 0.9}, {}, "needs confidence=None"),
    ({"calibration_size": 0.0}, {}, "needs calibration_size in"),
    ({}, {"plain": False}, "needs records of columns"),
    ({"calibration": "cros"}, {}, "must be auto, split or cross; got 'cros'"),
  ],
)
def test_folds_that_cannot_be_are_refused(settings, given, message):
  with pytest.raises(ValueError, match=message):
    roles_of(X, Training(**{"calibration": "cross", **settings}), **given)


def test_more_records_are_divided_where_that_is_asked_for():
  assert roles_of(np.arange(300.0)[:, None], Training(calibration="cross")).number == 5


def test_a_network_that_starts_from_the_records_holds_some_out():
  assert cross.starts_blank(None)
  assert not cross.starts_blank(prototypes.Prototypes())
  model = DROCC(**{**TINY, "network": prototypes.Prototypes()}).fit(X)
  assert model.detector_.metadata["folds"] == 0


def test_doubted_records_do_not_train_and_count_half():
  x = np.random.default_rng(0).normal(size=(100, 3))
  roles = roles_of(x, Training(contamination=0.05))
  assert (len(roles.rows), len(roles.held_out)) == (80, 100)
  with pytest.raises(ValueError, match="needs at least 99 different calibration records, got 98"):
    roles_of(x, Training(contamination=0.05), fpr=0.01)


def test_a_fold_of_all_that_trains_is_refused():
  with pytest.raises(ValueError, match="One fold has all records that train"):
    cross.parts_of(np.array([[True, True], [False, False]]))


def test_the_default_network_of_few_records_sees_no_squares():
  config = drocc.Config.automatic()
  few, many = (recipe.network_of(config, (5,), n) for n in (cross.FEW - 1, cross.FEW))
  assert (few.squares, many.squares) == (False, True)
  assert recipe.build_training(X, config, Training()).network == few


def test_the_rate_says_where_it_is_from(fitted):
  detector = fitted.detector_
  assert detector.rate.endswith("in expectation over calibration draws, by cross-validation")
  held_out = np.random.default_rng(1).normal(size=(30, 3))
  assert detector.calibrate(held_out, 0.1).rate.endswith("over calibration draws")
