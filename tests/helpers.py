"""What tests of several rooms say alike: trees compared, folders compared, commands run."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import detector_jax
from detector_jax.preprocessing import Identity

ROOT = pathlib.Path(__file__).resolve().parents[1]


def assert_trees_close(got: Any, want: Any, **tolerance: float) -> None:
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, err_msg=jax.tree_util.keystr(path), **tolerance)


def assert_trees_equal(got: Any, want: Any) -> None:
  assert_trees_close(got, want, rtol=0, atol=0)


def is_different(a: Any, b: Any) -> bool:
  """Whether some leaf of two trees of one structure differs."""
  leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return any((np.asarray(x) != np.asarray(y)).any() for x, y in leaves)


def with_hyper(state: Any, **values: float) -> Any:
  """``state`` with other traced hyper-parameters, of the same types."""
  new = {
    name: jnp.asarray(value, getattr(state.hyper, name).dtype) for name, value in values.items()
  }
  return dataclasses.replace(state, hyper=dataclasses.replace(state.hyper, **new))


def gradient_of(state: Any) -> Any:
  """The gradient of the first step: Adam's first moment is a tenth of it."""
  return jax.tree.map(lambda moment: 10.0 * moment, state.opt_state[0].mu)


def arrays(workdir: pathlib.Path) -> dict[str, np.ndarray]:
  """Everything that the detector of a run is made of."""
  with np.load(workdir / "detector" / "arrays.npz") as archive:
    return dict(archive)


def assert_same_bits(one: pathlib.Path, two: pathlib.Path) -> None:
  """Of the detectors of two runs."""
  first, second = arrays(one), arrays(two)
  assert first.keys() == second.keys()
  for name, value in first.items():
    np.testing.assert_array_equal(value, second[name], err_msg=name)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
  """Every file of a folder."""
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def python(
  *arguments: object, cwd: pathlib.Path = ROOT, **options: Any
) -> subprocess.CompletedProcess[str]:
  """Runs Python in a process of its own on one CPU device; its output is text."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  return subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=cwd,
    env=environment | options.pop("env", {}),
    capture_output=True,
    text=True,
    check=False,
    **options,
  )


def started(*arguments: object, **options: Any) -> subprocess.Popen:
  """As ``python``, while it runs: its standard streams are pipes."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", **options.pop("env", {})}
  pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
  command = [sys.executable, *map(str, arguments)]
  return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes, **options)


ELSEWHERE = """
import sys
for name in ("flax", "fingerprint_jax", "drocc_jax", "sklearn", "optax", "chex"):
  sys.modules[name] = None  # importing it raises ImportError
import numpy as np
import detector_jax
folder, records, result = sys.argv[1:]
detector, x = detector_jax.load(folder), np.load(records)
np.savez(
  result, alone=detector.score(x[:1]), p=detector.p_value(x), decision=detector.predict(x),
  facts=[detector.threshold, detector.fpr], recalibrated=detector.calibrate(x, 0.2).threshold,
  **detector.report(x),
)
"""


def assert_same_elsewhere(
  detector: Any, x: np.ndarray, folder: pathlib.Path, rtol: float = 1e-6
) -> None:
  """Of a detector that is saved, and loaded by a process that has JAX and NumPy alone.

  Another process may split a matrix product differently over its threads: the last bit moves, and
  a score within that of a calibration score may pass it, by one rank at most.
  """
  detector.save(folder / "detector")
  np.save(folder / "x.npy", x)
  paths = (folder / "detector", folder / "x.npy", folder / "result.npz")
  done = python("-W", "error", "-c", ELSEWHERE, *paths)
  assert done.returncode == 0, done.stderr
  with np.load(paths[-1]) as archive:
    got = dict(archive)
  want, rank = detector.report(x), 1.001 / (len(detector.calibration.scores) + 1)
  facts = {"alone": want["score"][:1], "recalibrated": detector.calibrate(x, 0.2).threshold}
  np.testing.assert_array_equal(got.pop("facts"), [detector.threshold, detector.fpr])
  clear = np.abs(want["score"] - detector.threshold) > rtol * abs(detector.threshold)
  np.testing.assert_array_equal(got.pop("decision")[clear], detector.predict(x)[clear])
  np.testing.assert_allclose(got.pop("p"), detector.p_value(x), atol=rank)
  np.testing.assert_allclose(got.pop("p_value"), want.pop("p_value"), atol=rank)
  assert got.keys() == {*want, *facts}
  for name, values in (want | facts).items():
    np.testing.assert_allclose(got[name], values, rtol=rtol, atol=rtol, err_msg=name)


def linear_detector(seed: int = 0, weights: Sequence[float] = (1.0, 2.0), **settings: Any) -> Any:
  """A weighted sum of the columns a and b, calibrated at 10 % on 50 records of that seed."""
  created = detector_jax.Detector.create(
    weighted_sum,
    jnp.asarray(weights),
    Identity(),
    (2,),
    metadata={"feature_names": ["a", "b"]},
    **settings,
  )
  return created.calibrate(np.random.default_rng(seed).normal(size=(50, 2)), 0.1)


def weighted_sum(variables: jax.Array, x: jax.Array) -> jax.Array:
  return x @ variables


def quiet(*_: Any) -> None:
  """No progress."""


@contextlib.contextmanager
def interrupted_at(
  call: int, owner: Any, name: str, error: BaseException | None = None
) -> Iterator[None]:
  """Patches ``owner.name`` so that its ``call``-th call, from 1, raises; expects that it does.

  Args:
    call: which one.
    owner: module or class.
    name: of a function of it.
    error: what it raises, ``KeyboardInterrupt`` unless given.
  """
  function, calls, error = getattr(owner, name), [], error or KeyboardInterrupt()

  def wrapped(*args, **kwargs):
    calls.append(args)
    if len(calls) == call:
      raise error
    return function(*args, **kwargs)

  with pytest.MonkeyPatch.context() as patch, pytest.raises(type(error)):  # noqa: PT012
    patch.setattr(owner, name, wrapped)
    yield
