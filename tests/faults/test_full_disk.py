"""A disk that is full or read-only: a clear sentence, and the last good state as it was.

A small tmpfs stands for the disk, mounted in a process of its own name space; where the system
does not allow that, the tests are skipped. Writes that fail without a mount are injected.
"""

import errno
import logging
import os
import pathlib
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest

from detector_jax import atomic
from launch import checkpoints, exporting
from launch.data.scoring import ScoreWriter
from tests.helpers import linear_detector

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOUNT = "mount -t tmpfs -o size={size} none {folder} && exec {python} -c '{script}' {folder}"
FULL = os.strerror(errno.ENOSPC)
HEAD = """
import os, pathlib, sys
import numpy as np
from launch import flags
folder = pathlib.Path(sys.argv.pop())

def fill(kept):
  with open(folder / "fill", "wb", buffering=0) as file:
    try:
      while True:
        file.write(bytes(1024))
    except OSError:
      file.truncate(max(0, file.tell() - kept))

"""


def mounted(folder: pathlib.Path, size: str, script: str) -> subprocess.CompletedProcess:
  """Runs Python with a tmpfs of ``size`` at ``folder``, which the script has as ``folder``."""
  tried = subprocess.run(
    ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(folder)],
    capture_output=True,
    text=True,
    check=False,
  )
  if tried.returncode:
    pytest.skip(f"no tmpfs can be mounted here: {tried.stderr.strip()}")
  script = HEAD + textwrap.dedent(script)
  assert "'" not in script
  command = MOUNT.format(size=size, folder=folder, python=sys.executable, script=script)
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  return subprocess.run(
    ["unshare", "-rm", "sh", "-c", command],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )


def test_a_full_disk_stops_training_and_it_goes_on_when_there_is_room(tmp_path):
  result = mounted(
    tmp_path,
    "2m",
    """
    import jax.numpy as jnp
    from launch import stages

    full_at = [4]

    def advance(state, first, last):
      for epoch in range(first, last):
        state = {"w": jnp.sin(state["w"] * 1.7 + epoch)}
      if last in full_at:
        while not (folder / "run/checkpoints/one/2").exists():
          pass
        fill(kept=20_000)
      return state, {"loss": float(state["w"].sum())}

    def train(name):
      stage = stages.Stage("one", 8, advance)
      start = {"w": jnp.asarray(np.random.default_rng(0).normal(size=40_000))}
      return np.asarray(stages.run(stage, start, folder / name, 4)["w"])

    def main():
      try:
        train("run")
      finally:
        os.remove(folder / "fill")
        before = sorted(path.name for path in (folder / "run/checkpoints/one").iterdir())
        print([name for name in before if name.isdigit()])
        full_at.clear()
        print((train("run") == train("whole")).all())
        names = ("run", "whole")
        print(len({(folder / name / "metrics.jsonl").read_text() for name in names}))

    flags.run(main)
    """,
  )
  assert result.stdout.splitlines() == ["['2']", "True", "1"], result.stderr
  assert result.returncode == 1
  said = [line for line in result.stderr.splitlines() if not line.startswith("one ")]
  assert len(said) == 1, result.stderr
  (line,) = said
  assert line.startswith("error: A checkpoint cannot be written to ")
  assert line.endswith(f": {FULL}; the one of epoch 2 is kept. Rerun the same command when it can.")


def test_a_read_only_workdir_is_one_sentence(tmp_path):
  result = mounted(
    tmp_path,
    "2m",
    """
    import subprocess
    from launch import run
    from launch.data import BreastCancer
    from launch.methods import drocc

    def main():
      config = drocc.Config(data=BreastCancer(), epochs=1)
      (folder / "begun").mkdir()
      subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
      for name in ("begun", "new"):
        try:
          run.train(config, folder / name)
        except OSError as error:
          print(error)
        print((folder / name).exists())
      run.train(config, folder / "new")

    flags.run(main)
    """,
  )
  assert result.stdout.splitlines() == [
    f"The workdir {tmp_path / 'begun'} cannot be written: Read-only file system.",
    "True",
    f"The workdir {tmp_path / 'new'} cannot be written: Read-only file system.",
    "False",
  ]
  new = tmp_path / "new"
  assert result.stderr == f"error: The workdir {new} cannot be written: Read-only file system.\n"


@pytest.fixture(scope="module")
def detector():
  return linear_detector()


def contents(folder):
  return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_export_scores_and_watch_on_a_full_disk_leave_what_was_there(detector, tmp_path):
  saved, disk = tmp_path / "saved", tmp_path / "disk"
  detector.save(saved)
  disk.mkdir()
  np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(20_000, 2)))
  result = mounted(
    disk,
    "1m",
    f"""
    import shutil
    import detector_jax
    from launch import scoring, watching

    saved = detector_jax.load("{saved}")
    shutil.copytree("{saved}", folder / "detector")
    state = folder / "state.json"
    watching.watch(watching.Watcher(saved, state=state), ["[0, 0]"] * 3, lambda text: None)
    scoring.score_input(saved, "{tmp_path / "x.npy"}", folder / "scores.csv", chunk_size=5000)
    (folder / "scores.csv").write_text("good")
    fill(kept=9_000)

    def seen():
      return {{
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
      }}

    def attempt(action):
      before = seen()
      try:
        action()
        print("no error")
      except OSError as error:
        print(error)
      print(seen() == before)

    for name in ("detector", "new"):
      attempt(lambda: saved.save(folder / name))
    for ending in ("csv", "parquet"):
      path = folder / f"scores.{{ending}}"
      attempt(lambda: scoring.score_input(saved, "{tmp_path / "x.npy"}", path, chunk_size=5000))
    fill(kept=0)
    watcher = watching.Watcher(saved, state=state)
    attempt(lambda: watching.watch(watcher, ["[0, 0]"] * 3, lambda text: None))
    """,
  )
  assert result.returncode == 0, result.stderr
  assert result.stderr.replace("score ", "") == "" or "Traceback" not in result.stderr
  said = result.stdout.splitlines()
  assert said[1::2] == ["True"] * 5, said
  kept = "; what was there is as it was."
  assert said[::2] == [
    f"The folder {disk / 'detector'} cannot be written: {FULL}{kept}",
    f"The folder {disk / 'new'} cannot be written: {FULL}{kept}",
    f"The scores cannot be written to {disk / 'scores.csv'}: {FULL}{kept}",
    f"The scores cannot be written to {disk / 'scores.parquet'}: {FULL}{kept}",
    f"The state cannot be written to {disk / 'state.json'}: {FULL}{kept}",
  ]


def fail(*args, **kwargs):
  raise OSError(errno.ENOSPC, FULL)


def test_an_export_that_cannot_be_written_leaves_the_old_folder(detector, tmp_path, monkeypatch):
  """Without a mount: at each write and each move."""
  folder = tmp_path / "detector"
  detector.save(folder)
  before = contents(tmp_path)
  replace, calls = os.replace, []
  for owner, name in (
    (pathlib.Path, "write_bytes"),
    (pathlib.Path, "write_text"),
    (atomic, "replace"),
  ):
    with monkeypatch.context() as patched:
      patched.setattr(owner, name, fail)
      with pytest.raises(OSError, match=f"cannot be written: {FULL}; what was there is as"):
        linear_detector(1, (1.0, 3.0)).save(folder)
    assert contents(tmp_path) == before

  def second_fails(*args):
    calls.append(args)
    return fail() if len(calls) == 2 else replace(*args)

  monkeypatch.setattr(atomic, "_exchanged", lambda *_: False)  # a system without such a call
  monkeypatch.setattr(atomic.os, "replace", second_fails)
  with pytest.raises(OSError, match=f"cannot be written: {FULL}; what was there is as it was"):
    linear_detector(1, (1.0, 3.0)).save(folder)
  assert contents(tmp_path) == before
  assert len(calls) == 3


def test_launch_export_says_it_once(detector, tmp_path, monkeypatch):
  monkeypatch.setattr(exporting.evaluation, "load_detector", lambda workdir: detector)
  monkeypatch.setattr(pathlib.Path, "write_bytes", fail)
  with pytest.raises(OSError, match="cannot be written") as caught:
    exporting.export(tmp_path, tmp_path / "new")
  assert str(caught.value).count("cannot be written") == 1
  assert not (tmp_path / "new").exists()


def test_threads_that_find_the_event_loop_closed_say_nothing(tmp_path, monkeypatch):
  said = []
  monkeypatch.setattr(sys, "excepthook", lambda *args: said.append(args[1]))
  monkeypatch.setattr(sys, "unraisablehook", lambda args: said.append(args.exc_value))
  for name in ("one", "two"):
    with checkpoints.open_checkpoints(tmp_path / name):
      pass
  closed, other = RuntimeError("Event loop is closed"), RuntimeError("other")
  for error in (closed, other, ValueError("Event loop is closed")):
    sys.excepthook(type(error), error, None)
    sys.unraisablehook(SimpleNamespace(exc_value=error))
  assert [str(error) for error in said] == ["other"] * 2 + ["Event loop is closed"] * 2
  assert not logging.getLogger("asyncio").isEnabledFor(logging.ERROR)  # exceptions of its tasks


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_scores_that_cannot_be_moved_leave_the_old_ones(tmp_path, monkeypatch, ending):
  path = tmp_path / f"scores.{ending}"
  path.write_text("good")
  monkeypatch.setattr(os, "replace", fail)
  with (
    pytest.raises(OSError, match=f"The scores cannot be written to .*: {FULL}; what was there is"),
    ScoreWriter(path) as writer,
  ):
    writer.write({"score": np.zeros(3)})
  assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
  assert path.read_text() == "good"


def test_standard_output_that_is_full_is_one_sentence(detector, tmp_path):
  detector.save(tmp_path / "detector")
  with open("/dev/full", "w") as full:
    result = subprocess.run(
      [sys.executable, "-m", "launch.watch", f"--detector={tmp_path / 'detector'}"],
      cwd=ROOT,
      input="[0, 0]\n",
      stdout=full,
      stderr=subprocess.PIPE,
      text=True,
      check=False,
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
  assert result.returncode == 1
  assert result.stderr.splitlines() == [f"error: Standard output cannot be written: {FULL}."]


@pytest.mark.parametrize(
  ("error", "reason"),
  [
    (OSError(errno.EROFS, "x"), os.strerror(errno.EROFS)),
    (ValueError(f"RESOURCE_EXHAUSTED: write: {FULL} [28]"), FULL),
    (RuntimeError("else.\nmore"), "else"),
    (RuntimeError(), "RuntimeError"),
  ],
)
def test_the_reason_is_found_wherever_it_is(error, reason):
  assert checkpoints.reason_of(error) == reason
  outer = ValueError("outer")
  outer.__cause__ = error
  assert checkpoints.reason_of(outer) in (reason, "outer")
