"""Groups of evidence: statistics by hand, and one fit that joins them, explains and travels."""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from detector_jax import metrics
from fingerprint_jax import NeuralFP, evidence, evidence_fitting, explain, recipe, roles, train

SHAPES = {"map": (2, 2, 3), "hidden": (8,), "out": (2,)}


def shown(n: int, seed: int, scale: float = 1.0) -> tuple[dict[str, jax.Array], jax.Array]:
  """Activations of a made-up classifier, whose class is the sign of its first hidden unit."""
  rng = np.random.default_rng(seed)
  hidden = scale * np.abs(rng.normal(size=(n, 8)) + 1.0)
  out = 4.0 * np.stack([hidden[:, 0] - 1.0, 1.0 - hidden[:, 0]], axis=1)
  maps = scale * rng.normal(size=(n, 2, 2, 3))
  found = {"map": maps, "hidden": hidden, "out": out}
  errors = np.exp(rng.normal(size=(n, 3)))
  return {k: jnp.asarray(v, jnp.float32) for k, v in found.items()}, jnp.asarray(errors)


@pytest.fixture(scope="module")
def plan() -> evidence.Evidence:
  activations, _ = shown(200, 0)
  vectors = {name: np.asarray(activations[name]) for name in ("hidden", "out")}
  return evidence.plan(SHAPES, vectors, "auto")


@pytest.fixture(scope="module")
def fitted(plan) -> evidence.Fitted:
  found = evidence_fitting.fit(plan, plan.observe(*shown(500, 0)))
  statistics = plan.statistics(found, plan.observe(*shown(500, 1)))
  return evidence_fitting.with_reference(plan, found, np.asarray(statistics))


def test_a_plan_finds_logits_signs_and_the_last_hidden_layer(plan):
  assert (plan.logits, plan.hidden, plan.signed) == ("out", "hidden", ("map", "out"))
  assert plan.groups == (*evidence.RELEASED, "ordinary")
  vectors = {"hidden": np.ones((9, 8)), "out": np.ones((9, 2))}  # one class for all: none
  none = evidence.plan(SHAPES, vectors, "auto")
  assert (none.logits, none.groups) == (
    None,
    ("profile", "texture", "layers", "neighbours", "ordinary"),
  )
  with pytest.raises(ValueError, match="logits names 'top', which is no tapped layer"):
    evidence.plan(SHAPES, vectors, "top")


def test_a_profile_has_at_most_1024_entries():
  shapes = {f"layer_{i}": (7, 7, 500) for i in range(9)}
  wide = evidence.plan(shapes, {}, None)
  assert wide.width == 32
  assert sum(wide.sizes) == 9 * 32  # windows of 16 channels
  activations = {name: jnp.ones((2, *shape)) for name, shape in shapes.items()}
  assert wide.observe(activations, jnp.ones((2, 9))).energies.shape == (2, sum(wide.sizes))


def test_statistics_by_hand(plan, fitted):
  activations, errors = shown(5, 2)
  observed = plan.observe(activations, errors)
  got = dict(zip(plan.groups, plan.statistics(fitted, observed).T, strict=True))
  of_class = np.argmax(activations["out"], axis=1)
  about = np.asarray(evidence.profile(observed, fitted.energy) - fitted.origin[None], np.float64)
  own = about @ np.asarray(fitted.within, np.float64).T - np.asarray(fitted.class_means)[of_class]
  whole = about @ np.asarray(fitted.overall, np.float64).T
  distance = np.sum(own**2, axis=1)
  np.testing.assert_allclose(got["profile"], np.log(distance), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(got["class"], distance - np.sum(whole**2, axis=1), atol=1e-2)
  known = fitted.texture
  form = np.asarray(evidence.texture(observed, known["usual"])) - np.asarray(known["origin"])
  form = form @ np.asarray(known["within"]).T - np.asarray(known["class_means"])[of_class]
  np.testing.assert_allclose(got["texture"], np.log(np.sum(form**2, axis=1)), rtol=1e-4, atol=1e-4)
  deviations = (np.log(errors) - fitted.centre[of_class]) / fitted.spread[of_class]
  np.testing.assert_allclose(got["layers"], deviations.max(axis=1), rtol=1e-4, atol=1e-5)
  p = np.asarray(jax.nn.softmax(activations["out"], axis=1), np.float64).max(axis=1)
  np.testing.assert_allclose(got["softmax"], np.log1p(-p), rtol=1e-3, atol=1e-3)
  unit = activations["hidden"] / np.linalg.norm(activations["hidden"], axis=1, keepdims=True)
  apart = np.linalg.norm(np.asarray(unit)[:, None] - np.asarray(fitted.bank)[None], axis=2)
  np.testing.assert_allclose(got["neighbours"], np.log(apart.min(axis=1)), rtol=1e-3, atol=1e-3)


def test_the_texture_of_a_map_is_its_energy_and_its_steps_between_places(plan):
  activations, errors = shown(4, 5)
  got = np.asarray(plan.observe(activations, errors).texture)
  maps = np.asarray(activations["map"])
  energy = np.mean(maps**2, axis=(1, 2, 3))
  down, across = maps[:, 1] - maps[:, 0], maps[:, :, 1] - maps[:, :, 0]
  steps = np.mean(down**2, axis=(1, 2)) + np.mean(across**2, axis=(1, 2))
  assert got.shape == (4, 4)  # three energies, one map
  np.testing.assert_allclose(got[:, 0], energy, rtol=1e-5)
  np.testing.assert_allclose(got[:, 1], np.mean(activations["hidden"] ** 2, axis=1), rtol=1e-5)
  np.testing.assert_allclose(got[:, 3], steps / energy, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 3), (4, 6, 3), (4, 1, 3), (1, 1, 3), (2, 3, 4, 2)])
def test_steps_are_summed_over_axes_of_any_number(shape):
  maps = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
  axes = [axis for axis in range(1, len(shape)) if maps.shape[axis] > 1]
  squares = [np.diff(maps, axis=axis).reshape(3, -1) ** 2 for axis in axes]
  want = sum((each.mean(axis=1) for each in squares), np.zeros(3))
  np.testing.assert_allclose(evidence._steps(jnp.asarray(maps)), want, rtol=1e-5)


def test_records_that_lie_nearer_to_the_mean_than_any_other_are_found_as_ordinary(plan, fitted):
  observed = plan.observe(*shown(200, 6))
  mean = [jnp.broadcast_to(each.mean(axis=0), each.shape) for each in observed]
  near = evidence.Observed(*(0.9 * m + 0.1 * o for m, o in zip(mean, observed, strict=True)))
  statistics = [plan.statistics(fitted, each) for each in (observed, near)]
  place, labels = plan.groups.index("ordinary"), np.repeat([0, 1], 200)
  ordinary = np.concatenate([np.asarray(each)[:, place] for each in statistics])
  assert metrics.auroc(labels, ordinary) > 0.95
  without = dataclasses.replace(fitted, weights=fitted.weights.at[place].set(0.0))
  with_it, other = (
    np.concatenate([evidence.score(f, plan.extremeness(f, each)) for each in statistics])
    for f in (fitted, without)
  )
  assert metrics.auroc(labels, with_it) > metrics.auroc(labels, other) + 0.02


def test_a_folder_that_names_no_groups_keeps_those_of_its_release(plan):
  known = dataclasses.asdict(plan)
  assert evidence.from_json(known) == plan
  del known["groups"]
  assert evidence.from_json(known).groups == evidence.RELEASED
  assert evidence.from_json(known | {"logits": None}).groups == (
    *("profile", "texture", "layers", "neighbours"),
  )


def test_a_smoothed_map_of_the_same_energy_is_found_by_its_texture(plan, fitted):
  activations, errors = shown(200, 4)
  maps = np.asarray(activations["map"])
  level = maps.mean(axis=(1, 2), keepdims=True)
  smooth = level + 0.3 * (maps - level)
  sizes = [np.sqrt(np.mean(each**2, axis=(1, 2, 3), keepdims=True)) for each in (maps, smooth)]
  smooth = {**activations, "map": jnp.asarray(smooth * sizes[0] / sizes[1])}
  place = plan.groups.index("texture")
  usual, other = (
    np.asarray(plan.statistics(fitted, plan.observe(found, errors)))[:, place]
    for found in (activations, smooth)
  )
  assert metrics.auroc(np.repeat([0, 1], 200), np.r_[usual, other]) > 0.75


def test_sizes_of_activations_are_evidence(plan, fitted):
  def extremes(scale):
    return plan.extremeness(fitted, plan.statistics(fitted, plan.observe(*shown(200, 3, scale))))

  usual, larger, smaller = (np.asarray(extremes(scale))[:, 0] for scale in (1.0, 3.0, 1 / 3))
  for other in (larger, smaller):
    labels = np.repeat([0, 1], 200)
    assert metrics.auroc(labels, np.r_[usual, other]) > 0.95


def test_a_group_that_says_the_same_of_all_has_no_weight(plan, fitted):
  statistics = np.random.default_rng(0).normal(size=(100, 7))
  statistics[:, 4] = 2.0
  got = evidence_fitting.with_reference(plan, fitted, statistics)
  np.testing.assert_array_equal(got.weights, [2.0, 2.0, 2.0, 1.0, 0.0, 1.0, 2.0])


@pytest.fixture(scope="module")
def joined(make, network, variables, images) -> NeuralFP:
  model = make(network, variables, combine="fingerprint", layers=("layer_1", "layer_3"))
  return model.fit(images[:400], X_calibration=images[350:])


def test_records_that_the_network_does_not_know_calibrate(joined, make, network, variables, images):
  rows = roles.given_rows(images[:400], images[350:], 0.1, 0)
  assert (len(rows.train), len(rows.reference), len(rows.calibration)) == (400, 100, 100)
  assert min(rows.reference.min(), rows.calibration.min()) >= 450  # 50 of them are training records
  assert joined.detector_.calibration.scores.size == 100
  assert all(each["passed"] for each in joined.detector_.metadata["health"])
  with pytest.raises(ValueError, match=r"needs 40 records in X_calibration .* got 10: give more"):
    make(network, variables).fit(images[:400], X_calibration=images[390:410])
  with pytest.raises(ValueError, match=r"X_calibration has records of shape \[4, 4, 1\]"):
    roles.given_rows(images, images[:, :4, :4], 0.1, 0)


def test_it_finds_explains_and_travels(joined, fresh, tmp_path):
  flagged = joined.predict(fresh) == -1
  assert flagged[::15].all()
  assert flagged.mean() < 0.3
  got = joined.explain(fresh[:30])
  np.testing.assert_array_equal(got.flagged, flagged[:30])
  assert got.groups == tuple(joined.detector_.metadata["groups"])
  report = joined.detector_.report(fresh[:30])
  weights = [evidence.WEIGHTS[name] for name in got.groups]
  np.testing.assert_allclose(report["group_extremeness"] @ weights, report["score"], rtol=1e-4)
  np.testing.assert_array_equal(got.group, np.argmax(report["group_extremeness"] * weights, axis=1))
  line = str(got).splitlines()[0]
  assert line.startswith(f"record 0: out-of-distribution; {got.groups[got.group[0]]}, p = 0.0")
  assert f"; {got.layers[got.layer[0]]}: error " in line
  joined.save(tmp_path / "detector")
  loaded = detector_jax.load(tmp_path / "detector")
  np.testing.assert_allclose(loaded.score(fresh), joined.detector_.score(fresh), rtol=1e-4)
  assert str(explain(loaded, fresh[:5])) == str(joined.explain(fresh[:5]))


class Copier(nn.Module):
  """An autoencoder, of which ``share`` of the record comes out again."""

  share: float

  @nn.compact
  def __call__(self, x):
    return self.share * x + 0.0 * nn.Dense(x.shape[1], name="last")(x)


@pytest.mark.parametrize(("share", "layers"), [(0.9, ("last", "residual")), (0.1, ("last",))])
def test_the_residual_of_an_autoencoder_is_a_layer(share, layers, rows):
  network = Copier(share)
  variables = network.init(jax.random.key(0), rows[:1])
  prepared = recipe.build_training(network, variables, rows, train.Config(1, 50), jax.random.key(0))
  assert prepared.fingerprint.layers == layers


def test_a_folder_without_the_setting_had_the_papers_rule(joined, tmp_path):
  facts = joined.detector_.metadata["estimator"]
  del facts["params"]["combine"]
  joined.detector_.with_metadata(estimator=facts).save(tmp_path / "former")
  assert NeuralFP.load(tmp_path / "former").combine == "one_out"


def test_an_unknown_combination_is_refused(make, network, variables, images):
  with pytest.raises(ValueError, match="combine must be one of fingerprint, one_out, got 'all'"):
    make(network, variables, combine="all").fit(images)
