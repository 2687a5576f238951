"""Fingerprints: errors by hand, and a score that is the rule of the thresholds."""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import taps
from fingerprint_jax import fingerprint, one_out, views


class Scale(nn.Module):
  """Reconstructs a multiple of its input."""

  @nn.compact
  def __call__(self, a):
    return a * self.param("factor", nn.initializers.ones, ())


@pytest.fixture(scope="module")
def halves():
  """Two layers, each reconstructed by half; weights 0.5 and 1.5 on the first one's coordinates."""
  found = taps.find(lambda x: {"vector": x, "map": x.reshape(-1, 1, 2, 1)}, None, (2,))
  prints = fingerprint.Fingerprint(found, (Scale(), Scale()))
  half = {"factor": jnp.float32(0.5)}
  variables = {
    "network": None,
    "views": {
      "vector": views.View(jnp.array([1.0, 2.0]), jnp.array([2.0, 4.0])),
      "map": views.View(jnp.zeros(1), jnp.ones(1)),
    },
    "params": {"vector": half, "map": half},
    "weights": {"vector": jnp.array([0.5, 1.5]), "map": jnp.ones((1, 2, 1))},
  }
  return prints, variables


def test_errors_by_hand(halves):
  prints, variables = halves
  x = jnp.array([[3.0, 10.0], [1.0, 2.0]])  # (1, 2) and (0, 0) once standardised
  unexplained = prints.unexplained(variables, x)
  energy = (0.5 * 1.1 + 1.5 * 4.1) / 2
  want = [[0.5 * 0.25 / energy, 1.5 * 1.0 / energy], [0.0, 0.0]]
  np.testing.assert_allclose(unexplained["vector"], want, rtol=1e-6)
  errors = prints.errors(unexplained)
  second = (1.5**2 + 5.0**2) / (9.1 + 100.1)
  np.testing.assert_allclose(errors[0], [np.mean(want[0]), second], rtol=1e-6)
  np.testing.assert_allclose(errors[1, 0], 0.0, atol=1e-12)


def test_score_and_report_by_hand(halves):
  prints, variables = halves
  logs = np.linspace(-3.0, -1.0, 40)
  reference = one_out.fit_reference(np.exp(np.stack([logs, logs], axis=1)), prints.layers)
  variables = {**variables, "reference": reference}
  x = jnp.array([[3.0, 10.0], [1.2, 2.0], [2.0, -9.0]])
  errors = prints.errors(prints.unexplained(variables, x))
  extremes, sides = one_out.extremeness(reference, errors)
  score = prints(variables, x)
  np.testing.assert_array_equal(score, np.asarray(extremes).max(axis=1))
  report = jax.jit(prints.report)(variables, x, jnp.float32(2.0))
  layer = np.asarray(extremes).argmax(axis=1)
  np.testing.assert_array_equal(report["layer"], layer)
  np.testing.assert_array_equal(report["side"], np.asarray(sides)[np.arange(3), layer])
  np.testing.assert_allclose(
    report["map/map"], prints.unexplained(variables, x)["map"][..., 0], rtol=1e-6
  )
  assert "map/vector" not in report
  low, high = one_out.thresholds(reference, jnp.float32(2.0))
  np.testing.assert_allclose(report["layer_low"], np.tile(low, (3, 1)), rtol=1e-6)
  np.testing.assert_allclose(report["layer_high"], np.tile(high, (3, 1)), rtol=1e-6)
  assert {len(values) for values in report.values()} == {3}


def test_weights_by_hand():
  weights = fingerprint.error_weights({"a": jnp.array([1.0, 3.0]), "b": jnp.zeros((2, 2, 1))})
  want = np.array([1 / 1.2, 1 / 3.2])
  np.testing.assert_allclose(weights["a"], want / want.mean(), rtol=1e-6)
  np.testing.assert_allclose(weights["b"], 1.0, rtol=1e-6)


def test_a_score_above_the_threshold_is_some_layer_beyond_its_own(fitted, fresh):
  detector = fitted.detector_
  report = detector.report(fresh)
  threshold = np.float32(detector.threshold)
  distance = np.abs(report["layer_extremeness"] - threshold).min(axis=1)
  clear = distance > 1e-4 * threshold
  assert clear.mean() > 0.9
  errors = report["layer_error"]
  outside = (errors < report["layer_low"]) | (errors > report["layer_high"])
  alarm = detector.score(fresh) > threshold
  assert 0 < alarm.sum() < len(fresh)
  np.testing.assert_array_equal(outside.any(axis=1)[clear], alarm[clear])
  assert ((report["layer_side"] > 0) == (errors > report["layer_high"]))[outside].all()


def test_the_rate_on_fresh_typical_records_is_near_the_stated_one(fitted, fresh):
  typical = np.delete(fresh, np.arange(0, 300, 15), axis=0)
  # 10 % stated; 60 calibration and 280 fresh records make a deviation of 4.3 %.
  assert fitted.detector_.predict(typical).mean() < 0.23
  assert (fitted.detector_.predict(fresh[::15]) == 1).all()


def test_maps_average_to_the_error(fitted, fresh):
  report = fitted.detector_.report(fresh[:40])
  assert {n for n in report if n.startswith("map/")} == {"map/layer_1", "map/layer_2"}
  for number, name in enumerate(("layer_1", "layer_2")):
    assert report[f"map/{name}"].shape == (40, 4, 4)
    assert (report[f"map/{name}"] >= 0).all()
    mean = report[f"map/{name}"].mean(axis=(1, 2))
    np.testing.assert_allclose(mean, report["layer_error"][:, number], rtol=1e-4)


def test_equal_fingerprints_share_their_programs(halves):
  prints, _ = halves
  other = dataclasses.replace(prints, autoencoders=(Scale(), Scale()))
  assert fingerprint.Report(prints) == fingerprint.Report(other)
  assert hash(fingerprint.Report(prints)) == hash(fingerprint.Report(other))
  assert prints != dataclasses.replace(prints, autoencoders=(Scale(), nn.Dense(2)))
