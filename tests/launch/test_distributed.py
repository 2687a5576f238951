"""Two real processes on the loopback: one process's numbers, one that writes, one end for both."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from launch import run
from launch.data import BreastCancer
from launch.methods import drocc as method
from launch.reporting import progress
from tests.helpers import arrays, assert_trees_close

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]
TIMEOUT = 300  # seconds; a job that hangs is killed

START = """
import json, pathlib, sys
import jax
jax.config.update("jax_platforms", "cpu")
from launch import devices, processes
processes.GRACE = 1.0
port, number, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
request = devices.Request(int(sys.argv[4]), f"127.0.0.1:{port}", 2, number)
"""

TRAIN = (
  START
  + """
from detector_jax import health
from drocc_jax import registry
from launch import run
from launch.data import BreastCancer
from launch.methods import drocc

def config():
  return drocc.Config(
    data=BreastCancer(), network=registry.NetworkConfig("mlp", (16,)),
    epochs=6, checkpoints=3, batch_size=50, calibration_size=0.0,
  )

check, calls = health.check_loss, []

def interrupt(values, step):
  calls.append(step)
  if len(calls) == 2:
    raise KeyboardInterrupt
  check(values, step)

with devices.session(request):
  workdir = folder / str(number)  # no folder is shared
  health.check_loss = interrupt
  try:
    run.train(config(), workdir)
  except KeyboardInterrupt:
    pass
  health.check_loss = check
  print(json.dumps({"chosen": len(devices.selected()), "primary": devices.primary()}))
  run.train(config(), workdir)
"""
)

# Both the job and the test make the configuration of the same text.
FINGERPRINTS = """
import dataclasses
from configs import neuralfp_digits

def fingerprints():
  config = neuralfp_digits.get_config()
  training = dataclasses.replace(config.classifier.training, epochs=1)
  return dataclasses.replace(
    config, classifier=dataclasses.replace(config.classifier, training=training),
    fingerprint=dataclasses.replace(config.fingerprint, epochs=1), checkpoints=1,
    combine="one_out",  # a whitening would make more of what rounding makes of the weights
  )
"""

TRAIN_FINGERPRINTS = (
  START
  + FINGERPRINTS
  + """
from launch import run

with devices.session(request):
  run.train(fingerprints(), folder / str(number))
"""
)

FAIL = (
  START
  + """
with devices.session(request):
  devices.check_alike("Records", {"rows": 3})
  try:
    devices.check_alike("Records", {"rows": 3 + number})
  except ValueError as error:
    print(error)
  assert devices.shared({"epoch": number + 4, "x": jax.numpy.full(2, number)})["epoch"] == 4
  if number == 1:
    raise ValueError("the disk of this host is full")
  devices.shared(0)  # waits for the other one
"""
)


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def job(script: str, folder: pathlib.Path, devices: int) -> list[tuple[int, str, str]]:
  """Runs a script in two processes; their exit codes, standard output and error."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  port = free_port()
  running = [
    subprocess.Popen(
      [sys.executable, "-c", script, str(port), str(number), str(folder), str(devices)],
      cwd=ROOT,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for number in range(2)
  ]
  try:
    told = [process.communicate(timeout=TIMEOUT) for process in running]
  finally:
    for process in running:
      process.kill()
  return [(process.returncode, *each) for process, each in zip(running, told, strict=True)]


def test_two_processes_train_and_resume_as_one_does(tmp_path):
  config = method.Config(
    data=BreastCancer(),
    network=method.NetworkConfig("mlp", (16,)),
    epochs=6,
    checkpoints=3,
    batch_size=50,
    calibration_size=0.0,
  )
  results = job(TRAIN, tmp_path, devices=1)
  for code, _, error in results:
    assert code == 0, error[-2000:]
  said = [json.loads(out.splitlines()[-1]) for _, out, _ in results]
  assert said == [{"chosen": 2, "primary": True}, {"chosen": 2, "primary": False}]
  assert not (tmp_path / "1").exists()  # the second process has written nothing, and read nothing
  assert [each["epoch"] for each in progress.read_scalars(tmp_path / "0")] == [2, 4, 6]
  assert "training 6/6" in results[0][2]
  assert "training 6/6" not in results[1][2]
  run.train(config, tmp_path / "alone")
  want, got = arrays(tmp_path / "alone"), arrays(tmp_path / "0")
  assert_trees_close(got, want, rtol=1e-5, atol=1e-5)
  run.train(config, tmp_path / "0")  # one process reads what two have written


@pytest.mark.long
def test_two_processes_train_a_classifier_and_its_fingerprints(tmp_path):
  for code, _, error in job(TRAIN_FINGERPRINTS, tmp_path, devices=1):
    assert code == 0, error[-2000:]
  assert not (tmp_path / "1").exists()
  made: dict = {}
  exec(FINGERPRINTS, made)  # the text that the processes ran
  run.train(made["fingerprints"](), tmp_path / "alone")
  # Two trainings one after the other: what the first differs by moves the second.
  assert_trees_close(arrays(tmp_path / "0"), arrays(tmp_path / "alone"), rtol=1e-4, atol=1e-4)


def test_processes_fail_together(tmp_path):
  (first, out, error), (second, other_out, other_error) = job(FAIL, tmp_path, devices=1)
  assert (first, second) == (1, 1), error[-2000:] + other_error[-2000:]
  assert "process 1: the disk of this host is full" in error
  assert "ValueError: the disk of this host is full" in other_error
  assert "Records of process 1 are not those of process 0" in other_out
  assert "Records" not in out
