"""An ensemble is its members, trained each with its own key; the mean of their logits scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import training
from drocc_jax import DROCC, DROCCOE, drocc, drocc_lf, ensemble, fit, networks, recipe

NETWORK = networks.MLP((8,))
PAIR = ensemble.Ensemble(NETWORK, 2)
BATCH = 8
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def data():
  x = np.random.default_rng(5).normal(size=(20, 3)).astype(np.float32)
  return training.to_device(x, negatives=x[:3] + 4.0)


@pytest.fixture(scope="module", params=[drocc, drocc_lf], ids=["drocc", "lf"])
def trained(request, data):
  """An ensemble of two, and its members trained alone; each with its info."""
  algorithm = request.param
  config = algorithm.Config(radius=1.0, step_size=0.2, noise_scale=1.0, num_steps=3)
  sample = jnp.zeros((1, 3))
  rows = data if algorithm is drocc_lf else data._replace(negatives=None)

  def train(network, hyper, init_key, key):
    program = fit.compile_program(network, config.static(), BATCH, algorithm.ALGORITHM)
    state = program.init(hyper, sample, init_key)
    return program, *program.train_epochs(state, rows, key, 0, 3)

  program, together, info = train(PAIR, config.hyper(), jax.random.key(1), KEY)
  alone = [
    train(NETWORK, config.hyper(), init_key, key)[1:]
    for init_key, key in zip(
      jax.random.split(jax.random.key(1), 2), ensemble.member_keys(KEY, PAIR), strict=True
    )
  ]
  return program, together, info, alone


def test_members_are_what_they_are_alone(trained):
  _, together, _, alone = trained
  for number, (state, _) in enumerate(alone):
    for got, want in zip(jax.tree.leaves(together), jax.tree.leaves(state), strict=True):
      np.testing.assert_allclose(got[number], want, rtol=1e-5, atol=1e-6)
  first, second = together.average["params"]["Dense_0"]["kernel"]
  assert (np.asarray(first) != second).any()
  assert together.step.tolist() == [9, 9]


def test_the_info_is_over_all_members(trained):
  _, _, info, ((_, one), (_, other)) = trained
  for name, mean in drocc.means(info).items():
    parts = [drocc.means(part)[name] for part in (one, other)]
    assert mean == pytest.approx(np.mean(parts), rel=1e-4, abs=1e-6)


def test_the_mean_logit_scores(trained, data):
  _, together, _, alone = trained
  score = recipe.NegativeLogit(PAIR)(together.average, data.inputs)
  parts = [recipe.NegativeLogit(NETWORK)(state.average, data.inputs) for state, _ in alone]
  np.testing.assert_allclose(score, np.mean(parts, axis=0), rtol=1e-5, atol=1e-6)
  assert (np.abs(parts[0] - parts[1]) > 1e-3).any()


def test_members_are_examined_and_validated_one_after_the_other(trained, data):
  program, together, _, _ = trained
  inputs = data.inputs[:5]
  examined = program.examine(together, inputs, KEY)
  assert examined.typical.shape == examined.travel.shape == (10,)
  params = jax.tree.map(lambda leaf: leaf[1], together.average)
  np.testing.assert_allclose(
    examined.typical[5:], recipe.NegativeLogit(NETWORK)(params, inputs), rtol=1e-5, atol=1e-6
  )
  assert program.validate(together, inputs, jnp.ones(5), KEY).value.shape == (2,)


def test_the_vmapped_form_trains_the_same(data, monkeypatch):
  config = drocc.Config(radius=1.0, step_size=0.2, num_steps=3)
  rows, sample = data._replace(negatives=None), jnp.zeros((1, 3))
  train = fit.make_train_epochs(PAIR, config.static(), BATCH)
  init = fit.compile_program(PAIR, config.static(), BATCH).init
  state = init(config.hyper(), sample, jax.random.key(1))
  looped, _ = jax.jit(train)(state, rows, KEY, 0, 2)
  monkeypatch.setattr(ensemble.jax, "default_backend", lambda: "gpu")
  vmapped, _ = jax.jit(lambda *arguments: train(*arguments))(state, rows, KEY, 0, 2)
  for got, want in zip(jax.tree.leaves(vmapped), jax.tree.leaves(looped), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("members", [0, -1])
def test_no_members_are_refused(members):
  with pytest.raises(ValueError, match=f"members must be >= 1, got {members}"):
    DROCC(members=members, epochs=1).fit(np.random.default_rng(0).normal(size=(30, 3)))


def test_one_member_is_the_network_itself():
  assert ensemble.of_members(NETWORK, 1) is NETWORK
  assert ensemble.of_members(NETWORK, 3) == ensemble.Ensemble(NETWORK, 3)
  assert ensemble.member_of(NETWORK) is ensemble.member_of(PAIR) is NETWORK


def test_an_ensemble_is_saved_and_loaded_as_one_detector(tmp_path):
  x = np.random.default_rng(1).normal(size=(100, 3))
  settings = {"members": 3, "epochs": 40, "learning_rate": 0.01, "random_state": 0}
  model = DROCC(**settings).fit(x)
  assert model.detector_.arrays["variables"]["params"]["Dense_0"]["kernel"].shape == (3, 3, 128)
  scores = model.score_samples(x)
  np.testing.assert_array_equal(DROCC(**settings).fit(x).score_samples(x), scores)
  model.save(tmp_path / "detector")
  np.testing.assert_allclose(
    DROCC.load(tmp_path / "detector").score_samples(x), scores, rtol=1e-6, atol=1e-6
  )
  one = DROCC(**{**settings, "members": 1}).fit(x).score_samples(x)
  assert (np.abs(one - scores) > 1e-4).any()


def test_members_learn_from_given_negatives():
  rng = np.random.default_rng(2)
  x = np.concatenate([rng.normal(size=(60, 2)), rng.normal(size=(10, 2)) + 6.0])
  y = np.repeat([1, -1], [60, 10])
  model = DROCCOE(members=2, epochs=60, batch_size=16, learning_rate=0.01, random_state=0).fit(x, y)
  scores = model.score_samples(x)
  assert np.median(scores[:60]) > scores[60:].max()
