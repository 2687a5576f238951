"""MiniRocket's features (Dempster et al., 2021) as aeon computes them; needs the extra ``aeon``."""

import importlib
import importlib.util
import logging

import numpy as np

logger = logging.getLogger(__name__)

KERNELS = 10_000


def installed() -> bool:
  """Whether aeon can be imported here; a warning says what to do where it cannot."""
  found = importlib.util.find_spec("aeon") is not None
  if not found:
    logger.warning("Left out aeon's MiniRocket: pip install 'drocc-jax[aeon]'.")
  return found


def features(x: np.ndarray, x_test: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Shares of places at which each of about ``KERNELS`` kernels exceeds its bias.

  Args:
    x: ``[n, time, channels]``, at least nine steps long; the biases are quantiles of these.
    x_test: ``[m, time, channels]``.
    seed: of the draws.

  Returns:
    ``[n, kernels]`` and ``[m, kernels]``, in 0 to 1.

  Raises:
    ImportError: aeon is not installed.
  """
  module = importlib.import_module("aeon.transformations.collection.convolution_based")
  kernels = module.MiniRocket(n_kernels=KERNELS, random_state=seed)
  first, second = (np.swapaxes(each, 1, 2).astype(np.float32) for each in (x, x_test))
  return np.asarray(kernels.fit_transform(first)), np.asarray(kernels.transform(second))
