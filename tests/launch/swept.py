"""A small sweep, and what the tests of sweeps look at."""

import pathlib

import numpy as np
import pytest

from drocc_jax import registry
from launch import sweep_training
from launch.data import BreastCancer
from launch.methods import drocc

FEW = {"radius": (1.0, 2.0), "seed": (0, 1)}


class Killed(BaseException):
  """What no handler catches."""


def small(width: int = 8, **changes) -> drocc.Config:
  network = registry.NetworkConfig("mlp", (width,))
  settings = {"data": BreastCancer(), "network": network, "epochs": 4, "calibration": "split"}
  settings |= changes
  return drocc.Config(**settings)


def variables(workdir: pathlib.Path, number: int) -> dict[str, np.ndarray]:
  with np.load(workdir / "members" / f"{number:03d}" / "variables.npz") as archive:
    return dict(archive)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], int]]:
  """Grows with every group that is trained: its members' numbers, and its size."""
  calls: list[tuple[list[int], int]] = []
  train = sweep_training.Trainer.train

  def recording(self, group, size):
    calls.append(([member.number for member in group], size))
    return train(self, group, size)

  monkeypatch.setattr(sweep_training.Trainer, "train", recording)
  return calls
