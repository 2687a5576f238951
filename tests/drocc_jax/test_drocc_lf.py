"""DROCC-LF: the released sigma, its age and scale, weighted shells and the written objective."""

import dataclasses
from types import SimpleNamespace

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax.batching import Batch
from drocc_jax import drocc, drocc_lf, drocc_oe, networks, projections
from tests.helpers import (
  assert_trees_close,
  assert_trees_equal,
  gradient_of,
  is_different,
  with_hyper,
)

KEY = jax.random.key(7)
GIVEN = np.random.default_rng(1).normal(1.0, 1.0, size=(8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def mixed(batch) -> Batch:
  """Six typical records, of eight, with eight given negatives."""
  ones = jnp.ones(8)
  given = Batch(jnp.asarray(GIVEN), -ones, ones, jnp.arange(8, dtype=jnp.int32))
  return dataclasses.replace(batch, negatives=given)


@pytest.fixture(scope="module")
def lf_config(config) -> drocc_lf.Config:
  return drocc_lf.Config(**{**vars(config), "noise_scale": 0.3, "mu": 0.7, "nu": 1.5})


@pytest.fixture(scope="module")
def start(network, lf_config):
  init = jax.jit(drocc_lf.make_init(network, lf_config.static()))
  return init(lf_config.hyper(), jnp.zeros((1, 3)), jax.random.key(0))


@pytest.fixture(scope="module")
def step(network, lf_config):
  step = drocc_lf.make_train_step(network, lf_config.static())
  return jax.jit(step)


@pytest.fixture(scope="module")
def find(network, mixed, lf_config):
  """``find(state, **settings) -> (negatives, info)`` round the records of the batch."""
  forward = networks.as_forward(network)
  jitted = jax.jit(drocc_lf.find_negatives, static_argnums=(0, 5))

  def find(state, **settings):
    static = dataclasses.replace(lf_config, **settings).static()
    return jitted(forward, state, mixed.inputs, mixed.index, KEY, static)

  return find


def sigma_of(network, params, x, **settings):
  """``influence`` of a network with these parameters, as NumPy."""
  state = SimpleNamespace(influence={"params": params, "stats": {}})
  static = drocc_lf.Static(**settings)
  forward = networks.as_forward(network)
  return np.asarray(jax.jit(lambda x: drocc_lf.influence(forward, state, x, static))(x))


# Sigma.


@pytest.mark.parametrize("sigma_from", drocc_lf.SIGMA_FROM)
def test_sigma_of_the_released_code(released, sigma_from):
  x = jnp.asarray(released.x)
  got = sigma_of(released.network, released.params("initial"), x, sigma_from=sigma_from)
  assert got.shape == released.lf_sigma.shape
  np.testing.assert_allclose(got, released.lf_sigma, rtol=1e-5, atol=1e-5)


LINEAR = {"kernel": jnp.array([[1.0], [-2.0], [3.0]]), "bias": jnp.array([0.5])}
STEEPNESS = 1.0 / (1.0 + np.exp([0.5, 6.5]))  # of the loss toward typical, at logits 0.5 and 6.5


@pytest.mark.parametrize(
  ("sigma_from", "sigma_scale", "want"),
  [
    ("logit", "mean", [[0.5, 1.0, 1.5], [0.5, 1.0, 1.5]]),
    ("loss", "mean", [[0.5, 1.0, 1.5], [0.5, 1.0, 1.5]]),
    ("logit", "none", [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]),
    ("loss", "none", np.outer(STEEPNESS, [1.0, 2.0, 3.0])),
  ],
)
def test_sigma_of_a_linear_network_by_hand(sigma_from, sigma_scale, want):
  x = jnp.array([[0.0, 0.0, 0.0], [1.0, -1.0, 1.0]])
  got = sigma_of(nn.Dense(1), LINEAR, x, sigma_from=sigma_from, sigma_scale=sigma_scale)
  np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("sigma_scale", drocc_lf.SIGMA_SCALES)
def test_sigma_is_1_where_the_network_is_dead(sigma_scale):
  """The one hidden unit is silent at the first record only."""
  params = {
    "Dense_0": {"kernel": jnp.array([[2.0], [0.0]]), "bias": jnp.zeros(1)},
    "Dense_1": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
  }
  x = jnp.array([[-1.0, 5.0], [1.0, 5.0]])
  got = sigma_of(networks.MLP((1,)), params, x, sigma_scale=sigma_scale)
  np.testing.assert_array_equal(got, [[1.0, 1.0], [2.0, 0.0]])


# The age of sigma.


@pytest.fixture(scope="module")
def walk(start, mixed, step):
  """States before each of five steps, and what the steps tell, for a number of ``sigma_steps``."""

  def walk(sigma_steps):
    states, infos = [with_hyper(start, sigma_steps=sigma_steps)], []
    for number in range(5):
      state, info = step(states[-1], mixed, jax.random.fold_in(KEY, number))
      states.append(state)
      infos.append(info)
    return states, infos

  return walk


@pytest.mark.parametrize(("sigma_steps", "taken"), [(1, [0, 1, 2, 3, 4]), (3, [0, 0, 0, 3, 3])])
def test_the_influence_network_is_that_of_the_start_of_the_period(walk, sigma_steps, taken):
  states, _ = walk(sigma_steps)
  assert is_different(states[2].params, states[3].params)
  for number, source in enumerate(taken):
    assert_trees_equal(states[number + 1].influence["params"], states[source].params)


def test_sigma_is_computed_with_the_influence_network(walk, mixed, network):
  states, infos = walk(3)
  for number, source in ((2, 0), (3, 3)):
    sigma = sigma_of(network, states[source].params, mixed.inputs)[:6]
    spread = np.mean(sigma.sum(axis=1) ** 2 / (sigma**2).sum(axis=1))
    np.testing.assert_allclose(infos[number].effective_coordinates.value, spread, rtol=1e-5)
  every, _ = walk(1)
  assert is_different(every[3].params, states[3].params)


# The search and the objective.


def test_a_coordinate_without_influence_is_left_where_it_started(start, find, mixed):
  kernel = start.params["Dense_0"]["kernel"].at[2].set(0.0)
  params = {**start.params, "Dense_0": {**start.params["Dense_0"], "kernel": kernel}}
  blind = dataclasses.replace(start, params=params, influence={"params": params, "stats": {}})
  negatives, _ = find(blind)
  keys = jax.vmap(lambda row: jax.random.fold_in(KEY, row))(mixed.index)
  noise = 0.3 * jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
  moved = np.asarray(negatives - mixed.inputs)
  np.testing.assert_allclose(moved[:, 2], noise[:, 2], rtol=1e-5, atol=1e-6)
  assert (np.abs(moved[:, :2] - noise[:, :2]).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_both_solvers_end_on_the_shell(start, find, mixed, network, gamma):
  state = with_hyper(start, gamma=gamma)
  sigma = sigma_of(network, start.params, mixed.inputs).astype(np.float64)
  found = {solver: find(state, solver=solver) for solver in projections.SOLVERS}
  for negatives, info in found.values():
    moved = np.asarray(negatives - mixed.inputs, np.float64)
    length = np.sqrt(np.sum(sigma * moved**2, axis=1))
    assert length.min() >= 1.0 - 1e-4
    assert length.max() <= gamma + 1e-4
    np.testing.assert_allclose(info.norm, length, rtol=1e-4)
    assert np.asarray(info.projected).any() or gamma > 1.0
  assert is_different(found["secular"][0], found["grid"][0])


def test_the_gradient_is_that_of_the_objective(start, mixed, step, find, network):
  searched, _ = find(start)

  @jax.jit
  @jax.grad
  def gradient(params):
    def f(x):
      return network.apply({"params": params}, x)

    squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
    return (
      0.01 * squares
      + jnp.mean(jnp.log1p(jnp.exp(-f(mixed.inputs[:6]))))
      + 0.7 * jnp.mean(jnp.log1p(jnp.exp(f(searched[:6]))))
      + 1.5 * jnp.mean(jnp.log1p(jnp.exp(f(GIVEN))))
    )

  after, _ = step(start, mixed, KEY)
  assert_trees_close(gradient_of(after), gradient(start.params), rtol=1e-4, atol=1e-6)


def test_with_equal_weights_it_is_drocc_oe(start, mixed, step, network, lf_config):
  """A network of the sum of the coordinates reacts to all of them alike."""
  kernel = jnp.broadcast_to(start.params["Dense_0"]["kernel"][:1], (3, 8))
  params = {**start.params, "Dense_0": {**start.params["Dense_0"], "kernel": kernel}}
  fields = {
    field.name: getattr(lf_config, field.name) for field in dataclasses.fields(drocc_oe.Config)
  }
  oe_config = drocc_oe.Config(**fields)
  oe_step = drocc_oe.make_train_step(network, oe_config.static())
  oe_step = jax.jit(oe_step)
  oe_init = jax.jit(drocc_oe.make_init(network, oe_config.static()))
  oe_start = oe_init(oe_config.hyper(), mixed.inputs, jax.random.key(0))
  got, got_info = step(dataclasses.replace(start, params=params), mixed, KEY)
  want, want_info = oe_step(dataclasses.replace(oe_start, params=params), mixed, KEY)
  assert_trees_close(got.params, want.params, rtol=1e-5, atol=1e-6)
  ours, theirs = drocc.means(got_info), drocc.means(want_info)
  assert ours.pop("effective_coordinates") == pytest.approx(3.0, rel=1e-5)
  assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
  assert theirs["search_travel"] > 0.1


# Settings.


def test_only_solver_and_kind_of_sigma_compile_again(lf_config):
  assert dataclasses.replace(lf_config, sigma_steps=9, nu=3.0).static() == lf_config.static()
  for name, value in (("solver", "grid"), ("sigma_from", "loss"), ("sigma_scale", "none")):
    assert dataclasses.replace(lf_config, **{name: value}).static() != lf_config.static()
  assert int(dataclasses.replace(lf_config, sigma_steps=9).hyper().sigma_steps) == 9
