"""What a step costs: the search takes no gradient of a parameter, and training copies no state."""

from collections import Counter
from collections.abc import Iterator
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import training
from detector_jax.batching import Batch
from drocc_jax import drocc, drocc_lf, drocc_oe, fit, networks

ROWS, FEATURES, HIDDEN = 8, 3, (5, 7)
KEY = jax.random.key(1)


def equations(jaxpr) -> Iterator:
  """All equations of a jaxpr, those of loops and calls in it included."""
  for equation in jaxpr.eqns:
    yield equation
    for value in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
    ):
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        yield from equations(inner)


def products(function, *arguments) -> Counter:
  """Matrix products of a function by the sizes of what they give, sorted and without ones."""
  jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
  return Counter(
    tuple(sorted(size for size in equation.outvars[0].aval.shape if size > 1))
    for equation in equations(jaxpr)
    if equation.primitive.name == "dot_general"
  )


@pytest.fixture(scope="module")
def problem():
  """The search of a batch as a function of state and inputs, its state, the network and a batch."""
  config = drocc.Config(radius=1.0, step_size=0.2, num_steps=4)
  network = networks.MLP(HIDDEN)
  forward = networks.as_forward(network)
  x = jnp.ones((ROWS, FEATURES))
  init = jax.jit(drocc.make_init(network, config.static()))
  state = init(config.hyper(), x[:1], jax.random.key(0))

  def search(state, x):
    index = jnp.arange(len(x))
    return drocc.find_negatives(forward, state, x, index, KEY, config.static())

  return search, state, network, Batch(x, jnp.ones(ROWS), jnp.ones(ROWS), jnp.arange(ROWS))


def test_the_search_takes_gradients_of_its_input_alone(problem):
  """Forward twice for the loss at both ends, forward and back for the body of the ascent."""
  search, state, _, batch = problem
  found = products(search, state, batch.inputs)
  assert found[3, 5] == found[5, 7] == 0  # gradients of the kernels
  assert found[5, 8] == 3 + 1  # the first layer, and the gradient that reaches it
  assert found[7, 8] == 3
  assert found[3, 8] == 1  # the gradient of the input


def test_the_outer_step_takes_gradients_of_the_parameters(problem):
  """The count above would see them: of each kernel one, over both halves of the batch."""
  _, state, network, batch = problem
  found = products(drocc.make_train_step(network), state, batch, KEY)
  assert found[3, 5] == found[5, 7] == 1
  assert found[5, 16] == 1 + 1
  assert found[3, 16] == 0  # nobody needs that of the inputs


def test_compiled_the_search_costs_three_passes_forward_and_one_back():
  """XLA counts the body of a loop once; a gradient of the kernel would be a fifth product."""
  features, hidden = 64, 1024
  forward = networks.as_forward(networks.MLP((hidden,)))
  config = drocc.Config(radius=1.0, step_size=0.2, num_steps=4)
  x = jnp.ones((ROWS, features))
  init = jax.jit(drocc.make_init(networks.MLP((hidden,)), config.static()))
  state = init(config.hyper(), x[:1], KEY)

  @jax.jit
  def search(state, x):
    index = jnp.arange(len(x))
    return drocc.find_negatives(forward, state, x, index, KEY, config.static())

  cost = search.lower(state, x).compile().cost_analysis()
  product = 2 * ROWS * features * hidden
  assert 4.0 * product <= cost["flops"] < 4.7 * product


@pytest.mark.parametrize("algorithm", [drocc, drocc_oe, drocc_lf], ids=lambda each: each.__name__)
def test_training_donates_its_state(algorithm, rng):
  config = algorithm.Config(radius=1.0, step_size=0.2, num_steps=2)
  program = fit.compile_program(networks.MLP(HIDDEN), config.static(), 4, algorithm.ALGORITHM)
  x = rng.normal(size=(8, FEATURES)).astype(np.float32)
  negatives = None if algorithm is drocc else x[:4] + 3.0
  rows = training.to_device(x, negatives=negatives)
  state = program.init(config.hyper(), rows.inputs[:1], jax.random.key(0))
  kept = [leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)]
  after, _ = program.train_epochs(state, rows, KEY, 0, 1)
  jax.block_until_ready(after)
  assert len(kept) > 10
  assert [leaf.shape for leaf in kept if not leaf.is_deleted()] == []
  assert not rows.inputs.is_deleted()
  with pytest.raises((RuntimeError, ValueError), match="deleted or donated"):
    program.train_epochs(state, rows, KEY, 1, 2)
  program.train_epochs(dataclasses.replace(after), rows, KEY, 1, 2)
