"""A wake word against other words and words that sound almost like it."""

import dataclasses
from typing import ClassVar

from launch.data import speech
from launch.data.source import Source
from launch.data.splits import Splits


@dataclasses.dataclass(kw_only=True)
class WakeWord(Source):
  """One word of Speech Commands, records ``[98, 32]``; see ``speech.wake_word``.

  Attributes:
    keyword: the typical word.
    features: "log_mel" or "mfcc".
    synthesised: whether espeak-ng speaks close words; without it only "go" has some.
  """

  names: ClassVar[tuple[str, ...]] = ("speech",)

  name: str = "speech"
  keyword: str = "go"
  features: str = "log_mel"
  synthesised: bool = True

  def read(self) -> Splits:
    """See ``speech.wake_word``."""
    return speech.wake_word(self.keyword, self.seed, self.features, synthesised=self.synthesised)
