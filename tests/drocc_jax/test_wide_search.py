"""The search through the outputs of a wide first layer: the numbers of the plain search."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drocc_jax import drocc, networks, projections, wide_search
from drocc_jax.search import search

KEY = jax.random.key(0)
SHAPE, HIDDEN, ROWS = (4, 5, 1), (7, 6), 12
STEP_SIZE = 0.05


@functools.cache
def problem(hidden=HIDDEN):
  """The network's pure functions, its parameters, examples and their noise."""
  network = networks.MLP(hidden, input_gain=2.0, bias_range=1.0)
  forward = networks.as_forward(network)
  rng = np.random.default_rng(3)
  x, noise = rng.normal(size=(2, ROWS, *SHAPE)).astype(np.float32)
  params, _ = jax.jit(forward.init)(KEY, x[:1])
  return forward, params, jnp.asarray(x), jnp.asarray(noise)


@functools.cache
def both(hidden=HIDDEN, project_every=1):
  """``run(params, x, noise, radius, gamma, num_steps)``: both searches of a batch."""
  forward, _, _, _ = problem(hidden)

  @jax.jit
  def run(params, x, noise, radius, gamma, num_steps):
    kernel, bias, rest = forward.split(params, {})
    layer = wide_search.Layer.from_parameters(kernel, bias)

    def one(x, noise):
      project = functools.partial(projections.project_shell, radius=radius, gamma=gamma)
      settings = (x, noise, project, STEP_SIZE, num_steps, project_every)
      return (
        search(lambda x: forward.evaluate(params, {}, x[None])[0], *settings),
        wide_search.search(lambda z: rest(z[None])[0], layer, *settings),
      )

    return jax.vmap(one)(x, noise)

  return run


def assert_equal(plain, wide):
  (negatives, info), (ours, found) = plain, wide
  np.testing.assert_allclose(ours, negatives, rtol=0, atol=1e-4)
  for name in ("gain", "travel", "norm"):
    np.testing.assert_allclose(getattr(found, name), getattr(info, name), rtol=1e-3, atol=1e-4)
  np.testing.assert_array_equal(found.projected, info.projected)


@pytest.mark.parametrize("num_steps", [0, 1, 2, 9])
@pytest.mark.parametrize("project_every", [1, 4])
def test_the_numbers_of_the_plain_search(num_steps, project_every):
  _, params, x, noise = problem()
  run = both(project_every=project_every)
  # A shell that the noise (of length 4.5) starts outside of, inside of, and on.
  for radius, gamma in ((2.0, 1.5), (8.0, 1.0), (4.0, 2.0)):
    plain, wide = run(params, x, noise, radius, gamma, num_steps)
    assert_equal(plain, wide)
    if num_steps > 1:
      assert np.median(plain[1].travel) > 0.04
      assert np.mean(plain[1].gain > 0) > 0.9


def test_one_hidden_layer():
  _, params, x, noise = problem((7,))
  assert_equal(*both((7,))(params, x, noise, 2.0, 2.0, 8))


def test_without_a_gradient_it_stays():
  """All units dead: no direction, no NaN, the projected noise."""
  _, params, x, noise = problem()
  dead = jax.tree.map(jnp.zeros_like, params)
  (negatives, _), (ours, info) = both()(dead, x, noise, 2.0, 1.5, 5)
  np.testing.assert_allclose(ours, negatives, rtol=0, atol=1e-6)
  np.testing.assert_array_equal(info.gain, 0.0)
  np.testing.assert_allclose(info.norm, 3.0, rtol=1e-6)


def test_negatives_lie_on_the_shell():
  _, params, x, noise = problem()
  _, (negatives, _) = both(project_every=4)(params, x, noise, 6.0, 1.0, 9)
  distance = np.linalg.norm((negatives - x).reshape(ROWS, -1), axis=1)
  np.testing.assert_allclose(distance, 6.0, rtol=1e-6)


def flops(hidden, precision="float32", squares=False):
  """Operations of a search as ``drocc.find_negatives`` makes it; bodies of loops count once."""
  network = networks.MLP(hidden, squares=squares)
  forward = networks.as_forward(network)
  config = drocc.Config(radius=1.0, step_size=0.2, num_steps=4, precision=precision)
  x = jnp.ones((256, 512))
  state = jax.jit(drocc.make_init(network, config.static()))(config.hyper(), x[:1], KEY)

  @jax.jit
  def run(state, x):
    return drocc.find_negatives(forward, state, x, jnp.arange(256), KEY, config.static())

  return sum(
    2.0 * np.prod(equation.outvars[0].aval.shape) * equation.invars[0].aval.shape[axis]
    for equation, axis in in_loops(jax.make_jaxpr(run)(state, x).jaxpr)
  )


def in_loops(jaxpr, inside=False):
  """Matrix products within loops, and the axis of their first operand that is summed over."""
  for equation in jaxpr.eqns:
    if inside and equation.primitive.name == "dot_general":
      yield equation, equation.params["dimension_numbers"][0][0][0]
    loop = inside or equation.primitive.name in ("while", "scan")
    leaves = list(equation.params.values())
    for value in jax.tree.leaves(leaves, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        yield from in_loops(inner, loop)


def test_an_ascent_step_has_one_product_of_the_layer_with_itself():
  rows = 256
  assert flops((128,)) == pytest.approx(2.0 * rows * 128 * 128, rel=0.05)
  plain = 2.0 * rows * 2 * (512 * 128 + 128 * 1)
  assert flops((128,), precision="bf16") == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize(("hidden", "squares"), [((700,), False), ((128,), True)])
def test_where_it_would_not_pay_or_not_hold_the_plain_search_runs(hidden, squares):
  inputs = 512 * (2 if squares else 1)
  plain = 2.0 * 256 * 2 * inputs * hidden[0]
  assert flops(hidden, squares=squares) == pytest.approx(plain, rel=0.02)


def test_find_negatives_takes_it(monkeypatch):
  forward, _, x, _ = problem()
  network = networks.MLP(HIDDEN, input_gain=2.0, bias_range=1.0)
  config = drocc.Config(radius=2.0, step_size=STEP_SIZE, num_steps=5)
  state = jax.jit(drocc.make_init(network, config.static()))(config.hyper(), x[:1], KEY)

  def find():
    run = jax.jit(
      lambda state: drocc.find_negatives(forward, state, x, jnp.arange(ROWS), KEY, config.static())
    )
    return run(state)

  ours, found = find()
  monkeypatch.setattr(wide_search, "pays", lambda kernel: False)
  negatives, info = find()
  assert ours.shape == x.shape
  assert_equal((negatives, info), (ours, found))
  assert np.any(np.asarray(ours) != np.asarray(negatives))  # another order of the same sums


def test_a_network_of_ones_own_is_not_split():
  class Shifted(networks.MLP):
    def __call__(self, x):
      return super().__call__(jnp.sin(x))

  assert networks.as_forward(networks.MLP(HIDDEN)).split is not None
  assert networks.as_forward(Shifted(HIDDEN)).split is None
  assert networks.as_forward(networks.mnist_lenet()).split is None
