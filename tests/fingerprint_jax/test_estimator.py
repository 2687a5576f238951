"""NeuralFP with scikit-learn's face: the same numbers everywhere, explanations, refusals."""

import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from detector_jax import ArtifactError, HealthError, load
from fingerprint_jax import DenseAutoencoder, NeuralFP, explain
from tests.helpers import assert_same_elsewhere


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("neuralfp") / "detector"
  fitted.save(path)
  return path


@pytest.fixture(scope="module")
def root(make) -> NeuralFP:
  """Tapped at a root, which a record with a negative sum does not have."""

  def network(x):
    return {"plain": x, "root": jnp.sqrt(x.sum(axis=1, keepdims=True)) * x}

  x = np.random.default_rng(0).uniform(0.1, 1.0, size=(200, 4)).astype(np.float32)
  chosen = {name: DenseAutoencoder(8, 3) for name in ("plain", "root")}
  settings = {"fpr": 0.05, "autoencoders": chosen, "epochs": 30, "learning_rate": 2e-2}
  return make(network, None, **settings).fit(x)


def test_fitting_leaves_its_facts(fitted):
  assert fitted.layers_ == ("layer_1", "layer_2", "layer_3")
  assert set(fitted.losses_) == set(fitted.layers_)
  assert all(0.0 < loss < 1.0 for loss in fitted.losses_.values())
  facts = fitted.detector_.metadata
  assert (facts["method"], facts["training_records"]) == ("NeuralFP", 480)
  assert facts["layer_shapes"] == [[8, 8, 4], [4, 4, 4], [3]]
  assert fitted.detector_.fpr == 0.1
  assert fitted.detector_.calibration.scores.size == 60
  assert fitted.n_features_in_ == 8


def test_anomalies_are_told_from_typical_records(fitted, fresh):
  decision = fitted.decision_function(fresh)
  np.testing.assert_array_equal(decision, fitted.score_samples(fresh) - fitted.offset_)
  np.testing.assert_array_equal(fitted.predict(fresh), np.where(decision >= 0, 1, -1))
  assert (fitted.predict(fresh[::15]) == -1).all()
  assert fitted.p_value(fresh[::15]).max() == pytest.approx(1 / 61)


def test_fitting_leaves_the_networks_variables_alone(fitted, variables, images, network):
  want = network.init(jax.random.key(0), images[:1])  # deleted arrays would raise here
  for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(want), strict=True):
    np.testing.assert_array_equal(a, b)
  assert fitted.variables is variables


def test_a_score_does_not_depend_on_the_records_beside_it(fitted, fresh):
  together = fitted.detector_.score(fresh)
  assert fitted.detector_.batch_size < 300
  for rows in (slice(0, 1), slice(0, 7), slice(0, 70)):
    np.testing.assert_array_equal(fitted.detector_.score(fresh[rows]), together[rows])
  for rows in (slice(293, 300), slice(None, None, -1)):  # at another place of a batch: to rounding
    np.testing.assert_allclose(fitted.detector_.score(fresh[rows]), together[rows], rtol=1e-5)


@pytest.mark.parametrize("batch_size", [7, 300])
def test_batches_of_another_size_agree_to_rounding(fitted, fresh, batch_size):
  other = fitted.detector_.with_batch_size(batch_size)
  np.testing.assert_allclose(other.score(fresh), fitted.detector_.score(fresh), rtol=1e-3)


def test_the_same_random_state_gives_the_same_bits(root):
  x = np.random.default_rng(0).uniform(0.1, 1.0, size=(200, 4)).astype(np.float32)
  again = clone(root).fit(x)
  np.testing.assert_array_equal(again.score_samples(x), root.score_samples(x))
  assert again.losses_ == root.losses_
  assert again.detector_.program == root.detector_.program
  other = again.set_params(random_state=1, epochs=1).fit(x)
  assert (other.score_samples(x) != root.score_samples(x)).any()


def test_explanations(fitted, fresh):
  x = fresh[:30]
  got = fitted.explain(x)
  assert got.layers == fitted.layers_
  assert got.error.shape == got.side.shape == got.p_value.shape == (30, 3)
  assert got.low.shape == got.high.shape == (30, 3)
  assert got.layer.shape == (30,)
  assert (got.low < got.high).all()
  assert ((got.p_value > 0) & (got.p_value <= 1)).all()
  np.testing.assert_array_equal(got.side != 0, (got.error > got.high) | (got.error < got.low))
  np.testing.assert_array_equal((got.side != 0).any(axis=1), fitted.predict(x) == -1)
  rows = np.arange(30)
  np.testing.assert_allclose(got.p_value[rows, got.layer], got.p_value.min(axis=1), rtol=1e-6)
  assert {name: values.shape for name, values in got.maps.items()} == {
    "layer_1": (30, 4, 4),
    "layer_2": (30, 4, 4),
  }
  for number, name in enumerate(("layer_1", "layer_2")):
    np.testing.assert_allclose(got.maps[name].mean(axis=(1, 2)), got.error[:, number], rtol=1e-4)


def test_an_explanation_reads_as_one_line_per_record(fitted, fresh):
  got = fitted.explain(fresh[:30])
  lines = str(got).splitlines()
  assert len(lines) == 30
  for row in (0, 1, 15):
    name = got.layers[got.layer[row]]
    side = got.side[row, got.layer[row]]
    verdict = {-1: "error too small", 0: "typical", 1: "error too large"}[int(side)]
    assert lines[row].startswith(f"record {row}: {verdict}; {name}: error ")
  assert "typical" in str(got)
  assert "error too" in lines[0]


@pytest.mark.slow
def test_saved_it_says_the_same_where_flax_is_not(fitted, fresh, tmp_path):
  assert_same_elsewhere(fitted.detector_, fresh, tmp_path, rtol=1e-4)


def test_save_and_load(fitted, folder, fresh, images, tmp_path):
  loaded = NeuralFP.load(folder)
  np.testing.assert_allclose(loaded.score_samples(fresh), fitted.score_samples(fresh), rtol=1e-5)
  np.testing.assert_array_equal(loaded.predict(fresh), fitted.predict(fresh))
  assert loaded.offset_ == fitted.offset_
  assert loaded.layers_ == fitted.layers_
  assert (loaded.network, loaded.variables, loaded.epochs) == (None, None, 6)
  want, got = fitted.explain(fresh[:5]), explain(load(folder), fresh[:5])
  assert str(got) == str(want)
  assert set(got.maps) == set(want.maps)
  # Loaded, it can be calibrated and saved again; to train it takes its network.
  loaded.calibrate(images[:100], 0.2)
  assert loaded.detector_.fpr == 0.2
  assert (loaded.explain(fresh[:5]).high < want.high).all()
  loaded.save(tmp_path / "again")
  assert load(tmp_path / "again").fpr == 0.2
  with pytest.raises(ValueError, match="needs a trained network"):
    loaded.fit(images)


def test_calibrating_moves_the_thresholds_of_all_layers(fitted, images, fresh):
  copy = clone(fitted)
  copy.detector_, copy.n_features_in_ = fitted.detector_, 8
  before = fitted.explain(fresh[:1])
  copy.calibrate(images[:200], 0.3)
  after = copy.explain(fresh[:1])
  assert copy.detector_.fpr == 0.3
  assert (after.high < before.high).all()
  assert (after.low > before.low).all()
  np.testing.assert_array_equal(copy.score_samples(fresh), fitted.score_samples(fresh))
  assert fitted.detector_.fpr == 0.1


def test_scikit_learn_conventions(fitted, network, variables):
  copy = clone(fitted)
  assert not hasattr(copy, "detector_")
  assert copy.network == network
  assert copy.get_params()["epochs"] == 6
  assert copy.set_params(fpr=0.2).fpr == 0.2
  assert repr(fitted).startswith("NeuralFP(")
  for method in (copy.score_samples, copy.predict, copy.p_value, copy.explain):
    with pytest.raises(NotFittedError):
      method(np.zeros((2, 8, 8, 1)))
  with pytest.raises(NotFittedError):
    _ = copy.layers_


def test_pickling_keeps_the_scores(folder, fresh):
  loaded = NeuralFP.load(folder)
  again = pickle.loads(pickle.dumps(loaded))
  np.testing.assert_array_equal(again.score_samples(fresh), loaded.score_samples(fresh))


def test_records_that_the_network_never_saw_are_refused(fitted, fresh):
  with pytest.raises(
    ValueError, match=r"range from 0 to 2\d\d, training .* \(divide bytes by 255\)"
  ):
    fitted.score_samples((255 * fresh).astype(np.uint8))
  with pytest.raises(ValueError, match=r"trained on \[n, 8, 8, 1\], got \[300, 8, 7, 1\]"):
    fitted.score_samples(fresh[:, :, :7])
  bad = fresh.copy()
  bad[17, 3, 4, 0] = np.nan
  for method in (fitted.score_samples, fitted.predict, fitted.explain, fitted.fit):
    with pytest.raises(ValueError, match="NaN at row 17"):
      method(bad)


def test_activations_that_are_not_finite_at_scoring_are_named(root, tmp_path):
  x = np.random.default_rng(1).uniform(0.1, 1.0, size=(9, 4))
  assert np.isfinite(root.score_samples(x)).all()
  x[5] = [0.1, 0.1, 0.1, -0.9]
  message = "row 5 is nan: its layer_error of 'root' is not finite"
  for method in (root.score_samples, root.predict, root.p_value):
    with pytest.raises(HealthError, match=message):
      method(x)
  with pytest.raises(HealthError, match="'root' has activations that are not finite on row 5"):
    root.explain(x)
  # It is saved all the same, since it answers within the range of training.
  root.save(tmp_path / "root")
  with pytest.raises(HealthError, match=message):
    load(tmp_path / "root").score(x)


def test_fit_refuses_before_it_trains(make, network, variables, images):
  with pytest.raises(ValueError, match="needs a trained network"):
    make(None, None).fit(images)
  with pytest.raises(ValueError, match="needs 1998 held-out records"):
    make(network, variables, fpr=0.001).fit(images)
  with pytest.raises(ValueError, match="layers must be a sequence of names, got 'layer_1'"):
    make(network, variables, layers="layer_1").fit(images)
  with pytest.raises(ValueError, match="autoencoder for 'layer_9', which is no tapped layer"):
    make(network, variables, autoencoders={"layer_9": DenseAutoencoder(4, 2)}).fit(images)
  with pytest.raises(ValueError, match="epochs must be >= 1, got 0"):
    make(network, variables, epochs=0).fit(images)
  with pytest.raises(ValueError, match="do not match for records of shape"):
    make(network, variables).fit(images[:, :, :6])
  broken = jax.tree.map(lambda leaf: leaf * np.nan, variables)
  with pytest.raises(ValueError, match="Layer 'layer_1' has activations that are NaN"):
    make(network, broken).fit(images)


def test_detectors_of_other_methods_are_not_explained(fitted, folder, tmp_path):
  class Other(NeuralFP):
    pass

  with pytest.raises(ArtifactError, match="saved by NeuralFP, not by Other"):
    Other.load(folder)
  detector = load(folder)
  object.__setattr__(detector, "metadata_json", '{"method": "toy"}')
  with pytest.raises(ValueError, match="no layers to explain"):
    explain(detector, np.zeros((1, 8, 8, 1)))


def test_epochs_left_open_make_about_1500_steps():
  assert NeuralFP()._epochs(54_000) == 7
  assert NeuralFP()._epochs(1_000) == 375
  assert NeuralFP(epochs=3)._epochs(1_000) == 3
  assert NeuralFP()._epochs(10**7) == 1


def test_bytes_are_noticed_when_fitting(images, network, variables, caplog):
  make_cheap = NeuralFP(network, variables, fpr=0.2, epochs=1, random_state=0)
  make_cheap.fit((255 * images[:200]).astype(np.uint8))
  assert "Records are bytes from 0 to 255" in caplog.text


def test_one_sided_no_error_is_too_small(make, images, network, variables, fresh):
  model = make(network, variables, two_sided=False, epochs=2).fit(images)
  told = model.explain(fresh)
  assert not told.low.any()
  assert set(np.unique(told.side)) <= {0, 1}
  np.testing.assert_array_equal((told.error > told.high).any(axis=1), model.predict(fresh) == -1)
  both = make(network, variables, epochs=2).fit(images)
  assert (model.explain(fresh).high < both.explain(fresh).high).all()
