"""What every algorithm promises, walked by DROCC, DROCC-OE and DROCC-LF alike."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax.batching import Batch
from drocc_jax import drocc, drocc_lf, drocc_oe, networks
from tests.helpers import assert_trees_close, assert_trees_equal

KEY = jax.random.key(7)
ALGORITHMS = {"DROCC": drocc, "DROCC-OE": drocc_oe, "DROCC-LF": drocc_lf}
SETTINGS = {"radius": 1.0, "step_size": 0.2, "num_steps": 5, "learning_rate": 0.01}


def data(tree):
  """Typed keys aside, the arrays of a tree as NumPy copies."""
  return jax.tree.map(np.array, tree)


@pytest.fixture(scope="module", params=ALGORITHMS)
def case(request, network, batch) -> SimpleNamespace:
  """One algorithm: its module, state, batch, and jitted step (which counts traces) and search."""
  module = ALGORITHMS[request.param]
  config = module.Config(**SETTINGS, weight_decay=0.01, noise_scale=0.3)
  if module is not drocc:
    x = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3)), jnp.float32)
    ones = jnp.ones(8)
    given = Batch(x, -ones, ones, jnp.arange(8, dtype=jnp.int32))
    batch = dataclasses.replace(batch, negatives=given)
  static = config.static()
  init = jax.jit(module.make_init(network, static))
  forward = networks.as_forward(network)
  start = init(config.hyper(), jnp.zeros((1, 3)), jax.random.key(0))
  traces, untraced = [], module.make_train_step(network, static)

  @jax.jit
  def step(*args):
    traces.append(args)
    return untraced(*args)

  # Not the first step: DROCC-LF's sigma, the averages and Adam's moments are then all in use.
  state, _ = step(start, batch, jax.random.key(1))
  return SimpleNamespace(
    module=module,
    config=config,
    batch=batch,
    state=state,
    init=init,
    step=step,
    traces=traces,
    make=lambda **options: module.make_train_step(network, static, **options),
    find=jax.jit(
      lambda state, inputs, index, key: module.find_negatives(
        forward, state, inputs, index, key, static
      )
    ),
  )


def test_the_step_is_pure(case):
  before = data((case.state, case.batch))
  once = case.step(case.state, case.batch, KEY)
  twice = case.step(case.state, case.batch, KEY)
  assert_trees_equal(once, twice)
  assert_trees_equal(data((case.state, case.batch)), before)
  assert int(once[0].step) == int(case.state.step) + 1


def test_the_seed_decides_weights_and_negatives(case):
  sample = jnp.zeros((1, 3))
  one, other = (
    case.init(case.config.hyper(), sample, jax.random.key(seed)).params for seed in (0, 1)
  )
  again = case.init(case.config.hyper(), sample, jax.random.key(0)).params
  assert_trees_equal(one, again)
  kernel = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.any(a != b), one, other))
  assert any(kernel)
  found = [
    case.find(case.state, case.batch.inputs, case.batch.index, jax.random.key(seed))[0]
    for seed in (3, 3, 4)
  ]
  assert_trees_equal(found[0], found[1])
  assert (np.asarray(found[0]) != np.asarray(found[2])).any(axis=1).all()


def test_nothing_is_traced_again_by_a_second_step_or_other_settings(case):
  second, _ = case.step(case.state, case.batch, KEY)
  case.step(second, case.batch, jax.random.key(9))
  other = dataclasses.replace(
    case.config,
    **{name: 2 * getattr(case.config, name) + 1 for name in ("radius", "gamma", "mu", "step_size")},
    num_steps=0,
    warmup_steps=4,
    learning_rate=1,
    noise_scale=2,
    weight_decay=2,
  )
  extra = {"nu": 3.0, "sigma_steps": 7}
  known = {field.name for field in dataclasses.fields(other)}
  other = dataclasses.replace(
    other, **{name: value for name, value in extra.items() if name in known}
  )
  case.step(dataclasses.replace(second, hyper=other.hyper()), case.batch, KEY)
  assert len(case.traces) == 1


def test_everything_is_finite(case):
  state, info = case.step(case.state, case.batch, KEY)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, info)))
  dead = jax.tree.map(jnp.zeros_like, case.state.params)
  state, info = case.step(dataclasses.replace(case.state, params=dead), case.batch, KEY)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, info)))


def test_the_search_moved_and_ended_on_its_shell(case):
  negatives, found = case.find(case.state, case.batch.inputs, case.batch.index, KEY)
  assert (np.asarray(found.travel) > 0.01).all()
  assert (np.asarray(found.gain) > 0).mean() > 0.7
  # Lengths from the points themselves, in float64.
  delta = np.asarray(negatives - case.batch.inputs, np.float64)
  sigma = np.ones_like(delta)
  if case.module is drocc_lf:
    forward = networks.as_forward(networks.MLP((8,)))
    sigma = drocc_lf.influence(forward, case.state, case.batch.inputs, case.config.static())
  length = np.sqrt(np.sum(np.asarray(sigma, np.float64) * delta**2, axis=1))
  assert (length >= 1.0 * (1 - 1e-5)).all()
  assert (length <= case.config.gamma * (1 + 1e-5)).all()
  np.testing.assert_allclose(found.norm, length, rtol=1e-5)
  info = case.step(case.state, case.batch, KEY)[1]
  assert set(drocc.means(info)) == {field.name for field in dataclasses.fields(case.module.Info)}
  assert 1.0 - 1e-5 <= float(info.distance.value) <= case.config.gamma * (1 + 1e-5)


def test_padding_does_not_change_the_result(case):
  batch = case.batch
  garbage = dataclasses.replace(
    batch,
    inputs=batch.inputs.at[6:].set(1e3),
    labels=batch.labels.at[6:].set(-1.0),
    index=batch.index.at[6:].set(77),
  )
  want = case.step(case.state, batch, KEY)
  assert_trees_equal(case.step(case.state, garbage, KEY), want)
  typical = dataclasses.replace(batch, negatives=None)
  shorter = jax.tree.map(lambda leaf: leaf[:6], typical)
  shorter = dataclasses.replace(shorter, negatives=batch.negatives)
  got = jax.jit(case.make())(case.state, shorter, KEY)
  assert_trees_close(got, want, rtol=1e-5, atol=1e-6)
  assert float(got[1].positive_loss.count) == float(want[1].positive_loss.count) == 6


def test_jit_vmap_and_pmap_agree(case):
  """Two examples to each of four devices; the last device holds nothing but padding."""
  want, want_info = case.step(case.state, case.batch, KEY)
  shards = jax.tree.map(lambda leaf: leaf.reshape(4, 2, *leaf.shape[1:]), case.batch)
  step = case.make(axis_name="devices")
  for map_over in (
    lambda f: jax.jit(jax.vmap(f, (None, 0, None), axis_name="devices")),
    lambda f: jax.pmap(f, in_axes=(None, 0, None), axis_name="devices"),
  ):
    got, info = data(map_over(step)(case.state, shards, KEY))
    for place in range(4):
      one, one_info = jax.tree.map(lambda leaf, i=place: leaf[i], (got, info))
      assert_trees_close(one.params, want.params, rtol=0, atol=2e-6)
      assert_trees_close(drocc.means(one_info), drocc.means(want_info), rtol=1e-4)


def test_the_search_has_the_same_bits_on_four_devices(case):
  negatives, info = case.find(case.state, case.batch.inputs, case.batch.index, KEY)
  shards = case.batch.inputs.reshape(4, 2, 3), case.batch.index.reshape(4, 2)
  found = data(jax.pmap(case.find, in_axes=(None, 0, 0, None))(case.state, *shards, KEY))
  got, got_info = jax.tree.map(lambda leaf: leaf.reshape(8, *leaf.shape[2:]), found)
  if case.module is drocc_lf:
    # The gradient behind sigma is a sum whose order may differ with the number of rows.
    assert_trees_close(got, negatives, rtol=1e-5, atol=1e-5)
  else:
    assert_trees_equal(got, negatives)
  assert_trees_close(got_info, info, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("module", [drocc_oe, drocc_lf])
def test_a_batch_without_negatives_is_refused(module, network, batch):
  config = module.Config(**SETTINGS)
  start = jax.eval_shape(
    module.make_init(network, config.static()), config.hyper(), jnp.zeros((1, 3)), KEY
  )
  message = r"^DROCC-OE and DROCC-LF learn from given negatives; the batch has none\."
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(module.make_train_step(network, config.static()), start, batch, KEY)


BAD = {
  "radius": 0.0,
  "gamma": 0.99,
  "mu": -0.1,
  "nu": -0.1,
  "step_size": 0.0,
  "num_steps": -1,
  "project_every": 0,
  "noise_scale": 0.0,
  "warmup_steps": -1,
  "optimizer": "rmsprop",
  "momentum": 1.0,
  "learning_rate": 0.0,
  "schedule": "linear",
  "total_steps": -1,
  "weight_decay": -1e-9,
  "average_decay": 1.0,
  "precision": "fp8",
  "batch_statistics": "both",
  "solver": "newton",
  "sigma_from": "input",
  "sigma_scale": "sum",
  "sigma_steps": -1,
}


@pytest.mark.parametrize(
  ("algorithm", "name"),
  [
    (algorithm, field.name)
    for algorithm, module in ALGORITHMS.items()
    for field in dataclasses.fields(module.Config)
  ],
)
def test_a_setting_out_of_its_range_is_named(algorithm, name):
  config = ALGORITHMS[algorithm].Config()
  config.validate()
  with pytest.raises(ValueError, match=rf"^{name} must be .*, got {BAD[name]!r}\.$"):
    dataclasses.replace(config, **{name: BAD[name]}).validate()
