"""What a C header computes, taken out of a Detector: the layers of its networks, rounded or not."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import detector_jax
from detector_jax.preprocessing import Standardizer
from detector_jax.program import Program
from drocc_jax import ensemble, networks, recipe

PRECISIONS = ("float32", "int16", "int8")
NUMBERS = (
  "number",
  "log",
  "boolean",
  "drop",
)  # kinds of a schema's columns that are one number each
SIMULATED, DAMPING = 4096, 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
  """One layer, ``y = unit * (x @ weights) + bias``.

  Attributes:
    weights: ``[inputs, units]`` of the type that is written.
    bias: float32 ``[units]``.
    unit: float32 ``[units]``, what a weight of 1 stands for; None where weights are float32.
  """

  weights: np.ndarray
  bias: np.ndarray
  unit: np.ndarray | None = None

  @property
  def kernel(self) -> np.ndarray:
    """The weights that are meant, float32."""
    return self.weights if self.unit is None else self.weights * self.unit

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[n, inputs]`` to ``[n, units]``."""
    return x @ self.kernel + self.bias[None]


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
  """What a header computes.

  Attributes:
    members: the layers of each network of an ensemble.
    activation: between them, a key of ``networks.ACTIVATIONS``.
    squares: see ``networks.MLP``.
    preprocessing: what stands before them.
    columns: values of a raw record.
  """

  members: tuple[tuple[Layer, ...], ...]
  activation: str
  squares: bool
  preprocessing: Standardizer
  columns: int

  @property
  def inputs(self) -> int:
    """Values of a preprocessed record."""
    kept = self.preprocessing.kept
    return self.columns if kept is None else len(kept)

  @property
  def width(self) -> int:
    """Values that the first layer sees."""
    return self.inputs * (2 if self.squares else 1)

  def score(self, x: np.ndarray) -> np.ndarray:
    """Scores ``[n]`` of raw records ``[n, ...]``, float32, less their offset."""
    z = self.seen(self.preprocessing(jnp.asarray(x)).reshape(len(x), -1))
    total = jnp.zeros(len(x))
    for layers in self.members:
      y = z
      for layer in layers[:-1]:
        y = self.active(layer(y))
      total += layers[-1](y)[:, 0]
    return np.asarray(-total / len(self.members))

  def seen(self, z: jax.Array) -> jax.Array:
    """What the first layer sees ``[n, width]`` of preprocessed values ``[n, inputs]``."""
    return jnp.concatenate([z, z * z / jnp.sqrt(1 + z * z / 9)], axis=1) if self.squares else z

  def active(self, y: jax.Array) -> jax.Array:
    """What the next layer sees of a layer's outputs ``[n, units]``."""
    return networks.ACTIVATIONS[self.activation](y)

  def into(self, detector: detector_jax.Detector) -> detector_jax.Detector:
    """The detector that they were taken from, with their weights."""
    variables, params = detector.arrays["variables"], {}
    for name, layer in variables["params"].items():
      kernels = [layers[int(name.removeprefix("Dense_"))].kernel for layers in self.members]
      kernel = jnp.asarray(np.stack(kernels).reshape(layer["kernel"].shape))
      params[name] = {**layer, "kernel": kernel}
    arrays = {**detector.arrays, "variables": {**variables, "params": params}}
    return dataclasses.replace(detector, arrays=arrays)


def parts_of(detector: detector_jax.Detector, precision: str = "float32") -> Parts:
  """The parts of a live detector, its weights ``rounded`` unless ``precision`` is "float32".

  Raises:
    ValueError: an unknown precision, or a detector that cannot be written as C.
  """
  if precision not in PRECISIONS:
    raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
  network, members = _network(detector)
  _check_input(detector)
  params = detector.arrays["variables"]["params"]
  found = []
  for i in range(len(params)):
    kernel, bias = (np.asarray(params[f"Dense_{i}"][name]) for name in ("kernel", "bias"))
    kernels = kernel.reshape(members, *kernel.shape[-2:])
    found.append([Layer(*pair) for pair in zip(kernels, bias.reshape(members, -1), strict=True)])
  parts = Parts(
    tuple(zip(*found, strict=True)),
    network.activation,
    network.squares,
    detector.arrays["preprocessing"],
    int(np.prod(detector.input_shape)),
  )
  return parts if precision == "float32" else rounded(parts, precision)


def rounded(parts: Parts, precision: str) -> Parts:
  """The same with whole numbers for the weights of all layers but the last.

  A weight becomes a multiple of 1 / 127 (int8) or 1 / 32767 (int16) of the largest one that leads
  to the same unit. With "int8" those of the first layer are int16: what is lost there is lost to
  all that follows. Inputs of a layer are rounded one after the other, and the weights of those that
  are left make up for it, as far as records go that are standard normal once they are
  preprocessed: no record of the training is at hand.

  References:
    Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
    Transformers (2023), Algorithm 1 without its blocks, inputs in the order of their power.
  """
  drawn = np.random.default_rng(0)
  z = parts.seen(jnp.asarray(drawn.normal(size=(SIMULATED, parts.inputs)), jnp.float32))
  members = []
  for layers in parts.members:
    x, found = z, []
    for i, layer in enumerate(layers[:-1]):
      kind = precision if i else "int16"
      most = np.iinfo(kind).max
      unit = np.abs(layer.weights).max(axis=0) / np.float32(most)
      unit = np.where(unit > 0, unit, np.float32(1))
      weights = _compensated(layer.weights / unit, np.asarray(x), most).astype(kind)
      found.append(Layer(weights, layer.bias, unit))
      x = parts.active(layer(x))
    members.append((*found, layers[-1]))
  return dataclasses.replace(parts, members=tuple(members))


def _compensated(weights: np.ndarray, x: np.ndarray, most: int) -> np.ndarray:
  """Whole numbers in [-most, most] for ``weights`` ``[inputs, units]``, see ``rounded``."""
  gram = x.T.astype(np.float64) @ x
  power = np.diag(gram)
  order = np.argsort(-power)
  damped = gram[order][:, order] + DAMPING * power.mean() * np.eye(len(gram))
  factor = np.linalg.cholesky(np.linalg.inv(damped)).T
  left = weights[order].astype(np.float64)
  for i in range(len(left)):
    whole = np.rint(left[i]).clip(-most, most)
    left[i:] -= factor[i, i:, None] / factor[i, i] * (left[i] - whole)
    left[i] = whole
  result = np.empty_like(left)
  result[order] = left
  return result


def _network(detector: detector_jax.Detector) -> tuple[networks.MLP, int]:
  """The MLP of a detector, and how many of it there are."""
  program: Any = detector.program
  if not isinstance(program, Program):
    raise _refusal("this detector was loaded from a folder, without its network")
  if not isinstance(program.score_fn, recipe.NegativeLogit):
    raise _refusal(f"this detector is one of {detector.metadata.get('method')}")
  network = program.score_fn.network
  member = ensemble.member_of(network)
  if type(member) is not networks.MLP:
    raise _refusal(f"this detector has a network {type(member).__name__}")
  return member, network.members if isinstance(network, ensemble.Ensemble) else 1


def _check_input(detector: detector_jax.Detector) -> None:
  preprocessing, schema = detector.arrays["preprocessing"], detector.schema
  if "features" in detector.arrays:
    raise _refusal("this detector computes features before its network")
  if not isinstance(preprocessing, Standardizer) or preprocessing.contrast:
    raise _refusal("this detector prepares each record by its own contrast")
  for column in schema.columns if schema is not None else ():
    if column.kind not in NUMBERS:
      raise _refusal(f"this detector has a column {column.name!r} of the kind {column.kind}")
    if column.filled:
      raise _refusal(f"this detector fills missing cells of its column {column.name!r}")


def _refusal(found: str) -> ValueError:
  return ValueError(
    "--format=c writes DROCC on an MLP, for records of numbers without missing cells, and "
    f"{found}; take --format=onnx or --format=folder."
  )
