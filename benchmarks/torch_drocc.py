"""DROCC in plain PyTorch, eager: the peer of the speed benchmark and of the table fidelity.

The same algorithm as ``drocc_jax``, written the way one writes good PyTorch: whole batches,
gradients of the search with respect to ``h`` alone, no step back to the host. PyTorch is imported
inside the functions, so that the base install can do without it.
"""

from collections.abc import Callable, Iterator
import contextlib
from typing import Any

import jax
import numpy as np

from drocc_jax import drocc, update


def threads() -> int:
  """Number of threads that PyTorch computes with; OMP_NUM_THREADS sets it."""
  import torch

  return torch.get_num_threads()


def set_threads(number: int) -> None:
  """Sets the number of threads that PyTorch computes with."""
  import torch

  torch.set_num_threads(number)


@contextlib.contextmanager
def restored_threads() -> Iterator[None]:
  """Gives PyTorch the number of threads back that it had before."""
  before = threads()
  try:
    yield
  finally:
    set_threads(before)


def mlp(features: int, hidden: int) -> Any:
  """One hidden layer and one logit, ``[batch, features]`` to ``[batch, 1]``."""
  import torch

  return torch.nn.Sequential(
    torch.nn.Linear(features, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1)
  )


def optimizer_of(network: Any, config: drocc.Config) -> Any:
  """Adam or SGD on the parameters; its L2 term is the gradient of ``lambda |theta|^2``."""
  import torch

  if config.learning_rate is None:
    raise ValueError("learning_rate must be a number here; recipe.resolve sets it.")
  settings = {"lr": config.learning_rate, "weight_decay": 2.0 * config.weight_decay}
  if config.optimizer == "sgd":
    return torch.optim.SGD(network.parameters(), momentum=config.momentum, **settings)
  return torch.optim.Adam(network.parameters(), fused=True, **settings)


def project_shell(h: Any, radius: float, gamma: float) -> Any:
  """Nearest points of the shells ``r <= |h|_2 <= gamma r``, for ``h`` ``[batch, features]``."""
  norm = h.norm(dim=1, keepdim=True)
  return h * (norm.clamp(radius, gamma * radius) / norm)


def search(network: Any, x: Any, noise: Any, config: drocc.Config) -> Any:
  """Negatives ``[batch, ...]`` by gradient ascent on ``h``, Algorithm 1 of the paper.

  Batch normalisation uses its running statistics, and with ``batch_statistics`` "released" those of
  the batch, which then feed the running ones.

  Args:
    network: maps ``[batch, ...]`` to logits ``[batch, 1]``.
    x: ``[batch, ...]`` typical examples.
    noise: ``[batch, ...]``, the start of ``h``.
    config: gives radius, gamma, step size, number of steps, ``project_every`` and
      ``batch_statistics``.
  """
  import torch

  radius, step_size = config.radius, config.step_size
  if radius is None or step_size is None:
    raise ValueError("radius and step_size must be numbers here; recipe.resolve sets them.")
  h = noise.flatten(1)
  frozen = config.batch_statistics != "released"
  _search_mode(network, True, frozen)
  for step in range(1, (config.num_steps or 0) + 1):
    h.requires_grad_()
    # A sum over the batch: where statistics are frozen each row's gradient is its own. The loss
    # grows with the logit, so both have the same direction then.
    logits = network(x + h.view_as(x))
    objective = logits if frozen else torch.nn.functional.softplus(logits)
    (gradient,) = torch.autograd.grad(objective.sum(), h)
    h = h.detach().add_(torch.nn.functional.normalize(gradient, dim=1), alpha=step_size)
    if step % config.project_every == 0:
      h = project_shell(h, radius, config.gamma)
  _search_mode(network, False, frozen)
  return x + project_shell(h, radius, config.gamma).view_as(x)


def _search_mode(network: Any, on: bool, frozen: bool) -> None:
  """Freezes or frees parameters and, where asked, statistics; other layers have no mode."""
  import torch

  network.requires_grad_(not on)
  for module in network.modules():
    if frozen and isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
      module.train(not on)


@contextlib.contextmanager
def _feeding(network: Any, times: int) -> Iterator[None]:
  """Passes inside feed the running statistics as so many equal ones would."""
  import torch

  layers = [
    module
    for module in network.modules()
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
  ]
  before = [layer.momentum for layer in layers]
  for layer in layers:
    layer.momentum = 1.0 - (1.0 - layer.momentum) ** times
  try:
    yield
  finally:
    for layer, momentum in zip(layers, before, strict=True):
      layer.momentum = momentum


def train_step(network: Any, optimizer: Any, x: Any, noise: Any, config: drocc.Config) -> Any:
  """One step of Algorithm 1, in place; returns the negatives ``[batch, ...]``.

  Args:
    network: maps ``[batch, ...]`` to logits ``[batch, 1]``; trained in place.
    optimizer: of the network's parameters.
    x: ``[batch, ...]`` typical examples.
    noise: ``[batch, ...]``, the start of the search; overwritten.
    config: settings; ``warmup_steps`` and ``schedule`` are not looked at. With
      ``batch_statistics`` "released" and no ascent the negatives' one pass feeds the running
      statistics as often as those of the search would.
  """
  import torch

  if config.batch_statistics == "joint":
    negatives = search(network, x, noise, config)
    positive, negative = network(torch.cat([x, negatives]))[:, 0].chunk(2)
  else:
    positive = network(x)[:, 0]
    negatives = search(network, x, noise, config)
    times = update.FEEDS[config.batch_statistics] if not config.num_steps else 1
    with _feeding(network, times):
      negative = network(negatives)[:, 0]
  softplus = torch.nn.functional.softplus
  loss = softplus(-positive).mean() + (config.mu or 0.0) * softplus(negative).mean()
  optimizer.zero_grad()
  loss.backward()
  optimizer.step()
  return negatives


def train(
  x: np.ndarray, config: drocc.Config, hidden: int, batch_size: int, epochs: int, seed: int = 0
) -> Any:
  """Trains an ``mlp`` on standardised rows ``[n, features]`` and returns it."""
  import torch

  torch.manual_seed(seed)
  network = mlp(x.shape[1], hidden)
  train_network(network, x, config, batch_size, epochs)
  return network


def train_network(
  network: Any,
  x: np.ndarray,
  config: drocc.Config,
  batch_size: int,
  epochs: int,
  after: Callable[[int], None] = lambda epoch: None,
) -> None:
  """Trains a network in place, where its parameters are.

  Args:
    network: maps ``[batch, ...]`` to logits ``[batch, 1]``.
    x: ``[n, ...]`` standardised records.
    config: settings; of the schedules "constant" and those of the released trainers.
    batch_size: examples per step; the last one may have fewer.
    epochs: of the training.
    after: called with the number of epochs that are done.
  """
  import torch

  device = next(network.parameters()).device
  rows = torch.as_tensor(np.asarray(x, np.float32), device=device)
  optimizer = optimizer_of(network, config)
  drops = [int(share * epochs) for share in update.DROPS.get(config.schedule or "", ())]
  schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops)
  for epoch in range(1, epochs + 1):
    for index in torch.randperm(len(rows), device=device).split(batch_size):
      batch = rows[index]
      train_step(network, optimizer, batch, torch.randn_like(batch), config)
    schedule.step()
    after(epoch)
  if device.type == "cuda":
    torch.cuda.synchronize()


def device() -> str:
  """Where PyTorch is to compute: "cuda" where JAX computes on a GPU, else "cpu".

  Raises:
    ValueError: JAX has an accelerator that PyTorch cannot use.
  """
  import torch

  backend = jax.default_backend()
  if backend == "cpu":
    return "cpu"
  if backend == "gpu" and torch.cuda.is_available():
    return "cuda"
  raise ValueError(
    f"JAX computes on a {backend} that this PyTorch cannot use: give --device=cpu, or install a "
    "PyTorch for it."
  )
