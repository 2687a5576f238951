"""The peer of the speed benchmark: DROCC in plain PyTorch, eager.

The same algorithm as ``drocc_jax`` with ``networks.MLP`` and Adam, written the way one writes good
PyTorch: whole batches, gradients of the search with respect to ``h`` alone, no step back to the
host. PyTorch is imported inside the functions, so that the base install can do without it.
"""

from typing import Any

import numpy as np

from drocc_jax import drocc


def threads() -> int:
  """Number of threads that PyTorch computes with; OMP_NUM_THREADS sets it."""
  import torch

  return torch.get_num_threads()


def mlp(features: int, hidden: int) -> Any:
  """One hidden layer and one logit, ``[batch, features]`` to ``[batch, 1]``."""
  import torch

  return torch.nn.Sequential(
    torch.nn.Linear(features, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1)
  )


def adam(network: Any, config: drocc.Config) -> Any:
  """Adam on the parameters; its L2 term is the gradient of ``lambda |theta|^2``."""
  import torch

  return torch.optim.Adam(
    network.parameters(),
    lr=config.learning_rate,
    weight_decay=2.0 * config.weight_decay,
    fused=True,
  )


def project_shell(h: Any, radius: float, gamma: float) -> Any:
  """Nearest points of the shells ``r <= |h|_2 <= gamma r``, for ``h`` ``[batch, features]``."""
  norm = h.norm(dim=1, keepdim=True)
  return h * (norm.clamp(radius, gamma * radius) / norm)


def search(network: Any, x: Any, noise: Any, config: drocc.Config) -> Any:
  """Negatives ``[batch, features]`` by gradient ascent on ``h``, Algorithm 1 of the paper.

  Args:
    network: maps ``[batch, features]`` to logits ``[batch, 1]``.
    x: ``[batch, features]`` typical examples.
    noise: ``[batch, features]``, the start of ``h``.
    config: gives radius, gamma, step size, number of steps and ``project_every``.
  """
  import torch

  radius, step_size = config.radius, config.step_size
  if radius is None or step_size is None:
    raise ValueError("radius and step_size must be numbers here; recipe.resolve sets them.")
  h = noise
  network.requires_grad_(False)
  for step in range(1, config.num_steps + 1):
    h.requires_grad_()
    # A sum over the batch: each row's gradient is its own. The loss grows with the logit, so both
    # have the same direction.
    (gradient,) = torch.autograd.grad(network(x + h).sum(), h)
    h = h.detach().add_(torch.nn.functional.normalize(gradient, dim=1), alpha=step_size)
    if step % config.project_every == 0:
      h = project_shell(h, radius, config.gamma)
  network.requires_grad_(True)
  return x + project_shell(h, radius, config.gamma)


def train_step(network: Any, optimizer: Any, x: Any, noise: Any, config: drocc.Config) -> Any:
  """One step of Algorithm 1, in place; returns the negatives ``[batch, features]``.

  Args:
    network: maps ``[batch, features]`` to logits ``[batch, 1]``; trained in place.
    optimizer: of the network's parameters.
    x: ``[batch, features]`` typical examples.
    noise: ``[batch, features]``, the start of the search; overwritten.
    config: settings; ``warmup_steps`` and ``schedule`` are not looked at.
  """
  import torch

  negatives = search(network, x, noise, config)
  positive, negative = network(torch.cat([x, negatives]))[:, 0].chunk(2)
  softplus = torch.nn.functional.softplus
  loss = softplus(-positive).mean() + config.mu * softplus(negative).mean()
  optimizer.zero_grad()
  loss.backward()
  optimizer.step()
  return negatives


def train(
  x: np.ndarray, config: drocc.Config, hidden: int, batch_size: int, epochs: int, seed: int = 0
) -> Any:
  """Trains on standardised rows ``[n, features]`` and returns the network."""
  import torch

  torch.manual_seed(seed)
  rows = torch.as_tensor(np.asarray(x, np.float32))
  network = mlp(rows.shape[1], hidden)
  optimizer = adam(network, config)
  for _ in range(epochs):
    for index in torch.randperm(len(rows)).split(batch_size):
      batch = rows[index]
      train_step(network, optimizer, batch, torch.randn_like(batch), config)
  return network
