"""Signals, locks, broken checkpoints and clocks, without a network."""

import errno
import itertools
import json
import os
import pathlib
import signal
import textwrap
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX import event_file_writer

from detector_jax import health
from drocc_jax import registry
from launch import checkpoints, locking, run, stages, stopping, workdirs
from launch.data import DataError, Files
from launch.methods import drocc
from launch.reporting import progress
from tests.helpers import interrupted_at, started

# Where a file is damaged, Orbax leaves coroutines behind that are collected at some later time.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROOT = pathlib.Path(__file__).resolve().parents[2]


def advance(state, first, last):
  for epoch in range(first, last):
    state = {"w": jnp.sin(state["w"] * 1.7 + epoch), "key": state["key"]}
  return state, {"loss": float(state["w"].sum())}


def new():
  return {"w": jnp.linspace(0.0, 1.0, 300), "key": jax.random.key(3)}


def train(workdir, step=advance, epochs=8, checkpoints=4):
  stage = stages.Stage("one", epochs, step)
  return np.asarray(stages.run(stage, new(), workdir, checkpoints)["w"])


@pytest.fixture(autouse=True)
def listening():
  """Ctrl-C as at a terminal: it is ignored in what a shell has put into the background."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, train(workdir)


def kept(workdir) -> list[int]:
  names = [path.name for path in (workdir / "checkpoints" / "one").iterdir()]
  return sorted(int(name) for name in names if name.isdigit())


def scalars(workdir) -> list[dict]:
  return progress.read_scalars(workdir)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("epoch", [0, 3, 7])
def test_a_signal_is_heard_at_the_end_of_an_epoch_and_nothing_is_lost(
  tmp_path, whole, number, code, epoch
):
  def signalled(state, first, last):
    if first <= epoch < last:
      os.kill(os.getpid(), number)
    return advance(state, first, last)

  before = [signal.getsignal(each) for each in stopping.SIGNALS]
  with pytest.raises(stopping.Stopped) as caught:
    train(tmp_path, signalled)
  assert [signal.getsignal(each) for each in stopping.SIGNALS] == before
  (stop,) = [kept(tmp_path)[-1]]
  assert epoch < stop <= epoch + 1 + (epoch % 2 == 0)
  assert caught.value.code == code
  assert str(caught.value) == f"stopped after epoch {stop} of 8 of one; the same command goes on."
  np.testing.assert_array_equal(train(tmp_path), whole[1])
  assert scalars(tmp_path) == scalars(whole[0])


def test_long_epochs_are_divided_so_that_a_signal_is_heard_soon(tmp_path, monkeypatch, whole):
  monkeypatch.setattr(stages, "LISTENING", 0.0)
  calls = []

  def watched(state, first, last):
    calls.append((first, last))
    return advance(state, first, last)

  np.testing.assert_array_equal(train(tmp_path, watched, checkpoints=1), whole[1])
  assert calls == [(epoch, epoch + 1) for epoch in range(8)]
  assert kept(tmp_path) == [8]
  assert [record["epoch"] for record in scalars(tmp_path)] == [8]


def test_a_second_signal_acts_at_once(tmp_path):
  def twice(state, first, last):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError("it went on")

  with pytest.raises(KeyboardInterrupt):
    train(tmp_path, twice)
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_ignored(tmp_path, whole):
  def signalled(state, first, last):
    os.kill(os.getpid(), signal.SIGINT)
    return advance(state, first, last)

  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    np.testing.assert_array_equal(train(tmp_path, signalled), whole[1])
  finally:
    signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_no_handler_is_changed(tmp_path, whole):
  found = []

  def work():
    found.append(train(tmp_path))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  np.testing.assert_array_equal(found[0], whole[1])


def interrupted(tmp_path, at=6):
  """A run with checkpoints of the epochs before ``at``."""

  def stopped(state, first, last):
    if first >= at:
      raise KeyboardInterrupt
    return advance(state, first, last)

  with pytest.raises(KeyboardInterrupt):
    train(tmp_path, stopped)
  return tmp_path / "checkpoints" / "one"


def test_a_clock_that_jumps_at_every_reading_changes_nothing(tmp_path, monkeypatch, whole):
  """Forwards and backwards by days, and files whose times are in no order."""
  true, true_ns = time.time, time.time_ns
  jumps = itertools.cycle([10**6, -(10**6), 3600, -3600, 0, 5 * 10**5, 60])
  monkeypatch.setattr(time, "time", lambda: true() + next(jumps))
  monkeypatch.setattr(time, "time_ns", lambda: true_ns() + next(jumps) * 10**9)
  interrupted(tmp_path)
  for path in tmp_path.rglob("*"):
    os.utime(path, (1e9 * (len(path.name) % 3), 1e9 * (len(path.name) % 3)))
  np.testing.assert_array_equal(train(tmp_path), whole[1])
  assert scalars(tmp_path) == scalars(whole[0])


def files_of(folder):
  return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


def flipped(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flipped, cut, pathlib.Path.unlink])
def test_whatever_is_damaged_in_the_newest_checkpoint_the_bits_are_the_same(
  tmp_path, whole, damage, caplog
):
  folder = interrupted(tmp_path)
  assert kept(tmp_path) == [4, 6]
  copies = {path.relative_to(folder): path.read_bytes() for path in files_of(folder)}
  named = 0
  for name in [name for name in copies if name.parts[0] == "6"]:
    damage(folder / name)
    caplog.clear()
    with checkpoints.open_checkpoints(folder) as saved:
      epoch, state = saved.newest(new())
    if epoch == 4:
      named += 1
      (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
      assert f"The checkpoint {folder / '6'} is damaged" in record.message
      assert "The run goes on from the one before, of epoch 4." in record.message
      (aside,) = (tmp_path / "checkpoints" / "one.damaged").iterdir()
      aside.rename(folder / "6")
    else:
      expected = advance(new(), 0, 6)[0]["w"]
      np.testing.assert_array_equal(state["w"], expected, err_msg=str(name))
    (folder / name).write_bytes(copies[name])
  assert named >= 4, "the arrays, their index and the facts are needed"

  largest = max((path for path in files_of(folder / "6")), key=lambda path: path.stat().st_size)
  damage(largest)
  np.testing.assert_array_equal(train(tmp_path), whole[1])
  assert scalars(tmp_path) == scalars(whole[0])
  assert kept(tmp_path) == [6, 8]


def test_a_flipped_bit_that_orbax_does_not_see_is_found_by_the_checksum(tmp_path):
  """At places of the file with the arrays that are drawn."""
  folder = interrupted(tmp_path)
  path = max(files_of(folder / "6"), key=lambda path: path.stat().st_size)
  content, right = path.read_bytes(), advance(new(), 0, 6)[0]["w"]
  for place in np.random.default_rng(0).integers(len(content), size=12).tolist():
    wrong = bytearray(content)
    wrong[place] ^= 1 << (place % 8)
    path.write_bytes(wrong)
    with checkpoints.open_checkpoints(folder) as saved:
      try:
        np.testing.assert_array_equal(saved.restore(6, new())[0]["w"], right)
      except ValueError as error:
        assert "is damaged or of another training" in str(error)  # noqa: PT017
  path.write_bytes(content)


def test_where_no_checkpoint_can_be_read_nothing_is_moved(tmp_path):
  folder = interrupted(tmp_path)
  for path in files_of(folder):
    cut(path)
  with pytest.raises(
    ValueError, match=r"one/6 is damaged .*, and no checkpoint before it can be"
  ) as e:
    train(tmp_path)
  assert "to train this stage anew" in str(e.value)
  assert kept(tmp_path) == [4, 6]
  assert not (tmp_path / "checkpoints" / "one.damaged").exists()


def test_checkpoints_without_a_checksum_are_read(tmp_path, monkeypatch, whole):
  """As earlier releases wrote them."""
  with monkeypatch.context() as patched:
    patched.setattr(checkpoints, "checksum", lambda state, facts: None)
    folder = interrupted(tmp_path)
  path = folder / "6" / "facts" / "data.json"
  path.write_text(json.dumps({"epoch": json.loads(path.read_text())["epoch"]}))
  np.testing.assert_array_equal(train(tmp_path), whole[1])


def test_a_finished_stage_that_is_damaged_says_what_to_do(tmp_path, whole):
  np.testing.assert_array_equal(train(tmp_path), whole[1])
  damaged = tmp_path / "checkpoints" / "one" / "8"
  flipped(max(files_of(damaged), key=lambda path: path.stat().st_size))
  with pytest.raises(ValueError, match=r"one/8 is damaged .*: give its launch.train command again"):
    stages.restore("one", 8, new(), tmp_path)
  np.testing.assert_array_equal(train(tmp_path), whole[1])
  np.testing.assert_array_equal(stages.restore("one", 8, new(), tmp_path)["w"], whole[1])


def test_a_second_training_is_refused_and_named(tmp_path):
  script = textwrap.dedent("""
    import pathlib, sys
    from launch import workdirs
    with workdirs.held(pathlib.Path(sys.argv[1])):
      print("held", flush=True)
      sys.stdin.read()
  """)
  process = started("-c", script, tmp_path)
  with process:
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(ValueError, match=f"trained in by process {process.pid}: wait"):
      workdirs.held(tmp_path).__enter__()
    process.kill()
    process.wait()
    with workdirs.held(tmp_path):  # a dead process holds nothing
      assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


def test_the_same_process_is_refused_too(tmp_path):
  with workdirs.held(tmp_path):
    with (
      pytest.raises(ValueError, match="by this process: choose another --workdir"),
      workdirs.held(tmp_path / "." / "x" / ".."),
    ):
      raise AssertionError
    with workdirs.held(tmp_path / "other"):
      assert not (tmp_path / "other").exists(), "it is made when the settings are known to be good"
  with workdirs.held(tmp_path):
    pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog, number):
  def flock(descriptor, operation):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(locking.fcntl, "flock", flock)
  with workdirs.held(tmp_path):
    assert f"{tmp_path} cannot be locked ({os.strerror(number)})" in caplog.text


def test_event_files_that_cannot_be_written_stop_it_and_it_does_not_hang(
  tmp_path, monkeypatch, whole
):
  """Found here: tensorboardX's thread died of it, and training waited for that without end."""

  flush, calls = event_file_writer.EventsWriter.flush, []

  def fail(writer):
    calls.append(writer)
    if len(calls) == 1:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return flush(writer)

  with monkeypatch.context() as patched:
    patched.setattr(event_file_writer.EventsWriter, "flush", fail)
    with pytest.raises(OSError, match=f"scalars of {tmp_path} cannot be written: No space left"):
      train(tmp_path)
  assert kept(tmp_path) == []
  np.testing.assert_array_equal(train(tmp_path), whole[1])
  assert scalars(tmp_path) == scalars(whole[0])


def test_data_that_go_missing_stop_it_and_it_goes_on_when_they_are_back(tmp_path, whole):
  def lost(state, first, last):
    if last > 5:
      raise DataError("There is no file x.npy; check the name.")
    return advance(state, first, last)

  with pytest.raises(DataError, match="There is no file"):
    train(tmp_path, lost)
  assert kept(tmp_path) == [2, 4]
  np.testing.assert_array_equal(train(tmp_path), whole[1])
  assert scalars(tmp_path) == scalars(whole[0])


def test_a_run_whose_file_is_gone_or_changed_is_not_gone_on_with(tmp_path, rng):
  path, workdir = tmp_path / "x.npy", tmp_path / "run"
  x = rng.normal(size=(60, 3))
  np.save(path, x)
  config = drocc.Config(
    data=Files(train=str(path)),
    epochs=4,
    checkpoints=4,
    batch_size=16,
    network=registry.NetworkConfig("mlp", (4,)),
  )
  with interrupted_at(3, health, "check_loss"):
    run.train(config, workdir)
  saved = {p: p.read_bytes() for p in (workdir / "checkpoints").rglob("*") if p.is_file()}
  path.unlink()
  with pytest.raises(DataError, match=r"There is no file .*x\.npy; check the name"):
    run.train(config, workdir)
  np.save(path, x + 1e-9)
  with pytest.raises(ValueError, match=r"The data have changed since .*run was begun: its train"):
    run.train(config, workdir)
  assert {p: p.read_bytes() for p in saved} == saved
  np.save(path, x)
  run.train(config, workdir)
  assert [record["epoch"] for record in scalars(workdir)] == [1, 2, 3, 4]
