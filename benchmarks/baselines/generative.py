"""The baselines that model the typical records, for every table that asks for all methods.

DCN on tables, REBM on tables and series, AnoGAN on images; each on the inputs, epochs and batches
of our own training, except as said here. ConAD is not among them, see ``NOT_RUN``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.baselines import anogan, dcn, fitting, rebm
from detector_jax import Standardizer

CHEAP = {"steps": 50, "epochs": 40}
NOT_RUN = {"ConAD": "not run: its networks are in a supplement that was not at hand"}


def makers(ndim: int) -> dict[str, Callable[..., Any]]:
  """The baselines for records of so many axes."""
  known: dict[int, dict[str, Callable[..., Any]]] = {
    1: {"DCN": dcn.make, "REBM": rebm.make},
    2: {"REBM": rebm.make},
    3: {"AnoGAN": anogan.make},
  }
  return known.get(ndim, {})


def scores(
  config: Any, x_train: np.ndarray, x_tests: Sequence[np.ndarray], cheap: bool = False
) -> dict[str, list[np.ndarray]]:
  """Scores of each of them on each test set; all rows train.

  AnoGAN trains for about 1,500 steps, whatever ours does: in fewer its generator has learned
  nothing. DCN pretrains for as many epochs as it trains. REBM on tables has its own network.

  Args:
    config: of our training, ``launch.methods.drocc.Config``.
    x_train: ``[n, ...]`` raw typical records.
    x_tests: raw records ``[m, ...]``.
    cheap: AnoGAN with ``CHEAP``, for a CPU: a short search after a short training.
  """
  preprocessing = Standardizer.fit(
    x_train, scaling=config.scaling, constant=config.constant, clip=config.clip
  )
  z_train = preprocessing.transform(x_train)
  z_tests = [preprocessing.transform(x) for x in x_tests]
  found = {}
  for name, make in makers(z_train.ndim - 1).items():
    settings: dict[str, Any] = {"epochs": config.epochs, "batch_size": config.batch_size}
    if name == "DCN":
      settings |= {"pretrain_epochs": config.epochs, "network": config.network.make()}
    if name == "AnoGAN":
      settings |= {"epochs": None, "network": config.network.make(), **(CHEAP if cheap else {})}
    model = make(config.seed, z_train.shape[1:], **settings)
    found[name] = fitting.scores_or_guesses(name, model, z_train, z_tests)
  return found
