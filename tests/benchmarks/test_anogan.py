"""AnoGAN: its score by hand, a toy set of known answer, both players, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.baselines import anogan, encoders
from detector_jax import metrics
from detector_jax.batching import Batch
from drocc_jax import networks

SHAPE, LENET = (8, 8, 1), networks.LeNet((4,), (16,))


def made(seed=0, **settings):
  chosen = {"latent": 8, "steps": 15, "epochs": 25, "learning_rate": 5e-3, "search_rate": 0.1}
  return anogan.make(seed, SHAPE, network=LENET, **{**chosen, **settings})


@pytest.fixture(scope="module")
def problem():
  """Typical images are a pattern and noise; anomalous ones another, nearer to the origin."""
  rng = np.random.default_rng(0)
  one, other = rng.normal(size=(2, *SHAPE))
  typical = 1.5 * one + 0.3 * rng.normal(size=(356, *SHAPE))
  odd = 1.2 * rng.choice([-1.0, 1.0], size=(100, 1, 1, 1)) * other
  test = np.concatenate([typical[256:], odd + 0.3 * rng.normal(size=odd.shape)])
  return typical[:256].astype(np.float32), test.astype(np.float32), np.repeat([0, 1], 100)


@pytest.fixture(scope="module")
def fitted(problem):
  return made().fit(problem[0])


@pytest.mark.long
def test_finds_the_other_pattern_and_training_helps(problem, fitted):
  train, test, labels = problem
  scores = fitted.score(test)
  assert scores.shape == (200,)
  assert metrics.auroc(labels, scores) > 0.9
  few = [5, 150, 7]
  np.testing.assert_allclose(fitted.score(test[few]), scores[few], rtol=1e-4)
  still = made(learning_rate=1e-30).fit(train)
  assert metrics.auroc(labels, still.score(test)) < 0.5
  for player in ("generator", "discriminator"):
    moved = jax.tree.map(
      lambda a, b: bool(np.any(a != b)),
      fitted.variables[player]["params"],
      still.variables[player]["params"],
    )
    assert all(jax.tree.leaves(moved)), player
  np.testing.assert_array_equal(made().fit(train).score(test), scores)
  assert not np.allclose(made(seed=1).fit(train).score(test), scores)
  sizes = (fitted.variables[each]["params"] for each in ("generator", "discriminator"))
  assert fitted.parameters == sum(leaf.size for each in sizes for leaf in jax.tree.leaves(each))


def test_anomaly_by_hand():
  x, made = jnp.zeros((1, 2, 1, 1)), jnp.asarray([1.0, -3.0]).reshape(1, 2, 1, 1)
  features, others = jnp.asarray([[1.0, 1.0]]), jnp.asarray([[0.0, 3.0]])
  got = anogan.anomaly(x, made, features, others, 0.1)
  assert float(got[0]) == pytest.approx(0.9 * 4.0 + 0.1 * 3.0)


@pytest.mark.long
def test_a_longer_search_comes_nearer(problem, fitted):
  train, test, labels = problem
  typical = test[labels == 0]
  short = made(steps=1).fit(train).score(typical)
  assert np.mean(fitted.score(typical)) < 0.95 * np.mean(short)


def test_each_player_of_the_gan_moves_the_logits_its_own_way(problem):
  """Frozen in turn: the discriminator tells real from made, the generator is taken for real."""
  generator = encoders.LeNetDecoder((4,), (16, 4), SHAPE)
  discriminator = anogan.Discriminator(encoders.LeNetEncoder((4,), (16,)))
  x, z = jnp.asarray(problem[0][:32]), jax.random.normal(jax.random.key(9), (32, 4))
  one = generator.init(jax.random.key(0), z)
  two = discriminator.init(jax.random.key(1), x)
  step = jax.jit(anogan.make_train_step(generator, discriminator, 4))
  batch = Batch(x, jnp.ones(32), jnp.ones(32), jnp.arange(32))

  def logits(state):
    """Mean logits of real and of made images, with batch statistics as in training."""
    made, _ = generator.apply(state.generator.variables, z, True, mutable=["batch_stats"])
    return [
      float(
        discriminator.apply(state.discriminator.variables, each, True, mutable=["batch_stats"])[0][
          0
        ].mean()
      )
      for each in (x, made)
    ]

  def trained(frozen):
    state = anogan.State(
      anogan.player(one), anogan.player(two), jnp.zeros((), jnp.int32), jnp.asarray(3e-3)
    )
    before = logits(state)
    for number in range(40):
      kept = getattr(state, frozen)
      state = step(state, batch, jax.random.key(number))[0].replace(**{frozen: kept})
    return before, logits(state)

  _, (real, made) = trained("generator")
  assert real > 1.0
  assert made < -1.0
  before, after = trained("discriminator")
  assert after[0] == pytest.approx(before[0], abs=1e-4)
  assert after[1] > before[1] + 0.3


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: anogan.make(0, (3,)), r"for images; records have shape \[3\]"),
    (lambda: anogan.make(0, SHAPE, network=networks.MLP()), "AnoGAN takes a LeNet, got MLP"),
    (lambda: made(discrimination=2.0), r"discrimination must be in \[0, 1\]"),
    (lambda: made(steps=0), "steps must be >= 1"),
    (lambda: made(latent=0), "latent must be >= 1"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()
