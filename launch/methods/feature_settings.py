"""Settings of the feature map in front of DROCC's network."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, ClassVar

import numpy as np

from detector_jax.features import Patches, RandomKernels
from drocc_jax import on_features, recipe

NAMES = ("auto", "none", "patches", "kernels")
OF_SETTINGS = {Patches: "patches", RandomKernels: "kernels", type(None): "none"}


@dataclasses.dataclass
class FeaturesConfig:
  """The feature map in front of the network.

  Attributes:
    name: "auto" (where neither a network nor negatives are given what ``on_features.automatic``
      says), "none", "patches" (of images and series) or "kernels" (of series).
    centroids: of the patches' k-means, >= 2.
    window: side of a patch, or its length in a series, >= 2.
    stride: step between patches, >= 1.
    pool: parts of each axis over which the code is averaged, >= 1.
    components: features that are left after whitening, >= 1.
    defects: whether the patch that is least like those of training joins the score, so that a small
      defect shows in it; takes half of the held-out records.
    mirrored: whether an image's mirror image counts as the same, see ``Patches``; None: where the
      training images face both ways alike.
    shares: of the kernels, >= 84: how many features before they are whitened.
  """

  former: ClassVar[dict[str, Any]] = {"mirrored": False}
  gone: ClassVar[tuple[str, ...]] = ("values",)

  name: str = "auto"
  centroids: int = Patches.centroids
  window: int = Patches.window
  stride: int = Patches.stride
  pool: int = Patches.pool
  components: int = Patches.components
  defects: bool = Patches.defects
  mirrored: bool | None = Patches.mirrored
  shares: int = RandomKernels.shares

  def patches(self) -> Patches:
    """The settings of the patches."""
    return self._settings(Patches)

  def kernels(self) -> RandomKernels:
    """The settings of the kernels."""
    return self._settings(RandomKernels)

  def rebuilt(self, arrays: Mapping[str, Any], rows: int) -> Any:
    """The map of arrays that a detector was saved with, see ``Patches.rebuilt``."""
    settings = self.patches() if "centroids" in arrays else self.kernels()
    return settings.rebuilt(arrays, rows)

  def _settings(self, kind: Any) -> Any:
    own = {field.name for field in dataclasses.fields(kind)} & dataclasses.asdict(self).keys()
    return kind(**{name: getattr(self, name) for name in own})

  def chosen(self, config: Any, x: Any, negatives: np.ndarray | None) -> str:
    """The name of the map for training records ``[n, ...]`` of a run, "auto" settled.

    Raises:
      ValueError: an unknown name, or settings of another map.
    """
    if self.name not in NAMES:
      raise ValueError(f"features.name must be {', '.join(NAMES)}; got {self.name!r}.")
    name = self.name
    if name == "auto":
      free = config.network.name == "auto" and negatives is None
      free = free and recipe.is_automatic(config.drocc)
      name = OF_SETTINGS[type(on_features.automatic(x) if free else None)]
    if self.defects and name != "patches":
      raise ValueError("features.defects is of patches: set features.name to patches.")
    return name

  def fit(self, config: Any, x: np.ndarray, negatives: np.ndarray | None) -> Any:
    """The feature map for training records ``[n, ...]`` of a run, or None; see ``chosen``."""
    name = self.chosen(config, x, negatives)
    makers: dict[str, Callable[[], Any]] = {"patches": self.patches, "kernels": self.kernels}
    return makers[name]().fit(x, config.seed) if name in makers else None
