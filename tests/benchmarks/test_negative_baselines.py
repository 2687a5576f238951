"""Binary cross-entropy and DeepSAD learn from negatives, with our networks, and say when not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.baselines import binary_cross_entropy, deep_sad, encoders, fitting
from detector_jax import HealthError, metrics
from detector_jax.batching import Batch
from drocc_jax import networks

pytestmark = pytest.mark.slow  # trains each method on each network

METHODS = {"cross-entropy": binary_cross_entropy, "DeepSAD": deep_sad}
NETWORKS = {
  "MLP": (networks.MLP((8, 8)), (6,)),
  "LSTM": (networks.LSTM(8), (12, 3)),
  "LeNet": (networks.LeNet((3,), (8,)), (8, 8, 1)),
}
SHIFTS = {"MLP": 1.0, "LSTM": 0.5, "LeNet": 0.4}
EACH = pytest.mark.parametrize("method", METHODS)
ON_EACH = pytest.mark.parametrize("network", NETWORKS)
PAIRS = pytest.mark.parametrize(
  ("method", "network"),
  [
    (method, network)
    for method in METHODS
    for network in NETWORKS
    if (method, network) != ("cross-entropy", "LSTM")
  ],
)
STILL = {"learning_rate": 1e-30}


def records(network, count, seed, shift):
  """Noise whose last half (of features, times or rows) is shifted."""
  shape = NETWORKS[network][1]
  x = np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)
  x[:, shape[0] // 2 :] += np.float32(shift)
  return x


@functools.cache
def problem(network):
  """Typical records, negatives, and fresh ones of each: shifted up, and shifted down."""
  up, down = SHIFTS[network], -SHIFTS[network]
  parts = (192, up), (96, down), (100, up), (100, down)
  return tuple(records(network, size, seed, shift) for seed, (size, shift) in enumerate(parts))


def made(method, network, seed=0, **settings):
  settings = {"epochs": 20, "learning_rate": 1e-2, **settings}
  if method == "DeepSAD":
    rate = settings["learning_rate"]
    settings = {"pretrain_epochs": 10, "pretrain_learning_rate": rate, **settings}
  model, shape = NETWORKS[network]
  return METHODS[method].make(seed, shape, network=model, **settings)


@functools.cache
def fitted(method, network, **settings):
  x, negatives, _, _ = problem(network)
  return made(method, network, **settings).fit(x, negatives)


def measured(method, network, **settings):
  """AUROC of fresh negatives against fresh typical records, and their scores."""
  _, _, typical, negative = problem(network)
  scores = fitted(method, network, **settings).score(np.concatenate([typical, negative]))
  return metrics.auroc(np.repeat([0, 1], 100), scores), scores


@pytest.mark.long
@PAIRS
def test_training_ranks_fresh_negatives_above_fresh_typical_records(method, network):
  auroc, scores = measured(method, network)
  untrained, _ = measured(method, network, **STILL)
  assert scores.shape == (200,)
  assert len(np.unique(scores)) > 150
  assert auroc > 0.9
  assert auroc > untrained + 0.05


@PAIRS
def test_training_moves_every_weight_array_and_no_frozen_bias(method, network):
  before, after = (
    jax.tree_util.tree_leaves_with_path(fitted(method, network, **settings).variables["params"])
    for settings in (STILL, {})
  )
  assert len(before) >= 2
  for (path, old), (_, new) in zip(before, after, strict=True):
    frozen = method == "DeepSAD" and path[-1].key == "bias"
    assert np.array_equal(old, new) == frozen, path


@EACH
def test_scoring_network_has_running_batch_statistics(method):
  model = fitted(method, "LeNet")
  stats = model.variables["stats"]["batch_stats"]["BatchNorm_0"]
  assert np.ptp(stats["var"]) > 0.02
  assert np.all(stats["mean"] != 0.0)
  rows = problem("LeNet")[2]
  np.testing.assert_array_equal(model.score(rows)[:3], model.score(rows[:3]))


@EACH
def test_same_seed_same_bits_and_another_seed_others(method):
  x, negatives, typical, _ = problem("MLP")
  scores = [
    made(method, "MLP", seed=seed, epochs=3).fit(x, negatives).score(typical) for seed in (1, 1, 2)
  ]
  np.testing.assert_array_equal(scores[0], scores[1])
  assert not np.array_equal(scores[0], scores[2])


@EACH
def test_trajectory_stops_at_even_epochs_and_ends_where_fit_does(method):
  x, negatives, typical, _ = problem("MLP")
  model = made(method, "MLP", epochs=8)
  stops = list(model.trajectory(x, negatives, points=4))
  assert [epoch for epoch, _ in stops] == [2, 4, 6, 8]
  scores = [score(typical) for _, score in stops]
  assert not np.allclose(scores[0], scores[1])
  direct = made(method, "MLP", epochs=8).fit(x, negatives)
  np.testing.assert_array_equal(scores[-1], direct.score(typical))
  np.testing.assert_array_equal(scores[-1], model.score(typical))
  halfway = made(method, "MLP", epochs=4).fit(x, negatives)
  np.testing.assert_array_equal(scores[1], halfway.score(typical))
  assert len(list(made(method, "MLP", epochs=2).trajectory(x, negatives, points=50))) == 2


@EACH
def test_bad_arguments_are_refused_with_a_reason(method):
  x, negatives, _, _ = problem("MLP")
  model = made(method, "MLP")
  with pytest.raises(ValueError, match=r"negatives must have shape \[n, 6\]"):
    model.fit(x, negatives[:, :, None])
  with pytest.raises(ValueError, match="0 typical records"):
    model.fit(x[:0], negatives)
  with pytest.raises(ValueError, match="points must be >= 1"):
    model.trajectory(x, negatives, 0)
  with pytest.raises(ValueError, match=r"records must have shape \[n, 6\]"):
    fitted(method, "MLP").score(x[:, :5])
  for name in ("epochs", "batch_size", "learning_rate"):
    with pytest.raises(ValueError, match=f"{name} must be"):
      made(method, "MLP", **{name: 0})
  with pytest.raises(ValueError, match="LSTM takes records of 2 axes"):
    METHODS[method].make(0, (6,), network=networks.LSTM(8))
  with pytest.raises(ValueError, match="too small for 2 poolings"):
    METHODS[method].make(0, (3, 8, 1), network=networks.mnist_lenet())


def test_cross_entropy_needs_negatives_and_deep_sad_an_encoder():
  x = problem("MLP")[0]
  with pytest.raises(ValueError, match="0 negatives; at least 1"):
    made("cross-entropy", "MLP").fit(x, x[:0])
  with pytest.raises(ValueError, match="no encoder for MLP"):
    deep_sad.make(0, (6,), network=networks.MLP(()))
  for name in ("eta", "pretrain_epochs", "pretrain_learning_rate"):
    with pytest.raises(ValueError, match=f"{name} must be"):
      deep_sad.make(0, (6,), **{name: -1})


def test_default_network_and_epochs_are_ours():
  assert fitting.network_for((28, 28, 1), None) == networks.mnist_lenet()
  assert fitting.epochs_of(None, 6400, 64) == 15
  assert fitting.epochs_of(7, 6400, 64) == 7


def test_cross_entropy_weighs_both_classes_alike(rng):
  kernel = rng.normal(size=(2, 1)).astype(np.float32)
  params = {"Dense_0": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray([0.3])}}
  typical, given = rng.normal(size=(2, 8, 2)).astype(np.float32)
  mask, real = jnp.asarray([1.0, 1.0] + 6 * [0.0]), jnp.ones(8)
  negatives = Batch(jnp.asarray(given), -real, real, jnp.arange(8))
  batch = Batch(jnp.asarray(typical), real, mask, jnp.arange(8), negatives)
  objective = jax.jit(binary_cross_entropy.make_objective(networks.MLP(())))
  loss, _ = objective(params, {}, {}, batch, jax.random.key(1))
  positive, negative = typical[:2] @ kernel + 0.3, given @ kernel + 0.3
  expected = np.mean(np.log1p(np.exp(-positive))) + np.mean(np.log1p(np.exp(negative)))
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize(("eta", "distances"), [(1.0, (1.0, 4.0, 4.0)), (3.0, (1.0, 4.0, 0.25))])
def test_objective_of_deep_sad_by_hand(eta, distances):
  class Identity(networks.nn.Module):
    def __call__(self, x, train=False, mask=None):
      return x

  x = np.zeros((4, 2), np.float32)
  x[:3, 0] = 1.0 + np.sqrt(distances)
  labels, mask = jnp.asarray([1.0, 1.0, -1.0, -1.0]), jnp.asarray([1.0, 1.0, 1.0, 0.0])
  batch = Batch(jnp.asarray(x), labels, mask, jnp.arange(4))
  constants = {"centre": jnp.asarray([1.0, 0.0]), "eta": jnp.asarray(eta)}
  objective = deep_sad.make_objective(Identity())
  loss, (_, info) = objective({}, {}, constants, batch, jax.random.key(0))
  expected = (distances[0] + distances[1] + eta / (distances[2] + 1e-6)) / 3
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(info["typical_distance"].value, 2.5, rtol=1e-5)


def test_score_of_deep_sad_is_the_squared_distance_to_its_centre():
  model, rows = fitted("DeepSAD", "MLP"), problem("MLP")[2]
  first, second = (model.variables["params"][f"Dense_{i}"]["kernel"] for i in range(2))
  codes = np.maximum(np.maximum(rows @ first, 0.0) @ second, 0.0)
  expected = np.sum((codes - model.variables["centre"]) ** 2, axis=1)
  np.testing.assert_allclose(model.score(rows), expected, rtol=1e-4)


def test_centre_keeps_away_from_zero():
  codes = np.array([[1.0, 0.02, -0.02, 0.0, -3.0], [2.0, 0.06, -0.06, 0.0, -1.0]])
  np.testing.assert_allclose(deep_sad.centre_of(codes), [1.5, 0.1, -0.1, 0.1, -2.0])


def test_centre_is_that_of_pretrained_typical_records():
  x, negatives, _, _ = problem("MLP")
  model = made("DeepSAD", "MLP", learning_rate=1e-30, pretrain_learning_rate=1e-3)
  model.fit(x, negatives)
  first, second = (model.variables["params"][f"Dense_{i}"]["kernel"] for i in range(2))
  codes = np.maximum(np.maximum(x @ first, 0.0) @ second, 0.0)
  centre = deep_sad.centre_of(codes)
  np.testing.assert_allclose(model.variables["centre"], centre, rtol=1e-4)
  assert np.sum(centre > 0.1) >= 3


@ON_EACH
def test_pretraining_reconstructs_better_than_the_mean_record(network):
  model, shape = NETWORKS[network]
  rng = np.random.default_rng(0)
  waves = rng.normal(size=(288, 2)) @ rng.normal(size=(2, int(np.prod(shape))))
  x = waves.reshape(288, *shape).astype(np.float32)
  program = deep_sad.compiled(model, shape, 64)
  settings = deep_sad.Settings(pretrain_learning_rate=1e-2, pretrain_epochs=60)
  variables = deep_sad.pretrain(program, x, settings, seed=0)
  reconstruction = fitting.on_rows(program.reconstruct, variables, shape)(x)
  assert reconstruction.shape == x.shape
  assert np.mean((x - reconstruction) ** 2) < 0.5 * np.mean((x - x.mean(axis=0)) ** 2)


@ON_EACH
def test_encoder_is_our_network_without_its_last_layer(network, rng):
  model, shape = NETWORKS[network]
  x = jnp.asarray(rng.normal(size=(4, *shape)), jnp.float32)
  encoder = encoders.autoencoder_of(model, shape).encoder

  def sizes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {str(path): leaf.shape for path, leaf in leaves if path[-1].key != "bias"}

  def drawn(path, leaf):
    is_bias = path[-1].key == "bias"
    return np.zeros(leaf.shape) if is_bias else rng.uniform(0.1, 0.5, leaf.shape)

  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  variables = jax.tree_util.tree_map_with_path(drawn, shapes)
  params = dict(variables["params"])
  last = params.pop(max(name for name in params if name.startswith("Dense")))
  own = jax.eval_shape(encoder.init, jax.random.key(0), x)["params"]
  assert sizes(own) == sizes(params)
  codes = jax.jit(encoder.apply)({**variables, "params": params}, x)
  logits = jax.jit(model.apply)(variables, x)
  assert np.ptp(logits) > 0.1
  np.testing.assert_allclose(codes @ last["kernel"][:, 0], logits, rtol=1e-4, atol=1e-5)


def test_encoder_of_series_ignores_biases(rng):
  x = jnp.asarray(rng.normal(size=(4, 12, 3)), jnp.float32)
  program = deep_sad.compiled(*NETWORKS["LSTM"], 64)
  params = fitted("DeepSAD", "LSTM").variables["params"]
  moved = jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf + 1.0 if path[-1].key == "bias" else leaf, params
  )
  assert not jax.tree.all(jax.tree.map(np.array_equal, params, moved))
  codes = [program.encode({"params": tree, "stats": {}}, x) for tree in (params, moved)]
  np.testing.assert_array_equal(*codes)


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 13, 3)])
def test_decoder_of_images_gives_back_their_shape(shape):
  network = networks.mnist_lenet() if shape[2] == 1 else networks.LeNet((4, 4, 4), (8,))
  autoencoder = encoders.autoencoder_of(network, shape)
  x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  result, variables = jax.eval_shape(autoencoder.init_with_output, jax.random.key(0), x)
  assert result.shape == x.shape
  widths = [layer["mean"].shape[0] for layer in variables["batch_stats"]["decoder"].values()]
  assert sorted(widths) == sorted(network.channels[:-1])


@EACH
def test_where_negatives_lie_decides_what_scores_high(method, rng):
  x = problem("MLP")[0] - 0.7
  offset = np.zeros(6, np.float32)
  offset[1] = 2.5
  here, there = x[:96] + offset, x[:96] - offset
  region = rng.normal(size=(100, 6)).astype(np.float32) * 0.7 + offset
  towards, away = (made(method, "MLP").fit(x, negatives) for negatives in (here, there))
  relative = [np.mean(m.score(region)) - np.mean(m.score(x)) for m in (towards, away)]
  assert relative[0] > relative[1] + 0.5
  assert (
    metrics.auroc(np.repeat([0, 1], 100), towards.score(np.concatenate([x[:100], region]))) > 0.8
  )


def test_deep_sad_scores_a_region_of_negatives_higher_than_without_them():
  x, negatives, _, region = problem("MLP")
  more = records("MLP", len(negatives), 9, SHIFTS["MLP"])
  alone = made("DeepSAD", "MLP", pretrain_epochs=1).fit(np.concatenate([x, more]), negatives[:0])
  unweighted = made("DeepSAD", "MLP", pretrain_epochs=1, eta=0.0).fit(x, negatives)
  informed = made("DeepSAD", "MLP", pretrain_epochs=1, eta=10.0).fit(x, negatives)
  ratios = [
    np.mean(model.score(region)) / np.mean(model.score(x))
    for model in (alone, unweighted, informed)
  ]
  assert ratios[2] > 1.5 * max(ratios[:2])
  assert np.mean(informed.score(region)) > 1.5 * np.mean(alone.score(region))


def test_collapse_is_refused_with_a_reason(rng):
  x = rng.normal(size=(288, 6)).astype(np.float32)
  settings = {"epochs": 200, "learning_rate": 1e-2, "weight_decay": 1e-2}
  negatives = x[:0]
  made("DeepSAD", "MLP", **settings | {"epochs": 20}).fit(x, negatives)
  x[:, 0] = 1.0
  with pytest.raises(HealthError, match=r"mapped to one point, .* Remove constant features"):
    made("DeepSAD", "MLP", **settings).fit(x, negatives)


def test_collapse_counts_negatives_too():
  centre = np.full(3, 2.0)
  codes = centre + 1e-4 * np.random.default_rng(0).normal(size=(50, 3))
  with pytest.raises(HealthError, match="negatives too"):
    deep_sad.check_not_collapsed(codes, centre)
  deep_sad.check_not_collapsed(np.concatenate([codes, np.zeros((1, 3))]), centre)


@EACH
def test_divergence_is_refused(method):
  x, negatives, _, _ = problem("MLP")
  with pytest.raises(HealthError, match="Training diverged"):
    made(method, "MLP", epochs=2, learning_rate=1e30).fit(x, negatives)
