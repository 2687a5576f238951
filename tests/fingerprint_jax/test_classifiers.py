"""The classifiers: their size, what they sow, and that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import taps, training
from detector_jax.batching import Batch
from fingerprint_jax import classifiers


@pytest.mark.parametrize(
  ("network", "side", "parameters", "layers"),
  [
    (classifiers.mnist_classifier(), 28, 226_106, 7),
    (classifiers.fashion_mnist_classifier(), 28, 258_074, 11),
    (classifiers.digits_classifier(), 8, None, 5),
  ],
)
def test_size_and_layers(network, side, parameters, layers):
  shape = (side, side, 1)
  variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)))
  if parameters:
    sizes = [int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables)]
    assert sum(sizes) == parameters
  found = taps.find(network, variables, shape)
  assert found.layers == tuple(f"layer_{number}" for number in range(1, layers + 1))
  assert found.shapes[-1] == (10,)


def test_features_are_what_the_last_layer_sees(network, variables, images):
  logits, features = network.apply(variables, images[:4], method=network.with_features)
  np.testing.assert_array_equal(logits, network.apply(variables, images[:4]))
  last = variables["params"]["dense_3"]
  want = features @ last["kernel"] + last["bias"][None]
  np.testing.assert_allclose(logits, want, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def halves():
  """Noise images whose left (class 0) or right half (class 1) is brighter."""
  rng = np.random.default_rng(0)
  labels = rng.integers(2, size=96)
  x = rng.uniform(0.0, 0.6, size=(96, 8, 8, 1))
  x[labels == 0, :, :4] += 0.3
  x[labels == 1, :, 4:] += 0.3
  return x.astype(np.float32), labels


def test_training_learns_and_ignores_the_padding(halves):
  x, labels = halves
  network = classifiers.Classifier(((4, 2),), (8, 2))
  config = classifiers.Config(epochs=15, batch_size=32, learning_rate=1e-2, shift=1)
  optimizer = classifiers.make_optimizer(config, 15 * 3)
  state = classifiers.init(network, optimizer, x.shape[1:], jax.random.key(0))
  step = jax.jit(classifiers.make_train_step(network, optimizer, config))
  epochs = training.make_train_epochs_by_step(step, 32)
  data = training.to_device(x, labels)
  middle, first = epochs(jax.tree.map(jnp.array, state), data, jax.random.key(1), 0, 1)
  end, last = epochs(middle, data, jax.random.key(1), 1, 15)
  assert float(last.accuracy.value) > max(0.95, float(first.accuracy.value))
  assert float(last.loss.value) < 0.5 * float(first.loss.value)
  assert float(last.loss.count) == 96
  right = np.argmax(network.apply({"params": end.params}, x), axis=1) == labels
  assert right.mean() > 0.95

  def one_step(filling):
    inputs = jnp.asarray(np.where(np.arange(32)[:, None, None, None] < 20, x[:32], filling))
    mask = jnp.asarray(np.arange(32) < 20, jnp.float32)
    batch = Batch(inputs, jnp.asarray(labels[:32], jnp.float32), mask, jnp.arange(32))
    return step(state, batch, jax.random.key(2))

  for a, b in zip(jax.tree.leaves(one_step(0.0)), jax.tree.leaves(one_step(1e3)), strict=True):
    np.testing.assert_array_equal(a, b)


def test_augmentation_is_a_function_of_the_key(images):
  x = jnp.asarray(images[:16])
  config = classifiers.Config(shift=2, flip=True)
  augment = jax.jit(lambda seed: classifiers.augment(x, config, jax.random.key(seed)))
  one, again, other = augment(0), augment(0), augment(1)
  assert one.shape == x.shape
  np.testing.assert_array_equal(one, again)
  assert (np.asarray(one) != other).any()
  np.testing.assert_array_equal(classifiers.augment(x, classifiers.Config(), jax.random.key(0)), x)


def test_augmented_images_are_the_image_moved_and_mirrored():
  image = np.arange(1.0, 17.0, dtype=np.float32).reshape(4, 4, 1)
  x = jnp.asarray(np.tile(image, (64, 1, 1, 1)))
  config = classifiers.Config(shift=1, flip=True)
  padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
  moved = [padded[i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
  allowed = {m.tobytes() for m in moved} | {m[:, ::-1].tobytes() for m in moved}
  got = {np.asarray(one).tobytes() for one in classifiers.augment(x, config, jax.random.key(3))}
  assert got <= allowed
  assert len(got) > 9


@pytest.mark.parametrize(
  ("setting", "message"),
  [
    ({"epochs": 0}, "^epochs must be >= 1, got 0"),
    ({"learning_rate": -1.0}, r"^learning_rate must be > 0, got -1\.0"),
    ({"shift": -1}, "^shift must be >= 0, got -1"),
    ({"weight_decay": -0.1}, r"^weight_decay must be >= 0, got -0\.1"),
  ],
)
def test_a_setting_out_of_its_range_is_named(setting, message):
  with pytest.raises(ValueError, match=message):
    classifiers.Config(**setting).validate()
