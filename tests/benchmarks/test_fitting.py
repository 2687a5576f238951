"""What all baselines that train promise: which records they take, and when they can be asked."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from benchmarks.baselines import (
  anogan,
  autoencoder,
  binary_cross_entropy,
  dagmm,
  dcn,
  deep_sad,
  deep_svdd,
  fitting,
  geom,
  goad,
  rebm,
)
from drocc_jax import networks

ALONE = {anogan: 3, autoencoder: 1, dagmm: 1, dcn: 1, deep_svdd: 1, geom: 3, goad: 1, rebm: 1}
KINDS = {**ALONE, binary_cross_entropy: 1, deep_sad: 1}
SHAPES = {1: (5,), 3: (8, 8, 1)}


def made(module):
  network = networks.LeNet((4,), (16,)) if KINDS[module] == 3 else None
  return module.make(0, SHAPES[KINDS[module]], network=network)


@pytest.mark.parametrize("module", KINDS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_it_is_made_for_records_of_one_shape_and_asked_once_it_is_fitted(module):
  model = made(module)
  assert isinstance(model, fitting.Fitted)
  assert model.parameters is None
  with pytest.raises(NotFittedError, match="Call fit before score"):
    model.score(np.zeros((1, *SHAPES[KINDS[module]])))
  given = () if module in ALONE else (np.zeros((3, *SHAPES[KINDS[module]])),)
  with pytest.raises(ValueError, match="typical records must have shape"):
    model.fit(np.zeros((3, 7)), *given)
  with pytest.raises(ValueError, match="typical records hold NaN"):
    model.fit(np.full((3, *SHAPES[KINDS[module]]), np.nan), *given)


@pytest.mark.parametrize("module", [dagmm, goad, rebm])
def test_a_network_of_its_own_takes_no_other(module):
  with pytest.raises(ValueError, match="has a network of its own: leave out network"):
    module.make(0, (5,), network=networks.MLP())
