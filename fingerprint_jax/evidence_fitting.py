"""Fits the groups of evidence to training records, and to held-out ones; see ``evidence``."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from fingerprint_jax import evidence, one_out

BANK = 2000
DEAD = 0.03
PRIOR = 20


def fit(plan: evidence.Evidence, observed: evidence.Observed) -> evidence.Fitted:
  """Everything but the reference, from ``n`` training records."""
  classes = observed.logits.shape[1]
  of_class = np.argmax(observed.logits, axis=1)
  centre, spread = _moments(np.asarray(observed.log_errors, np.float64), of_class, classes)
  energy = _energy(plan, np.asarray(observed.energies, np.float64))
  shown = np.asarray(evidence.profile(observed, jnp.asarray(energy)), np.float64)
  origin = shown.mean(axis=0)
  about = shown - origin
  means, rest = _about_classes(about, of_class, classes)
  shrinkage = _shrinkage(rest)
  within = _whitening(rest, shrinkage)
  overall = _whitening(about, shrinkage) if plan.logits is not None else np.zeros((0, 0))
  rows = np.linspace(0, len(shown) - 1, min(BANK, len(shown))).round().astype(int)
  as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
  return evidence.Fitted(
    energy=as_float32(energy),
    centre=as_float32(centre),
    spread=as_float32(spread),
    origin=as_float32(origin),
    within=as_float32(within),
    class_means=as_float32(means @ within.T),
    texture=jax.tree.map(as_float32, _fit_texture(observed, of_class, classes)),
    overall=as_float32(overall),
    bank=as_float32(observed.direction[rows]),
    weights=as_float32([evidence.WEIGHTS[name] for name in plan.groups]),
    reference=one_out.fit_logs(np.arange(2.0 * one_out.TAIL_RECORDS)[:, None], ("",)),
  )


def _fit_texture(
  observed: evidence.Observed, of_class: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
  """What "texture" rests on; see ``Fitted``."""
  usual = np.maximum(np.asarray(observed.texture, np.float64).mean(axis=0), one_out.TINY)
  shown = np.asarray(evidence.texture(observed, jnp.asarray(usual, jnp.float32)), np.float64)
  origin = shown.mean(axis=0)
  means, rest = _about_classes(shown - origin, of_class, classes)
  within = _whitening(rest, _shrinkage(rest))
  return {"usual": usual, "origin": origin, "within": within, "class_means": means @ within.T}


def _about_classes(
  about: np.ndarray, of_class: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
  """Means ``[classes, d]`` of rows ``[n, d]`` by class, and the rows less those of theirs."""
  means = _moments(about, of_class, classes)[0]
  return means, about - means[of_class]


def with_reference(
  plan: evidence.Evidence, fitted: evidence.Fitted, statistics: np.ndarray
) -> evidence.Fitted:
  """Adds how held-out records' statistics ``[n, groups]`` are distributed.

  A group that says the same of all of them gets the weight 0.

  Raises:
    ValueError: too few records, or a statistic that is not finite.
  """
  values = np.array(statistics, np.float64)
  same = np.ptp(values, axis=0) == 0.0
  values[:, same] += 1e-6 * np.arange(len(values))[:, None]
  weights = np.where(same, 0.0, np.asarray(fitted.weights))
  fitted = dataclasses.replace(fitted, weights=jnp.asarray(weights, jnp.float32))
  names = tuple(f"evidence {name}" for name in plan.groups)
  fitted = dataclasses.replace(fitted, reference=one_out.fit_logs(values, names))
  extremes = plan.extremeness(fitted, jnp.asarray(values, jnp.float32))
  joint = np.asarray(evidence.score(fitted, extremes), np.float64)
  told = one_out.fit_logs(np.c_[values, joint], (*names, "score"))
  return dataclasses.replace(fitted, reference=told)


def _moments(values: np.ndarray, of_class: np.ndarray, classes: int) -> tuple[np.ndarray, ...]:
  """Means and deviations by class, ``[classes, d]``; of few records, drawn to those of all."""
  mean, deviation = values.mean(axis=0), values.std(axis=0)
  means, deviations = np.tile(mean, (classes, 1)), np.tile(deviation, (classes, 1))
  for each in np.unique(of_class):
    rows = values[of_class == each]
    weight = len(rows) / (len(rows) + PRIOR)
    means[each] += weight * (rows.mean(axis=0) - mean)
    deviations[each] += weight * (rows.std(axis=0) - deviation)
  return means, np.maximum(deviations, np.maximum(1e-3 * deviation, 1e-6))


def _scale(about: np.ndarray) -> np.ndarray:
  """Deviations ``[d]``; one that (nearly) never varies counts as a share of the usual one."""
  deviation = np.sqrt(np.mean(about**2, axis=0))
  return np.maximum(deviation, max(DEAD * float(np.median(deviation)), 1e-12))


def _shrinkage(about: np.ndarray) -> float:
  """Ledoit and Wolf's weight of the diagonal."""
  return float(np.clip(ledoit_wolf_shrinkage(about / _scale(about), assume_centered=True), 0, 1))


def _whitening(about: np.ndarray, shrinkage: float) -> np.ndarray:
  """Inverse of the Cholesky factor of the shrunken covariance of rows ``[n, d]``."""
  scaled = about / (scale := _scale(about))
  correlation = (1.0 - shrinkage) * (scaled.T @ scaled) / len(scaled)
  correlation += max(shrinkage, 1e-4) * np.eye(len(scale))
  return np.linalg.inv(np.linalg.cholesky(correlation)) / scale[None]


def _energy(plan: evidence.Evidence, energies: np.ndarray) -> np.ndarray:
  """Mean energy of the layer of each channel, ``[channels]``, from ``[n, channels]``."""
  of_layer = np.repeat(np.arange(len(plan.sizes)), plan.sizes)
  totals = np.bincount(of_layer, energies.mean(axis=0)) / np.asarray(plan.sizes)
  return np.maximum(totals, one_out.TINY)[of_layer].astype(np.float32)
