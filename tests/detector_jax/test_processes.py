"""A forked worker says at once that it cannot score; a spawned one scores."""

import multiprocessing
import pickle

import pytest

import detector_jax
from detector_jax import processes
from tests.helpers import python


def scored(detector_or_folder, x):
  if isinstance(detector_or_folder, str):
    detector_or_folder = detector_jax.load(detector_or_folder)
  return detector_or_folder.score(x).tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_refuses(detector, records, tmp_path):
  detector.save(tmp_path / "detector")
  with multiprocessing.get_context("fork").Pool(1) as pool:
    for what in (detector, str(tmp_path / "detector")):
      with pytest.raises(RuntimeError, match=r"forked from one that had used JAX.*'spawn'"):
        pool.apply_async(scored, (what, records[:2])).get(60)


def test_the_owner_is_the_first_process_that_computes(monkeypatch):
  monkeypatch.setattr(processes, "_owner", None)
  processes.claim()
  processes.claim()
  monkeypatch.setattr(processes.os, "getpid", lambda: -1)
  with pytest.raises(RuntimeError, match="forkserver"):
    processes.claim()


ELSEWHERE = """
import multiprocessing, pickle, sys
import detector_jax
how, path = sys.argv[1:]
if how == "pickle":
  detector = pickle.load(open(path, "rb"))
else:
  import jax.numpy as jnp
  jnp.ones(3).sum().block_until_ready()
  detector = path
def work():
  loaded = detector_jax.load(detector) if isinstance(detector, str) else detector
  return loaded.score([[1.0, 2.0, 3.0]])
if __name__ == "__main__":
  with multiprocessing.get_context("fork").Pool(1) as pool:
    try:
      pool.apply_async(work).get(60)
    except RuntimeError as error:
      sys.exit("spawn" not in str(error))
  sys.exit(2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pickle", "jax alone"])
def test_whoever_used_jax_in_the_parent(how, detector, tmp_path):
  path = tmp_path / "detector"
  detector.save(path)
  if how == "pickle":
    path = tmp_path / "detector.pkl"
    path.write_bytes(pickle.dumps(detector_jax.load(tmp_path / "detector")))
  done = python("-W", "ignore", "-c", ELSEWHERE, how, path)
  assert done.returncode == 0, done.stderr
