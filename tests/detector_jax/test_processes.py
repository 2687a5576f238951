"""A forked worker says at once that it cannot score; a spawned one scores."""

import multiprocessing

import pytest

import detector_jax
from detector_jax import processes


def scored(detector_or_folder, x):
  if isinstance(detector_or_folder, str):
    detector_or_folder = detector_jax.load(detector_or_folder)
  return detector_or_folder.score(x).tolist()


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
