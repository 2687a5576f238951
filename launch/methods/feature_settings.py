"""Settings of the feature map in front of DROCC's network."""

import dataclasses
from typing import Any

import numpy as np

from detector_jax.features import Patches
from drocc_jax import on_features, recipe


@dataclasses.dataclass
class FeaturesConfig:
  """The feature map in front of the network.

  Attributes:
    name: "auto" (patches for images where neither a network nor negatives are given, see
      ``on_features.automatic``), "none" or "patches".
    centroids: of the patches' k-means, >= 2.
    window: side of a patch, or its length in a series, >= 2.
    stride: step between patches, >= 1.
    pool: parts of each axis over which the code is averaged, >= 1.
    components: features that are left after whitening, >= 1.
    defects: whether the patch that is least like those of training joins the score, so that a small
      defect shows in it; takes half of the held-out records.
  """

  name: str = "auto"
  centroids: int = Patches.centroids
  window: int = Patches.window
  stride: int = Patches.stride
  pool: int = Patches.pool
  components: int = Patches.components
  defects: bool = Patches.defects

  def patches(self) -> Patches:
    """The settings of the patches."""
    settings = dataclasses.asdict(self)
    del settings["name"]
    return Patches(**settings)

  def fit(self, config: Any, x: np.ndarray, negatives: np.ndarray | None) -> Any:
    """The feature map for training records ``[n, ...]`` of a run, or None.

    Raises:
      ValueError: an unknown name, or records that have no patches.
    """
    if self.name not in ("auto", "none", "patches"):
      raise ValueError(f"features.name must be auto, none or patches; got {self.name!r}.")
    free = config.network.name == "auto" and negatives is None
    free = free and recipe.is_automatic(config.drocc) and on_features.automatic(x) is not None
    wanted = self.name == "patches" or (self.name == "auto" and free)
    if self.defects and not wanted:
      raise ValueError("features.defects is of patches: set features.name to patches.")
    return self.patches().fit(x, config.seed) if wanted else None
