"""Checkpoints: those of earlier releases are read, and nothing unfinished counts or stays."""

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as v0
import pytest

from launch import checkpoints, stages
from tests.helpers import assert_trees_equal

OPTIMISER = optax.adam(0.1)
EPOCHS = 8


def new():
  """A state as the methods have it: parameters, an optimiser's named tuples, a key, a counter."""
  params = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "b": jnp.ones(4, jnp.bfloat16)}
  return {
    "params": params,
    "optimiser": OPTIMISER.init(params),
    "key": jax.random.key(3),
    "step": jnp.zeros((), jnp.int32),
  }


def advance(state, first, last):
  for _ in range(first, last):
    key = jax.random.fold_in(state["key"], state["step"])
    noise = jax.random.normal(key, (3, 4))
    gradient = {"w": jnp.sin(state["params"]["w"] + noise), "b": state["params"]["b"]}
    updates, optimiser = OPTIMISER.update(gradient, state["optimiser"])
    params = optax.apply_updates(state["params"], updates)
    state = {
      "params": params,
      "optimiser": optimiser,
      "key": state["key"],
      "step": state["step"] + 1,
    }
  return state, {"loss": float(jnp.sum(state["params"]["w"]))}


STAGE = stages.Stage("one", EPOCHS, advance)


def on_host(state):
  return jax.device_get({**state, "key": jax.random.key_data(state["key"])})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return on_host(stages.run(STAGE, new(), tmp_path_factory.mktemp("whole"), checkpoints=4))


def written_by_v0(folder, epochs, *, checked, host=False):
  """Checkpoints as the releases before this one wrote them; of several processes from the host."""
  options = v0.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=True)
  with v0.CheckpointManager(folder, options=options) as manager:
    for epoch in epochs:
      state, _ = advance(new(), 0, epoch)
      facts = {"epoch": epoch}
      if checked:
        facts[checkpoints.SHA256] = checkpoints.checksum(state, facts)
      items = v0.args.Composite(
        state=v0.args.StandardSave(jax.device_get(state) if host else state),
        facts=v0.args.JsonSave(facts),
      )
      manager.save(epoch, args=items)


@pytest.mark.parametrize(("checked", "host"), [(True, False), (False, False), (True, True)])
def test_a_run_begun_by_an_earlier_release_ends_with_the_same_bits(tmp_path, whole, checked, host):
  folder = tmp_path / "checkpoints" / "one"
  written_by_v0(folder, (2, 4, 6), checked=checked, host=host)
  with checkpoints.open_checkpoints(folder) as saved:
    assert saved.latest() == 6
    _, facts = saved.restore(6, new())
  assert facts == {"epoch": 6}
  state = stages.run(STAGE, new(), tmp_path, checkpoints=4)
  assert_trees_equal(on_host(state), whole)
  assert sorted(path.name for path in folder.iterdir()) == ["6", "8"]


def test_a_flipped_bit_in_a_checkpoint_of_an_earlier_release_is_found(tmp_path):
  written_by_v0(tmp_path / "one", (2, 4), checked=True)
  files = [path for path in (tmp_path / "one" / "4").rglob("*") if path.is_file()]
  path = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)
  with checkpoints.open_checkpoints(tmp_path / "one") as saved:
    epoch, state = saved.newest(new())
  assert epoch == 2
  assert_trees_equal(on_host(state), on_host(advance(new(), 0, 2)[0]))
  assert (tmp_path / "one.damaged" / "4").is_dir()


def test_what_a_killed_process_left_unfinished_neither_counts_nor_stays(tmp_path):
  left = [tmp_path / f"{epoch}.orbax-checkpoint-tmp" for epoch in (4, 5)]
  for path in left:
    (path / "state").mkdir(parents=True)
  state = new()
  with checkpoints.open_checkpoints(tmp_path) as saved:
    (tmp_path / "010").mkdir()
    (tmp_path / "9").touch()
    assert saved.latest() is None, "neither is how an epoch is written"
    assert saved.newest(state) is None
    (tmp_path / "010").rmdir()
    (tmp_path / "9").unlink()
    assert all(path.is_dir() for path in left), "another process may be writing them"
    saved.save(4, state, {"epoch": 4})
    saved.close()
    (tmp_path / "6").mkdir()
    saved.save(8, state, {"epoch": 8})
    saved.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "6", "8"], "6 is empty"
    saved.save(9, state, {"epoch": 9})
  assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "8", "9"]


@pytest.mark.parametrize(
  "other",
  [
    {"params": {"w": jnp.zeros((3, 5)), "b": jnp.ones(4, jnp.bfloat16)}},
    {"params": {"w": jnp.zeros((3, 4))}},
    {"more": jnp.zeros(2)},
    {"step": jnp.zeros((), jnp.float32)},
  ],
)
def test_a_state_of_another_training_is_refused(tmp_path, other):
  with checkpoints.open_checkpoints(tmp_path) as saved:
    saved.save(1, new(), {"epoch": 1})
    saved.close()
    with pytest.raises(ValueError, match=r"1 is damaged or of another training \("):
      saved.restore(1, {**new(), **other})
    assert saved.restore(1, new())[1] == {"epoch": 1}
