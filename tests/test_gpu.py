"""What needs a GPU; ``make gpu-check`` runs it."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks import accelerators
from drocc_jax import DROCC
from tests.benchmarks.test_accelerators import MAKE

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def gpu():
  if jax.default_backend() != "gpu":
    pytest.skip("JAX finds no GPU")


@pytest.mark.parametrize("case", MAKE)
def test_a_step_says_what_it_says_on_a_cpu(case):
  step, found = MAKE[case](), []
  for device in (jax.devices()[0], jax.devices("cpu")[0]):
    with jax.default_device(device), jax.default_matmul_precision("float32"):
      state = step.start(jax.random.key(0))
      batch = accelerators.example(step.batch, jax.random.key(1))
      _, info = jax.jit(step.step)(state, batch, jax.random.key(2))
      found.append(jax.device_get(info))
  for mine, theirs in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)


def test_a_detector_trained_on_a_gpu_scores_alike_on_a_cpu(rng):
  x = rng.normal(size=(400, 6))
  detector = DROCC(epochs=5, random_state=0).fit(x).detector_
  mine = detector.score(x)
  with jax.default_device(jax.devices("cpu")[0]):
    arrays = jax.device_put(jax.device_get(detector.arrays), jax.devices("cpu")[0])
    theirs = dataclasses.replace(detector, arrays=arrays).score(x)
  np.testing.assert_allclose(mine, theirs, rtol=1e-2, atol=1e-2 * np.std(theirs))
