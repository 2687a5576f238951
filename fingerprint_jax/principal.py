"""Fits ``PrincipalAutoencoder``s: the code of each layer is as wide as its spectrum asks.

A layer's code has as many principal components as explain 88 % of the energy of its view, at most
128. Maps of more than 64 channels are mixed to their 64 principal mixtures of channels first, so
that neither memory nor size grows with the width of the network.
"""

from collections.abc import Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.utils.extmath import randomized_svd

from detector_jax import batching
from detector_jax.batching import Records
from fingerprint_jax import train
from fingerprint_jax.autoencoders import PrincipalAutoencoder
from fingerprint_jax.fingerprint import Fingerprint

RECORDS = 3000
CHANNELS = 64
EXPLAINED = 0.88
WIDEST = 128
EXACT = 256
RECORDS_PER_COMPONENT = 4
NOTHING = 1e-4

Fit = tuple[PrincipalAutoencoder, dict[str, jax.Array]]


def fit_layers(
  prints: Fingerprint, frozen: Mapping[str, Any], x: Records, batch_size: int
) -> dict[str, Fit]:
  """Autoencoders and their parameters by layer, from two passes over at most 3,000 records.

  Args:
    prints: has the taps; its autoencoders are not looked at.
    frozen: ``{"network", "views"}``.
    x: ``[n, ...]`` training records, an array or ``batching.Selection``.
    batch_size: records per pass.
  """
  rows = np.linspace(0, len(x) - 1, min(RECORDS, len(x))).round().astype(int)
  some = x[rows]

  @jax.jit
  def products(frozen: Any, rows: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    targets = {n: train.masked(t, mask) for n, t in prints.targets(frozen, rows).items()}
    wide = {n: t for n, t in targets.items() if t.ndim > 2 and t.shape[-1] > CHANNELS}
    return {n: jnp.einsum("...c,...d->cd", t, t) for n, t in wide.items()}

  @jax.jit
  def mixed(arguments: Any, rows: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
    frozen, mixes = arguments
    targets = prints.targets(frozen, rows)
    whole = {n: jnp.sum(t**2, axis=tuple(range(1, t.ndim))) for n, t in targets.items()}
    seen = {n: t @ mixes[n] if n in mixes else t for n, t in targets.items()}
    return {n: (whole[n], t.reshape(t.shape[0], -1)) for n, t in seen.items()}

  summed = train.sum_over(functools.partial(products, frozen), some, batch_size)
  mixes = {n: np.linalg.eigh(total)[1][:, : -CHANNELS - 1 : -1] for n, total in summed.items()}
  mixes = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), mixes)
  shown = batching.in_batches(lambda part: mixed((frozen, mixes), part), some, batch_size)
  result = {}
  for name, (energy, flat) in shown.items():
    mix = {"mix": mixes[name]} if name in mixes else {}
    centre, axes = components(flat, float(np.mean(energy, dtype=np.float64)))
    found = {"centre": centre} | ({"axes": axes} if axes.shape[1] else {})
    module = PrincipalAutoencoder(axes.shape[1], CHANNELS if mix else 0)
    result[name] = module, {n: jnp.asarray(leaf, jnp.float32) for n, leaf in found.items()} | mix
  return result


def components(rows: np.ndarray, energy: float) -> tuple[np.ndarray, np.ndarray]:
  """Mean ``[width]`` and principal axes ``[width, code]`` of rows ``[n, width]``.

  As many axes as leave 12 % of ``energy`` at most; not more than 128, nor a quarter of the rows,
  nor so many that nothing is left to judge a record by.

  Args:
    rows: n >= 1 of them.
    energy: mean square length of what the autoencoder has to reconstruct, > 0.
  """
  centre = np.asarray(rows, np.float64).mean(axis=0)
  about = np.asarray(rows - centre[None], np.float32)
  most = min(WIDEST, len(rows) // RECORDS_PER_COMPONENT, rows.shape[1])
  values, axes = np.zeros(0), np.zeros((rows.shape[1], 0))
  if rows.shape[1] <= EXACT:
    values, vectors = np.linalg.eigh(np.asarray(about.T @ about, np.float64))
    values, axes = values[::-1][:most], vectors[:, ::-1][:, :most]
  elif most:
    _, lengths, found = randomized_svd(about, most, n_iter=2, random_state=0)
    values, axes = lengths.astype(np.float64) ** 2, found.T
  explained = np.append(0.0, np.cumsum(values)) / len(rows) + np.sum(centre**2)
  left = 1.0 - explained / energy
  code = min(int(np.sum(left > 1.0 - EXPLAINED)), most)
  return centre, axes[:, : min(code, max(int(np.sum(left > NOTHING)) - 1, 0))]
