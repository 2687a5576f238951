"""What DROCC does unless told otherwise."""

import numpy as np
import pytest

from detector_jax import HealthError
from drocc_jax import drocc, drocc_lf, networks, recipe

RADIUS_OF_FOUR = 5.988617**0.5  # the 80 % quantile of chi-squared with 4 degrees, from tables


def test_auto_radius_holds_four_in_five_normal_vectors(rng):
  assert recipe.auto_radius(np.zeros((7, 4))) == pytest.approx(RADIUS_OF_FOUR, rel=1e-6)
  radius = recipe.auto_radius(np.zeros((7, 5, 4)))
  norms = np.linalg.norm(rng.normal(size=(20_000, 20)), axis=1)
  assert np.mean(norms <= radius) == pytest.approx(0.8, abs=0.01)


def test_resolve_fills_in_only_what_is_none():
  x = np.zeros((7, 4))
  resolved = recipe.resolve(drocc.Config(noise_scale=None), x, 10, 5)
  assert (resolved.radius, resolved.step_size, resolved.noise_scale) == pytest.approx(
    (RADIUS_OF_FOUR, RADIUS_OF_FOUR / 10.0, RADIUS_OF_FOUR / 20.0), rel=1e-6
  )
  given = drocc.Config(radius=2.0, step_size=0.5, schedule="cosine", total_steps=3)
  assert recipe.resolve(given, x, 10, 5) == given
  assert recipe.resolve(drocc.Config(radius=2.0), x, 10, 5).step_size == pytest.approx(0.2)


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
  rows, calibration = recipe.calibration_rows(num_rows, size, 0)
  assert len(calibration) == held_out
  assert sorted([*rows, *calibration]) == list(range(num_rows))
  assert (np.diff(rows) > 0).all()
  again = recipe.calibration_rows(num_rows, size, 0)
  np.testing.assert_array_equal(again[1], calibration)
  if held_out > 0:
    assert list(recipe.calibration_rows(num_rows, size, 1)[1]) != list(calibration)


def test_calibration_must_leave_a_row_to_train_on():
  with pytest.raises(ValueError, match="leaves none to train on"):
    recipe.calibration_rows(1, 0.2, 0)


def test_attainable_fpr():
  assert recipe.attainable_fpr(1000) == 0.05
  assert recipe.attainable_fpr(19) == 0.05
  assert recipe.attainable_fpr(9) == 0.1


def test_prepare_settles_what_is_not_set(rng):
  x = rng.normal(3.0, 2.0, size=(40, 5))
  x[:, 1] = 7.0
  prepared = recipe.prepare(x, drocc.Config(schedule="cosine"), batch_size=16)
  assert prepared.epochs == 500  # three steps each, 1,500 in all
  assert prepared.config.total_steps == 1500
  assert prepared.config.radius == pytest.approx(RADIUS_OF_FOUR, rel=1e-6)  # four are left
  assert prepared.network == networks.MLP()
  assert prepared.data.inputs.shape == (40, 4)
  np.testing.assert_allclose(np.mean(prepared.data.inputs, axis=0), np.zeros(4), atol=1e-5)
  assert recipe.prepare(x, drocc.Config(), batch_size=100).batch_size == 40
  assert recipe.prepare(x, drocc.Config(), epochs=3).epochs == 3


def test_an_untrained_network_is_refused(rng):
  """Eleven steps of positives alone, and everything far away is more typical than the data."""
  x = rng.normal(size=(40, 5))
  config = drocc.Config(warmup_steps=99, learning_rate=0.01)
  prepared = recipe.prepare(x, config, batch_size=16, epochs=11)
  init_key, train_key = recipe.keys(0)
  state, _ = prepared.program.train_epochs(
    prepared.init(init_key), prepared.data, train_key, 0, prepared.epochs
  )
  with pytest.raises(HealthError, match="upside down"):
    recipe.finish(prepared.network, state, prepared.preprocessing, x, x, None, {})
