"""A place holds the old thing or the new one, whole, at every moment."""

import os
import pathlib
import subprocess
import sys

import pytest

from detector_jax import atomic

DEAD = 2**22 + 1  # no process has that number


def put(folder: pathlib.Path, text: str) -> None:
  folder.mkdir()
  (folder / "file").write_text(text)


@pytest.mark.parametrize("exchanging", [True, False])
def test_a_folder_is_replaced(tmp_path, monkeypatch, exchanging):
  if not exchanging:
    monkeypatch.setattr(atomic, "_exchanged", lambda *_: False)
  put(tmp_path / "place", "old")
  with atomic.written_beside(tmp_path / "place", folder=True) as temporary:
    (temporary / "file").write_text("new")
    assert (tmp_path / "place" / "file").read_text() == "old"
  assert (tmp_path / "place" / "file").read_text() == "new"
  assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_at_no_moment_is_the_place_empty(tmp_path, monkeypatch):
  """Each call of the system that moves or removes something, looked at before and after."""
  put(tmp_path / "place", "old")
  seen = []

  def watched(name):
    call = getattr(os, name)

    def look(*args, **kwargs):
      seen.append((tmp_path / "place" / "file").read_text())
      result = call(*args, **kwargs)
      seen.append((tmp_path / "place" / "file").read_text())
      return result

    return look

  for name in ("replace", "rename", "unlink", "rmdir"):
    monkeypatch.setattr(os, name, watched(name))
  with atomic.written_beside(tmp_path / "place", folder=True) as temporary:
    (temporary / "file").write_text("new")
  assert set(seen) == {"new"}  # exchanged in one call, before the old one is removed


def test_an_exception_leaves_the_old_thing_and_nothing_else(tmp_path):
  (tmp_path / "place").write_text("old")
  with pytest.raises(TypeError):
    atomic.write_text(tmp_path / "place", None)
  assert (tmp_path / "place").read_text() == "old"
  assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path):
  mine = atomic.beside(tmp_path / "place")
  dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{DEAD}-"))
  elsewhere = mine.with_name(f".place-another_host-{DEAD}-01234567")
  other = mine.with_name(f".place-more-{DEAD}-01234567")
  for path in (mine, dead, elsewhere, other):
    put(path, "half")
  atomic.write_text(tmp_path / "place", "new")
  left = {path.name for path in tmp_path.iterdir()}
  assert left == {"place", mine.name, elsewhere.name, other.name}


KILLED = """
import os, pathlib, signal, sys
from detector_jax import atomic
with atomic.written_beside(pathlib.Path(sys.argv[1]), folder=True) as temporary:
  (temporary / "file").write_text("new")
  os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_what_a_killed_process_left_is_gone_after_the_next_save(tmp_path):
  put(tmp_path / "place", "old")
  subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "place")], check=False)
  assert len(list(tmp_path.iterdir())) == 2
  assert (tmp_path / "place" / "file").read_text() == "old"
  with atomic.written_beside(tmp_path / "place", folder=True) as temporary:
    (temporary / "file").write_text("newer")
  assert [path.name for path in tmp_path.iterdir()] == ["place"]
  assert (tmp_path / "place" / "file").read_text() == "newer"
