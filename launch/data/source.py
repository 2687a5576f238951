"""What a data source is: a class with its own few fields, and ``load() -> Splits``."""

import dataclasses
from typing import ClassVar

from launch.data import splits
from launch.data.formats.columns import DataError
from launch.data.splits import Splits


@dataclasses.dataclass(kw_only=True)
class Source:
  """Where the records of an experiment come from.

  A source is a subclass in a file of its own: a dataclass whose fields are all that can be set of
  it, with ``read``. One line imports it in ``launch/data/__init__.py``.

  Attributes:
    name: of the source, one of ``names``.
    seed: of all that is drawn (split, synthetic records, ``limit``), >= 0.
    limit: at most that many records of each part (training records; test records of each source),
      drawn at random; 0: all.
  """

  names: ClassVar[tuple[str, ...]]
  known: ClassVar[list[type["Source"]]] = []

  name: str = ""
  seed: int = 0
  limit: int = 0

  def __init_subclass__(cls) -> None:
    cls.known.append(cls)

  @property
  def is_tested(self) -> bool:
    """Whether there are test records to evaluate on."""
    return True

  @classmethod
  def reads(cls, name: str) -> bool:
    """Whether the source has data of that name."""
    return name in cls.names

  def read(self) -> Splits:
    """The records, all of them."""
    raise NotImplementedError

  def load(self) -> Splits:
    """Reads or makes the records.

    Raises:
      ValueError: another name, a setting out of its range, or data that cannot be used
        (``DataError``, which is a ValueError).
    """
    if not self.reads(self.name):
      raise DataError(
        f"{type(self).__name__} has no data {self.name!r}, it has {', '.join(self.names)}: to take "
        f"another source, choose its config file, or --config=configs/drocc.py:{self.name}."
      )
    if self.limit < 0:
      raise DataError(f"limit must be at least 0 (all records), got {self.limit!r}.")
    return splits.limited(self.read(), self.limit, self.seed)
