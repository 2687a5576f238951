"""Autoencoders in closed form: their components by hand, their widths, and that training keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import taps
from fingerprint_jax import autoencoders, principal, recipe, train
from fingerprint_jax.autoencoders import DenseAutoencoder, PrincipalAutoencoder
from fingerprint_jax.fingerprint import Fingerprint


def plane(n: int, width: int, variances: tuple[float, ...], seed: int = 0) -> np.ndarray:
  """``[n, width]`` about 0.1, with these variances along axes that are turned at random."""
  rng = np.random.default_rng(seed)
  turned = np.linalg.qr(rng.normal(size=(width, width)))[0][: len(variances)]
  return 0.1 + rng.normal(size=(n, len(variances))) * np.sqrt(variances) @ turned


def energy_of(rows: np.ndarray) -> float:
  return float(np.mean(np.sum(rows**2, axis=1)))


@pytest.mark.parametrize("width", [12, principal.EXACT + 1])
def test_components_are_those_of_the_singular_values(width):
  rows = plane(400, width, (9.0, 4.0, 1.0, 0.25))
  centre, axes = principal.components(rows, energy_of(rows))
  want = np.linalg.svd(rows - rows.mean(axis=0))[2][:2]  # 13 of 14.25 is 91 %, 9 is 63 %
  np.testing.assert_allclose(centre, rows.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(axes @ axes.T, want.T @ want, atol=1e-4)


@pytest.mark.parametrize(
  ("rows", "code"),
  [
    (plane(600, 300, (1.0,) * 300), principal.WIDEST),  # never enough: as many as there may be
    (plane(40, 100, (1.0,) * 100), 10),  # a quarter of the records
    (plane(3, 300, (1.0,)), 0),
    (plane(400, 2, (1.0,)), 0),  # one direction alone: with it nothing would be left
    (plane(400, 1, (1.0,)), 0),
  ],
)
def test_codes_are_bounded_and_leave_something(rows, code):
  axes = principal.components(rows, energy_of(rows))[1]
  assert axes.shape == (rows.shape[1], code)


def test_a_map_is_mixed_centred_and_projected():
  module, rng = PrincipalAutoencoder(2, 3), np.random.default_rng(0)
  mix = np.linalg.qr(rng.normal(size=(5, 3)))[0]
  axes = np.linalg.qr(rng.normal(size=(12, 2)))[0]
  params = {"mix": mix, "centre": rng.normal(size=12), "axes": axes}
  a = rng.normal(size=(4, 2, 2, 5))
  got, gradients = jax.value_and_grad(
    lambda params: jnp.sum(module.apply({"params": params}, a) ** 2)
  )(jax.tree.map(jnp.asarray, params))
  flat = (a @ mix).reshape(4, 12) - params["centre"]
  want = (params["centre"] + flat @ axes @ axes.T).reshape(4, 2, 2, 3) @ mix.T
  np.testing.assert_allclose(got, np.sum(want**2), rtol=1e-4)
  assert all((leaf == 0.0).all() for leaf in jax.tree.leaves(gradients))


@pytest.fixture(scope="module")
def wide():
  """A function with a map of 70 channels and one number, and its records."""
  rng = np.random.default_rng(5)
  weights = rng.normal(size=(3, 4 * 70)) / 2

  def layers(variables, x):
    maps = jnp.tanh(x @ variables).reshape(-1, 2, 2, 70)
    return {"map": maps, "one": maps[:, 0, 0, :1]}

  return layers, weights.astype(np.float32), rng.normal(size=(210, 3)).astype(np.float32)


def test_wide_maps_are_mixed_and_one_number_is_judged_by_its_size(wide):
  layers, weights, rows = wide
  config = train.Config(2, 50)
  prepared = recipe.build_training(layers, weights, rows, config, jax.random.key(0), logits=None)
  map_module, one = prepared.fingerprint.autoencoders
  assert (map_module.channels, one) == (principal.CHANNELS, PrincipalAutoencoder(0))
  assert 3 <= map_module.code < 20  # three dimensions, bent
  assert prepared.epochs == 0
  params, frozen = prepared.state.params, prepared.state.frozen
  squares = train.measure_residuals(prepared.fingerprint, frozen, params, rows, 50)
  assert 0.01 < np.mean(squares["map"]) <= 1.0 - principal.EXPLAINED + 1e-3
  np.testing.assert_allclose(np.mean(squares["one"]), 1.0, rtol=1e-3)
  for module, shape in ((map_module, (2, 2, 70)), (one, (1,))):
    name = "map" if module is map_module else "one"
    assert autoencoders.autoencoder_of(shape, params[name]) == module


def test_training_others_leaves_them_as_they_are(dense_layers, weights, rows):
  chosen = {"out": DenseAutoencoder(4, 2)}
  prepared = recipe.build_training(
    dense_layers, weights, rows, train.Config(2, 50), jax.random.key(0), chosen=chosen
  )
  assert prepared.epochs == 2
  before = jax.device_get(prepared.state.params)
  state, _ = prepared.advance(prepared.state, jax.random.key(1), 0, 1)
  for name, leaf in before["hidden"].items():
    np.testing.assert_array_equal(state.params["hidden"][name], leaf)
  assert (state.params["out"]["encode"]["kernel"] != before["out"]["encode"]["kernel"]).any()
  assert autoencoders.autoencoder_of((5,), before["out"]) == autoencoders.default_autoencoder((5,))


def test_the_papers_rule_keeps_trained_autoencoders(dense_layers, weights, rows):
  prepared = recipe.build_training(
    dense_layers, weights, rows, train.Config(2, 50), jax.random.key(0), combine="one_out"
  )
  want = tuple(autoencoders.default_autoencoder((n,)) for n in (8, 5))
  assert (prepared.fingerprint.autoencoders, prepared.epochs) == (want, 2)


def test_what_batches_are_padded_with_does_not_count(wide, monkeypatch):
  monkeypatch.setattr(principal, "CHANNELS", 2)
  layers, weights, rows = wide
  rows = rows + 2.0  # zeros are far from them
  found = taps.find(layers, weights, (3,))
  prints = Fingerprint(found, ())
  frozen = {"network": weights, "views": train.measure_views(prints, weights, rows, 70)}
  whole, padded = (principal.fit_layers(prints, frozen, rows, size)["map"] for size in (70, 64))
  assert whole[0] == padded[0]
  for name in ("mix", "axes"):
    want, got = (np.asarray(params[name] @ params[name].T) for _, params in (whole, padded))
    np.testing.assert_allclose(got, want, atol=1e-3)
