"""DCN and REBM: their formulas by hand, toy sets of known answer, what they refuse."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import protocol, series, tabular
from benchmarks.baselines import anogan, dcn, encoders, generative, rebm
from detector_jax import metrics
from detector_jax.batching import Batch
from drocc_jax import networks
from drocc_jax.registry import NetworkConfig
from launch.data import Splits
from launch.methods.drocc import Config

pytestmark = pytest.mark.slow  # trains each method on each network

MLP = networks.MLP((32, 16))
METHODS = {
  "DCN": functools.partial(
    dcn.make, shape=(12,), network=MLP, epochs=20, pretrain_epochs=10, learning_rate=3e-3
  ),
  "REBM": functools.partial(rebm.make, shape=(12,), epochs=20, learning_rate=3e-3),
  "REBM, reconstruction": functools.partial(
    rebm.make, shape=(12,), epochs=20, learning_rate=3e-3, score="reconstruction"
  ),
  "REBM, series": functools.partial(
    rebm.make, shape=(6, 2), epochs=20, hidden=(8, 8), learning_rate=1e-2
  ),
}
EACH = pytest.mark.parametrize("method", METHODS)


@functools.cache
def problem(method):
  """Typical records are a pattern or its negative, anomalous ones another.

  Anomalous records are nearer to the origin, so that no score finds them that only grows with the
  distance from it.
  """
  shape = METHODS[method].keywords["shape"]
  rng = np.random.default_rng(0)
  one, other = rng.normal(size=(2, *shape))
  signs = rng.choice([-1.0, 1.0], size=356).reshape(-1, *(1 for _ in shape))
  typical = 1.5 * signs * one + 0.3 * rng.normal(size=(356, *shape))
  odd = 1.5 * np.sign(rng.normal(size=100)).reshape(-1, *(1 for _ in shape)) * other
  odd = 0.8 * odd + 0.3 * rng.normal(size=(100, *shape))
  test = np.concatenate([typical[256:], odd])
  return typical[:256].astype(np.float32), test.astype(np.float32), np.repeat([0, 1], 100)


@functools.cache
def fitted(method, seed=0, learning_rate=None):
  settings = {} if learning_rate is None else {"learning_rate": learning_rate}
  if method == "DCN" and learning_rate is not None:
    settings["pretrain_learning_rate"] = learning_rate
  return METHODS[method](seed, **settings).fit(problem(method)[0])


@pytest.mark.long
@EACH
def test_finds_what_is_no_typical_pattern(method):
  _, test, labels = problem(method)
  model = fitted(method)
  scores = model.score(test)
  assert scores.shape == (200,)
  assert metrics.auroc(labels, scores) > 0.9
  np.testing.assert_allclose(model.score(test[[5, 150, 7]]), scores[[5, 150, 7]], rtol=1e-4)


def contrast(labels, scores):
  return scores[labels == 1].mean() / scores[labels == 0].mean()


@EACH
def test_training_makes_it_better_and_the_seed_decides(method):
  _, test, labels = problem(method)
  scores = fitted(method).score(test)
  still = fitted(method, learning_rate=1e-30).score(test)
  if method == "DCN":  # its pretraining alone finds them all
    assert contrast(labels, scores) > 1.3 * contrast(labels, still)
  else:
    assert metrics.auroc(labels, still) < metrics.auroc(labels, scores) - 0.1
  again = METHODS[method](0).fit(problem(method)[0])
  np.testing.assert_array_equal(again.score(test), scores)
  assert not np.allclose(fitted(method, seed=1).score(test), scores)
  assert fitted(method).parameters == fitted(method, seed=1).parameters > 0


def test_centres_are_running_means_of_the_codes_nearest_to_them():
  clusters = dcn.Clusters(jnp.asarray([[0.0], [10.0]]), jnp.asarray([2.0, 3.0]))
  codes, mask = jnp.asarray([[1.0], [2.0], [6.0], [99.0]]), jnp.asarray([1.0, 1.0, 1.0, 0.0])
  got = dcn.moved(clusters, codes, mask)
  # (2 * 0 + 1 + 2) / 4 and (3 * 10 + 6) / 4; the masked code counts for nothing.
  np.testing.assert_allclose(got.centres, [[0.75], [9.0]])
  np.testing.assert_allclose(got.counts, [4.0, 4.0])


def test_dcn_s_objective_by_hand():
  """The encoder is relu(x), the decoder twice that."""
  autoencoder = encoders.autoencoder_of(networks.MLP((2,)), (2,))
  params = {
    "encoder": {"Dense_0": {"kernel": jnp.eye(2)}},
    "decoder": {"Dense_0": {"kernel": 2.0 * jnp.eye(2), "bias": jnp.zeros(2)}},
  }
  inputs = jnp.asarray([[1.0, 2.0], [3.0, 0.0], [50.0, 50.0]])
  batch = Batch(inputs, jnp.ones(3), jnp.asarray([1.0, 1.0, 0.0]), jnp.arange(3))
  clusters = dcn.Clusters(jnp.asarray([[1.0, 1.0], [4.0, 0.0]]), jnp.asarray([1.0, 1.0]))
  stats, constants = {"clusters": clusters, "network": {}}, {"weight": jnp.asarray(0.4)}
  objective = dcn.make_objective(autoencoder)
  value, (after, info) = objective(params, stats, constants, batch, None)
  # Errors 5 and 9, distances from the nearest centres 1 and 1.
  assert float(info["reconstruction_error"].value) == pytest.approx(7.0)
  assert float(value) == pytest.approx(7.0 + 0.5 * 0.4 * 1.0)
  np.testing.assert_allclose(after["clusters"].centres, [[1.0, 1.5], [3.5, 0.0]])
  slope = jax.grad(lambda p: objective(p, stats, {"weight": jnp.asarray(0.0)}, batch, None)[0])
  pulled = jax.grad(lambda p: objective(p, stats, constants, batch, None)[0])
  change = jax.tree.map(jnp.subtract, pulled(params), slope(params))
  # lambda / 2 * mean over two records of 2 x (f(x) - c): 0.2 * (x_1 * (0, 1) + x_2 * (-1, 0)).
  wanted = 0.2 * np.array([[-3.0, 1.0], [0.0, 2.0]])
  np.testing.assert_allclose(change["encoder"]["Dense_0"]["kernel"], wanted, atol=1e-5)
  np.testing.assert_allclose(change["decoder"]["Dense_0"]["kernel"], 0.0, atol=1e-6)


def test_dcn_scores_by_the_nearest_centre():
  model = fitted("DCN")
  assert model.centres.shape == (2, 16)
  params = {"params": {"Dense_0": {"kernel": jnp.eye(12)[:, :2]}}}
  encode = functools.partial(encoders.MLPEncoder((2,)).apply, params)
  centres = np.array([[0.0, 0.0], [3.0, 4.0]])
  x = np.zeros((2, 12), np.float32)
  x[1, :2] = 3.0, 3.0
  np.testing.assert_allclose(dcn._nearest(encode, centres)(x), [0.0, 1.0])


def test_energy_of_a_table_by_hand():
  params = {
    "centre": jnp.asarray([1.0, 0.0]),
    "Dense_0": {"kernel": jnp.asarray([[1.0], [2.0]]), "bias": jnp.asarray([0.5])},
  }
  x = jnp.asarray([[2.0, -1.0]])
  network = rebm.Energy((1,))

  def energy(params, x):
    return network.apply({"params": params}, x)

  hidden = 2.0 - 2.0 + 0.5
  assert float(energy(params, x)[0]) == pytest.approx(1.0 - np.log1p(np.exp(hidden)), rel=1e-6)
  gate = 1.0 / (1.0 + np.exp(-hidden))
  # x - sigma^2 ((x - b') - sigmoid * W)
  wanted = np.array([2.0, -1.0]) - 0.25 * (np.array([1.0, -1.0]) - gate * np.array([1.0, 2.0]))
  got = rebm.reconstruction(energy, params, x, 0.5)
  np.testing.assert_allclose(got[0], wanted, rtol=1e-6)


def test_energy_learns_the_score_of_a_normal_distribution():
  """Without hidden units E = |x - b'|^2 / 2: denoising finds b', the mean of the records."""
  x = jnp.asarray([[1.0], [3.0]])
  batch = Batch(x, jnp.ones(2), jnp.ones(2), jnp.arange(2))
  objective = rebm.make_objective(lambda params, x: 0.5 * jnp.sum((x - params[None]) ** 2, axis=1))
  constants = {"noise": jnp.asarray(1.0)}

  def value(centre):
    return objective(jnp.asarray([centre]), {}, constants, batch, jax.random.key(0))[0]

  # f(x + e) = b' whatever the noise: the mean of (x - b')^2.
  assert float(value(2.0)) == pytest.approx(1.0, rel=1e-5)
  assert float(value(0.0)) == pytest.approx(5.0, rel=1e-5)


def test_noise_has_the_deviation_that_was_asked_for():
  """A flat energy removes nothing: what is left is the noise, sigma^2 for each coordinate."""
  x = jnp.asarray(problem("REBM")[0])
  batch = Batch(x, jnp.ones(256), jnp.ones(256), jnp.arange(256))
  objective = rebm.make_objective(lambda params, x: 0.0 * jnp.sum(x, axis=1))
  for noise in (0.5, 2.0):
    constants = {"noise": jnp.asarray(noise)}
    value, _ = objective({}, {}, constants, batch, jax.random.key(0))
    assert float(value) == pytest.approx(12 * noise**2, rel=0.1)


def test_the_energy_of_a_series_is_the_sum_of_its_steps_given_what_came_before():
  network = rebm.RecurrentEnergy(4, 3)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(1, 3, 2)), jnp.float32)
  params = jax.jit(network.init)(jax.random.key(0), x)["params"]
  energy = jax.jit(lambda x: network.apply({"params": params}, x)[0])
  assert float(energy(x)) != pytest.approx(float(energy(x[:, ::-1])), abs=1e-4)

  def by_hand(x):
    cell, of_cell = nn.OptimizedLSTMCell(4), params["OptimizedLSTMCell_0"]
    carry, total = (jnp.zeros(4), jnp.zeros(4)), 0.0
    for x_t in x:
      visible, hidden = (params[name] for name in ("visible_bias", "hidden_bias"))
      centre = carry[1] @ visible["kernel"] + visible["bias"]
      inner = x_t @ params["visible"]["kernel"] + carry[1] @ hidden["kernel"] + hidden["bias"]
      total += 0.5 * np.sum((x_t - centre) ** 2) - np.sum(np.logaddexp(0.0, inner))
      carry, _ = cell.apply({"params": of_cell}, carry, x_t)
    return total

  assert float(energy(x)) == pytest.approx(float(by_hand(x[0])), rel=1e-4)


def test_padding_has_no_say():
  """A padded batch trains both networks as the batch alone does."""
  x = jnp.asarray(problem("REBM")[0][:6])
  objective = rebm.make_objective(lambda params, x: jnp.sum((x * params[None]) ** 2, axis=1))
  batch = Batch(x, jnp.ones(6), jnp.asarray([1.0] * 4 + [0.0] * 2), jnp.arange(6))
  other = Batch(x.at[4:].set(100.0), batch.labels, batch.mask, batch.index)
  constants, key = {"noise": jnp.asarray(1.0)}, jax.random.key(0)
  one, two = (objective(jnp.ones(12), {}, constants, each, key)[0] for each in (batch, other))
  assert float(one) == pytest.approx(float(two))


def test_all_methods_have_our_inputs_and_settings(monkeypatch):
  asked = []

  class Model:
    def __init__(self, seed, shape, **settings):
      asked.append((seed, shape, settings))

    def fit(self, x):
      assert abs(float(x.mean())) < 1e-5
      return self

    def score(self, x):
      return x.reshape(len(x), -1)[:, 0]

  for module in (dcn, rebm, anogan):
    monkeypatch.setattr(module, "make", Model)
  config = Config(network=NetworkConfig("mlp", (7,)), epochs=3, batch_size=5, seed=2)
  rng = np.random.default_rng(0)
  got = generative.scores(config, rng.normal(5.0, 2.0, size=(40, 3)), [np.ones((9, 3))])
  assert {name: len(parts[0]) for name, parts in got.items()} == {"DCN": 9, "REBM": 9}
  both = {"epochs": 3, "batch_size": 5}
  assert asked.pop() == (2, (3,), both)
  assert asked.pop() == (2, (3,), {**both, "pretrain_epochs": 3, "network": networks.MLP((7,))})
  waves = rng.normal(size=(40, 6, 1))
  assert set(generative.scores(config, waves, [waves])) == {"REBM"}
  assert generative.makers(3) == {"AnoGAN": Model}
  assert generative.makers(4) == {}


def test_table_2_has_them_beside_their_published_numbers(monkeypatch):
  rng = np.random.default_rng(0)
  x, labels = rng.normal(size=(40, 3)), np.arange(40) % 2
  x[labels == 1, 0] += 50.0
  trained = protocol.Trajectory(np.ones(1), np.zeros(1), x[:, 0][None], len)
  monkeypatch.setattr(tabular, "SETS", ("thyroid",))
  monkeypatch.setattr(tabular.data.Source, "load", lambda config: Splits(x, x, labels))
  monkeypatch.setattr(protocol, "train", lambda *_: trained)
  monkeypatch.setattr(protocol, "all_methods", lambda: True)
  for module, name in ((protocol, "baseline_scores"), (protocol, "deep_baseline_scores")):
    monkeypatch.setattr(module, name, lambda *_: {})
  found = {"DCN": [x[:, 0]], "REBM": [-x[:, 0]]}
  monkeypatch.setattr(generative, "scores", lambda config, train, tests: found)
  records, _ = tabular.table2(2, lambda *_: None)
  by = {(r.row, r.method, r.metric): r for r in records if r.column == "last"}
  assert by["thyroid, half split", "DCN", "f1_at_true_ratio"].paper == 33.0
  assert by["thyroid, half split", "DCN", "auroc"].mean == 100.0
  assert by["thyroid, released split", "REBM", "auroc"].mean == 0.0
  assert by["thyroid, released split", "REBM", "f1_at_true_ratio"].paper is None
  assert series.PAPER["REBM"] == (97.24, 63.73)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: dcn.make(0, (3,), clusters=0), "clusters must be >= 1, got 0"),
    (lambda: dcn.make(0, (3,), cluster_weight=-1.0), "cluster_weight must be >= 0"),
    (lambda: rebm.make(0, (8, 8, 1)), r"for tables and series; records have shape \[8, 8, 1\]"),
    (lambda: rebm.make(0, (3,), noise=0.0), "noise must be > 0"),
    (lambda: rebm.make(0, (3,), hidden=()), "hidden must be widths >= 1"),
    (lambda: rebm.make(0, (3,), score="norm"), "score must be one of"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()
