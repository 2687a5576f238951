"""The logistic loss: hand values, gradient, no overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drocc_jax import losses


@pytest.mark.parametrize(
  ("logit", "label", "loss"),
  [
    (0.0, 1.0, np.log(2)),
    (0.0, -1.0, np.log(2)),
    (2.0, 1.0, np.log(1 + np.exp(-2))),
    (2.0, -1.0, np.log(1 + np.exp(2))),
    (-1000.0, 1.0, 1000.0),
    (1000.0, 1.0, 0.0),
  ],
)
def test_hand_values(logit, label, loss):
  assert float(losses.logistic(jnp.float32(logit), label)) == pytest.approx(loss, rel=1e-6)


def test_broadcasts_labels():
  got = losses.logistic(jnp.zeros(3), jnp.array([1.0, -1.0, 1.0]))
  np.testing.assert_allclose(got, np.full(3, np.log(2)), rtol=1e-6)


def test_gradient_is_minus_y_sigmoid_of_minus_yz():
  logits = jnp.array([-1000.0, -3.0, 0.0, 0.5, 3.0, 1000.0])
  for label in (-1.0, 1.0):
    got = jax.grad(lambda z, y=label: losses.logistic(z, y).sum())(logits)
    z = np.clip(np.asarray(logits, np.float64), -700, 700)
    np.testing.assert_allclose(got, -label / (1 + np.exp(label * z)), rtol=1e-5, atol=1e-30)


def test_mean_losses_of_the_released_code(released):
  got = losses.logistic(jnp.asarray(released.logits), 1.0).mean()
  np.testing.assert_allclose(got, released.positive_loss, rtol=1e-5)
