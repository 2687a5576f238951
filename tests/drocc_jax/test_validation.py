"""The criterion that chooses an epoch: the objective on held-out records."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drocc_jax import drocc, drocc_lf, losses, networks, validation

KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def validate(network, config):
  return jax.jit(validation.make_validate(network, config.static()))


def test_it_is_the_objective_of_the_real_records(state, batch, validate, network, config):
  forward = networks.as_forward(network)
  index = jnp.arange(8, dtype=jnp.int32)
  find = jax.jit(lambda *args: drocc.find_negatives(forward, state, *args, config.static())[0])
  negatives = find(batch.inputs, index, KEY)
  positive = losses.logistic(forward.evaluate(state.params, {}, batch.inputs[:6]), 1.0)
  negative = losses.logistic(forward.evaluate(state.params, {}, negatives[:6]), -1.0)
  got = validate(state, batch.inputs, batch.mask, KEY)
  assert float(got.count) == 6
  assert float(got.value) == pytest.approx(float(jnp.mean(positive + negative)), rel=1e-5)


def test_the_same_key_makes_epochs_comparable(state, batch, validate):
  first = validate(state, batch.inputs, batch.mask, KEY)
  garbage = validate(state, batch.inputs.at[6:].set(1e3), batch.mask, KEY)
  np.testing.assert_array_equal(first.total, garbage.total)
  assert float(validate(state, batch.inputs, batch.mask, jax.random.key(6)).total) != first.total


def test_drocc_lf_takes_sigma_from_the_averaged_network(batch, network):
  settings = drocc_lf.Config(radius=1.0, step_size=0.2, num_steps=2)
  init = drocc_lf.make_init(network, settings.static())
  state, other = (init(settings.hyper(), batch.inputs, jax.random.key(seed)) for seed in (0, 1))
  check = jax.jit(validation.make_validate(network, settings.static(), drocc_lf.ALGORITHM))
  want = check(state, batch.inputs, batch.mask, KEY)
  trained = dataclasses.replace(other, average=state.average)
  np.testing.assert_array_equal(check(trained, batch.inputs, batch.mask, KEY).total, want.total)
