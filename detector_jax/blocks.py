"""Which outputs of a network's modules are worth a tap, and how those of NNX modules are found."""

from collections.abc import Mapping, Sequence
import dataclasses
import re
from typing import Any

from flax import linen as nn
from flax import nnx
import jax
from jax.extend.core import Literal
import jax.numpy as jnp

MOST = 7
CALL = "__call__"
PASSIVE = (
  *(nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm, nn.Dropout),
  *(nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm, nnx.Dropout),
)
_CALL_NUMBER = re.compile(r":\d+$")


def choose(names: Sequence[str], modules: Mapping[str, Any]) -> tuple[str, ...]:
  """The outputs to tap: those of blocks, at most 7.

  The modules that the network itself calls are its blocks; one that holds more than half of all
  innermost modules (an encoder, a backbone) is opened into those that it calls. Normalisations and
  dropouts repeat what stands before them and are left out. Of more than 7 outputs, the first, the
  last two and others evenly between are kept.

  Args:
    names: of the outputs, paths in the order of computation, ":0", ":1" where there are several.
    modules: path -> module.
  """
  tree: dict[str, Any] = {}
  for name in names:
    place = tree
    for part in path(name).split("/"):
      place = place.setdefault(part, {})
  opened = _opened(tree, set(map(path, names)))
  found = [name for name in names if path(name) in opened]
  active = [name for name in found if not isinstance(modules.get(path(name)), PASSIVE)]
  found = active or found
  if len(found) > MOST:
    last = len(found) - 1
    kept = {round(number * (last - 1) / (MOST - 2)) for number in range(MOST - 1)} | {last}
    found = [found[number] for number in sorted(kept)]
  return tuple(found)


def path(name: str) -> str:
  """The module of an output."""
  return _CALL_NUMBER.sub("", name)


def _opened(tree: dict[str, Any], told: set[str]) -> set[str]:
  """Paths of the blocks of a tree of modules; one that is not ``told``, as a list, is opened."""
  blocks, half = dict(tree), _leaves(tree) / 2
  while True:
    large = [
      name
      for name, below in blocks.items()
      if below and (name not in told or _leaves(below) > half)
    ]
    if not large:
      return set(blocks)
    for name in large:
      blocks |= {f"{name}/{each}": below for each, below in blocks.pop(name).items()}


def _leaves(tree: dict[str, Any]) -> int:
  """Number of innermost modules."""
  return sum(map(_leaves, tree.values())) if tree else 1


def with_one_axis_of_features(value: jax.Array, module: Any) -> jax.Array:
  """Joins the axes of features ``[..., heads, dim]`` that a general dense layer makes."""
  features: Any = 1
  if isinstance(module, nn.DenseGeneral):
    features = module.features
  elif isinstance(module, nnx.LinearGeneral):
    features = module.out_features
  axes = len(features) if isinstance(features, Sequence) else 1
  return value.reshape(*value.shape[:-axes], -1) if 1 < axes < value.ndim else value


@dataclasses.dataclass(frozen=True)
class NnxLayers:
  """``(state, x) -> {layer: activation}`` of an NNX module; hashable.

  What the module sows as ``nnx.Intermediate``, or where it sows nothing the outputs of its modules.

  Attributes:
    graph: its graph, as it runs when it does not train.
  """

  graph: Any

  def __call__(self, state: Any, x: jax.Array, **kwargs: Any) -> dict[str, jax.Array]:
    """Activations by name, in alphabetical order; see ``in_order``."""
    model = nnx.merge(self.graph, state)
    _, sown = nnx.capture(model, nnx.Intermediate)(x, **kwargs)
    if jax.tree.leaves(sown):
      return _named(sown)
    modules, model = self.modules(state), nnx.merge(self.graph, state)
    _, outputs = nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)(x, **kwargs)
    return {
      name: with_one_axis_of_features(value, modules[path(name)])
      for name, value in _named(outputs).items()
      if path(name) in modules
    }

  def modules(self, state: Any) -> dict[str, Any]:
    """Path -> module, those within the whole."""
    found = nnx.iter_modules(nnx.merge(self.graph, state))
    return {"/".join(map(str, path)): module for path, module in found if path}

  def in_order(self, state: Any, x: Any, **kwargs: Any) -> list[str]:
    """The names in the order in which the network computes them."""
    traced, shapes = jax.make_jaxpr(lambda state, x: self(state, x, **kwargs), return_shape=True)(
      state, x
    )
    made = {out: place for place, step in enumerate(traced.eqns) for out in step.outvars}
    outputs = zip(sorted(shapes), traced.jaxpr.outvars, strict=True)
    places = {name: made.get(out, -1) for name, out in outputs if not isinstance(out, Literal)}
    return sorted(shapes, key=lambda name: (places.get(name, -1), -name.count("/")))


def nnx_layers(module: nnx.Module) -> tuple[NnxLayers, Any]:
  """Function and state of an NNX module, which stays as it is; its copy does not train."""
  copied = nnx.merge(*nnx.split(module))
  copied.eval()
  graph, state = nnx.split(copied)
  return NnxLayers(graph), state


def _named(captured: Any) -> dict[str, jax.Array]:
  """Captured values by path, numbered where there are several."""
  result = {}
  for path, variable in nnx.to_flat_state(captured):
    parts = [str(part) for part in path]
    name = "/".join(parts[:-1] if parts[-1] == CALL else parts)
    leaves = jax.tree.leaves(variable.get_value())
    for number, leaf in enumerate(leaves):
      result[name if len(leaves) == 1 else f"{name}:{number}"] = jnp.asarray(leaf)
  return result


@dataclasses.dataclass(frozen=True)
class Keys:
  """Where random keys, which cannot be saved as they are, stand among variables; hashable.

  Attributes:
    structure: of the variables.
    kinds: by leaf, the kind of key, "" for another array.
  """

  structure: Any
  kinds: tuple[str, ...]

  @classmethod
  def of(cls, variables: Any) -> "Keys | None":
    """Those of a pytree of variables; None where there are no keys."""
    leaves, structure = jax.tree.flatten(variables)
    kinds = tuple(str(jax.random.key_impl(leaf)) if _is_key(leaf) else "" for leaf in leaves)
    return cls(structure, kinds) if any(kinds) else None

  def restored(self, numbers: Sequence[jax.Array]) -> Any:
    """The variables of which ``numbers_of`` made these leaves."""
    return self.structure.unflatten(
      jax.random.wrap_key_data(leaf, impl=kind) if kind else leaf
      for leaf, kind in zip(numbers, self.kinds, strict=True)
    )


def numbers_of(variables: Any) -> Any:
  """Variables as they are, or where there are random keys, their leaves with keys as numbers."""
  leaves = jax.tree.leaves(variables)
  if not any(map(_is_key, leaves)):
    return variables
  return [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in leaves]


def _is_key(leaf: Any) -> bool:
  dtype = getattr(leaf, "dtype", None)
  return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
