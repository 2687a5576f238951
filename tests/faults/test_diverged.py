"""Training that diverges: where it began, at which records, and what is kept."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import batching, training
from detector_jax.health import HealthError
from detector_jax.splits import calibration_rows
from drocc_jax import recipe, registry
from launch import failures, run, stages
from launch.data import Files
from launch.methods import drocc

ROWS, BATCH = 10, 4
POISON = 7
NUMBERS = np.arange(100, 100 + ROWS)  # of the rows among all records
KEY = jax.random.key(5)


class State(NamedTuple):
  step: jax.Array
  weight: jax.Array
  endless: jax.Array  # infinite by intent


def step(state, batch, key):
  """Fine for two epochs of three steps; then the row ``POISON`` makes the weight infinite."""
  del key
  late = (state.step >= 6) & jnp.any((batch.index == POISON) & (batch.mask > 0))
  weight = jnp.where(late, jnp.inf, 0.5 * state.weight + jnp.sum(batch.inputs))
  return State(state.step + 1, weight, state.endless), weight


def stage(negatives=None, by_step=False, told=True):
  data = training.to_device(np.linspace(0.0, 1.0, ROWS)[:, None], negatives=negatives)
  make = training.make_train_epochs_by_step if by_step else training.make_train_epochs
  epochs = make(step, BATCH)
  epochs = epochs if by_step else jax.jit(epochs, donate_argnums=0)

  def advance(state, first, last):
    state, info = epochs(state, data, KEY, first, last)
    return state, {"loss": float(info)}

  steps = failures.steps_of(step, data, KEY, BATCH, NUMBERS) if told else None
  return stages.Stage("one", 8, advance, steps), data


def diverged(one, workdir, checkpoints):
  state = State(jnp.zeros((), jnp.int32), jnp.ones(()), jnp.full((2,), jnp.inf))
  with pytest.raises(HealthError) as caught:
    stages.run(one, state, workdir, checkpoints)
  return str(caught.value), json.loads((workdir / "failure.json").read_text())


def where_poison_is(data):
  """Position of the batch with the row in epoch 2, and the batch, from the order alone."""
  order_key, _ = jax.random.split(KEY)
  orders = training.orders_of(order_key, jnp.asarray(2), data)
  order = np.asarray(orders[0])[:ROWS]
  position = int(np.argmax(order == POISON)) // BATCH
  return position, order[position * BATCH : (position + 1) * BATCH], orders


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize(("checkpoints", "kept"), [(8, 2), (4, 2), (1, 0)])
def test_the_batch_that_did_it_is_named(tmp_path, by_step, checkpoints, kept):
  one, data = stage(by_step=by_step)
  message, told = diverged(one, tmp_path, checkpoints)
  position, rows, _ = where_poison_is(data)
  assert (told["stage"], told["epoch"], told["position"]) == ("one", 2, position)
  assert told["step"] == 6 + position + 1
  assert told["rows"] == (100 + rows).tolist()
  assert told["scalars"] == {"loss": "inf"}
  assert "negatives" not in told
  left = f"the checkpoint of epoch {kept} is kept" if kept else "no checkpoint was written"
  assert f"It began in epoch 2 at step {told['step']}; {tmp_path / 'failure.json'} has" in message
  assert message.endswith(f"has the records of that step; {left}.")
  names = {path.name for path in (tmp_path / "checkpoints" / "one").iterdir()}
  assert max(map(int, names), default=0) == kept
  assert diverged(one, tmp_path, checkpoints) == (message, told), "the same command, the same end"


def test_labelled_negatives_of_the_batch_are_named(tmp_path):
  one, data = stage(negatives=np.ones((3, 1)))
  _, told = diverged(one, tmp_path, 4)
  position, _, orders = where_poison_is(data)
  order = np.asarray(orders[1])
  assert told["negatives"] == [int(order[(position * BATCH + i) % 3]) for i in range(BATCH)]


def test_without_steps_the_epoch_is_named(tmp_path):
  message, told = diverged(stage(told=False)[0], tmp_path, 4)
  assert told == {"stage": "one", "epoch": 2, "scalars": {"loss": "inf"}}
  assert "It began in epoch 2; " in message
  assert "failure.json has its scalars; the checkpoint of epoch 2 is kept." in message


def test_records_of_drocc_have_their_numbers_before_any_was_held_out(tmp_path, rng):
  np.save(tmp_path / "x.npy", rng.normal(size=(60, 3)))
  config = drocc.Config(
    data=Files(train=str(tmp_path / "x.npy")),
    epochs=3,
    checkpoints=3,
    batch_size=16,
    network=registry.NetworkConfig("mlp", (4,)),
    calibration="split",
  )
  config.drocc.learning_rate = 1e30
  with pytest.raises(HealthError, match=r"diverged: .* at step 3\. .* It began in epoch 0 at step"):
    run.train(config, tmp_path / "run")
  told = json.loads((tmp_path / "run" / "failure.json").read_text())
  rows, _ = calibration_rows(np.arange(60), config.calibration_size, config.seed)
  order_key, _ = jax.random.split(recipe.keys(config.seed)[1])
  order = batching.epoch_order(order_key, 0, len(rows), batching.padded_length(len(rows)))
  first = 16 * told["position"]
  assert told["rows"] == rows[np.asarray(order)[first : first + 16]].tolist()
  assert told["step"] == told["position"] + 1
