"""The search and MobileNetV2 as they are timed: operations, types, and what the ratio means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import speed_search
from drocc_jax import networks

TINY = networks.LeNet(channels=(2,), dense=(3,))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  monkeypatch.setattr(speed_search.networks, "cifar_lenet", lambda: TINY)
  monkeypatch.setattr(speed_search, "SHAPE", (4, 6, 1))
  size = speed_search.Size(batch_size=3, num_steps=2, images=2, pixels=8)
  monkeypatch.setattr(speed_search, "CPU", size)
  return size


def test_operations_of_a_hand_counted_search(tiny):
  forward = 2 * 4 * 6 * 25 * 2 + 2 * (2 * 3 * 2) * 3 + 2 * 3
  assert speed_search.search_operations(tiny) == 3 * forward * (2 * 2 + 2)


@pytest.mark.parametrize("precision", speed_search.TYPES)
def test_products_have_the_type_asked_for_and_the_rest_is_float32(precision, rng):
  x = jnp.asarray(rng.normal(size=(3, *speed_search.SHAPE)), jnp.float32)
  search = speed_search.search_in(precision, x, 2)
  text = str(jax.make_jaxpr(search)())
  products = [line for line in text.splitlines() if "dot_general" in line or "conv_gen" in line]
  short = {"float32": ":f32[", "bf16": ":bf16["}[precision]
  assert len(products) >= 12
  assert all(short in line for line in products)
  h = search()
  assert h.dtype == jnp.float32
  radius = np.sqrt(24.0) / 2.0
  lengths = np.linalg.norm(np.asarray(h).reshape(3, -1), axis=1)
  assert np.all((lengths > radius * (1 - 1e-5)) & (lengths < 2.0 * radius * (1 + 1e-5)))


def test_ratio_is_the_share_of_the_rate(monkeypatch):
  """Operations that the rate has done in 1 s and that take 2 s reach half of it."""
  operations = speed_search.search_operations(speed_search.CPU)
  monkeypatch.setattr(
    speed_search.speed_timing, "matrix_product_rate", lambda dtype: 4.0 * operations
  )
  monkeypatch.setattr(
    speed_search.speed_timing,
    "interleaved",
    lambda name, sides, runs: ({side: [2.0, 2.0] for side in sides}, {}),
  )
  (full, half), facts = speed_search.measure("search", 2, operations)
  assert (full.ratio, full.floor_seconds) == (0.5, 1.0)
  assert (half.ratio, half.floor_seconds) == (0.125, 0.25)
  assert facts["gflops"]["float32"] == pytest.approx(operations / 2e9, rel=1e-3)
  assert 0.0 < facts["negatives_apart"] < 0.2


@pytest.mark.long
def test_mobilenet_tells_images_per_second(monkeypatch):
  small = speed_search.MobileNetV2(width=0.25, bottlenecks=((1, 8, 1, 1),))
  monkeypatch.setattr(speed_search, "MobileNetV2", lambda: small)
  (score, train), facts = speed_search.measure("mobilenet", 1, 1e9)
  assert score.case == "MobileNetV2, score, 2 images of 8 x 8"
  assert train.case == "MobileNetV2, train, 2 images of 8 x 8"
  assert facts["images_per_second"]["score"] == pytest.approx(2 / score.ours_seconds, rel=1e-2)
  assert facts["operations"]["train"] == 10 * facts["operations"]["score"]
