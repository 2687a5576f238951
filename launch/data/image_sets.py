"""MNIST, Fashion-MNIST and CIFAR-10: one class against the rest, or all against other sets."""

from collections.abc import Sequence
import dataclasses
from typing import ClassVar

import numpy as np

from launch.data import images, negatives, splits
from launch.data.formats.columns import DataError
from launch.data.source import Source
from launch.data.splits import Splits

NAMES = ("mnist", "fashion_mnist", "cifar10")


@dataclasses.dataclass(kw_only=True)
class OneClassImages(Source):
  """One class of an image set is typical; records float32 ``[h, w, c]`` in [0, 1].

  Its train part trains, the whole test part tests; see ``images.load`` for where sets are read
  from.

  Attributes:
    name: "mnist", "fashion_mnist" or "cifar10".
    typical: the typical class, 0..9.
    rotation: both parts are flipped at random and turned by up to that many degrees, see
      ``images.turned`` (Table 4 has 30); 0: as they are.
    negatives: classes whose training records are given as labelled negatives. Test records are then
      of the typical class, of these, and masked ones of the typical class; see
      ``negatives.masked_classes``. () gives none.
    masked: share of masked pixels of the latter, in (0, 1).
  """

  names: ClassVar[tuple[str, ...]] = NAMES

  name: str = "mnist"
  typical: int = 0
  rotation: float = 0.0
  negatives: tuple[int, ...] = ()
  masked: float = 0.5

  def read(self) -> Splits:
    """Reads both parts.

    Raises:
      DataError: a class that the set has not, rotation beside negatives, or no such files.
    """
    if self.typical not in range(images.CLASSES):
      raise DataError(
        f"typical must be a class of {self.name} from 0 to {images.CLASSES - 1}, got "
        f"{self.typical!r}."
      )
    if self.negatives and self.rotation:
      raise DataError(f"The data set {self.name!r} with negatives takes no rotation: leave it 0.")
    train, test = images.load(self.name, "train"), images.load(self.name, "test")
    described = f"{train.description}, {test.description}"
    if self.negatives:
      split = negatives.masked_classes(
        (train.x, train.y), (test.x, test.y), self.typical, self.negatives, self.masked, self.seed
      )
      return dataclasses.replace(split, description=f"{described}; {split.description}")
    rows = train.y == self.typical
    x_train, x_test = train.x[rows], test.x
    if self.rotation:
      x_train = images.turned(x_train, self.rotation, self.seed)
      x_test = images.turned(x_test, self.rotation, self.seed + 1)
    split = splits.one_vs_rest(
      splits.unit(x_train), train.y[rows], splits.unit(x_test), test.y, self.typical
    )
    return dataclasses.replace(
      split,
      image_shape=splits.image_shape(test.x),
      description=f"{described}; {split.description}",
    )


@dataclasses.dataclass(kw_only=True)
class OpenSetImages(Source):
  """All classes of an image set are typical; records float32 ``[h, w, c]`` in [0, 1].

  Attributes:
    name: "mnist", "fashion_mnist" or "cifar10".
    ood: names of the sets out of distribution: "mnist", "fashion_mnist", "cifar10" or
      "svhn_cropped". Their test parts, greyed and resized to the typical set's shape, are the
      anomalies.
    unseen: classes that are left out of training; their test images are anomalous too (sources
      "mnist 4" and the like), a shift much nearer than another set.
  """

  names: ClassVar[tuple[str, ...]] = NAMES

  name: str = "mnist"
  ood: tuple[str, ...] = ()
  unseen: tuple[int, ...] = ()

  def read(self) -> Splits:
    """Reads both parts of the typical set, and the test parts of the others.

    Raises:
      DataError: no such set or class, one named twice, or no files.
    """
    _check_others(self.name, self.ood)
    train, test = images.load(self.name, "train"), images.load(self.name, "test")
    others, described = {}, []
    for unseen in self.unseen:
      if unseen not in np.unique(train.y):
        raise DataError(f"unseen names {unseen!r}, which is no class of {self.name}.")
      others[f"{self.name} {unseen}"] = test.x[test.y == unseen]
      described.append(f"its class {unseen}")
    known = []
    for part in (train, test):
      rows = ~np.isin(part.y, self.unseen)
      known.append((part.x[rows], part.y[rows]))
    if not len(known[0][0]):
      raise DataError(f"unseen names every class of {self.name}; leave some to train on.")
    for name in self.ood:
      other = images.load(name, "test")
      others[name] = images.as_shape(other.x, train.x.shape[1:])
      described.append(other.description)
    split = splits.out_of_distribution(known[0], known[1], others, self.name)
    description = f"{train.description}, {test.description}; against {'; '.join(described)}"
    return dataclasses.replace(split, description=description)


def _check_others(name: str, others: Sequence[str]) -> None:
  """Raises a DataError where a set is unknown, the typical one, or named twice."""
  for place, other in enumerate(others):
    if other not in images.NAMES:
      raise DataError(
        f"There is no out-of-distribution set {other!r}; there are: {', '.join(images.NAMES)}."
      )
    if other == name or other in others[:place]:
      raise DataError(
        f"ood names {other!r}, which is the typical set or named before: leave it out."
      )
