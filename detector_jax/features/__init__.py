"""Feature maps: what stands between records and a method, trains on typical records and is saved.

``Patches``, ``RandomKernels``, ``Rotations`` and ``Activations`` are settings; ``fit(x, seed)``
makes the map, a pytree that runs inside the detector's program. ``Detector.behind`` puts a detector
of features behind one.
"""

from detector_jax.features.activations import ActivationMap, Activations
from detector_jax.features.base import FeatureMap, Features, apply
from detector_jax.features.kernels import KernelMap, RandomKernels
from detector_jax.features.patches import Patches, PatchMap
from detector_jax.features.rotations import RotationMap, Rotations
from detector_jax.features.whitening import Whitening

__all__ = (
  "ActivationMap",
  "Activations",
  "FeatureMap",
  "Features",
  "KernelMap",
  "PatchMap",
  "Patches",
  "RandomKernels",
  "RotationMap",
  "Rotations",
  "Whitening",
  "apply",
)
