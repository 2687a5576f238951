"""Stages: interrupted anywhere, a run of several ends with the same bits."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import health
from launch import checkpoints, stages
from launch.reporting import progress
from tests.helpers import interrupted_at


class Killed(BaseException):
  """What no handler catches."""


def advance(state, first, last):
  for epoch in range(first, last):
    state = {"w": jnp.sin(state["w"] * 1.7 + epoch)}
  return state, {"a_loss": float(state["w"].sum()), "b_loss": 1.0, "rate": 0.5}


ONE = stages.Stage("one", 4, advance)
TWO = stages.Stage("two", 7, advance)


def train(workdir) -> np.ndarray:
  """Two stages; the second starts from what the first found."""
  state = {"w": jnp.linspace(0.0, 1.0, 5)}
  state = stages.run(ONE, state, workdir, checkpoints=2)
  state = {"w": state["w"][:3] + 1.0}
  return np.asarray(stages.run(TWO, state, workdir, checkpoints=3)["w"])


def logged(workdir) -> list[tuple[str, int]]:
  return [(record["stage"], record["epoch"]) for record in progress.read_scalars(workdir)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, train(workdir)


def test_epochs_are_divided_evenly_and_restart_in_each_stage(whole):
  assert logged(whole[0]) == [
    ("one", 2),
    ("one", 4),
    ("two", 2),
    ("two", 4),
    ("two", 6),
    ("two", 7),
  ]


# In each stage: before its first checkpoint, in its middle, and at its last epochs; between the
# scalars and the checkpoint they belong to, and before the scalars.
@pytest.mark.parametrize(
  ("owner", "name"), [(checkpoints.Checkpoints, "save"), (progress.Scalars, "write")]
)
@pytest.mark.parametrize("call", [1, 2, 3, 4, 6])
def test_killed_run_ends_with_the_same_bits(tmp_path, whole, owner, name, call):
  with interrupted_at(call, owner, name, Killed()):
    train(tmp_path)
  assert len(logged(tmp_path)) == call - (name == "write")
  np.testing.assert_array_equal(train(tmp_path), whole[1])
  assert logged(tmp_path) == logged(whole[0])


def test_run_killed_twice_in_different_stages_ends_with_the_same_bits(tmp_path, whole):
  for call in (2, 3):
    with interrupted_at(call, checkpoints.Checkpoints, "save", Killed()):
      train(tmp_path)
  np.testing.assert_array_equal(train(tmp_path), whole[1])
  assert logged(tmp_path) == logged(whole[0])


def test_finished_stage_trains_nothing(whole):
  def never(state, first, last):
    raise AssertionError

  workdir, result = whole
  before = (workdir / "metrics.jsonl").read_bytes()
  stage = stages.Stage("two", 7, never)
  state = stages.run(stage, {"w": jnp.zeros(3)}, workdir, checkpoints=3)
  np.testing.assert_array_equal(state["w"], result)
  assert (workdir / "metrics.jsonl").read_bytes() == before


def test_scalars_are_read_by_stage(whole):
  records = progress.read_scalars(whole[0], "one")
  assert [record["epoch"] for record in records] == [2, 4]
  assert set(records[0]) == {"stage", "epoch", "a_loss", "b_loss", "rate"}
  for stage in ("one", "two"):
    (events,) = (whole[0] / "tensorboard" / stage).iterdir()
    assert f"{stage}/a_loss".encode() in events.read_bytes()


def test_progress_tells_stage_and_sum_of_losses(tmp_path, capsys):
  stages.run(ONE, {"w": jnp.zeros(2)}, tmp_path, checkpoints=1)
  (line,) = capsys.readouterr().err.splitlines()
  (record,) = progress.read_scalars(tmp_path)
  assert line == f"one 4/4 loss {record['a_loss'] + 1.0:.4f}"


@pytest.mark.parametrize(
  ("state", "where"),
  [({"w": jnp.zeros(2)}, 2), (types.SimpleNamespace(step=jnp.asarray([11, 12])), 12)],
)
def test_divergence_is_not_saved(tmp_path, state, where):
  stage = stages.Stage("one", 4, lambda state, first, last: (state, {"loss": float("nan")}))
  with pytest.raises(health.HealthError, match=f"loss is nan at step {where}"):
    stages.run(stage, state, tmp_path, checkpoints=2)
  assert logged(tmp_path) == []
  assert list((tmp_path / "checkpoints" / "one").iterdir()) == []


def test_no_checkpoints_are_refused(tmp_path):
  with pytest.raises(ValueError, match="checkpoints must be >= 1, got 0"):
    stages.run(ONE, {"w": jnp.zeros(2)}, tmp_path, checkpoints=0)
