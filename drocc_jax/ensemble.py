"""Several networks that differ in their random numbers alone, trained by one compiled program.

Their mean logit scores. Training against a moving adversary leaves each network with a boundary of
its own; the mean scatters less from seed to seed. Not in the paper.

The state of an ensemble is that of its algorithm with an axis of members in front of every array,
hyper-parameters and step included. Initial weights, order of the data and noise are each member's,
and so are the records where each is trained without one fold of them, see ``cross``.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from detector_jax import batching, training
from drocc_jax import networks


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """Stands where a network stands; two of equal parts share their compilation.

  Attributes:
    network: of each member, with one logit.
    members: how many, >= 2.
  """

  network: nn.Module
  members: int


Network = nn.Module | Ensemble


def of_members(network: nn.Module, members: int) -> Network:
  """The network itself for one member, an ``Ensemble`` for more.

  Raises:
    ValueError: ``members`` is below 1.
  """
  members = batching.whole("members", members)
  return network if members == 1 else Ensemble(network, members)


def member_of(network: Network) -> nn.Module:
  """The Linen module that is trained: of an ensemble, that of each member."""
  return network.network if isinstance(network, Ensemble) else network


def logits(network: Network, params: Any, stats: Any, x: jax.Array) -> jax.Array:
  """Logits ``[batch]`` of ``x`` ``[batch, ...]``, the mean over the members of an ensemble."""
  if not isinstance(network, Ensemble):
    return networks.as_forward(network).evaluate(params, stats, x)
  return jnp.mean(each_logit(network, params, stats, x), axis=0)


def each_logit(network: Ensemble, params: Any, stats: Any, x: jax.Array) -> jax.Array:
  """Logits ``[members, batch]`` of ``x`` ``[batch, ...]``."""
  evaluate = networks.as_forward(network.network).evaluate
  return jax.vmap(evaluate, in_axes=(0, 0, None))(params, stats, x)


def divided(parts: Sequence[training.Data]) -> training.Data:
  """The rows of each member as one, with an axis of members in front of every array."""
  length = max(len(part.inputs) for part in parts)

  def padded(rows: jax.Array) -> jax.Array:
    return jnp.asarray(batching.pad_rows(np.asarray(rows), length))

  equal = [p._replace(inputs=padded(p.inputs), labels=padded(p.labels)) for p in parts]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *equal)


def data_of(data: training.Data, number: int) -> training.Data:
  """The rows of one member, which may be those of all."""
  return jax.tree.map(lambda leaf: leaf[number], data) if jnp.ndim(data.num_rows) else data


def make_init(init: Callable[..., Any], network: Network) -> Callable[..., Any]:
  """Makes ``init(hyper, sample, key) -> state`` of all members from that of one."""
  if not isinstance(network, Ensemble):
    return init

  def init_all(hyper: Any, sample: jax.Array, key: jax.Array) -> Any:
    keys = jax.random.split(key, network.members)
    return jax.vmap(init, in_axes=(None, None, 0))(hyper, sample, keys)

  return init_all


def make_train_epochs(train_epochs: training.TrainEpochs, network: Network) -> training.TrainEpochs:
  """Makes the ``train_epochs`` of all members from that of one; the info is summed over them.

  Members are vmapped on an accelerator; on a CPU, where that measured slower, they train one after
  the other, in one program.
  """
  if not isinstance(network, Ensemble):
    return train_epochs

  def train_all(
    states: Any, data: training.Data, key: jax.Array, first: Any, last: Any
  ) -> tuple[Any, Any]:
    own = (data,) if jnp.ndim(data.num_rows) else ()  # rows of each member, or of all

    def one(member: tuple[Any, ...]) -> tuple[Any, Any]:
      state, member_key, *rows = member
      return train_epochs(state, rows[0] if rows else data, member_key, first, last)

    each = jax.lax.map if jax.default_backend() == "cpu" else _vmapped
    states, infos = each(one, (states, member_keys(key, network), *own))
    return states, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), infos)

  return train_all


def _vmapped(function: Callable[[Any], Any], members: Any) -> Any:
  return jax.vmap(function)(members)


def make_each(function: Callable[..., Any], network: Network) -> Callable[..., Any]:
  """Makes ``(state, *others)`` of one member a function of all, their arrays put end to end.

  Args:
    function: ``(state, *others) -> pytree of arrays [batch]``, or of scalars.
    network: what is trained.

  Returns:
    The same with ``[members * batch]`` for ``[batch]`` and ``[members]`` for a scalar.
  """
  if not isinstance(network, Ensemble):
    return function

  def of_all(states: Any, *others: Any) -> Any:
    result = jax.vmap(lambda state: function(state, *others))(states)
    return jax.tree.map(lambda leaf: leaf.reshape(-1), result)

  return of_all


def member_keys(key: jax.Array, network: Ensemble) -> jax.Array:
  """The keys ``[members]`` that the members train with."""
  return jax.random.split(key, network.members)
