"""Scores of a classifier beside those of pytorch-ood and oodeel on one network."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from benchmarks.baselines.networks import NETWORK_BASELINES
from detector_jax import metrics

torch = pytest.importorskip("torch")
KNOWN, UNITS, EPOCHS = 8, 32, 160


class Network(torch.nn.Module):
  """Two convolutions and a layer of features before the logits, for 8 x 8 pixels."""

  def __init__(self):
    super().__init__()
    nn = torch.nn
    self.first = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU())
    self.second = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU())
    self.third = nn.Sequential(nn.Flatten(), nn.Linear(256, UNITS), nn.ReLU())
    self.head = nn.Linear(UNITS, KNOWN)

  def encoder(self, x):
    return self.third(self.second(self.first(x)))

  def forward(self, x):
    return self.head(self.encoder(x))


class Ours:
  """The same network by its weights, of images ``[n, 8, 8, 1]``."""

  def __init__(self, network: Network):
    self._arrays = {name: jnp.asarray(p.detach().numpy()) for name, p in network.named_parameters()}

  def layers(self, x):
    """Activations by name, channels last."""
    found = {}
    for name in ("first.0", "second.0"):
      weight = self._arrays[f"{name}.weight"].transpose(2, 3, 1, 0)
      x = jax.lax.conv_general_dilated(
        x, weight, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
      )
      x = found[name] = jax.nn.relu(x + self._arrays[f"{name}.bias"][None, None, None])
    flat = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
    found["third.1"] = jax.nn.relu(self._dense(flat, "third.1"))
    return found

  def __call__(self, x):
    features = self.layers(x)["third.1"]
    return self._dense(features, "head"), features

  def _dense(self, x, name):
    weight, bias = (self._arrays[f"{name}.{part}"] for part in ("weight", "bias"))
    return jnp.matmul(x, weight.T, precision="highest") + bias[None]


@pytest.fixture(scope="module")
def problem():
  """A network of digits 0 to 7; training images and classes, and test images, 8 and 9 anomalous."""
  x, y = datasets.load_digits(return_X_y=True)
  x = (x / 16.0).reshape(-1, 8, 8, 1).astype(np.float32)
  trains = (np.arange(len(x)) % 3 > 0) & (y < KNOWN)
  noise = np.random.default_rng(0).uniform(size=(200, 8, 8, 1)).astype(np.float32)
  tests = np.concatenate([x[~trains], noise])
  labels = np.concatenate([y[~trains] >= KNOWN, np.ones(200, bool)]).astype(np.int64)
  torch.manual_seed(0)
  network, generator = Network(), torch.Generator().manual_seed(0)
  optimizer = torch.optim.Adam(network.parameters(), 1e-3)
  images, classes = torch.tensor(x[trains].transpose(0, 3, 1, 2)), torch.tensor(y[trains])
  for _ in range(EPOCHS):
    for rows in torch.randperm(len(images), generator=generator).split(128):
      optimizer.zero_grad()
      torch.nn.functional.cross_entropy(network(images[rows]), classes[rows]).backward()
      optimizer.step()
  return network.eval(), (x[trains], y[trains]), (tests, labels)


def theirs(name, network):
  """pytorch-ood's detector of that name, not fitted."""
  detector = pytest.importorskip("pytorch_ood.detector", reason="pip install pytorch-ood")
  weight, bias = (part.detach() for part in (network.head.weight, network.head.bias))
  made = {
    "max softmax": lambda: detector.MaxSoftmax(network),
    "ODIN": lambda: detector.ODIN(network),
    "Mahalanobis": lambda: detector.MahalanobisODIN(network.encoder, eps=0.0014),
    "deep nearest neighbour": lambda: detector.KNN(network.encoder, k=50),
    "energy": lambda: detector.EnergyBased(network),
    "ReAct": lambda: detector.ReAct(network.encoder, network.head),
    "relative Mahalanobis": lambda: detector.RMD(network.encoder),
    "ViM": lambda: detector.ViM(network.encoder, UNITS // 2, weight, bias),
    "Gram": lambda: detector.Gram(
      network.head, [network.first, network.second, network.third], KNOWN, list(range(1, 11))
    ),
  }
  return made[name]()


JOINED = {
  "nearest neighbours of layers": "DKNN",
  "Mahalanobis of layers": "Mahalanobis",
  "Gram of layers": "Gram",
}


@pytest.mark.parametrize("name", JOINED)
def test_auroc_is_that_of_oodeel(problem, name):
  oodeel = pytest.importorskip("oodeel.methods", reason="pip install oodeel faiss-cpu")
  from oodeel.aggregator import FisherAggregator

  network, (x, y), (x_test, labels) = problem
  settings = {"eps": 0.0} if name == "Mahalanobis of layers" else {}
  peer = getattr(oodeel, JOINED[name])(aggregator=FisherAggregator(), **settings)
  parts = torch.utils.data.TensorDataset(torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(y))
  batches = torch.utils.data.DataLoader(parts, batch_size=256)
  peer.fit(network, batches, feature_layers_id=["first", "second", "third"])
  scores, _ = peer.score(torch.tensor(x_test.transpose(0, 3, 1, 2)))
  own = NETWORK_BASELINES[name](Ours(network)).fit(x, y).score(x_test)
  assert metrics.auroc(labels, own) == pytest.approx(metrics.auroc(labels, scores), abs=0.005)


@pytest.mark.parametrize("name", [name for name in NETWORK_BASELINES if name not in JOINED])
def test_auroc_is_that_of_pytorch_ood(problem, name):
  network, (x, y), (x_test, labels) = problem
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the library
    peer = theirs(name, network).to("cpu")
    torch.manual_seed(0)  # of the records that Gram holds out
    parts = torch.utils.data.TensorDataset(torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(y))
    peer.fit(torch.utils.data.DataLoader(parts, batch_size=256))
    scores = peer.predict(torch.tensor(x_test.transpose(0, 3, 1, 2))).detach().numpy()
  own = NETWORK_BASELINES[name](Ours(network)).fit(x, y).score(x_test)
  apart = 0.01 if name == "Gram" else 0.005  # whose held-out records are others: 0.853 to 0.861
  assert metrics.auroc(labels, own) == pytest.approx(metrics.auroc(labels, scores), abs=apart)


def test_both_networks_are_one(problem):
  network, _, (x, _) = problem
  want = network(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy()
  np.testing.assert_allclose(Ours(network)(x)[0], want, atol=1e-4)
