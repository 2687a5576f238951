"""PyTorch's networks are ours: the same logits and the same training step from the same weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import speed_networks, speed_timing, torch_drocc, torch_networks
from detector_jax.batching import Batch
from drocc_jax import drocc, networks

torch = pytest.importorskip("torch")

LENET = networks.LeNet(channels=(3, 5), dense=(7, 4))
SMALL = {
  "cifar_lenet": (LENET, lambda: torch_networks.lenet((2, 8, 12), (3, 5), (7, 4)), (8, 12, 2)),
  "lstm": (networks.LSTM(6), lambda: torch_networks.lstm(2, 6), (9, 2)),
}
LOADERS = {"cifar_lenet": torch_networks.load_lenet, "lstm": torch_networks.load_lstm}
KEY = jax.random.key(1)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
  with torch_drocc.restored_threads():
    torch_drocc.set_threads(1)
    yield


@pytest.fixture(params=SMALL)
def sides(request, rng):
  """Name, our network, its variables with all biases and statistics moved, records, the peer."""
  ours, make, shape = SMALL[request.param]
  x = rng.normal(size=(6, *shape)).astype(np.float32)
  variables = jax.jit(ours.init)(jax.random.key(0), x)
  params = jax.tree.map(
    lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), variables["params"]
  )
  theirs = make()
  LOADERS[request.param](theirs, params)
  return request.param, ours, params, x, theirs


def in_their_order(name, x):
  return torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if name != "lstm" else x)


def test_logits_agree(sides):
  name, ours, params, x, theirs = sides
  theirs.eval()
  forward = networks.as_forward(ours)
  stats = jax.jit(forward.init)(KEY, x)[1]
  want = forward.evaluate(params, stats, jnp.asarray(x))
  got = theirs(in_their_order(name, x)).detach().numpy()
  assert got.shape == (6, 1)
  np.testing.assert_allclose(got[:, 0], want, rtol=1e-4, atol=1e-5)
  assert np.std(got) > 1e-3


def test_one_step_agrees(sides):
  """The search sees running statistics; the outer step those of the batch of both."""
  name, ours, params, x, theirs = sides
  config = drocc.Config(
    radius=4.0,
    gamma=1.5,
    step_size=0.5,
    num_steps=4,
    project_every=2,
    learning_rate=0.05,
    optimizer="sgd",
    momentum=0.0,
    average_decay=0.0,
  )
  init = jax.jit(drocc.make_init(ours, config.static()))
  state = dataclasses.replace(init(config.hyper(), jnp.asarray(x), KEY), params=params)
  batch = Batch(jnp.asarray(x), jnp.ones(6), jnp.ones(6), jnp.arange(6))
  noise = jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(KEY, row), x.shape[1:]))(
    batch.index
  )
  after, _ = jax.jit(drocc.make_train_step(ours, config.static()))(state, batch, KEY)
  optimizer = torch.optim.SGD(theirs.parameters(), lr=config.learning_rate)
  torch_drocc.train_step(
    theirs, optimizer, in_their_order(name, x), in_their_order(name, np.array(noise)), config
  )
  expected = SMALL[name][1]()
  LOADERS[name](expected, after.params)
  before = SMALL[name][1]()
  LOADERS[name](before, params)
  moved = 0.0
  trained, started = (dict(each.named_parameters()) for each in (theirs, before))
  for key, want in expected.named_parameters():
    got = trained[key].detach().numpy()
    if "bias_ih" in key or "bias_hh" in key:  # two biases where ours has one
      continue
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=0, atol=2e-4, err_msg=key)
    old = started[key].detach().numpy()
    moved = max(moved, np.abs(got - old).max())
  assert moved > 5e-3
  if name == "cifar_lenet":
    statistics = after.stats["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(theirs[1].running_mean.numpy(), statistics, atol=1e-5)


def test_operations_of_hand_counted_networks():
  assert speed_networks.products(LENET, (8, 12, 2)) == [
    2 * 8 * 12 * 25 * 2 * 3,
    2 * 4 * 6 * 25 * 3 * 5,
    2 * (2 * 3 * 5) * 7,
    2 * 7 * 4,
    2 * 4 * 1,
  ]
  # 9 moments, 4 gates of 6, from 2 channels and from 6 states; the head.
  assert speed_networks.products(networks.LSTM(6), (9, 2)) == [
    2 * 9 * 24 * 2,
    2 * 9 * 24 * 6,
    2 * 6,
  ]
  case = speed_networks.Case(networks.LSTM(6), {}, (9, 2), 10, 5, num_steps=3, radius=1.0)
  first, forward = 864, 864 + 2592 + 12
  # Three steps of forward and input; twice the records forward and both gradients, but the input's.
  assert speed_networks.operations(case) == 10 * (3 * 2 * forward + 2 * (3 * forward - first))


def test_flops_that_xla_counts_are_ours():
  """Of one forward pass of the LeNet, but that XLA leaves out what is multiplied with padding."""
  x = jnp.ones((4, 8, 12, 2))
  forward = networks.as_forward(LENET)
  params, stats = jax.jit(forward.init)(KEY, x)
  cost = (
    jax.jit(networks.in_training_form(forward.evaluate))
    .lower(params, stats, x)
    .compile()
    .cost_analysis()
  )
  first, second, *dense = speed_networks.products(LENET, (8, 12, 2))
  # Of 5 taps the first two places of a row lose 2 and 1, and so do the last two.
  first *= (5 * 8 - 6) * (5 * 12 - 6) / (25 * 8 * 12)
  second *= (5 * 4 - 6) * (5 * 6 - 6) / (25 * 4 * 6)
  ours = 4 * (first + second + sum(dense))
  assert ours <= cost["flops"] < 1.3 * ours


def test_a_case_is_measured(monkeypatch):
  name = "lstm"
  ours, make, shape = SMALL[name]
  case = speed_networks.Case(ours, {"a": make}, shape, 8, 4, num_steps=2, radius=3.0)
  monkeypatch.setitem(speed_networks.CASES, name, case)
  before = torch_drocc.threads()
  (record, spread), facts = speed_networks.measure(name, 2, rate=1e9)
  assert record.case == f"{name}, 2 steps"
  assert spread.case == f"{name}, 2 steps, --devices=2"
  assert spread.ratio > 0.0
  assert record.floor_seconds == speed_timing.rounded(speed_networks.operations(case) / 1e9)
  assert record.ratio > 0.0
  assert np.shape(facts["pairs_seconds"]) == (2, 3)
  assert facts["peer_layout"] == "a"
  assert torch_drocc.threads() == before


def test_the_fastest_peer_is_taken(monkeypatch):
  slow, fast = torch_networks.lstm(2, 6), torch_networks.lstm(2, 6)
  case = dataclasses.replace(
    speed_networks.CASES["lstm"], peers={"slow": lambda: slow, "fast": lambda: fast}
  )
  clock = [0.0]

  def train(network, x, config, batch_size, epochs):
    clock[0] += {slow: 3.0, fast: 1.0}[network] * torch_drocc.threads()

  monkeypatch.setattr(torch_drocc, "train_network", train)
  monkeypatch.setattr(speed_networks.time, "perf_counter", lambda: clock[0])
  with torch_drocc.restored_threads():
    torch_drocc.set_threads(2)
    network, found = speed_networks.fastest_peer(case, np.zeros((2, 3, 2)), drocc.Config())
    assert torch_drocc.threads() == 1
  assert network is fast
  assert found["peer_layout"] == "fast"
  assert found["peer_trials_seconds"]["slow, threads: 2"] == 6.0
