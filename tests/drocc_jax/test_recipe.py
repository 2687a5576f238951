"""What DROCC does unless told otherwise."""

import numpy as np
import pytest

from detector_jax import HealthError
from detector_jax.splits import attainable_fpr, calibration_rows
from drocc_jax import drocc, drocc_lf, drocc_oe, fit, networks, recipe
from drocc_jax.settings import Training

RADIUS_OF_FOUR = 5.988617**0.5  # the 80 % quantile of chi-squared with 4 degrees, from tables
RADIUS_OF_FIVE = 2.7


def test_auto_radius_holds_four_in_five_normal_vectors(rng):
  assert recipe.auto_radius(np.zeros((7, 4))) == pytest.approx(RADIUS_OF_FOUR, rel=1e-6)
  radius = recipe.auto_radius(np.zeros((7, 5, 4)))
  norms = np.linalg.norm(rng.normal(size=(20_000, 20)), axis=1)
  assert np.mean(norms <= radius) == pytest.approx(0.8, abs=0.01)


def test_resolve_fills_in_only_what_is_none():
  x = np.zeros((7, 4))
  resolved = recipe.resolve(drocc.Config(noise_scale=None), x, 10, 5)
  assert (resolved.radius, resolved.step_size, resolved.noise_scale) == pytest.approx(
    (0.8 * RADIUS_OF_FOUR, 0.08 * RADIUS_OF_FOUR, 0.04 * RADIUS_OF_FOUR), rel=1e-6
  )
  given = drocc.Config(radius=2.0, step_size=0.5, schedule="cosine", total_steps=3)
  assert recipe.resolve(given, x, 10, 5) == given
  assert recipe.resolve(drocc.Config(radius=2.0), x, 10, 5).step_size == pytest.approx(0.2)


GIVEN = drocc_lf.Config(mu=None)


def test_defaults_of_tables_are_for_vectors_and_drocc_alone():
  vectors, series = np.zeros((7, 4)), np.zeros((7, 5, 4))
  automatic = drocc.Config.automatic()
  found = recipe.resolve(automatic, vectors, 10, 5)
  assert (found.mu, found.num_steps, found.learning_rate) == (1.0, 5, 3e-3)
  assert (found.schedule, found.total_steps) == ("cosine", 10)
  assert found.step_size == pytest.approx(found.radius / 5.0)
  found = recipe.resolve(automatic, series, 10, 5)
  assert (found.mu, found.num_steps, found.learning_rate) == (1.0, 10, 1e-3)
  assert (found.schedule, found.total_steps) == ("constant", 0)
  assert found.step_size == pytest.approx(found.radius / 10.0)
  whole = [recipe.resolve(c, x, 10, 5).radius for c, x in ((automatic, series), (GIVEN, vectors))]
  assert whole == [recipe.auto_radius(series), recipe.auto_radius(vectors)]
  assert recipe.resolve(drocc.Config(mu=None), vectors, 10, 5).mu == 10.0
  assert recipe.resolve(GIVEN, vectors, 10, 5).mu == 1.0
  assert recipe.resolve(drocc.Config(mu=0.5), vectors, 10, 5).mu == 0.5
  with pytest.raises(ValueError, match=r"radius, mu, .* learning_rate, schedule must be set here"):
    drocc.Config(mu=None, radius=1.0, step_size=0.1).hyper()


def test_settings_that_are_given_stay_where_the_others_are_automatic():
  given = drocc.Config.automatic(num_steps=7, learning_rate=1e-4)
  found = recipe.resolve(given, np.zeros((7, 4)), 10, 5)
  assert (found.num_steps, found.learning_rate, found.schedule) == (7, 1e-4, "cosine")
  assert (found.mu, found.step_size) == (1.0, pytest.approx(found.radius / 10.0))


def test_a_configuration_from_before_is_what_it_was(rng):
  before = drocc.Config(mu=None)
  network = recipe.network_of(before, (4,))
  assert (network.hidden, network.activation, network.squares) == ((256, 256), "relu", True)
  x = np.concatenate([rng.uniform(size=(300, 4)), [[60.0, 0.0, 9.0, 0.0]]])
  prepared = recipe.build_training(x, before, Training(), network=networks.MLP((4,)))
  assert len(prepared.rows) == 301
  assert prepared.config.mu == 10.0
  automatic = drocc.Config.automatic()
  prepared = recipe.build_training(x, automatic, Training(), network=networks.MLP((4,)))
  np.testing.assert_array_equal(prepared.rows, np.arange(300))


def test_small_grey_images_have_the_dense_network_and_the_whole_radius():
  automatic = drocc.Config.automatic()
  vectors, grey = (recipe.network_of(automatic, shape) for shape in ((784,), (28, 28, 1)))
  assert (grey.hidden, grey.activation, grey.squares) == ((256, 256), "relu", True)
  assert (vectors.hidden, vectors.activation, vectors.squares) == ((128, 128), "silu", True)
  small, large = np.zeros((2, 64, 64, 1)), np.zeros((2, 65, 64, 1))
  found = recipe.resolve(automatic, small, 10, 5)
  assert (found.mu, found.radius) == (10.0, recipe.auto_radius(small))
  assert (found.num_steps, found.learning_rate, found.schedule) == (10, 1e-3, "constant")
  assert recipe.resolve(automatic, large, 10, 5).mu == 1.0
  assert recipe.network_of(automatic, (65, 64, 1)) == networks.mnist_lenet()
  assert recipe.network_of(automatic, (28, 28, 3)) == networks.cifar_lenet()
  assert recipe.network_of(drocc_oe.Config(), (28, 28, 1)) == networks.mnist_lenet()


def test_networks_of_other_algorithms_stay():
  assert recipe.network_of(drocc_lf.Config(), (5,)) == networks.MLP()
  assert recipe.network_of(drocc.Config(), (10, 2)) == networks.LSTM()


def test_resolve_takes_lengths_from_the_training():
  x = np.zeros((7, 4))
  assert recipe.resolve(drocc.Config(schedule="cosine"), x, 10, 5).total_steps == 10
  assert recipe.resolve(drocc.Config(), x, 10, 5).total_steps == 0
  assert recipe.resolve(drocc_lf.Config(sigma_steps=0), x, 10, 5).sigma_steps == 5
  assert recipe.resolve(drocc_lf.Config(sigma_steps=2), x, 10, 5).sigma_steps == 2


@pytest.mark.parametrize(
  ("shape", "network"),
  [
    ((5,), networks.MLP()),
    ((10, 2), networks.LSTM()),
    ((28, 28, 1), networks.mnist_lenet()),
    ((32, 32, 3), networks.cifar_lenet()),
  ],
)
def test_default_networks(shape, network):
  assert recipe.default_network(shape) == network


@pytest.mark.parametrize(
  ("shape", "message"), [((7, 9, 1), "7 x 9 are too small"), ((2, 2, 2, 2), "No default network")]
)
def test_shapes_without_a_default_network_are_refused(shape, message):
  with pytest.raises(ValueError, match=message):
    recipe.default_network(shape)


@pytest.mark.parametrize(
  ("num_rows", "size", "held_out"), [(10, 0.2, 2), (11, 0.2, 3), (10, 0.0, 0), (9000, 0.5, 1000)]
)
def test_calibration_rows_are_a_division_of_all_rows(num_rows, size, held_out):
  rows, calibration = calibration_rows(np.arange(num_rows), size, 0)
  assert len(calibration) == held_out
  assert sorted([*rows, *calibration]) == list(range(num_rows))
  assert (np.diff(rows) > 0).all()
  again = calibration_rows(np.arange(num_rows), size, 0)
  np.testing.assert_array_equal(again[1], calibration)
  if held_out > 0:
    assert list(calibration_rows(np.arange(num_rows), size, 1)[1]) != list(calibration)


def test_calibration_must_leave_a_row_to_train_on():
  with pytest.raises(ValueError, match="leaves none to train on"):
    calibration_rows(np.arange(1), 0.2, 0)


def test_attainable_fpr():
  assert attainable_fpr(1000) == 0.05
  assert attainable_fpr(19) == 0.05
  assert attainable_fpr(9) == 0.1


def test_prepare_settles_what_is_not_set(rng):
  x = rng.normal(3.0, 2.0, size=(40, 5))
  x[:, 1] = 7.0
  prepared = recipe.build_training(x, drocc.Config(schedule="cosine"), Training(batch_size=16))
  assert prepared.epochs == 500  # three steps each, 1,500 in all
  assert prepared.config.total_steps == 1500
  assert prepared.config.radius == pytest.approx(0.8 * RADIUS_OF_FOUR, rel=1e-6)  # four are left
  assert prepared.network == networks.MLP((256, 256), 2.0, 2.0, squares=True)
  assert prepared.data.inputs.shape == (40, 4)
  np.testing.assert_allclose(np.mean(prepared.data.inputs, axis=0), np.zeros(4), atol=1e-5)
  assert recipe.build_training(x, drocc.Config(), Training(batch_size=100)).batch_size == 40
  assert recipe.build_training(x, drocc.Config(), Training(epochs=3)).epochs == 3


def test_an_untrained_network_is_refused(rng):
  """Eleven steps of positives alone, and everything far away is more typical than the data."""
  x = rng.normal(size=(40, 5))
  config = drocc.Config(warmup_steps=99, learning_rate=0.01)
  prepared = recipe.build_training(x, config, Training(batch_size=16, epochs=11))
  init_key, train_key = recipe.keys(0)
  state, _ = prepared.program.train_epochs(
    prepared.init(init_key), prepared.data, train_key, 0, prepared.epochs
  )
  with pytest.raises(HealthError, match="upside down"):
    recipe.build_detector(prepared.network, state, prepared.preprocessing, x, x, None, {})


def told(x, epochs, **settings):
  """The health report of a short training, check -> finding."""
  small = networks.MLP()
  prepared = recipe.build_training(
    x,
    drocc.Config(**{"radius": RADIUS_OF_FIVE, **settings}),
    Training(batch_size=16, epochs=epochs),
    network=small,
  )
  init_key, train_key = recipe.keys(0)
  state, _ = prepared.program.train_epochs(
    prepared.init(init_key), prepared.data, train_key, 0, prepared.epochs
  )
  detector = recipe.build_detector(
    prepared.network, state, prepared.preprocessing, x, x, None, {}, prepared.program.examine
  )
  return {finding["check"]: finding for finding in detector.metadata["health"]}


SEARCH = "search travel, in units of the radius"
SHELL = "share of negatives off their shell"
APART = "AUROC of typical records against their own negatives"


def line(rng):
  """Records on a line through five dimensions, which leave room round them."""
  return rng.normal(size=(40, 1)) + rng.normal(0.0, 0.02, size=(40, 5))


def test_a_healthy_training_passes_every_check(rng):
  findings = told(line(rng), 100)
  assert {name for name, finding in findings.items() if not finding["passed"]} == set()
  assert {SEARCH, SHELL, APART, "steps of training"} < findings.keys()
  assert findings["steps of training"]["value"] == 300
  assert findings[SEARCH]["value"] > 0.01
  assert findings[APART]["value"] > 0.9


def test_a_search_whose_steps_are_lost_in_float32_is_told_and_logged(rng, caplog):
  findings = told(line(rng), 25, step_size=1e-12)
  assert findings["steps of training"]["value"] == 75
  for check in (SEARCH, "steps of training"):
    assert not findings[check]["passed"]
    assert findings[check]["message"] in [record.message for record in caplog.records]


def test_negatives_nearer_than_the_network_can_tell_are_told(rng):
  findings = told(rng.normal(size=(40, 5)), 100, num_steps=50)
  assert not findings[APART]["passed"]
  assert findings[SHELL]["passed"]


def test_a_projection_that_leaves_the_shell_is_told(rng, monkeypatch):
  monkeypatch.setattr(drocc.projections, "project_shell", lambda delta, radius, gamma: 3.0 * delta)
  fit.compile_program.cache_clear()
  try:
    findings = told(rng.normal(size=(40, 5)), 40, noise_scale=10.0, num_steps=1)
  finally:
    fit.compile_program.cache_clear()
  assert findings[SHELL]["value"] == 1.0
  assert "the projection is wrong" in findings[SHELL]["message"]


def test_without_ascent_nothing_need_move(rng):
  assert SEARCH not in told(rng.normal(size=(40, 5)), 40, num_steps=0)
