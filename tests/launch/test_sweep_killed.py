"""Sweeps of groups that are killed and taken up again."""

import jax
import pytest

import detector_jax
from launch import sweep_training, sweeping
from tests.launch.swept import FEW, Killed, recorded, small, variables


@pytest.mark.parametrize("number", [1, 3])
def test_a_sweep_of_groups_that_was_killed_ends_with_the_bits_of_one_that_was_not(
  tmp_path, monkeypatch, number
):
  """Found here: what was missing made smaller groups, of which the last was another program."""
  monkeypatch.setattr(detector_jax.Detector, "save", lambda *_: None)  # takes longest here
  whole = sweeping.sweep(small(), FEW, tmp_path / "whole", 3)
  keep = sweeping.keep_member

  def killed(folder, *arguments):
    if folder.name == f"{number:03d}":
      raise Killed
    keep(folder, *arguments)

  with monkeypatch.context() as patched:
    patched.setattr(sweeping, "keep_member", killed)
    with pytest.raises(Killed):
      sweeping.sweep(small(), FEW, tmp_path / "killed", 3)
  trained = recorded(monkeypatch)
  result = sweeping.sweep(small(), FEW, tmp_path / "killed", 3)
  assert trained == [([0, 1, 2], 3), ([3], 3)][number // 3 :]
  for each in (*whole["members"], *result["members"]):
    del each["seconds"], each["compile_seconds"]
  assert result == whole
  for member in range(4):
    one, two = (variables(tmp_path / name, member) for name in ("whole", "killed"))
    assert one.keys() == two.keys()
    assert [one[name].tobytes() for name in one] == [two[name].tobytes() for name in one]


def test_groups_that_were_halved_are_the_same_after_a_kill():
  members = [sweep_training.Member(number, {}, None, 0) for number in range(8)]

  def groups(kept):
    calls = []

    def train(group, size):
      if size > 2:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no")
      calls.append([member.number for member in group])
      return [sweep_training.Trained(member, None, None, 0.0, 0.0) for member in group]

    found = [
      each.member.number
      for group in sweep_training.groups(members, 5, train, kept)
      for each in group
    ]
    return calls, found

  assert groups(()) == ([[0, 1], [2, 3], [4, 5], [6, 7]], list(range(8)))
  assert groups(range(5)) == ([[4, 5], [6, 7]], [5, 6, 7])
  assert groups(range(6)) == ([[6, 7]], [6, 7])
  assert groups(range(8)) == ([], [])
