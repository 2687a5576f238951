"""The steps from a network to a detector: rows, preparation, what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from detector_jax import HealthError
from detector_jax.batching import num_parameters
from fingerprint_jax import autoencoders, recipe, roles, train


@pytest.mark.parametrize(
  ("num_rows", "size", "held_out"), [(500, 0.2, 100), (501, 0.3, 151), (60_000, 0.2, 6000)]
)
def test_rows_are_split_into_three(num_rows, size, held_out):
  rows = roles.split_rows(np.arange(num_rows), size, 0.05, seed=1)
  parts = [rows.train, rows.reference, rows.calibration]
  np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(num_rows))
  assert len(rows.reference) == held_out // 2
  assert len(rows.reference) + len(rows.calibration) == held_out
  again, other = (roles.split_rows(np.arange(num_rows), size, 0.05, seed) for seed in (1, 2))
  np.testing.assert_array_equal(rows.train, again.train)
  assert (rows.reference != other.reference).any()


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ((500, 0.0, 0.1), r"calibration_size must be in \(0, 1\), got 0\.0"),
    ((500, 1.0, 0.1), r"calibration_size must be in \(0, 1\), got 1\.0"),
    ((500, 0.2, 0.0), r"must be in \(0, 1\), got 0\.0"),
    ((300, 0.2, 0.01), "0.01 needs 198 held-out records .* of 300 different records, .* is 60"),
    ((60, 0.2, 0.5), "0.5 needs 40 held-out records .* of 60 different records, .* is 12"),
    ((100, 0.999, 0.1), "leaves none to train on"),
  ],
)
def test_a_split_that_cannot_defend_its_rate_is_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    roles.split_rows(np.arange(settings[0]), *settings[1:], seed=0)


def test_the_smallest_split_that_can():
  rows = roles.split_rows(np.arange(1000), 0.198, 0.01, seed=0)
  assert (len(rows.reference), len(rows.calibration)) == (99, 99)


@pytest.fixture(scope="module")
def prepared(dense_layers, weights, rows):
  chosen = {"out": autoencoders.DenseAutoencoder(4, 2)}
  return recipe.build_training(
    dense_layers,
    weights,
    rows,
    train.Config(2, 50),
    jax.random.key(0),
    chosen=chosen,
    combine="one_out",
  )


def test_autoencoders_are_chosen_or_default(prepared):
  default, chosen = prepared.fingerprint.autoencoders
  assert default == autoencoders.default_autoencoder((8,))
  assert chosen == autoencoders.DenseAutoencoder(4, 2)
  want = sum((a + 1) * b for a, b in [(8, 8), (8, 2), (2, 8), (8, 8)])
  want += sum((a + 1) * b for a, b in [(5, 4), (4, 2), (2, 4), (4, 5)])
  assert num_parameters(prepared.state.params) == want


def test_an_autoencoder_for_no_layer_is_refused(dense_layers, weights, rows):
  with pytest.raises(ValueError, match="autoencoder for 'oot', which is no tapped layer; these ar"):
    recipe.build_training(
      dense_layers,
      weights,
      rows,
      train.Config(),
      jax.random.key(0),
      chosen={"oot": autoencoders.DenseAutoencoder(4, 2)},
    )


def test_the_variables_are_copied(prepared, weights):
  for name, array in prepared.state.frozen["network"].items():
    np.testing.assert_array_equal(array, weights[name])
    assert array is not weights[name]


def test_a_fingerprint_that_did_not_learn_is_warned_of(prepared, rows, caplog):
  state, losses = prepared.advance(
    jax.tree.map(jax.numpy.array, prepared.state), jax.random.key(1), 0, 1
  )
  assert set(losses) == {"hidden", "out"}
  zeros = jax.tree.map(jax.numpy.zeros_like, state.params["out"])
  state = dataclasses.replace(state, params={**state.params, "out": zeros})
  facts = {"seed": 3}
  detector = recipe.build_detector(
    prepared, state, rows[:100], rows[100:150], rows[150:], 0.1, facts
  )
  assert "autoencoder of layer 'out' did not learn: its loss is" in caplog.text
  facts = detector.metadata
  assert (facts["method"], facts["layers"], facts["seed"]) == ("NeuralFP", ["hidden", "out"], 3)
  np.testing.assert_allclose(facts["layer_losses"][1], 1.0, atol=0.3)
  assert detector.input_range == (float(rows[:100].min()), float(rows[:100].max()))

  broken = dataclasses.replace(state, params=jax.tree.map(lambda leaf: leaf * np.nan, state.params))
  with pytest.raises(HealthError, match="loss of layer hidden is nan"):
    recipe.build_detector(prepared, broken, rows[:100], rows[100:150], rows[150:], 0.1, {})
