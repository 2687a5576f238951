"""Activations of a trained network, layer by layer; the network stays frozen and untouched."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import re
from typing import Any

from flax import errors as flax_errors
from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp

from detector_jax import blocks
from detector_jax.table import reason_of

Activations = dict[str, jax.Array]
SOWN = "intermediates"
RESIDUAL = "residual"
_FORGOTTEN = re.compile(r"missing .* required .*argument.*: '(\w+)'")


@dataclasses.dataclass(frozen=True)
class Taps:
  """``(variables, x [batch, ...]) -> {layer: activation [batch, ...]}``, pure and hashable.

  Attributes:
    network: a Linen module, or a function ``x -> {name: array}`` (``(variables, x) -> ...`` where
      there are variables), as which an NNX module is held, too.
    capture: whether activations are captured from the outputs of submodules
      (``capture_intermediates``); else the network sows them itself.
    apply_kwargs: arguments of the module beside x, e.g. ``(("train", False),)``.
    layers: names of the layers that are tapped, in the order in which the network computes them.
    shapes: shape of one record's activation, by layer.
    integers: whether records reach the network as int32.
    keys: where random keys stand among the variables, which are then held as
      ``blocks.numbers_of`` has them; None without any.
  """

  network: Any
  capture: bool
  apply_kwargs: tuple[tuple[str, Any], ...]
  layers: tuple[str, ...]
  shapes: tuple[tuple[int, ...], ...]
  integers: bool = False
  keys: blocks.Keys | None = None

  def __call__(self, variables: Any, x: jax.Array) -> Activations:
    """Activations of the chosen layers, float32."""
    x = x.astype(jnp.int32) if self.integers else x
    variables = variables if self.keys is None else self.keys.restored(variables)
    found, _ = _activations(self.network, self.capture, dict(self.apply_kwargs), variables, x)
    return {name: _with_features(found[name]).astype(jnp.float32) for name in self.layers}

  def without(self, name: str) -> "Taps":
    """The same taps less one layer, where it is among them."""
    kept = [pair for pair in zip(self.layers, self.shapes, strict=True) if pair[0] != name]
    layers, shapes = zip(*kept, strict=True)
    return dataclasses.replace(self, layers=layers, shapes=shapes)


def find(
  network: nn.Module | nnx.Module | Callable[..., Any],
  variables: Any,
  record_shape: Sequence[int],
  *,
  layers: Sequence[str] | None = None,
  select: Callable[[nn.Module, str], bool] | None = None,
  apply_kwargs: Mapping[str, Any] | None = None,
  integers: bool = False,
) -> Taps:
  """Finds what can be tapped, by shapes alone: the network does not run.

  A module of Linen or NNX is tapped where it sows intermediates itself; one that sows nothing, at
  the outputs of its blocks, see ``blocks.choose``. Where the output of a Linen module has the shape
  of its input, what is left of the record, ``x - output``, is one more layer, "residual": that of
  an autoencoder is telling.

  Args:
    network: a module or a function, see ``Taps``.
    variables: the trained variables, ``{"params": ...}`` with ``batch_stats`` and the like, or the
      parameters alone. None for a function of x alone, and for an NNX module, which has its own.
    record_shape: of one input record.
    layers: names of the layers to tap, which may be modules within blocks; None takes all that are
      sown, or the blocks.
    select: ``(module, method name) -> bool``, which outputs of a Linen module to capture; captures
      even where the network sows.
    apply_kwargs: arguments of the module beside x, hashable.
    integers: whether records hold whole numbers: a network that takes no others (tokens) is then
      given int32.

  Raises:
    ValueError: network and variables do not match, nothing to tap, an unknown or an empty layer, or
      an activation without a batch axis.
  """
  if isinstance(network, nn.Module) and variables is None:
    raise ValueError("A Linen network needs its trained variables: {'params': ...}, got None.")
  if isinstance(network, nnx.Module):
    network, variables = with_state(network, variables)
  kwargs = dict(apply_kwargs or {})
  capture: Any = select or False
  wanted: Any = jnp.float32
  try:
    shapes, modules, first = _shapes(network, capture, kwargs, variables, record_shape, wanted)
  except ValueError:
    if not integers:
      raise
    wanted = jnp.int32
    shapes, modules, first = _shapes(network, capture, kwargs, variables, record_shape, wanted)
  if set(shapes) <= {RESIDUAL} and isinstance(network, nn.Module) and not capture:
    capture = True
    shapes, modules, first = _shapes(network, capture, kwargs, variables, record_shape, wanted)
  if set(shapes) <= {RESIDUAL}:
    raise ValueError(
      "There is no layer to tap: let the network sow its activations into 'intermediates', or "
      "pass a function x -> {name: activation}."
    )
  found = tuple(shapes)
  if modules and select is None:
    found = blocks.choose([name for name in shapes if name != RESIDUAL], modules)
    found = tuple(dict.fromkeys(first[name] if first[name] in found else name for name in found))
    found += (RESIDUAL,) * (RESIDUAL in shapes)
  chosen = found if layers is None else tuple(layers)
  unknown = [name for name in chosen if name not in shapes]
  if unknown or not chosen:
    name = f"no layer {unknown[0]!r}" if unknown else "nothing to tap in layers=()"
    raise ValueError(f"There is {name}; the network has: {', '.join(shapes)}.")
  for name in chosen:
    if 0 in shapes[name]:
      raise ValueError(
        f"The activation of layer {name!r} is empty, of shape {['n', *shapes[name]]}; leave it out "
        "with layers=."
      )
  return Taps(
    network,
    capture,
    tuple(sorted(kwargs.items())),
    chosen,
    tuple(shapes[name] for name in chosen),
    wanted == jnp.int32,
    blocks.Keys.of(variables),
  )


def with_state(network: Any, variables: Any) -> tuple[Any, Any]:
  """An NNX module as a function and its state; any other network and its variables, as they are.

  Raises:
    ValueError: variables beside an NNX module.
  """
  if not isinstance(network, nnx.Module):
    return network, variables
  if variables is not None:
    raise ValueError("An NNX module holds its variables itself: give None for them.")
  return blocks.nnx_layers(network)


def listed(tapped: Taps) -> str:
  """The layers and the shapes of one record's activations, for people."""
  pairs = zip(tapped.layers, tapped.shapes, strict=True)
  return ", ".join(f"{name} {list(shape)}" for name, shape in pairs)


def as_variables(variables: Any) -> Any:
  """Wraps bare parameters into ``{"params": ...}``."""
  if isinstance(variables, Mapping) and variables and "params" not in variables:
    return {"params": variables}
  return variables


def _shapes(
  network: Any,
  capture: Any,
  kwargs: dict[str, Any],
  variables: Any,
  record_shape: Sequence[int],
  dtype: Any,
) -> tuple[dict[str, tuple[int, ...]], dict[str, Any], dict[str, str]]:
  """Shape of one record's activation by layer, in the order of computation; modules by path.

  There are no modules where the network sows, or is a function. The third is for each layer the
  first one with the same activation, as a sequence has that of its last module.
  """
  batch = 2
  x = jax.ShapeDtypeStruct((batch, *record_shape), dtype)
  order: list[str] = []
  modules: dict[str, Any] = {}
  first: dict[str, str] = {}

  def traced(variables: Any, x: jax.Array) -> Activations:
    found, captured = _activations(network, capture, kwargs, variables, x)
    order.extend(found)  # a pytree of dicts comes back in alphabetical order
    modules.update(captured)
    names = {id(value): name for name, value in reversed(found.items())}
    first.update({name: names[id(value)] for name, value in found.items()})
    return found

  try:
    found = jax.eval_shape(traced, variables, x)
    if isinstance(network, blocks.NnxLayers):
      order = network.in_order(variables, x, **kwargs)
  except flax_errors.FlaxError as error:
    reason = str(error).splitlines()[0].split(" (https://")[0].rstrip(". ")
    raise ValueError(
      f"Network and variables do not match for records of shape {list(record_shape)}: {reason}."
    ) from error
  except (TypeError, ValueError, AttributeError, KeyError) as error:
    reason = reason_of(error)
    if forgotten := _FORGOTTEN.search(str(error)):
      name = forgotten.group(1)
      value = False if name.startswith("train") else "..."
      reason += f"; give it with apply_kwargs={{{name!r}: {value}}}"
    raise ValueError(
      f"The network cannot be applied to records of shape {list(record_shape)}: {reason}."
    ) from error
  shapes = {}
  for name in order:
    leaf = found[name]
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      continue
    if not leaf.shape or leaf.shape[0] != batch:
      raise ValueError(
        f"The activation of layer {name!r} has shape {list(leaf.shape)}; its first axis must be "
        "the batch. Leave it out with select= or let the network sow something else."
      )
    shapes[name] = tuple(leaf.shape[1:]) or (1,)
  return shapes, modules, first


def _activations(
  network: Any, capture: Any, kwargs: dict[str, Any], variables: Any, x: jax.Array
) -> tuple[Activations, dict[str, Any]]:
  """Activations, and the modules by path whose outputs they are."""
  if not isinstance(network, nn.Module):
    found = network(x, **kwargs) if variables is None else network(variables, x, **kwargs)
    if not isinstance(found, Mapping):
      raise TypeError(f"the function must return {{name: array}}, got {type(found).__name__}")
    modules = {}
    if isinstance(network, blocks.NnxLayers):
      modules = network.modules(variables)
      modules = modules if all(blocks.path(name) in modules for name in found) else {}
    return {name: jnp.asarray(value) for name, value in found.items()}, modules
  modules = {}

  def chosen(module: nn.Module, method: str) -> bool:
    if not (_calls if capture is True else capture)(module, method):
      return False
    modules["/".join(module.path)] = module
    return True

  output, state = network.apply(
    as_variables(variables),
    x,
    mutable=[SOWN],
    capture_intermediates=chosen if capture else False,
    **kwargs,
  )
  found = {
    name: blocks.with_one_axis_of_features(jnp.asarray(value), modules.get(blocks.path(name)))
    for name, value in _named(state.get(SOWN, {}))
  }
  if getattr(output, "shape", None) == x.shape:
    found[RESIDUAL] = x - output
  return found, modules


def _with_features(value: jax.Array) -> jax.Array:
  return value[:, None] if value.ndim == 1 else value


def _calls(module: nn.Module, method: str) -> bool:
  return method == "__call__" and module.name is not None


def _named(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Sown values by path, a number added where a name holds several."""
  for key, value in tree.items():
    name = prefix.rstrip("/") if key == "__call__" and prefix else prefix + key
    if isinstance(value, Mapping):
      yield from _named(value, name + "/")
      continue
    leaves = jax.tree.leaves(value)
    for number, leaf in enumerate(leaves):
      yield name if len(leaves) == 1 else f"{name}:{number}", leaf
