"""Networks of other kinds: activations computed elsewhere, NNX modules, tokens, PyTorch's hooks."""

from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from fingerprint_jax import NeuralFP, joined

CHEAP = {"fpr": 0.1, "epochs": 8, "batch_size": 64, "random_state": 0}
SHAPES = {"hidden": (12,), "map": (2, 2, 3)}


def elsewhere(x):
  """A network in NumPy: JAX cannot trace it."""
  assert isinstance(x, np.ndarray)
  assert len(x) <= 64
  hidden = np.tanh(x @ np.random.default_rng(1).normal(size=(3, 12)))
  return {"hidden": hidden, "map": np.abs(hidden).reshape(-1, 2, 2, 3), "class": hidden[:, 0] > 0}


@pytest.fixture(scope="module")
def records():
  return np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def foreign(records):
  return NeuralFP(activations=elsewhere, layers=tuple(SHAPES), **CHEAP).fit(records)


def test_activations_of_another_framework_are_fingerprinted_in_batches(foreign, records):
  assert foreign.layers_ == ("hidden", "map")
  assert foreign.detector_.metadata["layer_shapes"] == [[12], [2, 2, 3]]
  assert foreign.detector_.input_range is None  # activations of strange records may be of any size
  strange = records[:40] * 30.0
  assert np.mean(foreign.predict(strange) < 0) > np.mean(foreign.predict(records) < 0) + 0.5
  assert foreign.explain(strange).maps["map"].shape == (40, 2, 2)


def test_the_folder_takes_activations_and_needs_no_network(foreign, records, tmp_path):
  foreign.save(tmp_path / "detector")
  rows = joined(elsewhere(records[:50]), SHAPES)
  want = foreign.score_samples(records[:50])
  detector = detector_jax.load(tmp_path / "detector")
  assert detector.input_shape == (24,)
  np.testing.assert_allclose(-detector.score(rows), want, rtol=1e-5)
  loaded = NeuralFP.load(tmp_path / "detector")
  np.testing.assert_allclose(loaded.score_samples(rows), want, rtol=1e-5)
  loaded.set_params(activations=elsewhere)
  np.testing.assert_allclose(loaded.score_samples(records[:50]), want, rtol=1e-5)


def test_what_activations_lack_is_named(records):
  with pytest.raises(ValueError, match="gives no layer 'gone'; it gives: hidden, map, class"):
    NeuralFP(activations=elsewhere, layers=("gone",), **CHEAP).fit(records)
  with pytest.raises(ValueError, match="and not both"):
    NeuralFP(elsewhere, activations=elsewhere, **CHEAP).fit(records)
  with pytest.raises(ValueError, match="no activations of layer 'map', only: hidden"):
    joined({"hidden": np.zeros((2, 12))}, SHAPES)
  with pytest.raises(ValueError, match=r"layer 'hidden' have shape \[2, 3\], not \['n', 12\]"):
    joined({"hidden": np.zeros((2, 3))}, {"hidden": (12,)})
  with pytest.raises(ValueError, match=r"activations of \[2, 3\] records"):
    joined({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))}, {"a": (1,), "b": (1,)})


def test_fit_taps_what_taps_for_lists(records, foreign):
  module = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
  drop = nnx.Sequential(
    module, nnx.Dropout(0.5, rngs=nnx.Rngs(1)), nnx.Linear(4, 2, rngs=nnx.Rngs(2))
  )
  listed = NeuralFP.taps_for(drop, None, (3,))
  assert listed == {"layers/0": (4,), "layers/2": (2,)}


def test_an_nnx_state_with_a_dropout_key_is_saved(records, tmp_path):
  module = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
  module.eval()
  graph, state = nnx.split(module)

  def through(state, x):
    return {"out": nnx.merge(graph, state)(x)}

  model = NeuralFP(through, state, combine="one_out", **CHEAP).fit(records)
  model.save(tmp_path / "detector")
  loaded = NeuralFP.load(tmp_path / "detector")
  np.testing.assert_allclose(
    loaded.score_samples(records[:20]), model.score_samples(records[:20]), rtol=1e-5
  )


def test_tokens_are_fingerprinted(tmp_path):
  class Bag(nn.Module):
    @nn.compact
    def __call__(self, tokens):
      return nn.Dense(3)(nn.Embed(11, 8)(tokens).mean(axis=1))

  tokens = np.random.default_rng(0).integers(0, 5, (300, 6))
  variables = Bag().init(jax.random.key(0), jnp.zeros((1, 6), jnp.int32))
  model = NeuralFP(Bag(), variables, combine="one_out", **CHEAP).fit(tokens)
  strange = np.random.default_rng(1).integers(7, 11, (50, 6))
  assert np.mean(model.predict(strange) < 0) > 0.5


def test_hooks_of_pytorch_give_activations(records):
  torch = pytest.importorskip("torch")
  torch.manual_seed(0)
  network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
  seen = {}
  for name, module in network.named_children():
    module.register_forward_hook(
      lambda _module, _inputs, output, name=name: seen.update({name: output.numpy()})
    )

  def activations(x):
    with torch.no_grad():
      network(torch.from_numpy(x))
    return dict(seen)

  model = NeuralFP(activations=activations, layers=("1", "2"), **CHEAP).fit(records)
  assert model.layers_ == ("1", "2")
  assert np.mean(model.predict(records[:40] * 30.0) < 0) > 0.5


@pytest.mark.parametrize(
  ("activations", "message"),
  [
    (lambda x: {"1": np.ones((len(x) - 1, 3))}, "gives 63 rows for 64 records"),
    (lambda x: np.ones((len(x), 3)), r"must return \{layer: array\}, got ndarray"),
  ],
)
def test_activations_that_are_not_those_of_the_records_are_refused(rng, activations, message):
  with pytest.raises(ValueError, match=message):
    NeuralFP(activations=activations, **CHEAP).fit(rng.normal(size=(400, 3)))
