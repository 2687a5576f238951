"""Features of images and series that k-means learns from their patches (Coates, Ng & Lee, 2011)."""

from collections.abc import Mapping
import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import MiniBatchKMeans

from detector_jax import batching
from detector_jax.features import symmetry
from detector_jax.features.base import in_turn, per_channel, rows_for
from detector_jax.features.whitening import Whitening

CONTRAST = 0.01  # added to a patch's variance, as a share of the mean variance of patches
PATCH_NOISE = 0.1  # added to the eigenvalues of normalised patches; natural images: Coates et al.
LEAST = {"centroids": 2, "window": 2, "stride": 1, "pool": 1, "components": 1, "patches": 2}
NEGLIGIBLE = (
  0.02  # directions that whitening shrinks below this share of their variance are left out
)
WHITE, HARDLY_WHITE = 0.1, 100.0  # noise of whitening, see ``Patches``
TINY = 1e-9
STRANGE_NOISE = 0.01  # of whitening patches that keep their contrast, see ``Whitening.fit``


def windows(
  shape: tuple[int, ...], window: int, stride: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Sides of a patch, and how many of them go along each axis but the channels'.

  Raises:
    ValueError: a record is smaller than its window.
  """
  sides = (window,) * (len(shape) - 1)
  if min(shape[:-1]) < window:
    raise ValueError(
      f"A window of {window} does not fit into records of {' x '.join(map(str, shape[:-1]))}."
    )
  return sides, tuple((size - window) // stride + 1 for size in shape[:-1])


def extract(x: jax.Array, window: int, stride: int) -> jax.Array:
  """All patches of records.

  Args:
    x: ``[batch, ..., channels]`` with one or two axes between.
    window: side of a patch.
    stride: step between patches.

  Returns:
    ``[batch, ..., window ** axes * channels]``, the axes between now those of the patches.
  """
  sides, counts = windows(x.shape[1:], window, stride)
  parts = []
  for start in itertools.product(*(range(side) for side in sides)):
    place = tuple(
      slice(first, first + (count - 1) * stride + 1, stride)
      for first, count in zip(start, counts, strict=True)
    )
    parts.append(x[(slice(None), *place)])
  return jnp.concatenate(parts, axis=-1)


def pooled(x: jax.Array, pool: int) -> jax.Array:
  """Means over ``pool`` equal parts of each axis between batch and channels.

  Args:
    x: ``[batch, ..., channels]``.
    pool: parts along each axis, at most its length.

  Returns:
    ``[batch, pool ** axes * channels]``.
  """
  for axis in range(1, x.ndim - 1):
    ends = np.linspace(0, x.shape[axis], pool + 1).round().astype(int)
    parts = [
      jnp.mean(jax.lax.slice_in_dim(x, first, last, axis=axis), axis=axis, keepdims=True)
      for first, last in itertools.pairwise(ends.tolist())
    ]
    x = jnp.concatenate(parts, axis=axis)
  return x.reshape(x.shape[0], -1)


def distances(z: jax.Array, centroids: jax.Array) -> jax.Array:
  """Euclidean, ``[..., centroids]``, of points ``[..., d]``."""
  squared = (
    jnp.sum(jnp.square(z), axis=-1, keepdims=True)
    - 2.0 * (z @ centroids.T)
    + per_channel(jnp.sum(jnp.square(centroids), axis=-1), z)
  )
  return jnp.sqrt(jnp.maximum(squared, 0.0))


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["whitening", "centroids"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class Strangeness:
  """How unlike those of training patches are that keep their contrast.

  Contrast tells a scratch from the noise of a flat place, which a code for kinds of things does
  well to leave out.

  Attributes:
    whitening: of patches less their mean.
    centroids: ``[centroids, components]`` of the whitened patches.
  """

  whitening: Whitening
  centroids: jax.Array

  def __call__(self, centred: jax.Array) -> jax.Array:
    """Distances ``[batch, ...]`` of patches ``[batch, ..., patch]`` to their nearest centroid."""
    z = (centred - per_channel(self.whitening.mean, centred)) @ self.whitening.projection
    return jnp.min(distances(z, self.centroids), axis=-1)


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["filters", "shift", "centroids", "contrast", "whitening", "strangeness", "mirror"],
  meta_fields=["window", "stride", "pool", "rows", "hellinger"],
)
@dataclasses.dataclass(frozen=True)
class PatchMap:
  """``x [batch, ..., channels] -> [batch, features]``, as ``Patches`` fits it.

  Of each patch p, with its mean and its variance v over the patch::

      z   = whiten((p - mean(p)) / sqrt(v + contrast))
      d_k = |z - centroid_k|_2
      f_k = max(0, mean_k(d_k) - d_k)                       the triangle code

  ``f`` is averaged over ``pool`` parts of each axis; of the shares that its numbers have in their
  sum the square root is taken, so that Euclidean distances are Hellinger's; and that is whitened.

  Attributes:
    filters: ``[patch, kept]``, patch whitening less each filter's mean.
    shift: ``[kept]``, what whitening subtracts.
    centroids: ``[centroids, kept]``.
    contrast: scalar, added to the variance of each patch.
    whitening: of the pooled code.
    window: side of a patch.
    stride: step between patches.
    pool: parts of each axis.
    rows: see ``FeatureMap``.
    strangeness: where ``Patches.defects`` is set, else None.
    hellinger: see ``Patches``.
    mirror: the mirror image's portion of an image's code, a half; None where it has none.
  """

  filters: jax.Array
  shift: jax.Array
  centroids: jax.Array
  contrast: jax.Array
  whitening: Whitening | None
  window: int
  stride: int
  pool: int
  rows: int
  strangeness: Strangeness | None = None
  hellinger: bool = True
  mirror: jax.Array | None = None

  @property
  def defects(self) -> bool:
    """See ``Patches``."""
    return self.strangeness is not None

  def __call__(self, x: jax.Array) -> jax.Array:
    """Features ``[batch, features]`` of records ``[batch, ..., channels]``."""
    return self.whitening(self.code(x)) if self.whitening is not None else self.code(x)

  def code(self, x: jax.Array) -> jax.Array:
    """Pooled code ``[batch, pool ** axes * centroids]``, before it is whitened."""
    if self.mirror is None:
      return self.one_sided(x)
    sides = jnp.stack([x, x[:, :, ::-1]])
    own, mirrored = jax.lax.map(self.one_sided, sides)  # one at a time: both leave the cache
    return own + self.mirror * (mirrored - own)

  def one_sided(self, x: jax.Array) -> jax.Array:
    """As ``code``, of the records as they are."""
    distance = self._distances(x)
    code = pooled(jax.nn.relu(jnp.mean(distance, axis=-1, keepdims=True) - distance), self.pool)
    if not self.hellinger:
      return code
    shares = code / jnp.maximum(jnp.sum(code, axis=1, keepdims=True), TINY)
    return jnp.sqrt(jnp.maximum(shares, TINY))  # a derivative at 0 too

  def with_strangest(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What single patches say, beside the features.

    Returns:
      Features; ``[batch]``, the largest unlikeness of a patch; int32 ``[batch, axes]``, where that
      patch begins.
    """
    nearest = self.unlikeness(x)
    flat = nearest.reshape(nearest.shape[0], -1)
    at = jnp.unravel_index(jnp.argmax(flat, axis=1), nearest.shape[1:])
    begins = self.stride * jnp.stack(at, axis=1).astype(jnp.int32)
    return self(x), jnp.max(flat, axis=1), begins

  def unlikeness(self, x: jax.Array) -> jax.Array:
    """How unlike those of training each patch is, ``[batch, ...]`` with the axes of the patches.

    What ``strangeness`` says where there is one, else ``min_k d_k``.
    """
    if self.strangeness is None:
      return jnp.min(self._distances(x), axis=-1)
    patches = self._extracted(x)
    return self.strangeness(patches - jnp.mean(patches, axis=-1, keepdims=True))

  def _distances(self, x: jax.Array) -> jax.Array:
    """``d_k``, ``[batch, ..., centroids]``."""
    patches = self._extracted(x)
    mean = jnp.mean(patches, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(patches), axis=-1, keepdims=True) - jnp.square(mean)
    scale = jax.lax.rsqrt(jnp.maximum(variance, 0.0) + self.contrast)
    z = (patches @ self.filters) * scale
    return distances(z - per_channel(self.shift, z), self.centroids)

  def _extracted(self, x: jax.Array) -> jax.Array:
    """Patches of records less their mean."""
    x = x - jnp.mean(x, axis=tuple(range(1, x.ndim)), keepdims=True)
    return extract(x, self.window, self.stride)


@dataclasses.dataclass(frozen=True)
class Patches:
  """Settings of the patch features; ``fit`` makes the map.

  Attributes:
    centroids: of k-means, >= 2.
    window: side of a patch (of ``[n, time, channels]`` its length), >= 2.
    stride: step between patches, >= 1.
    pool: parts of each axis over which the code is averaged, >= 1.
    components: features that are left after whitening, >= 1.
    noise: see ``Whitening.fit``. None takes 100, which leaves most of the differences between
      directions, and with ``defects`` 0.1: a defect shows where typical records hardly vary.
    hellinger: whether distances compare the shares of the code rather than the code, by their
      square roots: common textures then count less, and how much contrast a record has does not.
    patches: drawn to fit k-means on, and to whiten with.
    defects: whether the largest unlikeness of a patch joins the score of what stands behind the
      map, see ``Strangeness`` and ``combination.with_strangest``: a defect of a few pixels is lost
      in a mean over hundreds of patches, and shows in one of them. It takes half of the held-out
      records.
    mirrored: whether the code of an image is the mean of its own and its mirror image's, so that
      which way a thing faces does not count. None: where mirror images of training images lie as
      near to other training images as these do, see ``symmetry``; not with ``defects``, and
      not of series.

  References:
    Coates, Ng and Lee, An analysis of single-layer networks in unsupervised feature learning,
    AISTATS 2011; for ``hellinger`` Arandjelović and Zisserman, Three things everyone should know to
    improve object retrieval, CVPR 2012; for ``defects`` Roth et al., Towards total recall in
    industrial anomaly detection (PatchCore), CVPR 2022, here with centroids in the place of a
    memory of patches.
  """

  centroids: int = 256
  window: int = 6
  stride: int = 1
  pool: int = 2
  components: int = 256
  noise: float | None = None
  hellinger: bool = True
  patches: int = 50_000
  defects: bool = False
  mirrored: bool | None = None

  def fit(self, x: np.ndarray, seed: int = 0) -> PatchMap:
    """Learns patches, centroids and whitening from typical records, a batch at a time.

    Args:
      x: ``[n, height, width, channels]`` or ``[n, time, channels]``, raw; anything with a length
        and slices, e.g. a memory map.
      seed: of the patches that are drawn, and of k-means.

    Raises:
      ValueError: records of another shape, smaller than a window, or that are all flat; or a
        setting out of its range.
    """
    for name, least in LEAST.items():
      batching.whole(name, getattr(self, name), least)
    shape = tuple(x.shape[1:])
    if len(shape) not in (2, 3):
      raise ValueError(
        f"Patches are of [n, height, width, channels] or [n, time, channels], got {list(x.shape)}."
      )
    _, counts = windows(shape, self.window, self.stride)
    if self.pool > min(counts):
      raise ValueError(
        f"pool={self.pool} parts are more than the {min(counts)} places of a patch along an axis."
      )
    if self.mirrored not in (True, False, None):
      raise ValueError(f"mirrored must be True, False or None, got {self.mirrored!r}.")
    if self.mirrored and len(shape) == 2:
      raise ValueError("mirrored is of images: a series that runs backwards is another one.")
    fitted, mirrored = self._dictionary(x, seed), self.mirrored
    if mirrored is None:
      mirrored = len(shape) == 3 and not self.defects and self._is_symmetric(fitted, x)
    if mirrored:
      fitted = dataclasses.replace(fitted, mirror=jnp.float32(0.5))
    codes = in_turn(lambda batch: _code(fitted, batch), x, fitted.rows)
    noise = self.noise
    if noise is None:
      noise = WHITE if self.defects else HARDLY_WHITE
    whitening = Whitening.fit(codes, self.components, noise)
    return dataclasses.replace(fitted, whitening=whitening)

  def rebuilt(self, arrays: Mapping[str, Any], rows: int) -> PatchMap:
    """The map of arrays that a detector was saved with.

    Args:
      arrays: by the names of the fields of ``PatchMap``, the whitening's among them.
      rows: see ``FeatureMap``.
    """
    fields = {**arrays, "whitening": Whitening(**arrays["whitening"])}
    if "strangeness" in fields:
      whitening, centroids = (fields["strangeness"][name] for name in ("whitening", "centroids"))
      fields["strangeness"] = Strangeness(Whitening(**whitening), centroids)
    settings = {name: getattr(self, name) for name in ("window", "stride", "pool", "hellinger")}
    return PatchMap(**fields, **settings, rows=rows)

  def _is_symmetric(self, fitted: PatchMap, x: Any) -> bool:
    return symmetry.is_symmetric(lambda part: _one_sided(fitted, part), x, fitted.rows)

  def _dictionary(self, x: np.ndarray, seed: int) -> PatchMap:
    """Patch whitening and centroids."""
    _, counts = windows(tuple(x.shape[1:]), self.window, self.stride)
    rng = np.random.default_rng(seed)
    patches = drawn_patches(x, self.window, self.patches, rng)
    centred = patches - patches.mean(axis=1, keepdims=True)
    variance = np.square(centred).mean(axis=1, keepdims=True)
    if not variance.max() > 0:
      raise ValueError("Every patch is flat; there is nothing to learn from.")
    contrast = CONTRAST * variance.mean()
    z = centred / np.sqrt(variance + contrast)
    mean = z.mean(axis=0)
    values, vectors = np.linalg.eigh((z - mean).T @ (z - mean) / len(z))
    kept = values / (values + PATCH_NOISE) > NEGLIGIBLE
    filters = vectors[:, kept] / np.sqrt(values[kept] + PATCH_NOISE)
    shift = mean @ filters
    as_float32 = functools.partial(jnp.asarray, dtype=jnp.float32)
    return PatchMap(
      as_float32(filters - filters.mean(axis=0)),
      as_float32(shift),
      self._centroids(z @ filters - shift, seed),
      as_float32(contrast),
      None,
      self.window,
      self.stride,
      self.pool,
      rows_for(math.prod(counts) * max(self.centroids, len(filters))),
      self._strangeness(centred, seed) if self.defects else None,
      self.hellinger,
    )

  def _strangeness(self, centred: np.ndarray, seed: int) -> Strangeness:
    """Of patches ``[n, patch]`` less their means."""
    whitening = Whitening.fit([centred], centred.shape[1], STRANGE_NOISE)
    return Strangeness(whitening, self._centroids(whitening(jnp.asarray(centred)), seed))

  def _centroids(self, z: Any, seed: int) -> jax.Array:
    """Of k-means among points ``[n, d]``."""
    kmeans = MiniBatchKMeans(
      self.centroids, init="random", n_init=1, batch_size=4096, max_iter=20, random_state=seed
    )
    return jnp.asarray(kmeans.fit(np.asarray(z, np.float32)).cluster_centers_, jnp.float32)


_code = jax.jit(PatchMap.code)
_one_sided = jax.jit(PatchMap.one_sided)


def drawn_patches(x: Any, window: int, number: int, rng: np.random.Generator) -> np.ndarray:
  """Patches of random records at random places, float64 ``[number, patch]``."""
  shape = tuple(x.shape[1:])
  _, counts = windows(shape, window, 1)
  rows = np.sort(rng.integers(len(x), size=number))
  starts = [rng.integers(count, size=number) for count in counts]
  found = np.empty((number, window ** len(counts) * shape[-1]))
  for i, row in enumerate(rows.tolist()):
    place = tuple(slice(start[i], start[i] + window) for start in starts)
    found[i] = np.asarray(x[row])[place].reshape(-1)
  return found
