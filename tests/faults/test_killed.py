"""Trainings that are killed or told to stop, as processes; ``kill`` does it at greater length."""

import re
import signal
import time

import pytest

from launch import workdirs
from tests.faults import kill

TINY = {
  "drocc": [
    "--config=configs/drocc_digits.py",
    "--config.network.name=mlp",
    "--config.network.hidden=(8,)",
    "--config.drocc.num_steps=5",
    "--config.epochs=400",
    "--config.checkpoints=40",
  ],
  "neuralfp": [
    "--config=configs/neuralfp_digits.py",
    "--config.classifier.training.epochs=4",
    "--config.fingerprint.epochs=6",
    "--config.combine=one_out",  # whose autoencoders are trained
    "--config.checkpoints=2",
    "--config.layers=('layer_3',)",
  ],
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
  return kill.environment_of(tmp_path_factory.mktemp("cache"))


def whole_of(method, folder, environment):
  return kill.undisturbed(TINY[method], folder / "whole", environment, kill.Forked)


@pytest.mark.long
def test_killed_at_a_random_moment_it_ends_with_the_same_bits(environment, tmp_path):
  whole = whole_of("neuralfp", tmp_path, environment)
  # The undisturbed run compiled what the others read, so that they are over sooner.
  sooner = kill.Undisturbed(whole.workdir, 0.4 * whole.span)
  got = kill.disturb(TINY["neuralfp"], 1, 5, tmp_path, sooner, environment, kill.Forked)
  assert (got.kills, got.runs, got.different) == (1, 1, [])


def test_told_to_stop_and_killed_twice_it_ends_with_the_same_bits(environment, tmp_path):
  whole = whole_of("drocc", tmp_path, environment)
  workdir = tmp_path / "run"
  arguments = [*TINY["drocc"], f"--workdir={workdir}"]

  process = kill.Forked(arguments, environment)
  while not list(workdir.glob("checkpoints/training/*")):
    assert process.wait(0.01) is None, process.said()
  with (
    pytest.raises(ValueError, match=f"is being trained in by process {process.pid}: wait for it"),
    workdirs.held(workdir),
  ):
    raise AssertionError
  process.send(signal.SIGTERM)
  assert process.wait(kill.LIMIT) == 143
  own = [
    line
    for line in process.said().splitlines()
    if not line.startswith(("training ", "training: ", "W"))
  ]
  assert len(own) == 1, process.said()
  (line,) = own
  found = re.fullmatch(
    r"stopped after epoch (\d+) of 400 of training; the same command goes on.", line
  )
  assert found, line
  assert (workdir / "checkpoints" / "training" / found[1] / "facts").is_dir()

  for number in range(2):
    process = kill.Forked(arguments, environment)
    kill.alive(process, workdir)
    time.sleep(0.1 + 0.2 * number)
    process.send(signal.SIGKILL)
    assert process.wait(kill.LIMIT) == -signal.SIGKILL
    assert not (workdir / "detector").exists()
  last = kill.Forked(arguments, environment)
  assert last.wait(kill.LIMIT) == 0, last.said()
  assert kill.differences(whole.workdir, workdir) == []
